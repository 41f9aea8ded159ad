"""ERP records whose external record is known: merged with what that one holds now."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from integration_pipelines.canonical import TEXT, array, canonical
from integration_pipelines.model import Batch, Change, bools, concat, plan_frame
from integration_pipelines.steps import external_side, outward_deletes, sides
from integration_pipelines.steps.base import Bools
from integration_pipelines.steps.external_side import ExternalSide
from integration_pipelines.steps.merge import Sent, Sides, base_of_agreement, merge_outward
from integration_pipelines.steps.outgoing import carried, fixed_columns, outgoing_cells, raw_json, sendable
from integration_pipelines.steps.outward_lines import merge_lines_outward
from integration_pipelines.steps.run import Run
from integration_pipelines.steps.sides import ErpSide


def changed(run: Run, batch: Batch, pairs: pd.DataFrame) -> Batch:
    """Plan of records whose external record is known: by a link, or because they were just matched."""
    ids = array(pairs["external_id"])
    there = external_side.read(run, ids.to_pylist())
    gone = ~bools(pc.is_in(ids, value_set=array(there.raw.index)))
    dead = bools(pc.is_in(ids, value_set=array(there.raw.index[bools(array(there.marks["deleted"]))])))
    outside = np.array([record in there.outside for record in ids.to_pylist()], dtype=bool) & ~dead
    broken = np.array([record in there.unmapped for record in ids.to_pylist()], dtype=bool) & ~dead & ~gone
    alone = batch.alone()
    parts = [sides.skipped(run, alone.take(outside))]
    if dead.any():
        parts.append(outward_deletes.against_tombstone(run, alone.take(dead), pairs[dead], there))
    rest = ~dead & ~outside
    left = batch.take(rest)
    left = left.reject(
        gone[rest],
        error_type="conflict",
        message="Its record over there is gone, or the connector's user no longer sees it; bring it back, or delete this one.",
        rule="external",
    ).reject(
        broken[rest & ~gone],
        error_type="mapping",
        message=[
            f"Its record over there cannot be compared. {there.unmapped[record]}"
            for record in ids.filter(pa.array(broken)).to_pylist()
        ],
        rule="external",
    )
    stays = rest & ~gone & ~broken
    parts.append(_merged(run, left, pairs[stays], there.aligned(ids.filter(pa.array(stays)), left.records.index)))
    return concat(parts)


def _merged(run: Run, batch: Batch, pairs: pd.DataFrame, there: ExternalSide) -> Batch:
    if not len(batch):
        return sides.skipped(run, batch)
    texts, erp_ids = canonical(batch.records, run.fields), array(batch.records.index).to_pylist()
    with run.database.tenant(run.tenant) as scope:
        base = sides.known_base(run, scope, pairs, array(pairs["external_id"]).to_pylist())
        both = sides.contested(there.texts, texts, base) & there.said
        erp_at = sides.erp_instants(run, scope, ErpSide(texts, batch.marks), erp_ids, both)
    state = Sides(there.texts, texts, base, there.said, sides.instants(there.marks), erp_at)
    sent = merge_outward(state, run.policies, sendable(run))
    lines = merge_lines_outward(run, batch, state, sent, base_of_agreement(state, sent), both, there.raw)
    batch, sent = lines.batch, lines.sent
    fixed = fixed_columns(run, batch)
    stuck: Bools = np.asarray((outgoing_cells(run, batch, sent.send & base.known) & fixed).any(axis=1))
    withheld = ~outgoing_cells(run, batch, sent.send) | fixed
    planned = plan_frame(
        batch.records.index,
        action=np.where((~withheld).any(axis=1), Change.UPDATE.value, Change.SKIP.value),
        settle=True,
        link_id=pairs["link_id"],
        revision=pairs["revision"],
        erp_id=array(batch.records.index),
        fingerprint=pairs["external_fingerprint"],
        match_digest=pairs["match_digest"],
        base=lines.base.json(),
        before=raw_json(run, there.raw),
        external_id=pairs["external_id"],
        external_version=there.marks["version"],
    )
    return _parked(run, carried(run, batch, planned, sent.send & ~lines.merged, withheld), sent, there, stuck)


def _parked(run: Run, batch: Batch, sent: Sent, there: ExternalSide, stuck: Bools) -> Batch:
    """Set aside what a person must decide: clashes under `manual`, and changes of what is closed over there: a document, or a
    field that is set for good (`stuck`)."""
    condition = run.source.immutable_when
    closed = np.zeros(len(batch), dtype=bool)
    if condition is not None:
        held = array(there.raw[condition.field]).cast(TEXT)
        closed = bools(pc.is_in(held, value_set=pa.array(condition.values))) & sent.send.any(axis=1)
    clash, closed = np.asarray(sent.clash.any(axis=1)), closed | stuck
    names = [f.name for f in run.fields]
    fields = [", ".join(n for n, hit in zip(names, row, strict=True) if hit) for row in (sent.clash | sent.send)]
    waiting = np.flatnonzero(clash | closed)
    return batch.reject(
        clash | closed,
        error_type="conflict",
        message=[
            f"Both sides changed {fields[at]}; decide which value stays." if clash[at]
            else f"The {run.source.name} over there is closed for changes, and {fields[at]} differs; reverse it there."
            for at in waiting
        ],
        field=[fields[at] for at in waiting],
        rule="merge",
    )  # fmt: skip
