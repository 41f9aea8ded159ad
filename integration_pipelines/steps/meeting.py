"""First meetings: a record without a link finds its ERP record by the mapping's match key, or becomes a new one.

One candidate links. Several park, and so does a candidate that another external record holds already: guessing would merge two
companies into one. None creates, or waits for one where the mapping makes no records of the ERP.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.contract import Window
from integration_pipelines.canonical import aligned, array, canonical, rows_json
from integration_pipelines.model import Batch, Change, absence_frame, bools, plan_frame
from integration_pipelines.steps.merge import spoken
from integration_pipelines.steps.run import Run
from integration_pipelines.steps.sides import erp_in, pairs_frame, said
from integration_pipelines.store import links
from integration_pipelines.store.database import Scope


def match(run: Run, scope: Scope, batch: Batch) -> tuple[Batch, pd.DataFrame]:
    """The batch without the records that park, and for each that stays its candidate (sides.PAIRS; erp_id may be None)."""
    keys = match_digests(run, scope, batch)
    digests = keys.to_pylist()
    wanted = [digest for digest in digests if digest is not None]
    candidates = _candidates(run, scope, keys) if wanted else {}
    claimed = links.claimed(scope, run.pair, wanted) if wanted else {}
    found = sorted({erp_id for digest in wanted for erp_id in candidates.get(digest, [])})
    taken = links.taken(scope, run.pair, found) if found else {}
    reasons: dict[int, str] = {}
    erp_ids: list[str | None] = []
    seen: set[bytes] = set()
    for at, digest in enumerate(digests):
        there = candidates.get(digest, []) if digest is not None else []
        reason = _reason(digest, there, seen, claimed, taken)
        if reason:
            reasons[at] = reason
        elif digest is not None:
            seen.add(digest)
        erp_ids.append(there[0] if len(there) == 1 and not reason else None)
    pairs = pairs_frame(batch.records.index, erp_id=pa.array(erp_ids, pa.string()), match_digest=keys)
    if not reasons:
        return batch, pairs
    mask = np.zeros(len(batch), dtype=bool)
    mask[list(reasons)] = True
    key = " + ".join(run.mapping.match)
    left = batch.reject(
        mask,
        error_type="conflict",
        message=[
            f"{reasons[at]} Match key: {key}. Nothing was written; decide which records belong together."
            for at in sorted(reasons)
        ],
        field=run.mapping.match[0],
        rule="match",
    )
    return left, pairs[~mask]


def _reason(
    digest: bytes | None,
    there: list[str],
    seen: set[bytes],
    claimed: "dict[bytes, str] | object",
    taken: "dict[str, str] | object",
) -> str | None:
    if digest is None:
        return None
    if digest in seen:
        return "Two records of this sync claim one match key."
    if isinstance(claimed, dict) and digest in claimed:
        return "Another record that is linked already claims the same match key."
    if len(there) > 1:
        return f"{len(there)} records of the ERP fit this one's match key."
    if there and isinstance(taken, dict) and there[0] in taken:
        return "The record of the ERP that fits is linked with another one already."
    return None


def match_digests(run: Run, scope: Scope, batch: Batch) -> pa.Array:
    """One keyed digest a record; null where the match key is not complete."""
    return digests_of(run, scope, batch.records)


def digests_of(run: Run, scope: Scope, records: pd.DataFrame) -> pa.Array:
    if not run.mapping.match:
        return pa.nulls(len(records), pa.binary())
    return _digests(scope, run.mapping.match_text(records))


def _digests(scope: Scope, texts: pa.Array) -> pa.Array:
    told = pc.binary_join_element_wise("match\x1e", texts, "").cast(pa.binary())
    made = pa.array(scope.vault.digests(told.drop_null().to_pylist()), pa.binary())
    return pc.replace_with_mask(pa.nulls(len(texts), pa.binary()), pc.is_valid(texts), made)


def _candidates(run: Run, scope: Scope, wanted: pa.Array) -> dict[bytes, list[str]]:
    """Digest → ids of the ERP records that have it. The match keys of everything in the ERP are read once a run, and kept as
    two columns: some fifty bytes a record."""
    with run.matching:
        if run.matches is None:
            pages = erp_in(run, scope).read(run.target, run.mapping.match, Window())
            parts = [(_digests(scope, run.mapping.match_text(p.records)), array(p.records.index)) for p in pages]
            digests = pa.chunked_array([part[0] for part in parts], pa.binary())
            run.matches = pa.table({"digest": digests, "erp_id": pa.chunked_array([part[1] for part in parts], pa.string())})
    fitting = run.matches.filter(pc.is_in(run.matches["digest"], value_set=wanted.drop_null()))
    found: dict[bytes, list[str]] = {}
    for digest, erp_id in zip(fitting["digest"].to_pylist(), fitting["erp_id"].to_pylist(), strict=True):
        found.setdefault(digest, []).append(erp_id)
    return found


def without_lonely(run: Run, batch: Batch, candidates: pd.DataFrame) -> tuple[Batch, pd.DataFrame]:
    """Without records that nothing in the ERP fits, where the mapping makes none there."""
    if run.mapping.definition.create in ("both", "inbound"):
        return batch, candidates
    lonely = ~bools(pc.is_valid(array(candidates["erp_id"])))
    left = batch.reject(
        lonely,
        error_type="mapping",
        message=f"The ERP has no {run.target.name} with its match key, and this mapping makes none: make it there.",
        field=run.mapping.match[0] if run.mapping.match else "",
        rule="create",
    )
    return left, candidates[~lonely]


def created(run: Run, batch: Batch, pairs: pd.DataFrame, prints: pd.DataFrame, *, relink: bool = False) -> Batch:
    """Plan of records that become new ones in the ERP; `relink`: their links stand and get the new id."""
    shown = spoken(batch.records, said(batch), run.policies)  # a null that clears nothing leaves the ERP its default
    texts = canonical(batch.records, run.fields)
    planned = plan_frame(
        batch.records.index,
        action=Change.CREATE.value,
        settle=True,
        link_id=pairs["link_id"] if relink else None,
        revision=pairs["revision"] if relink else None,
        fingerprint=aligned(prints, batch.records.index)["fingerprint"],
        match_digest=pairs["match_digest"],
        base=rows_json(texts, shown),
    )
    written = absence_frame({f.name: shown[:, at] for at, f in enumerate(run.fields)}, batch.records.index)
    return replace(batch, plan=planned, written=written)
