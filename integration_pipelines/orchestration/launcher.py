"""Warm runs: a forkserver that has imported everything once, and a process of its own for each run, forked from it.

A run's process says who it is (host, process id, start time) in the run's tags before it begins, so that every process of the
installation on that host can end it or see that it is dead; it belongs to none of them, and outlives a restarted daemon.
"""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Self

import dagster as dg
from dagster._config import Field
from dagster._core.definitions.reconstruct import ReconstructableJob, build_reconstructable_job
from dagster._core.instance import InstanceRef
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._grpc.impl import core_execute_run
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from dagster._utils.hosted_user_process import recon_job_from_origin
from dagster._utils.interrupts import capture_interrupts, setup_interrupt_handlers

PRELOAD = "integration_pipelines.orchestration.preload"
WORKER_TAG = "integration/worker"


class WarmRunLauncher(RunLauncher[Any], ConfigurableClass):
    """Dagster's RunLauncher for dagster.yaml. `preload`: modules that the forkserver imports before its first run."""

    def __init__(self, preload: Sequence[str] = (PRELOAD,), inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inst_data = inst_data
        self.preload = list(preload)

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {"preload": Field([str], is_required=False, default_value=[PRELOAD])}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        return cls(config_value["preload"], inst_data)

    def warm_up(self) -> None:
        """Start the forkserver; what it imports is ready some seconds later, or when the first run waits for it."""
        from multiprocessing import forkserver

        self._context().set_forkserver_preload(self.preload)
        forkserver.ensure_running()

    def _context(self) -> ForkServerContext:
        return multiprocessing.get_context("forkserver")

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        if run.tags.get(WORKER_TAG):  # of the run that this one repeats
            self._instance.add_run_tags(run.run_id, {WORKER_TAG: ""})
        self.warm_up()
        process = self._context().Process(target=work, args=(run.run_id, self._instance.get_ref()))
        process.start()
        multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]  # nobody here waits for it or ends it
        self._instance.report_engine_event(f"A warm worker (process {process.pid}) takes the run.", run, cls=self.__class__)

    def terminate(self, run_id: str) -> bool:
        """Ask the run's process to end; its op sees DagsterExecutionInterruptedError. False when there is none here."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        worker = Worker.of(run)
        if worker is None or not worker.alive():
            return False
        self._instance.report_run_canceling(run)
        os.kill(worker.pid, signal.SIGTERM)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Of a run whose process is not one of ours here (`integration sync run`, another host) only its history tells whether
        it lives: upkeep looks at that."""
        worker = Worker.of(run)
        if worker is None or worker.host != socket.gethostname() or worker.alive():
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(worker))
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND, f"The process of this run (worker {worker}) died.", False, str(worker)
        )


class Worker:
    """One run's process. Its start time tells it from a later process that has got its number."""

    def __init__(self, host: str, pid: int, started: str) -> None:
        self.host, self.pid, self.started = host, pid, started

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}/{self.started}"

    @classmethod
    def of_process(cls, pid: int) -> "Worker":
        return cls(socket.gethostname(), pid, _started(pid) or "")

    @classmethod
    def of(cls, run: dg.DagsterRun) -> "Worker | None":
        """By the run's tag, which is written once the run's process has begun."""
        host, _, rest = run.tags.get(WORKER_TAG, "").partition("/")
        pid, _, started = rest.partition("/")
        return cls(host, int(pid), started) if pid.isdigit() else None

    def alive(self) -> bool:
        return self.host == socket.gethostname() and _started(self.pid) == self.started


def _started(pid: int) -> str | None:
    """A process's start time in clock ticks since boot (proc(5), field 22); None for one that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def work(run_id: str, instance_ref: InstanceRef) -> None:
    """The whole life of a run's process."""
    os.setsid()  # a signal to the terminal's processes is not for it
    setup_interrupt_handlers()
    with capture_interrupts(), dg.DagsterInstance.from_ref(instance_ref) as instance:
        instance.add_run_tags(run_id, {WORKER_TAG: str(Worker.of_process(os.getpid()))})
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            sys.exit(1)
        failed = False
        try:
            for event in core_execute_run(reconstructable(run), run, instance, inject_env_vars=False):
                failed |= event.event_type_value == "PIPELINE_FAILURE"
        except BaseException:  # noqa: BLE001 - core_execute_run has written it into the event log
            failed = True
        sys.exit(1 if failed else 0)


def reconstructable(run: dg.DagsterRun) -> ReconstructableJob:
    """A sync's job is made from its own rows: the other sync configs are not even read. Any other job comes the usual way."""
    if run.job_name.startswith("sync_"):
        return build_reconstructable_job("integration_pipelines.orchestration.jobs", "job_named", (run.job_name,))
    if run.job_code_origin is None:
        raise dg.DagsterInvariantViolationError(f"Run {run.run_id} does not say where its job's code is.")
    return recon_job_from_origin(run.job_code_origin)
