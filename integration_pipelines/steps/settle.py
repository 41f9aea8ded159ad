"""Settling: once the ERP has a record, its link, base, journal row and intent follow in one transaction."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.contract import Lines
from integration_pipelines.canonical import TEXT, array, canonical, extension, frame, rows_from_json, rows_json
from integration_pipelines.model import Batch, Change, missing
from integration_pipelines.steps import sides
from integration_pipelines.steps.base import Base, Bools, chosen, differs
from integration_pipelines.steps.lines import respelled as respelled_lines
from integration_pipelines.steps.run import Run
from integration_pipelines.store import history, ledger, links
from integration_pipelines.store.database import Scope

_BYTES = ("base", "before", "after", "fingerprint", "erp_fingerprint", "match_digest")
_TEXTS = ("external_id", "action", "state", "erp_id", "external_version", "erp_version", "changed_fields", "intent")
_COLUMNS = (*_TEXTS, "link_id", *_BYTES)


@dataclass
class Settlement:
    """Rows to be settled, one a record: plain Python values, so that an intent can carry its row as JSON."""

    rows: pd.DataFrame

    @classmethod
    def nothing(cls) -> "Settlement":
        return cls(pd.DataFrame({name: [] for name in _COLUMNS}, dtype=object))

    @classmethod
    def of(cls, run: Run, scope: Scope, batch: Batch, written: dict[str, list[Any]]) -> "Settlement":
        """What a planned batch leaves behind; `written`: ids and intents of the records that are written."""
        if not len(batch) or batch.plan is None:
            return cls.nothing()
        plan = {name: [None if missing(v) else v for v in batch.plan[name]] for name in batch.plan.columns}
        mask = batch.written.to_numpy(dtype=bool) if batch.written is not None else np.zeros(batch.records.shape, dtype=bool)
        after, there = _after(run, batch, plan["before"], mask)
        prints = sides.fingerprints(scope, after, np.ones(after.shape, dtype=bool))
        deleted = [action == Change.DELETE for action in plan["action"]]
        names = np.array([f.name for f in run.fields])
        rows = {
            "external_id": list(map(str, batch.records.index)),
            "action": [
                Change.DELETE.value if action == Change.UPDATE and state == "deleted" else action  # a deactivation
                for action, state in zip(plan["action"], plan["state"], strict=True)
            ],
            "link_id": plan["link_id"],
            "state": plan["state"],
            "erp_id": plan["erp_id"],
            "external_version": [None if missing(v) else v for v in batch.marks["version"]],
            "erp_version": plan["erp_version"],
            "changed_fields": [orjson.dumps(names[row].tolist()).decode() for row in mask],
            "intent": [None] * len(batch),
            "base": plan["base"],
            "before": plan["before"],
            "after": [None if gone else row for gone, row in zip(deleted, rows_json(after, there), strict=True)],
            "fingerprint": plan["fingerprint"],
            "erp_fingerprint": [None if gone else row for gone, row in zip(deleted, prints, strict=True)],
            "match_digest": plan["match_digest"],
        }
        return cls(pd.DataFrame(rows | written, dtype=object))

    @property
    def changes(self) -> pd.DataFrame:
        """The rows that were written to the ERP; the others only refresh their link."""
        return self.rows[self.rows["action"] != Change.SKIP]

    def plus(self, *others: "Settlement") -> "Settlement":
        filled = [part.rows for part in (self, *others) if len(part.rows)]
        return Settlement(pd.concat(filled, ignore_index=True)) if filled else self

    def arrived(self, run: Run, scope: Scope, mask: Bools, versions: list[str | None]) -> "Settlement":
        """These rows, with what the ERP holds now."""
        rows = self.rows.assign(erp_version=pd.Series(versions, dtype=object))[mask]
        return Settlement(_as_held(run, scope, rows.reset_index(drop=True)))

    def announce(self, run: Run) -> None:
        """Commit the intents, each with what settles its record, before anything is written elsewhere."""
        payloads = [orjson.dumps(_portable(row)) for row in self.rows.to_dict("records")]
        with run.database.tenant(run.tenant) as scope:
            ledger.announce(scope, run.pair, run.opened, self.rows, state="announced", payloads=payloads)

    def abandon(self, scope: Scope, mask: Bools) -> None:
        """Intents whose write did not happen."""
        ledger.settle_intents(scope, list(self.rows["intent"][mask]), "abandoned")


def _after(run: Run, batch: Batch, before: list[bytes | None], written: Bools) -> tuple[pd.DataFrame, Bools]:
    """The ERP record's mapped fields after the write, and which of them are known."""
    names = [f.name for f in run.fields]
    old, there = rows_from_json(before, names, batch.records.index)
    texts = canonical(batch.records, run.fields)
    columns = {
        name: pc.if_else(pa.array(written[:, at]), array(texts[name]), array(old[name])) for at, name in enumerate(names)
    }
    return frame(columns, batch.records.index), there | written


def _as_held(run: Run, scope: Scope, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose record was written, read back: what the ERP made of the values is the after-snapshot, and in B the ERP's own
    spelling. A record that somebody has touched since (an ERP apart from our transaction) keeps what was written."""
    held = sides.erp_side(run, scope, list(rows["erp_id"][rows["after"].notna()]))
    versions = dict(zip(held.texts.index, array(held.marks["version"]).to_pylist(), strict=True))
    same = np.array(
        [versions.get(erp_id, "") == version for erp_id, version in zip(rows["erp_id"], rows["erp_version"], strict=True)],
        dtype=bool,
    )
    if not same.any():
        return rows
    part, names = rows[same], [f.name for f in run.fields]
    texts = held.texts.loc[list(part["erp_id"])].set_axis(part.index)
    after, there = rows_from_json(list(part["after"]), names, part.index)
    written = np.array(
        [[name in fields for name in names] for fields in map(orjson.loads, part["changed_fields"])], dtype=bool
    )
    respelled = written & there & differs(after, texts)
    out = rows.copy()
    out.loc[part.index, "after"] = pd.Series(rows_json(texts), index=part.index, dtype=object)
    prints = sides.fingerprints(scope, texts, np.ones(texts.shape, dtype=bool))
    out.loc[part.index, "erp_fingerprint"] = pd.Series(prints, index=part.index, dtype=object)
    if respelled.any():
        base = Base.opened(list(part["base"]), names, part.index)
        spelled = chosen(respelled & ~differs(after, base.external), texts, base.erp)
        for name, (lines, _) in run.lines.items():
            spelled = _lines_as_held(spelled, name, lines, respelled[:, names.index(name)], base, after, texts)
        out.loc[part.index, "base"] = pd.Series(replace(base, erp=spelled).json(), index=part.index, dtype=object)
    return out


def _lines_as_held(
    spelled: pd.DataFrame, name: str, lines: Lines, rows: Bools, base: Base, after: pd.DataFrame, held: pd.DataFrame
) -> pd.DataFrame:
    values = array(spelled[name]).to_pylist()
    for at in np.flatnonzero(rows):
        x, e, sent, now = (str(side[name].iloc[at]) for side in (base.external, base.erp, after, held))
        values[at] = respelled_lines(x, e, sent, now, lines)
    return spelled.assign(**{name: extension(pa.array(values, TEXT))})


def _portable(row: dict[Any, Any]) -> dict[str, Any]:
    return {name: value.hex() if name in _BYTES and value is not None else value for name, value in row.items()}


def _from_portable(row: dict[str, Any]) -> dict[str, Any]:
    return {name: bytes.fromhex(value) if name in _BYTES and value is not None else value for name, value in row.items()}


def settle(run: Run, scope: Scope, settlement: Settlement) -> None:
    """Links, base, journal and intents of these rows, in the caller's transaction."""
    rows = settlement.rows.reset_index(drop=True)
    if rows.empty:
        return
    subjects = [ledger.subject(run.target.name, erp_id) for erp_id in rows["erp_id"]]
    keys = ledger.keys_for(scope, subjects)
    places = [run.pair.base_place(external_id) for external_id in rows["external_id"]]
    base = ledger.seal(scope, keys, subjects, list(rows["base"].where(rows["base"].notna(), b"{}")), places)
    prints = ("external_fingerprint", "fingerprint"), ("erp_fingerprint", "erp_fingerprint"), ("match_digest", "match_digest")
    sealed = {name: ledger.as_text(rows[source]) for name, source in prints} | {"base": ledger.as_text(base)}
    links.save(scope, run.pair, rows.assign(**sealed), run.opened.field_mapping_id)
    changes = Settlement(rows).changes
    if changes.empty:
        return
    ledger.journal(scope, run.opened, keys, [subjects[at] for at in changes.index], changes)
    if run.erp.place.apart:
        ledger.settle_intents(scope, list(changes["intent"]), "confirmed")
    else:
        ledger.announce(scope, run.pair, run.opened, changes, state="confirmed", payloads=[None] * len(changes))


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
        rows = []
        for intent, version in versions.items():
            row = _from_portable(waiting[intent])
            link = known["id"].get(row["external_id"])  # in the payload as resolve saw it
            state = "deleted" if row["action"] == Change.DELETE else "active"
            blank = {**dict.fromkeys(_COLUMNS), "changed_fields": "[]", "state": state, "intent": intent}
            rows.append(blank | row | {"erp_version": version, "link_id": link})
        if rows:
            arrived = pd.DataFrame(rows, columns=list(_COLUMNS), dtype=object)
            settle(run, scope, Settlement(_as_held(run, scope, arrived)))
            history.count(scope, run.opened, succeeded=len(rows))
        ledger.settle_intents(scope, sorted(set(waiting) - set(versions)), "abandoned")
    return len(rows)
