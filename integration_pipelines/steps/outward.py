"""resolve, for what changed in the ERP: what each ERP record means for the external side. Nothing is written here.

    fingerprint as our last write or read left it   skip: an echo
    linked and changed                              three-way merge against the external record as it is now (merge.py)
    not linked                                      first meeting: found by the match key, or created (outward_meeting.py)
    deleted in the ERP                              the delete policy (outward_deletes.py)

The external side is read outside of transactions, for it may take its time.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from integration_pipelines.canonical import aligned, array, canonical
from integration_pipelines.model import Batch, Side, bools, concat
from integration_pipelines.steps import outward_deletes, outward_meeting, outward_pairs, sides
from integration_pipelines.steps.base import Bools
from integration_pipelines.steps.references import external_references
from integration_pipelines.steps.run import Run
from integration_pipelines.store import links


def plan(run: Run, batch: Batch, later: set[str] | None = None) -> Batch:
    """The batch with plan, written (ERP fields) and withheld (external fields). `later`: ERP records whose pair this run
    writes from the external side first; load resolves them when that is done."""
    with run.database.tenant(run.tenant) as scope:
        found = aligned(links.find(scope, run.pair, array(batch.records.index).to_pylist(), Side.ERP), batch.records.index)
        texts = canonical(batch.records, run.fields)
        prints = sides.fingerprints(scope, texts, np.ones(texts.shape, dtype=bool))
    deleted, state = batch.deleted, array(found["state"])
    linked, buried = bools(pc.is_valid(array(found["link_id"]))), bools(pc.equal(state, "deleted"))
    echo = linked & ~deleted & bools(pc.equal(array(found["erp_fingerprint"]), prints)) & bools(pc.not_equal(state, "parked"))
    wait = np.asarray(batch.records.index.isin(list(later or ())), dtype=bool) & ~echo
    off = _inactive(run, batch) & (~linked | buried)
    skip = (echo | (deleted & (~linked | buried)) | off) & ~wait
    parts = [sides.skipped(run, batch.take(skip)), _later(run, batch.take(wait).alone())]
    with run.database.tenant(run.tenant) as scope:
        rest = external_references(run, scope, batch.take(~skip & ~wait).alone(), batch.records.index[linked & ~buried])
    parts.append(sides.skipped(run, rest.take(np.zeros(len(rest), dtype=bool))))  # carries those whose parent is not there yet
    for mask, planned in (
        (linked & deleted & ~buried, outward_deletes.deleted),
        (linked & ~deleted & buried, outward_deletes.edited_after),
        (linked & ~deleted & ~buried, outward_pairs.changed),
        (~linked & ~deleted, outward_meeting.met),
    ):
        chosen = bools(pc.is_in(array(rest.records.index), value_set=array(batch.records.index[mask])))
        if chosen.any():
            part = rest.take(chosen).alone()
            parts.append(outward_meeting.without_rivals(run, planned(run, part, aligned(found, part.records.index))))
    return concat(parts)


def _inactive(run: Run, batch: Batch) -> Bools:
    """What is switched off in the ERP and has no record over there gets none."""
    if run.target.active is None:
        return np.zeros(len(batch), dtype=bool)
    return bools(pc.equal(array(batch.records[run.target.active]), False))


def _later(run: Run, batch: Batch) -> Batch:
    """Records that load resolves again. Their plan as of now is for people and for the brake; what waits for a person now may
    not when its pair has been written."""
    if not len(batch):
        return sides.skipped(run, batch)
    planned = plan(run, batch).alone()
    waiting = sides.skipped(run, batch.take(~np.asarray(batch.records.index.isin(planned.records.index), dtype=bool)))
    parts = [part for part in (planned, waiting) if len(part)]
    return concat([replace(part, plan=_plan(part).assign(later=True).astype({"later": "bool[pyarrow]"})) for part in parts])


def _plan(batch: Batch) -> pd.DataFrame:
    assert batch.plan is not None  # noqa: S101 - it was just made
    return batch.plan
