"""extract: everything that may have changed, read from the external system, and behind it what has changed in the ERP.

The window (at or after the watermark minus the overlap), the claimed inbox ids, ids with an open error, and records whose
missing parent has meanwhile been linked. So a record that failed comes back although the watermark has passed it. Of
the ERP: what its change log has had since the position where the last run ended, and ids with an open error.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.contract import Page, Window
from connector_resources.erp_changes import changed_since
from connector_resources.frames import arrow_type, page
from integration_pipelines.canonical import TEXT, array
from integration_pipelines.model import Batch, Side, absence_frame, concat
from integration_pipelines.steps import sides
from integration_pipelines.steps.run import Run
from integration_pipelines.store import history, inbox, links, rejects
from integration_pipelines.store.syncs import option


def extract(run: Run) -> Iterator[Batch]:
    if run.config.direction.inward:
        yield from _external(run)
    if run.config.direction.outward:
        yield from _erp(run)


def _external(run: Run) -> Iterator[Batch]:
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
        for read in run.external.read(run.source, fields, window):
            again.difference_update(array(read.records.index).to_pylist())
            latest = _latest(read, latest)
            yield read
        for read in run.external.read_ids(run.source, fields, sorted(again)):
            again.difference_update(array(read.records.index).to_pylist())
            yield read
        if ended := _ended(run, sorted(again)):
            again.difference_update(array(ended.records.index).to_pylist())
            yield ended

    yield from gathered(pages(), run.batch_size)
    if run.attempt is not None:
        with run.database.tenant(run.tenant) as scope:
            history.set_position(scope, run.attempt, str(min(latest, began).isoformat()) if latest else None)
            rejects.close_gone(scope, run.config, sorted(again))


def _ended(run: Run, ids: Sequence[str]) -> Page | None:
    """The tombstones among these records, which the external side no longer knows, as they were when they were set aside."""
    with run.database.tenant(run.tenant) as scope:
        known = rejects.tombstones(scope, run.config, ids) if ids else {}
    if not known:
        return None
    kinds = {name: arrow_type(field) for name in run.mapping.source_fields if (field := run.source.field(name))}
    found = page(
        list(known),
        {name: (kind, pa.nulls(len(known), kind)) for name, kind in kinds.items()},
        version=[None] * len(known),
        modified=[one["modified"] and datetime.fromisoformat(one["modified"]) for one in known.values()],
        deleted=[True] * len(known),
        merged_into=[one["merged_into"] for one in known.values()],
    )
    found.absent = absence_frame({name: np.ones(len(known), dtype=bool) for name in kinds}, found.records.index)
    return found


def _erp(run: Run) -> Iterator[Batch]:
    """Records of the ERP, then the tombstones of those that were deleted there. Where all are read, because it is the first
    time or by a new mapping version, linked ones that do not come are gone as well."""
    with run.database.tenant(run.tenant) as scope:
        whole = history.position(scope, run.config, Side.ERP) is None
        position = history.position(scope, run.config, Side.ERP, any_mapping=True)
        again = set(rejects.to_read_again(scope, run.config, Side.ERP))
    changed = changed_since(run.erp, run.target, position)
    whole = whole or changed.ids is None
    gone, failed = set(changed.deleted), set(again)
    seen: list[pa.Array] = []

    def pages() -> Iterator[Page]:
        if whole:
            for read in run.erp.read(run.target, run.asked, Window()):
                seen.append(array(read.records.index))
                again.difference_update(seen[-1].to_pylist())
                yield read
            again.update(_missing(run, seen))
        else:
            again.update(changed.ids or ())  # one that is not there is gone, whatever the log says last
        for read in run.erp.read_ids(run.target, run.asked, sorted(again - gone)):
            again.difference_update(array(read.records.index).to_pylist())
            yield read

    yield from (sides.erp_batch(run, batch) for batch in gathered(pages(), run.batch_size))
    with run.database.tenant(run.tenant) as scope:  # nobody but a link, or an error, wants to know
        linked = array(links.find(scope, run.pair, sorted(gone | again), Side.ERP).index).to_pylist()
    buried = sorted((gone | again) & {*linked, *failed})
    for start in range(0, len(buried), run.batch_size):
        yield sides.erp_tombstones(run, buried[start : start + run.batch_size])
    if run.attempt is not None:
        with run.database.tenant(run.tenant) as scope:
            history.set_position(scope, run.attempt, changed.position, Side.ERP)


def _missing(run: Run, seen: Sequence[pa.Array]) -> list[str]:
    """ERP ids of standing links that are not among these."""
    with run.database.tenant(run.tenant) as scope:
        linked = links.standing(scope, run.pair)
    there = pc.is_in(linked, value_set=pa.concat_arrays([part.cast(TEXT) for part in seen]) if seen else pa.array([], TEXT))
    missing: list[str] = linked.filter(pc.invert(there)).to_pylist()
    return missing


def erp_again(run: Run, ids: Sequence[str]) -> Iterator[Batch]:
    """These ERP records as they are now; a tombstone where one is gone."""
    left = set(ids)
    for read in run.erp.read_ids(run.target, run.asked, sorted(left)):
        left.difference_update(array(read.records.index).to_pylist())
        yield sides.erp_batch(run, Batch.of(read))
    if left:
        yield sides.erp_tombstones(run, sorted(left))


def gathered(pages: Iterable[Page], size: int) -> Iterator[Batch]:
    """Pages joined to batches of at least `size` records, but for the last one: each batch costs the same statements,
    however small it is. A record that changed while it was read may stand on two pages of a batch: the later one counts."""
    waiting: list[Batch] = []
    for one in pages:
        if len(one.records):
            waiting.append(Batch.of(one))
        if sum(map(len, waiting)) >= size:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(batches: Sequence[Batch]) -> Batch:
    one = concat(batches)
    return one.take(~one.records.index.duplicated(keep="last"))


def _latest(found: Page, before: datetime | None) -> datetime | None:
    newest = pc.max(array(found.marks["modified"])).as_py()
    return max((moment for moment in (newest, before) if moment is not None), default=None)
