"""The IO manager: an op's batches are drained into staging, sealed, and the next op gets them one at a time.

Memory stays flat however many records there are, a run can be re-executed from the op that failed, and no record ever lies in
Dagster's own storage.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

import dagster as dg

from connector_resources.contract import Field
from integration_pipelines.lanes import ahead
from integration_pipelines.model import Batch
from integration_pipelines.orchestration.failures import explained
from integration_pipelines.orchestration.session import Session
from integration_pipelines.steps.preview import preview
from integration_pipelines.store.staging import Staging

_SHOWN = 5


class Batches:
    """What an op returns: iterating makes the batches. A bare generator would be taken for Dagster events.

    `fields`: describes the columns, for the masked preview."""

    def __init__(self, make: Callable[[], Iterator[Batch]], fields: Sequence[Field] = ()) -> None:
        self._make = make
        self.fields = fields

    def __iter__(self) -> Iterator[Batch]:
        return self._make()


class StagingIOManager(dg.IOManager):
    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        session: Session = context.resources.sync
        tries_before = context.step_context.previous_attempt_count
        started = time.monotonic()
        with explained(session, tries_before, context.log, context.step_context.instance):
            metadata = self._drain(session.staging, UUID(context.run_id), context.step_key, tries_before, obj)
        context.add_output_metadata({**metadata, "seconds": round(time.monotonic() - started, 3)})

    def _drain(self, staging: Staging, run_id: UUID, step: str, attempt: int, batches: Batches) -> dict[str, Any]:
        size = records = rejected = count = 0
        head = None
        staging.begin(run_id, step, attempt)
        for batch in ahead(iter(batches)):
            content = batch.to_bytes()
            staging.put(run_id, step, attempt, count, content)
            count, size, records = count + 1, size + len(content), records + len(batch)
            rejected += len(batch.rejected)
            head = batch.records.head(_SHOWN) if head is None else head
        staging.complete(run_id, step, attempt, count)
        found: dict[str, Any] = {"records": records, "rejected so far": rejected, "batches": count, "staged (bytes)": size}
        if head is not None and len(head):
            found["preview (personal fields masked)"] = dg.MetadataValue.md(preview(head, batches.fields))
        return found

    def load_input(self, context: dg.InputContext) -> Batches:
        session: Session = context.resources.sync
        source = context.upstream_output
        if source is None:
            raise dg.DagsterInvariantViolationError("An op of a sync has no input of its own.")
        run_id, step = UUID(source.run_id), source.step_key

        def read() -> Iterator[Batch]:
            return ahead(Batch.from_bytes(content) for content in session.staged(run_id, step))

        return Batches(read)
