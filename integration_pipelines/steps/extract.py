"""extract: everything that may have changed, read from the external system.

The window (at or after the watermark minus the overlap), the claimed inbox ids, ids with an open error, and records whose
missing parent has meanwhile been linked. So a record that failed comes back although the watermark has passed it.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pyarrow.compute as pc

from connector_resources.contract import Page, Window
from integration_pipelines.canonical import array
from integration_pipelines.model import Batch
from integration_pipelines.steps.run import Run
from integration_pipelines.store import history, inbox, rejects
from integration_pipelines.store.syncs import option


def extract(run: Run) -> Iterator[Batch]:
    """Batches as the connector pages them. At the end the run knows where its watermark will go: to the latest modification
    that was read, and never past the instant at which the read began. A record that changes under the read shows a later
    one, and what changed in the meantime may lie on pages that were read already."""
    with run.database.tenant(run.tenant) as scope:
        watermark = history.watermark(scope, run.config)
        again = set(rejects.to_read_again(scope, run.config)) | set(inbox.claim(scope, run.pair, run.attempt))
    overlap = timedelta(seconds=option(run.config, "overlap_seconds"))
    window = Window(since=watermark - overlap if watermark else None)
    fields = run.mapping.source_fields
    latest, began = watermark, run.now()
    for page in run.external.read(run.source, fields, window):
        again -= set(page.records.index)
        latest = _latest(page, latest)
        if len(page.records):
            yield Batch.of(page)
    for page in run.external.read_ids(run.source, fields, sorted(again)):
        again -= set(page.records.index)
        if len(page.records):
            yield Batch.of(page)
    if run.attempt is not None:
        with run.database.tenant(run.tenant) as scope:
            history.set_position(scope, run.attempt, min(latest, began) if latest else None)
            rejects.close_gone(scope, run.config, sorted(again))


def _latest(page: Page, before: datetime | None) -> datetime | None:
    found = pc.max(array(page.marks["modified"])).as_py()
    return max((moment for moment in (found, before) if moment is not None), default=None)
