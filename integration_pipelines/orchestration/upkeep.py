"""What the daemon does beside Dagster's own work: retries of failed runs, schedules that begin at once, and alerts."""

from collections.abc import Generator
from datetime import timedelta
from typing import Any
from uuid import UUID

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.definitions.schedule_definition import DefaultScheduleStatus
from dagster._core.execution.plan.resume_retry import ReexecutionStrategy
from dagster._core.remote_representation.code_location import CodeLocation
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData
from dagster._core.storage.tags import PARENT_RUN_ID_TAG
from dagster._core.workspace.context import BaseWorkspaceRequestContext
from dagster._daemon.daemon import IntervalDaemon

from connector_resources.errors import ConfigurationError
from integration_pipelines.operations.alerts import send_due
from integration_pipelines.orchestration.code_server import LOCATION
from integration_pipelines.orchestration.launcher import WORKER_TAG
from integration_pipelines.orchestration.session import RunIds, Session, utc_now
from integration_pipelines.settings import Settings
from integration_pipelines.store import retries
from integration_pipelines.store.database import Database

INTERVAL = 2
ALERT_INTERVAL = 5
LOOKED_BACK = timedelta(minutes=30)


class UpkeepDaemon(IntervalDaemon[Any]):
    """One of Dagster's daemons, with a thread of its own."""

    def __init__(self, settings: Settings, database: Database) -> None:
        super().__init__(interval_seconds=INTERVAL)
        self.settings = settings
        self.database = database
        self._given_up: set[str] = set()

    @classmethod
    def daemon_type(cls) -> str:
        return "UPKEEP"

    def run_iteration(self, workspace_process_context: Any) -> Generator[Any, None, None]:
        context = workspace_process_context.create_request_context()
        entry = context.get_code_location_entries().get(LOCATION)
        location = entry.code_location if entry else None
        if location is not None:
            begin_schedules(context.instance, location)
            yield None
        self.note_runs_without_history(context.instance)
        yield None
        if location is not None:
            for tenant, history_id in retries.due(self.database, utc_now()):
                self.retry(context, location, tenant, history_id)
                yield None

    def note_runs_without_history(self, instance: dg.DagsterInstance) -> None:
        """A run whose process died before it had opened its history row gets one, as failed, so that it is tried again."""
        found = instance.get_runs(
            dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=utc_now() - LOOKED_BACK), limit=200
        )
        runs = {
            UUID(run.run_id): run for run in found if run.run_id not in self._given_up and run.job_name.startswith("sync_")
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

    def retry(self, context: BaseWorkspaceRequestContext, location: CodeLocation, tenant: UUID, history_id: int) -> None:
        """Execute a failed run again from the op that failed. Its row is held until the new run is in the queue, and a run
        that has a child already gets no second one."""
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
                or not repository.has_job(parent.job_name)
                or instance.get_runs(dg.RunsFilter(tags={PARENT_RUN_ID_TAG: parent.run_id}), limit=1)
            ):
                return
            run = instance.create_reexecuted_run(
                request_context=context,
                parent_run=parent,
                code_location=location,
                remote_job=repository.get_full_job(parent.job_name),
                strategy=ReexecutionStrategy.FROM_FAILURE,
                extra_tags={WORKER_TAG: ""},
                use_parent_run_tags=True,
            )
            instance.submit_run(run.run_id, context)


class AlertDaemon(IntervalDaemon[Any]):
    """Sends alerts, in a thread of its own: a mail server that does not answer must not hold up retries."""

    def __init__(self, database: Database) -> None:
        super().__init__(interval_seconds=ALERT_INTERVAL)
        self.database = database

    @classmethod
    def daemon_type(cls) -> str:
        return "ALERTS"

    def run_iteration(self, workspace_process_context: Any) -> Generator[Any, None, None]:  # noqa: ARG002 - Dagster's signature
        for _ in send_due(self.database, utc_now):
            yield None  # a sign of life, after each


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
