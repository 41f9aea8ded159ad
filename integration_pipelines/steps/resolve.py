"""resolve: what each record means for the ERP, as a plan. Nothing is written here.

One query for the batch's identity links, one bulk read of the ERP. Then, set by set:

    fingerprint as our last read left it    skip (a link that a tombstone marked deleted has none)
    linked and changed                      three-way merge (merge.py)
    not linked                              first meeting: match by the mapping's match key, or create (meeting.py)
    deleted over there                      the delete policy (deletes.py)
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby
from math import ceil

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.errors import BrakePulled
from integration_pipelines.canonical import aligned, array, canonical, extension, frame, rows_json
from integration_pipelines.lanes import abreast
from integration_pipelines.model import Batch, Change, Side, absence_frame, bools, concat, plan_frame
from integration_pipelines.steps import deletes, meeting, outward, sides
from integration_pipelines.steps.lines import merge_lines
from integration_pipelines.steps.merge import Merged, Sides, merge, new_base
from integration_pipelines.steps.references import resolve_references
from integration_pipelines.steps.run import Run
from integration_pipelines.steps.sides import ErpSide
from integration_pipelines.store import links
from integration_pipelines.store.database import Scope
from integration_pipelines.store.syncs import option

SMALL = 10  # the brake is not pulled for fewer records than this


def resolve(run: Run, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Each batch with its plan. Raises BrakePulled at the end when the whole plan would change too many of the known pairs.

    What counts are writes to records that were linked before: neither new ones nor first meetings."""
    changes = deletions = 0
    counted: set[int] = set()  # pairs that the external side changes: what then goes out of them does not count again
    for planned in _planned(run, batches):
        if planned.plan is not None:
            action, state, link = (array(planned.plan[name]) for name in ("action", "state", "link_id"))
            writes = pc.and_(pc.not_equal(action, Change.SKIP), pc.is_valid(link))
            if planned.side is Side.ERP:
                writes = pc.and_not(writes, pc.is_in(link, value_set=pa.array(list(counted), pa.int64())))
            elif run.outward is not None:
                counted.update(link.filter(writes).to_pylist())
            changes += pc.sum(writes).as_py() or 0
            deletions += pc.sum(pc.and_(writes, pc.equal(state, "deleted"))).as_py() or 0
        yield planned
    _brake(run, "delete or deactivate", deletions, option(run.config, "brake_deletes"))
    _brake(run, "change", changes, option(run.config, "brake_changes"))


def _planned(run: Run, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The external side's batches, which come first, side by side; then the ERP's."""
    first: set[str] = set()  # ERP records whose pair is written from the external side in this run
    for side, part in groupby(batches, lambda batch: batch.side):
        if side is Side.ERP:
            yield from (outward.plan(run, batch, first) for batch in part)
            continue
        for planned in abreast(partial(_inward, run), part):
            first |= _touched(planned) if run.outward is not None else set()
            yield planned


def _inward(run: Run, batch: Batch) -> Batch:
    with run.database.tenant(run.tenant) as scope:
        return plan(run, scope, resolve_references(run, scope, batch))


def _touched(batch: Batch) -> set[str]:
    assert batch.plan is not None  # noqa: S101 - it was just made
    ids = array(batch.plan["erp_id"]).filter(array(batch.plan["settle"]))
    return set(ids.drop_null().to_pylist())


def _brake(run: Run, verb: str, count: int, share: float) -> None:
    if count < SMALL or run.config.brake_released_at is not None or run.attempt is None:
        return
    with run.database.tenant(run.tenant) as scope:
        pairs = links.known(scope, run.pair, most=ceil(count / share) if share else None)  # with so many it is not pulled
    if count > share * pairs:
        raise BrakePulled(
            f"This run would {verb} {count} of the {pairs} known {run.target.name} records, more than the {share:.0%} that "
            f"sync config {run.config.id} allows. Nothing was written. Look at `integration sync plan {run.config.id}`; if "
            f"that is what you want, `integration sync release {run.config.id}` lets the next run through."
        )


def plan(run: Run, scope: Scope, batch: Batch) -> Batch:
    """The batch with plan and written; references are resolved already. Records that must wait are rejected."""
    batch = sides.all_columns(run, batch)
    index, deleted = batch.records.index, batch.deleted
    found = aligned(links.find(scope, run.pair, array(index).to_pylist()), index)
    made = sides.fingerprints(scope, canonical(batch.records, run.fields), sides.said(batch))
    prints = frame({"fingerprint": made}, index)
    linked = bools(pc.is_valid(array(found["link_id"])))
    same = bools(pc.equal(array(found["external_fingerprint"]), made)) & ~deleted
    same &= bools(pc.is_in(array(found["state"]), value_set=pa.array(["active", "deleted"])))
    outside = batch.outside
    parts = [sides.skipped(run, batch.take(same | (deleted & ~linked) | outside))]
    changed, gone, new = linked & ~same & ~deleted & ~outside, linked & deleted, ~linked & ~deleted & ~outside
    if gone.any():
        parts.append(deletes.plan(run, scope, batch.take(gone).alone(), found[gone]))
    if changed.any():
        part = _without_winners(run, scope, batch.take(changed).alone(), parts[-1].rejected)
        parts.append(sides.skipped(run, part.take(np.zeros(len(part), dtype=bool))))  # carries those that wait
        if len(part):
            parts.append(_paired(run, scope, part.alone(), aligned(found, part.records.index), prints))
    if new.any():
        part, candidates = meeting.without_lonely(run, *meeting.match(run, scope, batch.take(new).alone()))
        met = bools(pc.is_valid(array(candidates["erp_id"])))
        parts.append(meeting.created(run, part.take(~met), candidates[~met], prints))
        if met.any():
            parts.append(_paired(run, scope, part.take(met).alone(), candidates[met], prints))
    return concat(parts)


def _without_winners(run: Run, scope: Scope, batch: Batch, rejected: pd.DataFrame) -> Batch:
    """Without records into which another linked one was merged, until a person has decided which of the ERP records stays."""
    now = {orjson.loads(details).get("merged_into") for details in rejected["details"]}
    winners = now | set(links.merge_winners(scope, run.pair, array(batch.records.index).to_pylist()))
    return batch.reject(
        np.asarray(batch.records.index.astype(object).isin(winners), dtype=bool),
        error_type="conflict",
        message="Another record was merged into it over there; deactivate or delete the ERP record that does not stay.",
        rule="merge",
    )


def _paired(run: Run, scope: Scope, batch: Batch, pairs: pd.DataFrame, prints: pd.DataFrame) -> Batch:
    """Plan of records whose ERP record is known: by a link, or because they were just matched."""
    pairs = pairs.assign(match_digest=extension(_digests(run, scope, batch, pairs)))
    erp = sides.erp_side(run, scope, array(pairs["erp_id"]).to_pylist())
    lost = ~bools(pc.is_in(array(pairs["erp_id"]), value_set=array(erp.texts.index)))
    parts = []
    if lost.any():
        parts.append(deletes.lost_in_erp(run, scope, batch.take(lost), pairs[lost], prints))
        batch, pairs = batch.take(~lost), pairs[~lost]
    batch, left = erp.without_unreadable(batch, array(pairs["erp_id"]))
    parts.append(sides.skipped(run, batch.take(np.zeros(len(batch), dtype=bool))))  # carries those that wait
    batch, pairs = batch.alone(), pairs[left]
    if len(batch):
        parts.append(_merged(run, scope, batch, pairs, erp.aligned(array(pairs["erp_id"]), batch.records.index), prints))
    return concat(parts)


def _digests(run: Run, scope: Scope, batch: Batch, pairs: pd.DataFrame) -> pa.Array:
    """The match key that each record claims now; where it does not say, the one that its link holds."""
    now = meeting.match_digests(run, scope, batch)
    names = [str(name) for name in batch.records.columns]
    told = np.asarray(sides.said(batch)[:, [names.index(name) for name in run.mapping.match]].all(axis=1))
    return pc.if_else(pa.array(told), now, array(pairs["match_digest"]))


def _merged(run: Run, scope: Scope, batch: Batch, pairs: pd.DataFrame, erp: ErpSide, prints: pd.DataFrame) -> Batch:
    batch = _reactivated(run, batch, pairs)
    texts = canonical(batch.records, run.fields)
    base = sides.known_base(run, scope, pairs)
    both = sides.contested(texts, erp.texts, base)
    erp_at = sides.erp_instants(run, scope, erp, array(pairs["erp_id"]).to_pylist(), both)
    state = Sides(texts, erp.texts, base, sides.said(batch), sides.instants(batch.marks), erp_at)
    merged = merge(state, run.policies)
    batch, merged, agreed = merge_lines(run, batch, state, merged, both, new_base(state, merged))
    names = [f.name for f in run.fields]
    planned = plan_frame(
        batch.records.index,
        action=np.where(merged.write.any(axis=1), Change.UPDATE.value, Change.SKIP.value),
        settle=True,
        link_id=pairs["link_id"],
        revision=pairs["revision"],
        erp_id=pairs["erp_id"],
        erp_version=erp.marks["version"],
        fingerprint=aligned(prints, batch.records.index)["fingerprint"],
        match_digest=pairs["match_digest"],
        base=agreed.json(),
        before=rows_json(erp.texts),
    )
    written = absence_frame({name: merged.write[:, at] for at, name in enumerate(names)}, batch.records.index)
    return _parked(run, replace(batch, plan=planned, written=written), state, merged, erp)


def _reactivated(run: Run, batch: Batch, pairs: pd.DataFrame) -> Batch:
    """A record that comes back after its deletion sets the flag that the deletion cleared, unless it speaks for itself."""
    back, flag = bools(pc.equal(array(pairs["state"]), "deleted")), run.target.active
    if flag is None or not back.any() or batch.absent is None:
        return batch
    back = back & batch.absence(flag)
    on = extension(pc.if_else(pa.array(back), True, array(batch.records[flag])))
    silent = extension(pc.and_(array(batch.absent[flag]), pa.array(~back)))
    return replace(batch, records=batch.records.assign(**{flag: on}), absent=batch.absent.assign(**{flag: silent}))


def _parked(run: Run, batch: Batch, state: Sides, merged: Merged, erp: ErpSide) -> Batch:
    """Set aside what a person must decide: clashes under `manual`, and changes of documents that are closed.

    `batch` comes without rejected rows; its own hold all three sides instead of the record."""
    clash = np.asarray(merged.clash.any(axis=1))
    closed = bools(erp.marks["immutable"]) & merged.write.any(axis=1) & ~clash
    if not (clash | closed).any():
        return batch
    names = [f.name for f in run.fields]
    content = [
        f'{{"external": {x.decode()}, "erp": {e.decode()}, "base": {b.decode()}}}'
        for x, e, b in zip(
            rows_json(state.external, state.said).to_pylist(),
            rows_json(state.erp).to_pylist(),
            rows_json(state.base.external, state.base.known).to_pylist(),
            strict=True,
        )
    ]
    fields = [", ".join(n for n, hit in zip(names, row, strict=True) if hit) for row in (merged.clash | merged.write)]
    clashing = [", ".join(n for n, hit in zip(names, row, strict=True) if hit) for row in merged.clash]
    waiting = clash | closed
    messages = [
        f"Both sides changed {clashing[at]}; decide which value stays." if clash[at]
        else f"The ERP's {run.target.name} is closed for changes, and {fields[at]} differs; correct it by a reversal."
        for at in np.flatnonzero(waiting)
    ]  # fmt: skip
    left = batch.reject(
        waiting,
        error_type="conflict",
        message=messages,
        field=[clashing[at] or fields[at] for at in np.flatnonzero(waiting)],
        rule="merge",
    )
    rows = pa.array([content[at] for at in np.flatnonzero(waiting)], pa.string())
    return replace(left, rejected=left.rejected.assign(data=extension(rows)))
