"""What follows when the external side has a record: link, base, journal row and intent, in one transaction.

What other systems make of a value is read back after the write, where they tell that it was we who wrote last. So a value that
is rounded, cut or respelled over there is not taken for an edit that would travel back into the ERP.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.contract import Changes, Field, Outcome, Page
from integration_pipelines.canonical import (
    TEXT,
    aligned,
    array,
    canonical,
    extension,
    frame,
    record_index,
    rows_from_json,
    rows_json,
    typed,
)
from integration_pipelines.model import Batch, Change, Side, bools, concat, marks_frame
from integration_pipelines.steps import external_side, sides
from integration_pipelines.steps.base import Base, Bools, chosen, differs
from integration_pipelines.steps.run import Run
from integration_pipelines.store import ledger, links
from integration_pipelines.store.database import Scope

_ROW = {
    **dict.fromkeys(("external_id", "action", "state", "erp_id", "external_version", "erp_version", "intent"), TEXT),
    "link_id": pa.int64(),
    **dict.fromkeys(("base", "before", "sent", "erp", "send", "match_digest", "erp_fingerprint"), pa.binary()),
    "external_fingerprint": pa.binary(),
    "after": pa.binary(),
}
_PLAIN = ("base", "before", "sent", "erp", "send")  # JSON
_BYTES = ("match_digest", "erp_fingerprint", "external_fingerprint")


@dataclass(frozen=True)
class OutwardSettlement:
    """One row a record, Arrow-typed: external_id, action, state, erp_id, external_version, erp_version, intent, link_id,
    match_digest, both fingerprints, and as JSON of canonical texts base, before and after (external fields), sent (external
    fields that are written), erp (ERP fields), send (a list: the ERP fields that go out)."""

    rows: pd.DataFrame

    def __len__(self) -> int:
        return len(self.rows)

    def announce(self, run: Run, scope: Scope) -> None:
        """Intents, each with all that `remembered` needs."""
        if not len(self):
            return
        columns = {str(name): array(self.rows[name]).to_pylist() for name in self.rows.columns}
        payloads = [
            orjson.dumps({name: _portable(name, values[at]) for name, values in columns.items()}) for at in range(len(self))
        ]
        ledger.announce(scope, run.pair, run.opened, self.rows, payloads, Side.EXTERNAL)

    def arrived(self, run: Run, outcomes: pd.DataFrame, held: Batch | None) -> "OutwardSettlement":
        """The rows whose write is done, with what both sides agree on now. `held`: records as they were read back."""
        done = np.asarray(outcomes["outcome"] == Outcome.DONE, dtype=bool)
        if not done.any():
            return OutwardSettlement(self.rows.iloc[:0])
        rows = self.rows[done].reset_index(drop=True)
        told = outcomes[done]
        rows = rows.assign(
            external_id=extension(pa.array(list(told["id"]), TEXT)),
            external_version=extension(pa.array([v if isinstance(v, str) else None for v in told["version"]], TEXT)),
        )
        return OutwardSettlement(_agreed(run, rows, held))

    def settle(self, run: Run, scope: Scope) -> None:
        if not len(self):
            return
        rows = self.rows
        subjects = [ledger.subject(run.target.name, erp_id) for erp_id in array(rows["erp_id"]).to_pylist()]
        keys = ledger.keys_for(scope, subjects)
        places = run.pair.base_places(scope.vault, array(rows["external_id"]).to_pylist())
        base = ledger.seal(scope, keys, subjects, sides.with_others(run, scope, rows).to_pylist(), places)
        links.save(scope, run.pair, rows.assign(base=extension(pa.array(base, pa.binary()))), run.opened.field_mapping_id)
        changed = bools(pc.not_equal(array(rows["action"]), Change.SKIP))
        if changed.any():
            fields = [orjson.dumps(list(orjson.loads(sent))).decode() for sent in array(rows["sent"]).to_pylist()]
            told = rows.assign(changed_fields=extension(pa.array(fields, TEXT)))[changed]
            ledger.journal(scope, run.opened, keys, [subjects[at] for at in np.flatnonzero(changed)], told, Side.EXTERNAL)


def _portable(name: str, value: Any) -> Any:
    if value is None or not isinstance(value, bytes):
        return value
    return value.decode() if name in _PLAIN else value.hex()


def expected(run: Run, scope: Scope, batch: Batch, intents: pa.Array) -> OutwardSettlement:
    """What a planned batch is going to leave behind."""
    return OutwardSettlement(_rows(run, scope, batch, intents))


def quiet(run: Run, scope: Scope, batch: Batch) -> OutwardSettlement:
    """Records of which nothing is written: only their link is refreshed, and keeps which external values it has seen."""
    rows = _rows(run, scope, batch, pa.nulls(len(batch), TEXT))
    assert batch.plan is not None  # noqa: S101 - resolve has made it
    return OutwardSettlement(rows.assign(external_fingerprint=extension(array(batch.plan["fingerprint"]))))


def _rows(run: Run, scope: Scope, batch: Batch, intents: pa.Array) -> pd.DataFrame:
    assert batch.plan is not None and batch.written is not None  # noqa: S101 - resolve has made them
    assert batch.outgoing is not None and batch.withheld is not None  # noqa: S101 - map has made them
    plan = {str(name): array(batch.plan[name]) for name in batch.plan.columns}
    texts = canonical(batch.records, run.fields)
    gone = pc.or_(pa.array(batch.deleted), pc.equal(plan["state"], "deleted"))
    prints = sides.fingerprints(scope, texts, np.ones(texts.shape, dtype=bool))
    deactivated = pc.and_(pc.equal(plan["action"], Change.UPDATE), pc.equal(plan["state"], "deleted"))
    out = canonical(batch.outgoing, outgoing_fields(run, batch.outgoing))
    written = batch.written.to_numpy(dtype=bool)
    names = np.array([field.name for field in run.fields], dtype=object)
    given = {
        **plan,
        "action": pc.if_else(deactivated, Change.DELETE.value, plan["action"]),
        "erp_id": array(batch.records.index),
        "erp_version": array(batch.marks["version"]),
        "intent": intents,
        "sent": rows_json(out, ~batch.withheld.to_numpy(dtype=bool)),
        "erp": rows_json(texts),
        "send": pa.array([orjson.dumps(list(names[row])) for row in written], pa.binary()),
        "erp_fingerprint": pc.if_else(gone, pa.scalar(None, pa.binary()), prints),
        "external_fingerprint": pa.nulls(len(batch), pa.binary()),
        "after": pa.nulls(len(batch), pa.binary()),
    }
    return frame({name: given[name].cast(kind) for name, kind in _ROW.items()}, pd.RangeIndex(len(batch)))


def outgoing_fields(run: Run, outgoing: pd.DataFrame) -> list[Field]:
    return [field for name in outgoing.columns if (field := run.source.field(str(name)))]


def read_back(run: Run, done: pd.DataFrame) -> Batch | None:
    """Records as the other side holds them after our write: those that nobody else has touched since. Where the answer to a
    write tells no version, that cannot be known, and none counts."""
    ids = [str(record) for record in done["id"] if isinstance(record, str)]
    versions = {id_: told for id_, told in zip(done["id"], done["version"], strict=True) if isinstance(told, str)}
    pages: list[Page] = list(run.external.read_ids(run.source, run.watched, ids)) if ids else []
    batches = [Batch(page.records, page.marks, page.absent) for page in pages if len(page.records)]
    if not batches:
        return None
    held = concat(batches)
    same = [record in versions and versions[record] == version for record, version in
            zip(array(held.records.index).to_pylist(), array(held.marks["version"]).to_pylist(), strict=True)]  # fmt: skip
    told = array(held.marks["own"]) if "own" in held.marks.columns else pa.nulls(len(held), pa.bool_())
    own = bools(pc.coalesce(told, pa.array(same, pa.bool_())))
    return held.take(own & ~held.deleted & ~held.records.index.duplicated())


def _agreed(run: Run, rows: pd.DataFrame, held: Batch | None) -> pd.DataFrame:
    """The rows with base, after and external_fingerprint as they are after the write."""
    names = [field.name for field in run.fields]
    index = record_index(array(rows["external_id"]))
    raw = _raw_after(run, rows, index, held)
    there = external_side.of_batch(run, raw).aligned(array(index), pd.RangeIndex(len(rows)))
    erp, _ = rows_from_json(array(rows["erp"]), names, rows.index)
    listed = [set(orjson.loads(fields)) for fields in array(rows["send"]).to_pylist()]
    send = np.array([[name in fields for name in names] for fields in listed], dtype=bool).reshape(len(rows), len(names))
    before = Base.opened(array(rows["base"]), names, rows.index)
    external = chosen(send, chosen(there.said, there.texts, erp), before.external)
    base = Base(external, chosen(send, erp, before.erp), before.known | send)
    alike = there.said & ~differs(there.texts, erp)
    base = Base(chosen(alike, erp, base.external), chosen(alike, erp, base.erp), base.known | alike)
    unseen = there.said & np.where(base.known, differs(there.texts, base.external), _filled(there.texts))
    with run.database.tenant(run.tenant) as scope:
        prints = sides.fingerprints(scope, there.texts, there.said)
    ended = pc.equal(array(rows["action"]), Change.DELETE)
    removed = pc.and_(ended, pc.equal(array(rows["sent"]), b"{}"))
    # A record that was switched off over there has been seen, whatever it holds: it must not come back as a new one.
    unknown = pc.or_(removed, pc.and_not(pa.array(unseen.any(axis=1) | ~there.said.any(axis=1)), ended))
    after = rows_json(canonical(raw.records, [f for name in run.watched if (f := run.source.field(name))]))
    nothing = pa.scalar(None, pa.binary())
    return rows.assign(
        base=extension(base.json()),
        after=extension(pc.if_else(removed, nothing, after)),
        external_fingerprint=extension(pc.if_else(unknown, nothing, prints)),
    )


def _filled(texts: pd.DataFrame) -> Bools:
    return np.column_stack([np.asarray(pc.is_valid(array(texts[name]))) for name in texts.columns])


def _raw_after(run: Run, rows: pd.DataFrame, index: "pd.Index[Any]", held: Batch | None) -> Batch:
    """The external records after the write: as read back, else what they were with what was sent."""
    fields = [field for name in run.watched if (field := run.source.field(name))]
    names = [field.name for field in fields]
    before, told = rows_from_json(array(rows["before"]), names, index)
    sent, written = rows_from_json(array(rows["sent"]), names, index)
    texts, said = chosen(written, sent, before), told | written
    if held is not None and len(held):
        there = pc.is_in(array(index), value_set=array(held.records.index))
        mask = np.repeat(np.asarray(there)[:, None], len(names), axis=1)
        now = aligned(canonical(held.records, fields), index)
        spoken = frame({name: pa.array(~held.absence(name)) for name in names}, held.records.index)
        heard = np.column_stack([bools(array(aligned(spoken, index)[name])) for name in names])
        texts, said = chosen(mask, now, texts), np.where(mask, heard, said)
    absent = frame({name: pa.array(~said[:, at]) for at, name in enumerate(names)}, index)
    return Batch(typed(texts, fields), marks_frame(index), absent)


def remembered(run: Run, waiting: Mapping[str, Mapping[str, Any]]) -> tuple[OutwardSettlement, Changes]:
    """Inverse of `announce`: what was announced, and the writes to ask the connector about."""
    told = [{"intent": intent, **row} for intent, row in waiting.items()]

    def column(name: str) -> list[Any]:
        values: Sequence[Any] = [row.get(name) for row in told]
        if name in _PLAIN:
            return [(value or ("[]" if name == "send" else "{}")).encode() for value in values]
        return [None if value is None else bytes.fromhex(value) for value in values] if name in _BYTES else list(values)

    rows = frame({name: pa.array(column(name), kind) for name, kind in _ROW.items()}, pd.RangeIndex(len(told)))
    with run.database.tenant(run.tenant) as scope:  # an earlier try may have made the link
        known = links.find(scope, run.pair, array(rows["erp_id"]).to_pylist(), Side.ERP)
    rows = rows.assign(link_id=extension(aligned_links(known, array(rows["erp_id"]))))
    fields = [field for name in run.watched if (field := run.source.field(name))]
    texts, written = rows_from_json(array(rows["sent"]), [f.name for f in fields], rows.index)
    steps = pd.DataFrame(
        {
            "action": [
                _sent_as(action, sent) for action, sent in zip(rows["action"], array(rows["sent"]).to_pylist(), strict=True)
            ],
            "id": array(rows["external_id"]).to_pylist(),
            "version": array(rows["external_version"]).to_pylist(),
            "intent": array(rows["intent"]).to_pylist(),
        },
        dtype=object,
    )
    mask = pd.DataFrame(written, index=rows.index, columns=[f.name for f in fields])
    return OutwardSettlement(rows), Changes(typed(texts, fields), mask, steps)


def _sent_as(action: str, sent: bytes) -> str:
    """A deactivation is kept as a deletion, and was sent as an update."""
    return Change.UPDATE.value if action == Change.DELETE and sent != b"{}" else action


def aligned_links(known: pd.DataFrame, erp_ids: pa.Array) -> pa.Array:
    return array(aligned(known, record_index(erp_ids))["link_id"])
