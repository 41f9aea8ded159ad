"""Run a sync here and now, as a Dagster run in this process; and look at what it would do without one."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import dagster as dg

from integration_pipelines.canonical import array
from integration_pipelines.model import Batch, Change, Side
from integration_pipelines.orchestration.jobs import job_of
from integration_pipelines.orchestration.session import Session, utc_now
from integration_pipelines.settings import Settings
from integration_pipelines.steps.extract import extract
from integration_pipelines.steps.outgoing import mapped
from integration_pipelines.steps.resolve import resolve
from integration_pipelines.steps.validate import validated
from integration_pipelines.store import history
from integration_pipelines.store.installation import Installation, prepare_dagster_home

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@contextmanager
def dagster_instance(installation: Installation) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance of this installation. Its processes, and the runs in this one, find their way by the environment."""
    home = prepare_dagster_home(installation)
    os.environ.update(installation.environment())
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


@dataclass
class Finished:
    run_id: UUID
    success: bool
    problem: str | None


def run_now(instance: dg.DagsterInstance, sync_id: int, on_step: Callable[[str], None] = lambda _: None) -> Finished:
    """A whole Dagster run in this process; `on_step` hears of each op that has ended.

    Runs whose process died before are reported to Dagster as failed, as their histories are."""

    @dg.success_hook
    def progress(context: dg.HookContext) -> None:
        on_step(context.op.name)

    result = job_of(sync_id).with_hooks({progress}).execute_in_process(
        instance=instance, run_config=_QUIET, raise_on_error=False
    )  # fmt: skip
    problem = None
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data.user_failure_data
            problem = (failure.description if failure else None) or _first_line(event)
    return Finished(UUID(result.run_id), result.success, problem)


def _first_line(event: dg.DagsterEvent) -> str:
    error = event.step_failure_data.error
    return error.message.strip().splitlines()[0] if error else "The run failed."


def bury_dead_runs(installation: Installation, instance: dg.DagsterInstance) -> None:
    """Close the histories of killed runs, and tell Dagster."""
    database = installation.database()
    try:
        dead = history.sweep(database, utc_now())
    finally:
        database.close()
    for run_id in dead:
        run = instance.get_run_by_id(str(run_id))
        if run is not None and not run.is_finished:
            instance.report_run_failed(run, "The process of this run died.")


@dataclass
class Plan:
    """What a run would do: records by what would happen, and the changes one by one (the first ones)."""

    counts: dict[str, int] = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)


def plan(settings: Settings, sync_id: int, limit: int = 20) -> Plan:
    """Reads both sides through the same steps as a run, and writes nothing."""
    found = Plan(dict.fromkeys(("create", "update", "delete", "skip", "set aside"), 0))
    with Session(settings, sync_id) as session:
        run = session.run()
        for batch in resolve(run, (mapped(run, batch) for batch in validated(run, extract(run)))):
            found.counts["set aside"] += len(batch.rejected)
            _add(found, batch, limit)
    return found


def _add(found: Plan, batch: Batch, limit: int) -> None:
    if batch.plan is None or batch.written is None:
        return
    names = [str(name) for name in batch.written.columns]
    written = batch.written.to_numpy(dtype=bool)
    out = batch.side is Side.ERP
    other = array(batch.plan["external_id" if out else "erp_id"]).to_pylist()
    rows = zip(
        map(str, batch.records.index),
        array(batch.plan["action"]).to_pylist(),
        array(batch.plan["state"]).to_pylist(),
        other,
        strict=True,
    )
    for at, (record, action, state, there) in enumerate(rows):
        kind = Change.DELETE.value if action == Change.UPDATE and state == "deleted" else action
        found.counts[kind] += 1
        if kind != Change.SKIP and len(found.changes) < limit:
            fields = [name for name, hit in zip(names, written[at], strict=True) if hit]
            external, erp = (there, record) if out else (record, there)
            side = "external" if out else "ERP"
            told = {"change": kind, "in": side, "external id": external, "ERP id": erp, "fields": ", ".join(fields)}
            found.changes.append(told)
