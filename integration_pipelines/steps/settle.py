"""Settling: once the ERP has a record, its link, base, journal row and intent follow in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.contract import Lines
from integration_pipelines.canonical import TEXT, array, canonical, extension, frame, rows_from_json, rows_json
from integration_pipelines.model import Batch, Change, bools
from integration_pipelines.steps import sides
from integration_pipelines.steps.base import Base, Bools, chosen, differs
from integration_pipelines.steps.lines import respelled as respelled_lines
from integration_pipelines.steps.merge import nulls_of
from integration_pipelines.steps.outgoing import sendable
from integration_pipelines.steps.run import Run
from integration_pipelines.store import history, ledger, links
from integration_pipelines.store.database import Scope

_ROW = {
    **dict.fromkeys(("external_id", "action", "state", "erp_id", "external_version", "erp_version", "intent"), TEXT),
    "link_id": pa.int64(),
    **dict.fromkeys(("base", "before", "fingerprint", "match_digest"), pa.binary()),
}
_BYTES = ("base", "before", "after", "fingerprint", "erp_fingerprint", "match_digest")


@dataclass(frozen=True)
class Settlement:
    """What is to be settled, one row a record.

    rows     columns _ROW, Arrow-typed
    after    canonical texts: the ERP record's mapped fields after the write
    known    which cells of `after` are known (boolean array, a record by a field)
    written  which cells were written
    gone     which records were deleted: they have no after
    """

    rows: pd.DataFrame
    after: pd.DataFrame
    known: Bools
    written: Bools
    gone: Bools

    @classmethod
    def of(cls, run: Run, batch: Batch, ids: pa.Array | None = None, intents: pa.Array | None = None) -> "Settlement":
        """What a planned batch leaves behind; `ids` (of the ERP) and `intents` of the records that are written."""
        assert batch.plan is not None  # noqa: S101 - resolve has made it
        plan = {str(name): array(batch.plan[name]) for name in batch.plan.columns}
        mask = batch.written.to_numpy(dtype=bool) if batch.written is not None else np.zeros(batch.records.shape, dtype=bool)
        action = plan["action"]
        deactivated = pc.and_(pc.equal(action, Change.UPDATE), pc.equal(plan["state"], "deleted"))
        given = {
            **plan,
            "external_id": array(batch.records.index),
            "action": pc.if_else(deactivated, Change.DELETE.value, action),
            "erp_id": plan["erp_id"] if ids is None else ids,
            "external_version": array(batch.marks["version"]),
            "intent": pa.nulls(len(batch), TEXT) if intents is None else intents,
        }
        rows = frame({name: given[name].cast(kind) for name, kind in _ROW.items()}, pd.RangeIndex(len(batch)))
        after, known = _after(run, batch, plan["before"], mask)
        return cls(rows, after, known, mask, bools(pc.equal(action, Change.DELETE)))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def changed(self) -> Bools:
        """The records that were written to the ERP; the others only refresh their link."""
        return bools(pc.not_equal(array(self.rows["action"]), Change.SKIP))

    def take(self, mask: Bools) -> "Settlement":
        rows, after = self.rows[mask].reset_index(drop=True), self.after[mask].reset_index(drop=True)
        return Settlement(rows, after, self.known[mask], self.written[mask], self.gone[mask])

    def plus(self, other: "Settlement") -> "Settlement":
        if not len(other):
            return self
        if not len(self):
            return other
        rows, after = (pd.concat(both, ignore_index=True) for both in ([self.rows, other.rows], [self.after, other.after]))
        known, written = np.vstack([self.known, other.known]), np.vstack([self.written, other.written])
        return Settlement(rows, after, known, written, np.concatenate([self.gone, other.gone]))

    def arrived(self, run: Run, scope: Scope, mask: Bools, versions: Sequence[str | None]) -> "Settlement":
        """These rows, with what the ERP holds now."""
        rows = self.rows.assign(erp_version=extension(pa.array(versions, TEXT)))
        return _as_held(run, scope, replace(self, rows=rows).take(mask))

    def complete(self, run: Run, scope: Scope) -> pd.DataFrame:
        """The rows with what follows from the record afterwards: after (JSON), erp_fingerprint, changed_fields (JSON list)."""
        prints = sides.fingerprints(scope, self.after, np.ones(self.after.shape, dtype=bool))
        texts, gone = {"after": rows_json(self.after, self.known), "erp_fingerprint": prints}, pa.array(self.gone)
        columns = {name: pc.if_else(gone, pa.scalar(None, pa.binary()), values) for name, values in texts.items()}
        columns["erp_fingerprint"] = pc.if_else(
            pa.array(self._unsent(run)), pa.scalar(None, pa.binary()), columns["erp_fingerprint"]
        )
        columns["changed_fields"] = _names_json([str(name) for name in self.after.columns], self.written)
        return self.rows.assign(**{name: extension(values) for name, values in columns.items()})

    def _unsent(self, run: Run) -> Bools:
        """Records of which the ERP holds something that is due outward: they are not to be taken for seen. An inbound run does
        not know what another sync of the pair sends, so anything may be due."""
        fields = sendable(run) if run.outward else np.ones(len(run.fields), dtype=bool)
        creates = bools(pc.equal(array(self.rows["action"]), Change.CREATE))
        out = np.zeros(len(self), dtype=bool)
        if fields.any() and not creates.all():
            names, old = [str(name) for name in self.after.columns], ~creates
            base = Base.opened(array(self.rows["base"][old]), names, pd.RangeIndex(int(old.sum())))
            after = self.after[old].reset_index(drop=True)
            due = np.where(base.known, differs(after, base.erp), ~nulls_of(after))
            out[old] = (due & self.known[old] & fields).any(axis=1)
        return out

    def announce(self, run: Run) -> None:
        """Commit the intents, each with what settles its record, before anything is written elsewhere."""
        with run.database.tenant(run.tenant) as scope:
            rows = self.complete(run, scope)
            columns = {str(name): array(rows[name]).to_pylist() for name in rows.columns}
            payloads = [orjson.dumps(_portable(columns, at)) for at in range(len(rows))]
            ledger.announce(scope, run.pair, run.opened, rows, payloads)

    def abandon(self, scope: Scope, mask: Bools) -> None:
        """Intents whose write did not happen."""
        ledger.settle_intents(scope, array(self.rows["intent"]).filter(pa.array(mask)).to_pylist(), "abandoned")


def _after(run: Run, batch: Batch, before: pa.Array, written: Bools) -> tuple[pd.DataFrame, Bools]:
    """The ERP record's mapped fields after the write, and which of them are known."""
    names = [f.name for f in run.fields]
    old, there = rows_from_json(before, names, pd.RangeIndex(len(batch)))
    return chosen(written, canonical(batch.records, run.fields), old), there | written


def _names_json(names: Sequence[str], mask: Bools) -> pa.Array:
    """A JSON list a row: the names of the columns in which the mask holds."""
    cells = [pc.if_else(pa.array(mask[:, at]), f',"{name}"', "") for at, name in enumerate(names)]
    told = pc.utf8_slice_codeunits(pc.binary_join_element_wise(*cells, ""), 1)  # without the first comma
    return pc.binary_join_element_wise("[", told, "]", "")


def _as_held(run: Run, scope: Scope, written: Settlement) -> Settlement:
    """Records that were written, read back: what the ERP made of the values is the after-snapshot, and in B the ERP's own
    spelling. A record that somebody has touched since (an ERP apart from our transaction) keeps what was written."""
    erp_ids, versions = array(written.rows["erp_id"]), array(written.rows["erp_version"])
    held = sides.erp_side(run, scope, erp_ids.filter(pa.array(~written.gone)).to_pylist())
    held = held.aligned(erp_ids, written.after.index)
    same = bools(pc.equal(array(held.marks["version"]), versions)) & ~written.gone
    respelled = same[:, None] & written.written & written.known & differs(written.after, held.texts)
    everywhere = np.repeat(same[:, None], respelled.shape[1], axis=1)
    after, known = chosen(everywhere, held.texts, written.after), written.known | everywhere
    rows, some = written.rows, np.asarray(respelled.any(axis=1))
    if some.any():
        now = pd.DataFrame(held.texts[some]).reset_index(drop=True)
        spelled = _respelled(run, written.take(some), now, respelled[some])
        base = pc.replace_with_mask(array(rows["base"]), pa.array(some), spelled.json())
        rows = rows.assign(base=extension(base))
    return replace(written, rows=rows, after=after, known=known)


def _respelled(run: Run, written: Settlement, held: pd.DataFrame, respelled: Bools) -> Base:
    """B of records that the ERP holds in another spelling than it was given, in the cells under `respelled`."""
    names = [f.name for f in run.fields]
    base = Base.opened(array(written.rows["base"]), names, written.rows.index)
    spelled = chosen(respelled & ~differs(written.after, base.external), held, base.erp)
    for name, (lines, _) in run.lines.items():
        spelled = _lines_as_held(spelled, name, lines, respelled[:, names.index(name)], base, written.after, held)
    return replace(base, erp=spelled)


def _lines_as_held(
    spelled: pd.DataFrame, name: str, lines: Lines, rows: Bools, base: Base, after: pd.DataFrame, held: pd.DataFrame
) -> pd.DataFrame:
    values = array(spelled[name]).to_pylist()
    for at in np.flatnonzero(rows):
        x, e, sent, now = (str(side[name].iloc[at]) for side in (base.external, base.erp, after, held))
        values[at] = respelled_lines(x, e, sent, now, lines)
    return spelled.assign(**{name: extension(pa.array(values, TEXT))})


def _portable(columns: Mapping[str, Sequence[Any]], at: int) -> dict[str, Any]:
    row = {name: values[at] for name, values in columns.items()}
    return {name: value.hex() if name in _BYTES and value is not None else value for name, value in row.items()}


def settle(run: Run, scope: Scope, settlement: Settlement) -> None:
    """Links, base, journal and intents of these rows, in the caller's transaction. Where the record itself is written in that
    transaction, no intent is needed: it is there with its journal row, or not at all."""
    if not len(settlement):
        return
    rows = settlement.complete(run, scope)
    subjects = [ledger.subject(run.target.name, erp_id) for erp_id in array(rows["erp_id"]).to_pylist()]
    keys = ledger.keys_for(scope, subjects)
    places = run.pair.base_places(scope.vault, array(rows["external_id"]).to_pylist())
    known = pc.fill_null(sides.with_others(run, scope, rows), b"{}")
    base = ledger.seal(scope, keys, subjects, known.to_pylist(), places)
    linked = rows.assign(base=extension(pa.array(base, pa.binary())), external_fingerprint=rows["fingerprint"])
    links.save(scope, run.pair, linked, run.opened.field_mapping_id)
    changes = rows[settlement.changed]
    if changes.empty:
        return
    ledger.journal(scope, run.opened, keys, [subjects[at] for at in changes.index], changes)
    if run.erp.place.apart:
        ledger.settle_intents(scope, array(changes["intent"]).to_pylist(), "confirmed")


def recover(run: Run) -> int:
    """Settle the intents that a dead run announced: those that arrived in the ERP's database get their links and journal rows,
    the others are abandoned (their records are read again). Returns how many had arrived."""
    with run.database.tenant(run.tenant) as scope:
        waiting = ledger.unsettled(scope, run.pair)
    if not waiting:
        return 0
    versions = run.erp.applied(list(waiting))
    with run.database.tenant(run.tenant) as scope:
        known = links.find(scope, run.pair, [waiting[intent]["external_id"] for intent in versions])
        link_of = dict(zip(known.index, array(known["link_id"]).to_pylist(), strict=True))
        rows = []
        for intent, version in versions.items():
            told = waiting[intent]  # in the payload as resolve saw it
            blank = {"state": "deleted" if told["action"] == Change.DELETE else "active", "intent": intent}
            rows.append(blank | told | {"erp_version": version, "link_id": link_of.get(told["external_id"])})
        if rows:
            settle(run, scope, _as_held(run, scope, _announced(run, rows)))
            history.count(scope, run.opened, succeeded=len(rows))
        ledger.settle_intents(scope, sorted(set(waiting) - set(versions)), "abandoned")
    return len(rows)


def _announced(run: Run, payloads: Sequence[Mapping[str, Any]]) -> Settlement:
    """Inverse of what `announce` keeps."""
    names, index = [f.name for f in run.fields], pd.RangeIndex(len(payloads))

    def column(name: str) -> list[Any]:
        values = [row.get(name) for row in payloads]
        return [None if value is None else bytes.fromhex(value) for value in values] if name in _BYTES else values

    after, known = rows_from_json(column("after"), names, index)
    written = [orjson.loads(fields or "[]") for fields in column("changed_fields")]
    mask = np.array([[name in fields for name in names] for fields in written], dtype=bool)
    gone = np.array([row.get("after") is None for row in payloads], dtype=bool)
    return Settlement(frame({n: pa.array(column(n), k) for n, k in _ROW.items()}, index), after, known, mask, gone)
