"""The three sides of linked pairs as frames of canonical text, and the fingerprints that tell whether one has moved."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.erp import Erp
from connector_resources.frames import arrow_type
from integration_pipelines.canonical import TEXT, aligned, array, canonical, extension, frame, record_index, where
from integration_pipelines.model import Batch, Change, Side, absence_frame, bools, marks_frame, plan_frame
from integration_pipelines.steps.base import ERP, Base, Bools, differs
from integration_pipelines.steps.lines import arranged, foreign_fields, own_fields
from integration_pipelines.steps.merge import Instants
from integration_pipelines.steps.run import Run
from integration_pipelines.store.database import Scope
from integration_pipelines.store.ledger import open_sealed
from integration_pipelines.store.links import bases
from integration_pipelines.store.syncs import shares_pair

PAIRS = {
    "erp_id": pa.string(),
    "external_id": pa.string(),
    "link_id": pa.int64(),
    "revision": pa.int64(),
    "state": pa.string(),
    "match_digest": pa.binary(),
    "external_fingerprint": pa.binary(),
}


def pairs_frame(index: "pd.Index[str]", **columns: pa.Array) -> pd.DataFrame:
    """Records with the one of the other side that each belongs to: columns PAIRS, as store.links.find has them; what is not
    given is null."""
    return frame({name: columns.get(name, pa.nulls(len(index), kind)) for name, kind in PAIRS.items()}, index)


@dataclass(frozen=True)
class ErpSide:
    """ERP records: texts (canonical, run.fields) and marks (version, modified; immutable: bool; unreadable: see Page), the
    same index."""

    texts: pd.DataFrame
    marks: pd.DataFrame

    def aligned(self, erp_ids: pa.Array, index: "pd.Index[str]") -> "ErpSide":
        wanted = record_index(erp_ids)
        return ErpSide(aligned(self.texts, wanted).set_axis(index), aligned(self.marks, wanted).set_axis(index))

    def take(self, mask: Bools) -> "ErpSide":
        return ErpSide(self.texts[mask], self.marks[mask])

    def without_unreadable(self, batch: Batch, erp_ids: pa.Array) -> tuple[Batch, Bools]:
        """The batch without records whose partner, by `erp_ids`, holds a value that nobody can compare; and which are left."""
        blamed = array(aligned(self.marks, record_index(erp_ids))["unreadable"])
        fields = blamed.drop_null().to_pylist()
        message = [f"In the ERP, {name} holds a value that its type cannot hold; correct it there." for name in fields]
        left = batch.reject(pc.is_valid(blamed), error_type="validation", message=message, field=fields, rule="contract")
        return left, np.asarray(pc.is_null(blamed))


def erp_in(run: Run, scope: Scope) -> Erp:
    return run.erp.within(scope.connection)


def erp_side(run: Run, scope: Scope, erp_ids: Sequence[str]) -> ErpSide:
    """These ERP records, indexed by their id; one that is gone is missing."""
    condition = run.target.immutable_when
    names = [f.name for f in run.fields]
    asked = [*run.asked, *([condition.field] if condition and condition.field not in names else [])]
    pages = list(erp_in(run, scope).read_ids(run.target, asked, erp_ids))
    if not pages:
        nothing = record_index([])
        texts = frame({name: pa.array([], TEXT) for name in names}, nothing)
        kinds = {"version": TEXT, "modified": pa.timestamp("us", "UTC"), "immutable": pa.bool_(), "unreadable": TEXT}
        return ErpSide(texts, frame({name: pa.array([], kind) for name, kind in kinds.items()}, nothing))
    records, marks = (pages[0].records, pages[0].marks) if len(pages) == 1 else (
        pd.concat([p.records for p in pages]), pd.concat([p.marks for p in pages])
    )  # fmt: skip
    immutable = np.zeros(len(records), dtype=bool)
    if condition is not None:
        immutable = np.asarray(
            pc.fill_null(pc.is_in(array(records[condition.field]).cast(pa.string()), pa.array(condition.values)), False)
        )
    for name, (lines, _) in run.lines.items():
        records[name] = extension(arranged(array(records[name]), lines))
    blamed = array(marks["unreadable"]) if "unreadable" in marks.columns else pa.nulls(len(marks), TEXT)
    told = marks[["version", "modified"]].assign(
        immutable=extension(pa.array(immutable)), unreadable=extension(blamed.cast(TEXT))
    )
    return ErpSide(canonical(records, run.fields), told)


def erp_batch(run: Run, batch: Batch) -> Batch:
    """Records that were read from the ERP, with run.fields as columns."""
    columns = {name: extension(arranged(array(batch.records[name]), lines)) for name, (lines, _) in run.lines.items()}
    return replace(batch, records=batch.records.assign(**columns)[[f.name for f in run.fields]], side=Side.ERP)


def erp_tombstones(run: Run, ids: Sequence[str]) -> Batch:
    """Records that the ERP no longer has."""
    columns = {f.name: pa.nulls(len(ids), arrow_type(f)) for f in run.fields}
    index = record_index(ids)
    return Batch(frame(columns, index), marks_frame(index, deleted=[True] * len(ids)), side=Side.ERP)


def known_base(run: Run, scope: Scope, pairs: pd.DataFrame, external_ids: Sequence[str | None] | None = None) -> Base:
    """B of these pairs, which `external_ids` belong to (by default the index). Where there is none, or its key was erased, it
    knows nothing."""
    places = run.pair.base_places(scope.vault, [str(external_id) for external_id in (external_ids or pairs.index)])
    links = array(pairs["link_id"]).to_pylist()
    kept = bases(scope, [link for link in links if link is not None])
    sealed = [kept.get(link) for link in links]
    base = Base.opened(open_sealed(scope, sealed, places), [f.name for f in run.fields], pairs.index)
    if not run.lines or not shares_pair(scope, run.config):
        return base

    def own(texts: pd.DataFrame) -> pd.DataFrame:
        return texts.assign(**{n: extension(own_fields(array(texts[n]), *about)) for n, about in run.lines.items()})

    return Base(own(base.external), own(base.erp), base.known)


def with_others(run: Run, scope: Scope, rows: pd.DataFrame) -> pa.Array:
    """The column `base` of these rows (JSON), with what their links knew of fields that this run has not: another sync of the
    pair, with another mapping, will ask for them."""
    base, links = array(rows["base"]), array(rows["link_id"])
    stands = bools(pc.and_(pc.is_valid(links), pc.not_equal(array(rows["action"]), Change.CREATE)))
    if not stands.any() or not shares_pair(scope, run.config):
        return base
    known = rows[stands]
    places = run.pair.base_places(scope.vault, array(known["external_id"]).to_pylist())
    kept = bases(scope, links.filter(pa.array(stands)).to_pylist())
    held = open_sealed(scope, [kept.get(link) for link in array(known["link_id"]).to_pylist()], places)
    own = {name for field in run.fields for name in (field.name, ERP + field.name)}
    merged = []
    for now, was in zip(array(known["base"]).to_pylist(), held, strict=True):
        before = orjson.loads(was or b"{}")
        others = {name: value for name, value in before.items() if name not in own}
        merged.append(orjson.dumps({**others, **_lines_with_others(run, orjson.loads(now or b"{}"), before)}))
    return pc.replace_with_mask(base, pa.array(stands), pa.array(merged, pa.binary()))


def _lines_with_others(run: Run, now: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The same of the fields inside child lines, in the spelling of each side."""
    for name, (lines, fields) in run.lines.items():
        if name in now and name in before:
            told, spelled = (
                foreign_fields(now.get(side, now[name]), before.get(side, before[name]), lines, fields)
                for side in (name, ERP + name)
            )
            now = {**now, name: told, **({ERP + name: spelled} if spelled != told else {})}
    return now


def said(batch: Batch) -> Bools:
    """Which cells the external side named."""
    if batch.absent is None:
        return np.ones(batch.records.shape, dtype=bool)
    return ~batch.absent.to_numpy(dtype=bool)


def all_columns(run: Run, batch: Batch) -> Batch:
    """Every field of the run as a column, in its order: the active flag may be one that no rule fills."""
    records, absent = batch.records, pd.DataFrame(~said(batch), index=batch.records.index, columns=batch.records.columns)
    for field in run.fields:
        if field.name not in records.columns:
            records = records.assign(**{field.name: extension(pa.nulls(len(batch), arrow_type(field)))})
            absent = absent.assign(**{field.name: True})
    names = [field.name for field in run.fields]
    marks = absence_frame({name: absent[name].to_numpy(dtype=bool) for name in names}, records.index)
    return replace(batch, records=records[names], absent=marks)


def skipped(run: Run, batch: Batch) -> Batch:
    nothing = {f.name: np.zeros(len(batch), dtype=bool) for f in run.fields}
    return replace(batch, plan=plan_frame(batch.records.index), written=absence_frame(nothing, batch.records.index))


def fingerprints(scope: Scope, texts: pd.DataFrame, shown: Bools) -> pa.Array:
    """One keyed digest a record, over names and values of the cells shown; null, absent and empty are three things."""
    columns = []
    for at, name in enumerate(texts.columns):
        values = array(texts[name])
        length = pc.binary_length(values).cast(pa.string())  # so that no value can look like the border to the next one
        told = pc.coalesce(pc.binary_join_element_wise(length, values, "="), "0")
        columns.append(where(shown[:, at], told, "-").cast(pa.string()))
    head = "\x1f".join(map(str, texts.columns)) + "\x1e"
    rows = pc.binary_join_element_wise(head, pc.binary_join_element_wise(*columns, "\x1f"), "").cast(pa.binary())
    return pa.array(scope.vault.digests(rows.to_pylist()), pa.binary())


def instants(marks: pd.DataFrame) -> Instants:
    """The column `modified` as numpy instants, NaT where unknown."""
    found: Instants = array(marks["modified"]).to_numpy(zero_copy_only=False).astype("datetime64[us]")
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
