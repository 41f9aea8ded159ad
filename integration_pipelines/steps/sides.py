"""The three sides of linked pairs as frames of canonical text, and the fingerprints that tell whether one has moved."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.erp import Erp
from integration_pipelines.canonical import array, canonical, extension
from integration_pipelines.model import Batch, missing
from integration_pipelines.steps.base import Base, Bools, differs
from integration_pipelines.steps.lines import arranged
from integration_pipelines.steps.merge import Instants
from integration_pipelines.steps.run import Run
from integration_pipelines.store.database import Scope
from integration_pipelines.store.ledger import open_sealed

PAIRS = ("link_id", "revision", "erp_id", "state", "base", "match_digest", "external_fingerprint")


def pairs_frame(index: "pd.Index[str]", **columns: Sequence[object]) -> pd.DataFrame:
    """External records with the ERP record that each belongs to (columns PAIRS; what is not given is None)."""
    given = {name: list(columns.get(name, [None] * len(index))) for name in PAIRS}
    return pd.DataFrame(given, index=index, dtype=object, columns=list(PAIRS))


def pairs_of(links: pd.DataFrame, index: "pd.Index[str]") -> pd.DataFrame:
    """The same of records that are linked (store.links.find), in the order of `index`."""
    found = links.rename(columns={"id": "link_id"}).reindex(index.astype(object))
    return pairs_frame(index, **{name: list(found[name]) for name in PAIRS})


@dataclass(frozen=True)
class ErpSide:
    """ERP records: texts (canonical, run.fields) and marks (version, modified, immutable: bool), the same index."""

    texts: pd.DataFrame
    marks: pd.DataFrame

    def aligned(self, erp_ids: Sequence[str], index: "pd.Index[str]") -> "ErpSide":
        return ErpSide(self.texts.loc[list(erp_ids)].set_axis(index), self.marks.loc[list(erp_ids)].set_axis(index))

    def take(self, mask: Bools) -> "ErpSide":
        return ErpSide(self.texts[mask], self.marks[mask])


def erp_in(run: Run, scope: Scope) -> Erp:
    return run.erp.within(scope.connection)


def erp_side(run: Run, scope: Scope, erp_ids: Sequence[str]) -> ErpSide:
    """These ERP records, indexed by their id; one that is gone is missing."""
    condition = run.target.immutable_when
    names = [f.name for f in run.fields]
    asked = [*run.asked, *([condition.field] if condition and condition.field not in names else [])]
    pages = list(erp_in(run, scope).read_ids(run.target, asked, list(dict.fromkeys(erp_ids))))
    if not pages:
        empty = pd.DataFrame(columns=names)
        return ErpSide(empty, pd.DataFrame(columns=["version", "modified", "immutable"]))
    records, marks = pd.concat([p.records for p in pages]), pd.concat([p.marks for p in pages])
    immutable = np.zeros(len(records), dtype=bool)
    if condition is not None:
        immutable = np.asarray(
            pc.fill_null(pc.is_in(array(records[condition.field]).cast(pa.string()), pa.array(condition.values)), False)
        )
    for name, (lines, _) in run.lines.items():
        records[name] = extension(arranged(array(records[name]), lines))
    return ErpSide(canonical(records, run.fields), marks[["version", "modified"]].assign(immutable=immutable))


def known_base(run: Run, scope: Scope, pairs: pd.DataFrame) -> Base:
    """B of these pairs. Where there is none, or its key was erased, it knows nothing."""
    places = [run.pair.base_place(str(external_id)) for external_id in pairs.index]
    sealed = [None if missing(content) else bytes(content) for content in pairs["base"]]
    return Base.opened(open_sealed(scope, sealed, places), [f.name for f in run.fields], pairs.index)


def said(batch: Batch) -> Bools:
    """Which cells the external side named."""
    if batch.absent is None:
        return np.ones(batch.records.shape, dtype=bool)
    return ~batch.absent.to_numpy(dtype=bool)


def fingerprints(scope: Scope, texts: pd.DataFrame, shown: Bools) -> list[bytes]:
    """One keyed digest a record, over names and values of the cells shown; null, absent and empty are three things."""
    if not len(texts):
        return []
    columns = []
    for at, name in enumerate(texts.columns):
        values = array(texts[name])
        length = pc.binary_length(values).cast(pa.string())  # so that no value can look like the border to the next one
        told = pc.coalesce(pc.binary_join_element_wise(length, values, "="), "0")
        columns.append(pc.if_else(pa.array(shown[:, at]), told, "-").cast(pa.string()))
    head = "\x1f".join(map(str, texts.columns)) + "\x1e"
    rows = pc.binary_join_element_wise(*columns, "\x1f").to_pylist()
    return scope.vault.digests((head + row).encode() for row in rows)


def instants(frame: pd.DataFrame) -> Instants:
    """The column `modified` as numpy instants, NaT where unknown."""
    found: Instants = array(frame["modified"]).to_numpy(zero_copy_only=False).astype("datetime64[us]")
    return found


def erp_instants(run: Run, scope: Scope, erp: ErpSide, erp_ids: Sequence[str], contested: Bools) -> Instants:
    """When each ERP field was last written: the change log's instant, else the record's. Only contested ones are asked for."""
    out = np.repeat(instants(erp.marks)[:, None], contested.shape[1], axis=1)
    rows: list[int] = np.flatnonzero(contested.any(axis=1)).tolist()
    if not rows:
        return out
    log = erp_in(run, scope).changed_at(run.target, [erp_ids[row] for row in rows])
    column = {f.name: at for at, f in enumerate(run.fields)}
    row_of = {erp_ids[row]: row for row in rows}
    for record, name, moment in zip(log["record_id"], log["field"], log["changed_at"], strict=True):
        if name in column:
            out[row_of[record], column[name]] = np.datetime64(moment.replace(tzinfo=None), "us")
    return out


def contested(external: pd.DataFrame, erp: pd.DataFrame, base: Base) -> Bools:
    """Cells that both sides changed, to different values."""
    return base.known & differs(external, base.external) & differs(erp, base.erp) & differs(external, erp)
