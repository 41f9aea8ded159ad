"""extract: everything that may have changed, read from the external system.

The window (at or after the watermark minus the overlap), the claimed inbox ids, ids with an open error, and records whose
missing parent has meanwhile been linked. So a record that failed comes back although the watermark has passed it.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

import pyarrow.compute as pc

from connector_resources.contract import Page, Window
from integration_pipelines.canonical import array
from integration_pipelines.model import Batch, concat
from integration_pipelines.steps.run import Run
from integration_pipelines.store import history, inbox, rejects
from integration_pipelines.store.syncs import option


def extract(run: Run) -> Iterator[Batch]:
    """Batches of whole pages. At the end the run knows where its watermark will go: to the latest modification
    that was read, and never past the instant at which the read began. A record that changes under the read shows a later
    one, and what changed in the meantime may lie on pages that were read already."""
    with run.database.tenant(run.tenant) as scope:
        watermark = history.watermark(scope, run.config)
        again = set(rejects.to_read_again(scope, run.config)) | set(inbox.claim(scope, run.pair, run.attempt))
    overlap = timedelta(seconds=option(run.config, "overlap_seconds"))
    window = Window(since=watermark - overlap if watermark else None)
    fields = run.mapping.source_fields
    latest, began = watermark, run.now()

    def pages() -> Iterator[Page]:
        nonlocal latest
        for page in run.external.read(run.source, fields, window):
            again.difference_update(array(page.records.index).to_pylist())
            latest = _latest(page, latest)
            yield page
        for page in run.external.read_ids(run.source, fields, sorted(again)):
            again.difference_update(array(page.records.index).to_pylist())
            yield page

    yield from gathered(pages(), run.batch_size)
    if run.attempt is not None:
        with run.database.tenant(run.tenant) as scope:
            history.set_position(scope, run.attempt, min(latest, began) if latest else None)
            rejects.close_gone(scope, run.config, sorted(again))


def gathered(pages: Iterable[Page], size: int) -> Iterator[Batch]:
    """Pages joined to batches of at least `size` records, but for the last one: each batch costs the same statements,
    however small it is. A record that changed while it was read may stand on two pages of a batch: the later one counts."""
    waiting: list[Batch] = []
    for page in pages:
        if len(page.records):
            waiting.append(Batch.of(page))
        if sum(map(len, waiting)) >= size:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(batches: Sequence[Batch]) -> Batch:
    one = concat(batches)
    return one.take(~one.records.index.duplicated(keep="last"))


def _latest(page: Page, before: datetime | None) -> datetime | None:
    found = pc.max(array(page.marks["modified"])).as_py()
    return max((moment for moment in (found, before) if moment is not None), default=None)
