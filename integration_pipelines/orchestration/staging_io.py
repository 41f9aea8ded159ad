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
from integration_pipelines.model import Batch
from integration_pipelines.orchestration.session import Session
from integration_pipelines.steps.preview import preview

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
        run_id, step = UUID(context.run_id), context.step_key
        attempt = context.step_context.previous_attempt_count if context.step_context else 0
        started, size, records, rejected, head = time.monotonic(), 0, 0, 0, None
        session.staging.begin(run_id, step, attempt)
        position = 0
        for position, batch in enumerate(obj, start=1):
            content = batch.to_bytes()
            session.staging.put(run_id, step, attempt, position - 1, content)
            size, records = size + len(content), records + len(batch)
            rejected += len(batch.rejected)
            head = batch.records.head(_SHOWN) if head is None else head
        session.staging.complete(run_id, step, attempt, position)
        metadata: dict[str, Any] = {
            "records": records,
            "rejected": rejected,
            "batches": position,
            "staged (bytes)": size,
            "seconds": round(time.monotonic() - started, 3),
        }
        if head is not None and len(head):
            metadata["preview (personal fields masked)"] = dg.MetadataValue.md(preview(head, obj.fields))
        context.add_output_metadata(metadata)

    def load_input(self, context: dg.InputContext) -> Batches:
        session: Session = context.resources.sync
        source = context.upstream_output
        if source is None:
            raise dg.DagsterInvariantViolationError("An op of a sync has no input of its own.")
        run_id, step = UUID(source.run_id), source.step_key

        def read() -> Iterator[Batch]:
            return (Batch.from_bytes(content) for content in session.staging.read(run_id, step))

        return Batches(read)
