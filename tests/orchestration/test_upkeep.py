"""What the daemon does beside Dagster's own work."""

import logging
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import IWorkspaceProcessContext
from mailroom import add_channel, fail_for_good, receiver
from notebook import make_world
from running import until

from connector_resources.errors import NetworkError
from integration_pipelines.orchestration import clock, upkeep
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


def look_at_ended_runs(instance: dg.DagsterInstance) -> None:
    for runs in upkeep.ended_since(instance, datetime.now(UTC) - timedelta(minutes=1)):
        upkeep.end_stubborn_workers(instance, runs)


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
        look_at_ended_runs(instance)  # the run has not ended
        instance.report_run_failed(run)
        look_at_ended_runs(instance)  # it has, a moment ago
        assert worker.alive()
        monkeypatch.setattr(upkeep, "GRACE", timedelta(seconds=-1))
        look_at_ended_runs(instance)
        until(lambda: not worker.alive(), 10)
        assert process.wait() == -signal.SIGKILL


def test_what_has_seen_a_later_instant_begins_anew_and_the_rest_goes_on(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    then, before = (now + timedelta(hours=3)).timestamp(), (now - timedelta(minutes=5)).timestamp()
    schedule, sensor = InstigatorType.SCHEDULE, InstigatorType.SENSOR
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        for name, kind, data, tick in (
            ("ticked ahead", schedule, ScheduleInstigatorData("* * * * *", before), then),
            ("looked ahead", schedule, ScheduleInstigatorData("* * * * *", before, then), before),
            ("sensed ahead", sensor, SensorInstigatorData(then, cursor="kept"), before),
            ("in time", schedule, ScheduleInstigatorData("* * * * *", before, before), before),
        ):
            state = InstigatorState(origin(name), kind, InstigatorStatus.DECLARED_IN_CODE, data)
            instance.add_instigator_state(state)
            place = (state.instigator_origin_id, name, kind, TickStatus.SKIPPED, tick)
            instance.create_tick(TickData(*place, selector_id=state.selector_id))
        assert sorted(clock.begin_anew(instance, now)) == ["looked ahead", "sensed ahead", "ticked ahead"]
        states = {state.name: state for state in instance.all_instigator_state()}
        assert states["ticked ahead"].instigator_data == ScheduleInstigatorData("* * * * *", now.timestamp())
        assert states["looked ahead"].instigator_data == ScheduleInstigatorData("* * * * *", now.timestamp())
        assert states["sensed ahead"].instigator_data == SensorInstigatorData(cursor="kept")
        assert states["in time"].instigator_data == ScheduleInstigatorData("* * * * *", before, before)
        ticks = {name: instance.get_ticks(s.instigator_origin_id, s.selector_id) for name, s in states.items()}
        assert {name: len(found) for name, found in ticks.items()} == {**dict.fromkeys(states, 0), "in time": 1}
        assert clock.begin_anew(instance, now) == []


def origin(name: str) -> RemoteInstigatorOrigin:
    target = ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name="somewhere"))
    return RemoteInstigatorOrigin(RemoteRepositoryOrigin(target, "__repository__"), name)


def test_a_clock_that_is_set_back_ends_the_daemon(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, ended = [datetime.now(UTC)], []
    monkeypatch.setattr(upkeep, "utc_now", lambda: now[0])
    monkeypatch.setattr("os.kill", lambda *given: ended.append(given))
    watching = upkeep.Upkeep(settings, database, cast("IWorkspaceProcessContext[Any]", None))
    for step in (timedelta(0), timedelta(hours=3), timedelta(seconds=-30), timedelta(minutes=2)):
        now[0] += step
        watching.look_at_the_clock()
    assert ended == []
    now[0] -= timedelta(hours=3)
    watching.look_at_the_clock()
    assert ended == [(os.getpid(), signal.SIGTERM)]
    assert "The clock was set back by 3:00:00." in caplog.text
