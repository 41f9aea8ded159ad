"""What the daemon does beside Dagster's own work: retries of failed runs, schedules that begin at once, and alerts."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.definitions.schedule_definition import DefaultScheduleStatus
from dagster._core.execution.plan.resume_retry import ReexecutionStrategy
from dagster._core.remote_representation.code_location import CodeLocation
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData
from dagster._core.storage.tags import PARENT_RUN_ID_TAG
from dagster._core.workspace.context import BaseWorkspaceRequestContext, IWorkspaceProcessContext

from connector_resources.errors import ConfigurationError, IntegrationError, NetworkError
from integration_pipelines.operations.alerts import send_due
from integration_pipelines.orchestration import clock
from integration_pipelines.orchestration.code_server import LOCATION
from integration_pipelines.orchestration.launcher import WORKER_TAG, Worker
from integration_pipelines.orchestration.session import RunIds, Session, utc_now
from integration_pipelines.settings import Settings
from integration_pipelines.store import history, retries
from integration_pipelines.store.database import Database

INTERVAL = 2.0
ALERT_INTERVAL = 5.0
GRACE = timedelta(seconds=15)
LOOKED_BACK = timedelta(minutes=30)  # longer than the clocks of two machines differ, or a process takes to end
PAGE = 200
_LOOKED = "integration/ended_runs_looked_at"
_LOG = logging.getLogger("integration.upkeep")


class Upkeep:
    def __init__(self, settings: Settings, database: Database, workspace: IWorkspaceProcessContext[Any]) -> None:
        self.settings = settings
        self.database = database
        self.workspace = workspace
        self._given_up: set[str] = set()
        self._began = self._latest = utc_now()

    def turn(self) -> None:
        """One look at everything; every few seconds."""
        self.look_at_the_clock()
        context = self.workspace.create_request_context()
        entry = context.get_code_location_entries().get(LOCATION)
        location = entry.code_location if entry else None
        if location is not None:
            begin_schedules(context.instance, location)
        self.bury(context.instance)
        self.bury_unborn(context.instance)
        self.look_at_ended_runs(context.instance)
        if location is not None:
            for tenant, history_id in retries.due(self.database, utc_now()):
                try:
                    self.retry(context, location, tenant, history_id)
                except Exception:  # noqa: BLE001 - one that cannot be tried again must not hold up the others
                    _LOG.exception("The run of history row %s could not be tried again; trying later.", history_id)

    def look_at_the_clock(self) -> None:
        """Where it was set back, end this process: Dagster's daemons remember the times to come. Whoever watches over it
        starts it again, and runs go on meanwhile."""
        now = utc_now()
        if now < self._latest - clock.LEEWAY:
            _LOG.warning(
                "The clock was set back by %s. The daemon ends, to begin anew with the time of now.", self._latest - now
            )
            os.kill(os.getpid(), signal.SIGTERM)
        self._latest = now

    def bury(self, instance: dg.DagsterInstance) -> None:
        """A run that goes on for Dagster, and whose process, which is none that the launcher can look at, holds no lock any
        more: it has died, whatever its history says. It would keep its place in the queue's limits for ever."""
        going_on = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        runs = {
            UUID(record.dagster_run.run_id): record.dagster_run
            for record in going_on
            if record.dagster_run.job_name.startswith("sync_")
            and record.start_time is not None
            and utc_now().timestamp() - record.start_time > GRACE.total_seconds()
            and not ((worker := Worker.of(record.dagster_run)) and worker.alive())
        }
        for run_id in history.dead(self.database, list(runs)) if runs else ():
            instance.report_run_failed(runs[run_id], "The process of this run died.")

    def bury_unborn(self, instance: dg.DagsterInstance) -> None:
        """A run that was to start and whose process has died before it did, or whose daemon has died before it forked one.
        Dagster asks only after the health of runs that have started, and waits minutes for the others."""
        for record in instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING])):
            worker = Worker.of(record.dagster_run)
            if worker is not None:  # for a moment it may still be that of the run which this one repeats
                looked_at = utc_now() - timedelta(seconds=INTERVAL)
                dead = worker.host == socket.gethostname() and not worker.alive() and record.update_timestamp < looked_at
            else:
                dead = record.update_timestamp < self._began < utc_now() - GRACE
            if dead:
                instance.report_run_failed(record.dagster_run, "The process of this run died before it had begun.")

    def look_at_ended_runs(self, instance: dg.DagsterInstance) -> None:
        """Those that have ended since a daemon last looked at all of them, however long ago that was, and lately."""
        now = utc_now()
        looked = instance.daemon_cursor_storage.get_cursor_values({_LOOKED}).get(_LOOKED)
        since = min(now, datetime.fromisoformat(looked)) if looked else now
        for runs in ended_since(instance, since - LOOKED_BACK):
            end_stubborn_workers(instance, runs)
            self.note_runs_without_history(runs)
        instance.daemon_cursor_storage.set_cursor_values({_LOOKED: now.isoformat()})

    def note_runs_without_history(self, ended: Sequence[dg.DagsterRun]) -> None:
        """A run whose process died before it had opened its history row gets one, as failed, so that it is tried again."""
        runs = {
            UUID(run.run_id): run
            for run in ended
            if run.status is dg.DagsterRunStatus.FAILURE
            and run.run_id not in self._given_up
            and run.job_name.startswith("sync_")
        }
        for run_id in retries.without_history(self.database, list(runs)):
            run = runs[run_id]
            self._given_up.add(run.run_id)
            ids = RunIds(run_id, UUID(run.root_run_id) if run.root_run_id else None)
            try:
                with Session(self.settings, int(run.job_name.removeprefix("sync_")), ids) as session:
                    session.fail("system", "The process of this run died before it had begun.", retries.AfterFailure.RETRY)
            except ConfigurationError:  # the sync config is gone, and with it the place for a history
                continue
            except NetworkError:
                self._given_up.remove(run.run_id)
                raise

    def retry(self, context: BaseWorkspaceRequestContext, location: CodeLocation, tenant: UUID, history_id: int) -> None:
        """Execute a failed run again from the op that failed, or from the first one where the connector is another one by now.
        Its row is held until the new run is in the queue, and a run that has a child already gets no second one."""
        instance = context.instance
        with self.database.tenant(tenant) as scope:
            run_id = retries.look(scope, history_id)
            parent = instance.get_run_by_id(str(run_id)) if run_id else None
            if parent is not None and not parent.is_finished:
                return  # Dagster has not noticed yet that its process is dead
            retries.taken(scope, history_id)
            repository = next(iter(location.get_repositories().values()))
            if (
                parent is None
                or parent.status is not dg.DagsterRunStatus.FAILURE  # cancelled, or ended well after all
                or not repository.has_job(parent.job_name)
                or instance.get_runs(dg.RunsFilter(tags={PARENT_RUN_ID_TAG: parent.run_id}), limit=1)
            ):
                return
            afresh = retries.afresh(scope, history_id)
            strategy = ReexecutionStrategy.ALL_STEPS if afresh else ReexecutionStrategy.FROM_FAILURE
            run = instance.create_reexecuted_run(
                request_context=context,
                parent_run=parent,
                code_location=location,
                remote_job=repository.get_full_job(parent.job_name),
                strategy=strategy,
                extra_tags={WORKER_TAG: ""},
                use_parent_run_tags=True,
            )
            instance.submit_run(run.run_id, context)


def send_alerts(database: Database) -> None:
    """In a thread of its own: a mail server that does not answer must not hold up retries."""
    for _ in send_due(database, utc_now):
        continue


def repeat(name: str, seconds: float, turn: Callable[[], None], stop: threading.Event) -> threading.Thread:
    """A thread that takes a turn every so often, whatever became of the one before, until `stop` is set."""

    def loop() -> None:
        while not stop.wait(seconds):
            try:
                turn()
            except IntegrationError as problem:
                _LOG.warning("%s: %s Trying again.", name, problem)
            except Exception:  # noqa: BLE001 - Dagster's storage raises what its driver raises; the next turn may go well
                _LOG.exception("%s failed; trying again.", name)

    thread = threading.Thread(target=loop, name=name, daemon=True)
    thread.start()
    return thread


def ended_since(instance: dg.DagsterInstance, since: datetime) -> Iterator[Sequence[dg.DagsterRun]]:
    """Runs that have failed or were cancelled, page by page."""
    statuses = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    cursor = None
    while runs := instance.get_runs(dg.RunsFilter(statuses=statuses, updated_after=since), cursor=cursor, limit=PAGE):
        yield runs
        cursor = runs[-1].run_id


def end_stubborn_workers(instance: dg.DagsterInstance, ended: Sequence[dg.DagsterRun]) -> None:
    """A run that was cancelled, or has exceeded its time, and whose process does not end: it would go on holding its locks."""
    for run in ended:
        worker = Worker.of(run)
        if worker is None or not worker.alive():
            continue
        record = instance.get_run_record_by_id(run.run_id)
        if (
            record is not None
            and record.end_time is not None
            and utc_now().timestamp() - record.end_time > GRACE.total_seconds()
        ):
            _LOG.warning("The process of run %s (%s) does not end; it is killed.", run.run_id, worker)
            os.kill(worker.pid, signal.SIGKILL)


def begin_schedules(instance: dg.DagsterInstance, location: CodeLocation) -> None:
    """Dagster's scheduler looks at the schedules once a minute, and lets a new one begin with the minute after that. Its state
    written here, as soon as the definitions have it, makes it begin with the next one."""
    known = {state.selector_id for state in instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)}
    for repository in location.get_repositories().values():
        for schedule in repository.get_schedules():
            if schedule.default_status == DefaultScheduleStatus.RUNNING and schedule.selector_id not in known:
                began = ScheduleInstigatorData(schedule.cron_schedule, utc_now().timestamp())
                origin = schedule.get_remote_origin()
                instance.add_instigator_state(
                    InstigatorState(origin, InstigatorType.SCHEDULE, InstigatorStatus.DECLARED_IN_CODE, began)
                )
