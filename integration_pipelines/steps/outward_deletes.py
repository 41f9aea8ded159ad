"""Deletions on the way out: what was deleted in the ERP, and ERP records whose external one was."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from integration_pipelines.canonical import array, extension
from integration_pipelines.model import Batch, Change, ConflictStrategy, DeletePolicy, bools, concat, plan_frame
from integration_pipelines.steps import external_side, sides
from integration_pipelines.steps.base import Base, Bools
from integration_pipelines.steps.external_side import ExternalSide
from integration_pipelines.steps.lines import edited_cells
from integration_pipelines.steps.outgoing import created, raw_json
from integration_pipelines.steps.run import Run

KEEP_THE_ERP = (ConflictStrategy.TARGET_WINS, ConflictStrategy.LAST_WRITE_WINS)


def deleted(run: Run, batch: Batch, pairs: pd.DataFrame) -> Batch:
    """Plan of records that the ERP has deleted, by the delete policy. An external record that was edited meanwhile is a
    conflict, which goes by the strategy."""
    if run.config.delete_policy is DeletePolicy.IGNORE:
        return _settled(run, batch, pairs)
    ids = array(pairs["external_id"])
    there = external_side.read(run, ids.to_pylist())
    alive = array(there.raw.index[~bools(array(there.marks["deleted"]))])
    gone = ~bools(pc.is_in(ids, value_set=alive)) | np.array([one in there.outside for one in ids.to_pylist()], dtype=bool)
    parts = [_settled(run, batch.take(gone), pairs[gone])]
    batch, pairs = batch.take(~gone).alone(), pairs[~gone]
    if not len(batch):
        return concat(parts)
    there = there.aligned(array(pairs["external_id"]), batch.records.index)
    with run.database.tenant(run.tenant) as scope:
        base = sides.known_base(run, scope, pairs, array(pairs["external_id"]).to_pylist())
    edited = np.asarray((base.known & there.said & edited_cells(run, there.texts, base.external)).any(axis=1))
    keeps, parks = _against_edits(run, batch, there, edited)
    parts.append(sides.skipped(run, batch.take(keeps)))
    kept = batch.take(~keeps).alone()
    left = kept.reject(
        parks[~keeps],
        error_type="conflict",
        message="It was deleted in the ERP and edited over there since; decide whether the external record stays.",
        rule="delete",
    )
    stays = ~keeps & ~parks
    there = there.aligned(array(pairs["external_id"]).filter(pa.array(stays)), left.records.index)
    parts.append(_removed(run, left, pairs[stays], there, base.take(stays)))
    return concat(parts)


def _against_edits(run: Run, batch: Batch, there: ExternalSide, edited: Bools) -> tuple[Bools, Bools]:
    """Which external records survive the deletion in the ERP, and which wait for a person."""
    nothing = np.zeros(len(batch), dtype=bool)
    match run.config.strategy:
        case ConflictStrategy.MANUAL:
            return nothing, edited
        case ConflictStrategy.TARGET_WINS:
            return nothing, nothing
        case ConflictStrategy.SOURCE_WINS:
            return edited, nothing
    ids = array(batch.records.index).to_pylist()
    log = run.erp.changed_at(run.target, ids)
    log = log[log["field"].isna()]  # the deletions
    when = {r: np.datetime64(t.replace(tzinfo=None), "us") for r, t in zip(log["record_id"], log["changed_at"], strict=True)}
    deleted_at = np.array([when.get(record, np.datetime64("NaT", "us")) for record in ids], dtype="datetime64[us]")
    with np.errstate(invalid="ignore"):
        return edited & (sides.instants(there.marks) > deleted_at), nothing


def _removed(run: Run, batch: Batch, pairs: pd.DataFrame, there: ExternalSide, base: Base) -> Batch:
    flag = run.source.field(run.source.active) if run.source.active else None
    action = Change.DELETE if run.config.delete_policy is DeletePolicy.PROPAGATE else Change.UPDATE
    if action is Change.UPDATE and (flag is None or not flag.writable):
        return _settled(run, batch, pairs)
    assert batch.outgoing is not None  # noqa: S101 - map has made it
    outgoing = batch.outgoing
    if flag is not None:
        outgoing = outgoing.assign(**{flag.name: extension(pa.array(np.zeros(len(batch), dtype=bool)))})
    withheld = pd.DataFrame(True, index=outgoing.index, columns=outgoing.columns).astype("bool[pyarrow]")
    if flag is not None and action is Change.UPDATE:
        withheld = withheld.assign(**{flag.name: extension(pa.array(np.zeros(len(batch), dtype=bool)))})
    planned = plan_frame(
        batch.records.index,
        action=action.value,
        settle=True,
        state="deleted",
        link_id=pairs["link_id"],
        revision=pairs["revision"],
        erp_id=array(batch.records.index),
        match_digest=pairs["match_digest"],
        base=base.json(),
        before=raw_json(run, there.raw),
        external_id=pairs["external_id"],
        external_version=there.marks["version"],
    )
    return replace(sides.skipped(run, batch), plan=planned, outgoing=outgoing, withheld=withheld)


def _settled(run: Run, batch: Batch, pairs: pd.DataFrame) -> Batch:
    """Nothing is written; the link is marked deleted. It keeps which external values it has seen."""
    planned = plan_frame(
        batch.records.index,
        settle=True,
        state="deleted",
        link_id=pairs["link_id"],
        revision=pairs["revision"],
        erp_id=array(batch.records.index),
        fingerprint=pairs["external_fingerprint"],
        match_digest=pairs["match_digest"],
        base=pa.array([b"{}"] * len(batch), pa.binary()),
        external_id=pairs["external_id"],
    )
    return replace(sides.skipped(run, batch), plan=planned)


def edited_after(run: Run, batch: Batch, pairs: pd.DataFrame) -> Batch:
    """Plan of records that were edited in the ERP after their pair had ended with a deletion."""
    if run.config.strategy in KEEP_THE_ERP:
        return created(run, batch, pairs)
    return _waiting(run, batch, pairs)


def against_tombstone(run: Run, batch: Batch, pairs: pd.DataFrame, there: ExternalSide) -> Batch:
    """Plan of edited records whose external one is in the bin: made anew where the ERP's edit is the later one, or wins."""
    if run.config.delete_policy is DeletePolicy.IGNORE:
        return sides.skipped(run, batch)
    again = np.full(len(batch), run.config.strategy is ConflictStrategy.TARGET_WINS)
    if run.config.strategy is ConflictStrategy.LAST_WRITE_WINS:
        dead = there.aligned(array(pairs["external_id"]), batch.records.index)
        with np.errstate(invalid="ignore"):
            again = ~(sides.instants(dead.marks) > sides.instants(batch.marks))
    parts = [created(run, batch.take(again), pairs[again])]
    rest = batch.take(~again).alone()
    return concat([*parts, _waiting(run, rest, pairs[~again])])


def _waiting(run: Run, batch: Batch, pairs: pd.DataFrame) -> Batch:
    """Under `manual` a person decides; else the deletion stands."""
    manual = np.full(len(batch), run.config.strategy is ConflictStrategy.MANUAL)
    left = batch.reject(
        manual,
        error_type="conflict",
        message="It was deleted over there and edited in the ERP since; decide whether it is made anew over there.",
        rule="delete",
    )
    return _settled(run, left, pairs[~manual]) if len(left) else sides.skipped(run, left)
