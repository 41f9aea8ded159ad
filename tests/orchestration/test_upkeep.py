"""What the daemon does beside Dagster's own work."""

import logging
import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta

import dagster as dg
import pytest
from mailroom import add_channel, fail_for_good, receiver
from notebook import make_world
from running import until

from connector_resources.errors import NetworkError
from integration_pipelines.orchestration import upkeep
from integration_pipelines.orchestration.launcher import WORKER_TAG, Worker
from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database


def test_alerts_that_are_due_are_sent_once(database: Database, settings: Settings) -> None:
    worlds = [make_world(database, settings, tenant=name) for name in ("acme", "globex")]
    with receiver() as inbox:
        for world in worlds:
            add_channel(world, "ops", inbox.address)
            fail_for_good(world)
        upkeep.send_alerts(database)
        upkeep.send_alerts(database)
        assert len(inbox.posts) == 2


def test_a_turn_that_fails_is_told_and_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    turns: list[str] = []
    stop = threading.Event()

    def turn() -> None:
        turns.append("turn")
        if len(turns) == 1:
            raise NetworkError("The database is gone.")
        if len(turns) == 2:
            raise ValueError("whatever a driver raises")
        stop.set()

    with caplog.at_level(logging.WARNING):
        upkeep.repeat("upkeep", 0.01, turn, stop).join(10)
    assert len(turns) == 3
    assert "The database is gone. Trying again." in caplog.text
    assert "upkeep failed; trying again." in caplog.text


@dg.job
def nothing() -> None:
    """A job of no ops."""


def test_a_finished_run_whose_process_does_not_end_is_killed_after_its_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ignores SIGTERM, and would hold its locks for ever."""
    code = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); sys.stdin.read()"
    with (
        dg.DagsterInstance.ephemeral() as instance,
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        worker = Worker.of_process(process.pid)
        run = instance.create_run_for_job(nothing, tags={WORKER_TAG: str(worker)})
        os.kill(process.pid, signal.SIGTERM)
        upkeep.end_stubborn_workers(instance)  # the run has not ended
        instance.report_run_failed(run)
        upkeep.end_stubborn_workers(instance)  # it has, a moment ago
        assert worker.alive()
        monkeypatch.setattr(upkeep, "GRACE", timedelta(seconds=-1))
        upkeep.end_stubborn_workers(instance)
        until(lambda: not worker.alive(), 10)
        assert process.wait() == -signal.SIGKILL
