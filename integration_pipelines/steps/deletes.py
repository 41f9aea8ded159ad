"""Deletions: external tombstones by the sync config's delete policy, ERP records that are gone, and merges over there.

A deletion against an edit is a conflict, settled by the sync config's strategy.
"""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from integration_pipelines.canonical import aligned, array, canonical, extension, rows_json
from integration_pipelines.model import (
    Batch,
    Change,
    ConflictStrategy,
    DeletePolicy,
    absence_frame,
    bools,
    concat,
    plan_frame,
)
from integration_pipelines.steps.base import Base, Bools
from integration_pipelines.steps.lines import edited_cells
from integration_pipelines.steps.meeting import created
from integration_pipelines.steps.run import Run
from integration_pipelines.steps.sides import ErpSide, erp_in, erp_instants, erp_side, instants, known_base, said
from integration_pipelines.store import links
from integration_pipelines.store.database import Scope


def plan(run: Run, scope: Scope, batch: Batch, pairs: pd.DataFrame) -> Batch:
    """Plan of tombstones whose record is linked."""
    merged = _undecided_merges(run, scope, batch, pairs)
    into = array(batch.marks["merged_into"]).to_pylist()
    batch = batch.reject(
        merged,
        error_type="conflict",
        message="It was merged into another record over there; deactivate or delete the ERP record that does not stay.",
        rule="merge",
        details=[json.dumps({"merged_into": winner}) for winner, lost in zip(into, merged, strict=True) if lost],
    )
    pairs = pairs[~merged]
    done = bools(pc.equal(array(pairs["state"]), "deleted")) | (run.config.delete_policy is DeletePolicy.IGNORE)
    parts = [_settled(run, batch.take(done), pairs[done], settle=False)]
    batch, pairs = batch.take(~done).alone(), pairs[~done]
    erp = erp_side(run, scope, array(pairs["erp_id"]).to_pylist())
    lost = ~bools(pc.is_in(array(pairs["erp_id"]), value_set=array(erp.texts.index)))
    parts.append(_settled(run, batch.take(lost), pairs[lost], settle=True))
    batch, left = erp.without_unreadable(batch.take(~lost), array(pairs["erp_id"]).filter(pa.array(~lost)))
    pairs = pairs[~lost][left]
    parts.append(
        _settled(run, batch.take(np.zeros(len(batch), dtype=bool)), pairs[:0], settle=True)
    )  # carries those that wait
    batch = batch.alone()
    if len(batch):
        parts.append(_tombstones(run, scope, batch, pairs, erp.aligned(array(pairs["erp_id"]), batch.records.index)))
    return concat(parts)


def _undecided_merges(run: Run, scope: Scope, batch: Batch, pairs: pd.DataFrame) -> Bools:
    """Records that were merged into another one, and whose ERP record still counts: a person must decide which one stays."""
    merged = np.asarray(pc.is_valid(array(batch.marks["merged_into"])))
    if not merged.any():
        return merged
    erp_ids = array(pairs["erp_id"])
    erp = erp_side(run, scope, erp_ids.filter(pa.array(merged)).to_pylist())
    flag = run.target.active
    counts = erp.texts if flag is None else erp.texts[~bools(pc.equal(array(erp.texts[flag]), "false"))]
    held: Bools = merged & bools(pc.is_in(erp_ids, value_set=array(counts.index)))
    return held


def _tombstones(run: Run, scope: Scope, batch: Batch, pairs: pd.DataFrame, erp: ErpSide) -> Batch:
    base = known_base(run, scope, pairs)
    changed = base.known & edited_cells(run, erp.texts, base.erp)
    if run.target.active and run.config.delete_policy is DeletePolicy.DEACTIVATE:
        at = erp.texts.columns.get_loc(run.target.active)
        changed[:, at] &= np.asarray(pc.fill_null(pc.not_equal(array(erp.texts[run.target.active]), "false"), True))
    keeps, parks = _against_edits(run, scope, batch, pairs, erp, changed)
    posted = bools(erp.marks["immutable"]) & ~keeps
    batch = batch.reject(
        parks & ~posted,
        error_type="conflict",
        message="It was deleted over there and edited in the ERP since; decide whether the ERP's record stays.",
        rule="delete",
    ) if (parks & ~posted).any() else batch  # fmt: skip
    stays = ~(parks & ~posted)
    batch = batch.reject(
        posted[stays],
        error_type="conflict",
        message=f"It was deleted over there, and the ERP's {run.target.name} is closed for changes; reverse it in the ERP.",
        rule="immutable",
    )
    left = stays & ~posted
    return _removed(run, batch, pairs[left], erp.take(left), base.take(left), keeps[left])


def _against_edits(
    run: Run, scope: Scope, batch: Batch, pairs: pd.DataFrame, erp: ErpSide, changed: Bools
) -> tuple[Bools, Bools]:
    """Which ERP records survive their deletion over there, and which must wait for a person."""
    strategy, edited = run.config.strategy, np.asarray(changed.any(axis=1))
    nothing = np.zeros(len(batch), dtype=bool)
    if strategy is ConflictStrategy.MANUAL:
        return nothing, edited
    if strategy is ConflictStrategy.TARGET_WINS:
        return edited, nothing
    if strategy is ConflictStrategy.SOURCE_WINS:
        return nothing, nothing
    moments = erp_instants(run, scope, erp, array(pairs["erp_id"]).to_pylist(), changed)
    with np.errstate(invalid="ignore"):
        later = instants(batch.marks)[:, None] > moments
    return edited & ~(later | ~changed).all(axis=1), nothing


def _removed(run: Run, batch: Batch, pairs: pd.DataFrame, erp: ErpSide, base: Base, keeps: Bools) -> Batch:
    names = [f.name for f in run.fields]
    written = np.zeros((len(batch), len(names)), dtype=bool)
    action = np.full(len(batch), Change.SKIP.value, dtype=object)
    records, flag = batch.records, run.target.active
    if run.config.delete_policy is DeletePolicy.PROPAGATE:
        action[~keeps] = Change.DELETE.value
    elif flag is not None:
        at = names.index(flag)
        clear = ~keeps & ~np.asarray(pc.fill_null(pc.equal(array(erp.texts[flag]), "false"), False))
        written[clear, at] = True
        action[clear] = Change.UPDATE.value
        records = records.assign(**{flag: extension(pa.array(np.zeros(len(batch), dtype=bool)))})
        known = base.known.copy()
        known[~keeps, at] = True
        off = {flag: extension(pc.if_else(pa.array(~keeps), "false", array(base.erp[flag])))}
        base = Base(base.external.assign(**off), base.erp.assign(**off), known)
    planned = plan_frame(
        batch.records.index,
        action=action,
        settle=True,
        link_id=pairs["link_id"],
        revision=pairs["revision"],
        state="deleted",
        erp_id=pairs["erp_id"],
        erp_version=erp.marks["version"],
        base=base.json(),
        before=rows_json(erp.texts),
        match_digest=pairs["match_digest"],
    )
    marks = absence_frame({name: written[:, at] for at, name in enumerate(names)}, batch.records.index)
    return replace(batch, records=records, plan=planned, written=marks)


def _settled(
    run: Run, batch: Batch, pairs: pd.DataFrame, *, settle: "bool | Bools", prints: pd.DataFrame | None = None
) -> Batch:
    """Nothing to write; `settle`: the link is marked deleted. With `prints` it was the ERP that deleted, and that stands: the
    link keeps which external values it has seen, so that only new ones ask again."""
    planned = plan_frame(
        batch.records.index,
        settle=settle,
        link_id=pairs["link_id"],
        revision=pairs["revision"],
        state="deleted",
        erp_id=pairs["erp_id"],
        match_digest=pairs["match_digest"],
        fingerprint=None if prints is None else aligned(prints, batch.records.index)["fingerprint"],
    )
    nothing = {f.name: np.zeros(len(batch), dtype=bool) for f in run.fields}
    return replace(batch, plan=planned, written=absence_frame(nothing, batch.records.index))


def lost_in_erp(run: Run, scope: Scope, batch: Batch, pairs: pd.DataFrame, prints: pd.DataFrame) -> Batch:
    """Changed over there, gone in the ERP: made anew where the external side wins, where the deletion was ours (the link has
    no fingerprint), and where the pair had only been matched, not linked yet."""
    deleted = bools(pc.equal(array(pairs["state"]), "deleted"))
    ours = deleted & bools(pc.is_null(array(pairs["external_fingerprint"])))
    unlinked = bools(pc.is_null(array(pairs["link_id"])))
    strategy = run.config.strategy
    again = np.full(len(batch), strategy is ConflictStrategy.SOURCE_WINS)
    if strategy is ConflictStrategy.LAST_WRITE_WINS:
        erp_ids = array(pairs["erp_id"]).to_pylist()
        log = erp_in(run, scope).changed_at(run.target, erp_ids)
        log = log[log["field"].isna()]  # the deletions
        gone = {
            r: np.datetime64(t.replace(tzinfo=None), "us") for r, t in zip(log["record_id"], log["changed_at"], strict=True)
        }
        deleted_at = np.array([gone.get(e, np.datetime64("NaT", "us")) for e in erp_ids], dtype="datetime64[us]")
        with np.errstate(invalid="ignore"):
            again |= instants(batch.marks) > deleted_at
    edited = _edited_over_there(run, scope, batch, pairs)  # or it is only the mapping that has changed
    again = ours | unlinked | (again & edited)
    parked = ~again & edited & (strategy is ConflictStrategy.MANUAL)
    batch = batch.reject(
        parked,
        error_type="conflict",
        message="It was changed over there, and its ERP record was deleted; decide whether it comes back.",
        rule="delete",
    )
    pairs, again = pairs[~parked], again[~parked]
    back = created(run, batch.take(again), pairs[again], prints, relink=True)
    rest = batch.take(~again).alone()
    # Where the ERP's deletions travel, this one is not settled before it has: the record over there still stands.
    ended = bools(pc.equal(array(pairs["state"]), "deleted"))[~again] | (run.outward is None)
    return concat([back, _settled(run, rest, pairs[~again], settle=ended, prints=prints)])


def _edited_over_there(run: Run, scope: Scope, batch: Batch, pairs: pd.DataFrame) -> Bools:
    """Which records are not as B has them, as far as it knows them. Under the mapping version of B any news is an edit."""
    base, shown = known_base(run, scope, pairs), said(batch)
    edited = base.known & shown & edited_cells(run, canonical(batch.records, run.fields), base.external)
    mapping = run.attempt.field_mapping_id if run.attempt else run.config.mapping_id
    linked = array(pairs["link_id"])
    same = links.mapped_by(scope, linked.drop_null().to_pylist(), mapping)
    told = bools(pc.is_in(linked, value_set=pa.array(list(same), pa.int64())))
    return np.asarray(edited.any(axis=1) | ~base.known.any(axis=1) | told)
