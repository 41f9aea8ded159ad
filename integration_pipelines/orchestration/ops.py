"""The five ops of every sync. Each is a thin face of the step of the same name; batches travel through staging."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from uuid import UUID

import dagster as dg

from connector_resources.contract import Field
from integration_pipelines.model import Batch, Side, SyncStatus
from integration_pipelines.orchestration.failures import POLICY, explained
from integration_pipelines.orchestration.session import RunIds, Session
from integration_pipelines.orchestration.staging_io import Batches
from integration_pipelines.settings import load as load_settings
from integration_pipelines.steps.run import Run


def step(
    context: dg.OpExecutionContext, batches: Callable[[Run], Iterator[Batch]], described: Callable[[Run], Sequence[Field]]
) -> Batches:
    """Batches of a step, made only while the IO manager drains them."""
    session: Session = context.resources.sync
    with explained(session, context.retry_number, context.log, context.instance):
        run = session.run()
    return Batches(lambda: batches(run), described(run))


def shown(run: Run) -> Sequence[Field]:
    """What describes the first records that are read."""
    return run.fields_of(Side.EXTERNAL if run.config.direction.inward else Side.ERP)


def sync_op(compute: Callable[..., object], *, name: str | None = None, out: dg.Out | None = None) -> dg.OpDefinition:
    """An op of a sync. It takes no config: nothing that the launchpad offers may decide whose records are touched."""
    made: dg.OpDefinition = dg.op(
        name=name or compute.__name__,
        out=out or dg.Out(dg.Any, io_manager_key="staging"),
        required_resource_keys={"sync"},
        retry_policy=POLICY,
        config_schema={},
    )(compute)
    return made


@sync_op
def extract(context: dg.OpExecutionContext) -> Batches:
    """Everything that may have changed, read from the external system."""
    from integration_pipelines.steps import extract as this

    return step(context, this.extract, shown)


@sync_op
def validate(context: dg.OpExecutionContext, extracted: Batches) -> Batches:
    """Records that break the external entity's contract are set aside."""
    from integration_pipelines.steps import validate as this

    return step(context, lambda run: this.validated(run, extracted), shown)


@partial(sync_op, name="map")
def map_(context: dg.OpExecutionContext, validated: Batches) -> Batches:
    """External fields become ERP fields."""
    from integration_pipelines.steps.outgoing import mapped

    return step(context, lambda run: (mapped(run, batch) for batch in validated), lambda run: run.target.fields)


@sync_op
def resolve(context: dg.OpExecutionContext, mapped: Batches) -> Batches:
    """What each record means for the ERP: create, update, delete, skip, or a conflict."""
    from integration_pipelines.steps import resolve as this

    return step(context, lambda run: this.resolve(run, mapped), lambda run: run.target.fields)


@partial(sync_op, out=dg.Out(dg.Nothing))
def load(context: dg.OpExecutionContext, resolved: Batches) -> None:
    """Write to the ERP, with links, journal and history in the same transaction."""
    from integration_pipelines.steps import load as this

    session: Session = context.resources.sync
    with explained(session, context.retry_number, context.log, context.instance):
        run = session.run()
        counts, status = this.load(run, resolved)
        session.staging.drop(UUID(context.run_id))
    context.add_output_metadata(
        {
            "processed": counts.processed,
            "succeeded": counts.succeeded,
            "failed": counts.failed,
            "skipped": counts.skipped,
            **{f"{action}d": number for action, number in sorted(counts.actions.items())},
            "status": status.value,
            "history": run.opened.id,
        }
    )
    if status is SyncStatus.FAILED:
        raise dg.Failure(
            f"All {counts.failed} records were set aside. `integration sync errors {session.sync_id}` has the reasons.",
            allow_retries=False,
        )


@dg.graph
def sync() -> None:
    """extract → validate → map → resolve → load"""
    load(resolve(map_(validate(extract()))))


def session_resource(sync_id: int) -> dg.ResourceDefinition:
    """The run's session. Which sync it is comes from the job's definition alone: the resource takes no config."""

    @dg.resource(config_schema={}, required_resource_keys={"connector", "erp"})
    def session(context: dg.InitResourceContext) -> Iterator[Session]:
        if context.run is None:
            raise dg.DagsterInvariantViolationError("A sync's session belongs to a run.")
        root = context.run.root_run_id
        ids = RunIds(UUID(context.run.run_id), UUID(root) if root else None)
        with Session(load_settings(), sync_id, ids) as opened:
            yield opened

    return session
