"""Warm runs: who a run's process is, and whether it lives."""

import os
import signal
import socket
import subprocess
import sys

import dagster as dg
import pytest
from dagster._core.launcher.base import WorkerStatus

from integration_pipelines.orchestration.launcher import WORKER_TAG, WarmRunLauncher, Worker


@dg.job
def nothing() -> None:
    """A job of no ops."""


def health(tag: str | None) -> WorkerStatus:
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(nothing, tags={} if tag is None else {WORKER_TAG: tag})
        return WarmRunLauncher().check_run_worker_health(run).status


def test_a_worker_is_known_by_its_number_and_its_start() -> None:
    me = Worker.of_process(os.getpid())
    assert me.alive()
    assert str(me).startswith(f"{socket.gethostname()}/{os.getpid()}/")
    assert not Worker(me.host, me.pid, "1").alive()  # a later process that got the number
    assert not Worker("elsewhere", me.pid, me.started).alive()


def test_a_dead_process_that_nobody_has_reaped_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        worker = Worker.of_process(process.pid)
        assert worker.alive()
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
        assert not worker.alive()


def test_the_health_of_a_run_is_that_of_its_process() -> None:
    me = Worker.of_process(os.getpid())
    assert health(str(me)) is WorkerStatus.RUNNING
    assert health(f"{me.host}/{me.pid}/1") is WorkerStatus.NOT_FOUND
    assert health(f"elsewhere/{me.pid}/1") is WorkerStatus.RUNNING  # nothing can be said from here
    assert health(None) is WorkerStatus.RUNNING  # `integration sync run`: a process of somebody's own


@pytest.mark.parametrize("tag", ["", "x", "host/", "host/no/5"])
def test_a_tag_that_names_no_process_is_nobodys(tag: str) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert Worker.of(instance.create_run_for_job(nothing, tags={WORKER_TAG: tag})) is None


def test_a_run_of_another_job_takes_the_usual_way() -> None:
    from integration_pipelines.orchestration.launcher import reconstructable

    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(nothing)
        with pytest.raises(dg.DagsterInvariantViolationError, match="does not say where its job's code is"):
            reconstructable(run)
