"""Child lines on the way out. A document's lines go out as a whole, so they are made of what is there: each line of the other
side keeps what no rule knows of (its own id, its tax code), and gets what the ERP has changed.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from integration_pipelines.canonical import TEXT, array, extension, json_text, parse_json
from integration_pipelines.model import Batch
from integration_pipelines.steps.base import Base, Bools
from integration_pipelines.steps.lines import Line, by_key, external_wins, line_value, merged_lines, written_lines
from integration_pipelines.steps.merge import Sent, Sides
from integration_pipelines.steps.outgoing import filled, mapped
from integration_pipelines.steps.references import external_references
from integration_pipelines.steps.run import Run


@dataclass(frozen=True)
class MergedLines:
    """`batch` with the lines that go out; `base`: B as it will be where lines of both sides were merged (`merged`, a record by
    a field): the ERP's changes are agreed on, the other side's are news still."""

    batch: Batch
    sent: Sent
    base: Base
    merged: Bools


def merge_lines_outward(
    run: Run, batch: Batch, state: Sides, sent: Sent, base: Base, contested: Bools, raw: pd.DataFrame
) -> MergedLines:
    """Where both sides changed a document's lines, they are merged line by line and field by field."""
    names = [field.name for field in run.fields]
    send, clash, merged = sent.send.copy(), sent.clash.copy(), np.zeros_like(contested)
    for name, (lines, _) in run.lines.items():
        at = names.index(name)
        if lines.key is None or not _sends(run, name):
            continue
        texts = array(batch.records[name]).to_pylist()
        agreed_x, agreed_e = array(base.external[name]).to_pylist(), array(base.erp[name]).to_pylist()
        four = (state.external, state.erp, state.base.external, state.base.erp)
        for row in np.flatnonzero(contested[:, at]):
            x, e, b, spelled = (by_key(side[name].iloc[row], lines.key) for side in four)
            wins, owns = external_wins(run, state, int(row), at), run.policies[at].external_owns
            found, torn = merged_lines(x, e, b, spelled, external_wins=wins, external_owns=owns, outward=True)
            texts[row] = written_lines(found, lines)
            clash[row, at], send[row, at] = torn, not torn and texts[row] != state.external[name].iloc[row]
            merged[row, at] = send[row, at]
            if send[row, at]:
                met = b if owns else _with_met(b, e)
                ours, _ = merged_lines(met, e, met, spelled, external_wins=False, external_owns=owns)
                agreed_x[row], agreed_e[row] = written_lines(ours, lines), state.erp[name].iloc[row]
        if merged[:, at].any():
            fresh = _mapped_again(run, batch.take(merged[:, at]), name, [texts[row] for row in np.flatnonzero(merged[:, at])])
            batch, failed = _with(run, batch, fresh, name)
            clash[failed, at], send[failed, at] = True, False
        base = replace(
            base,
            external=base.external.assign(**{name: extension(pa.array(agreed_x, TEXT))}),
            erp=base.erp.assign(**{name: extension(pa.array(agreed_e, TEXT))}),
        )
    return MergedLines(_upon(run, batch, raw), Sent(send, clash, sent.agreed), base, merged)


def _with_met(b: dict[str, Line], e: dict[str, Line]) -> dict[str, Line]:
    """B's lines with the fields that they lack and that now go out: the ERP's values."""
    sent = {key: {name: text for name, text in line.items() if text is not None} for key, line in e.items()}
    return {key: {**sent.get(key, {}), **line} for key, line in b.items()}


def _sends(run: Run, name: str) -> bool:
    return run.outward is not None and name in run.outward.source_fields


def _mapped_again(run: Run, batch: Batch, name: str, texts: list[str | None]) -> Batch:
    """These records as the outbound rules have them with these lines."""
    records = batch.records.assign(**{name: extension(pa.array(texts, TEXT))})
    with run.database.tenant(run.tenant) as scope:
        again = mapped(run, replace(batch, records=records).alone())
        return external_references(run, scope, again, batch.records.index)


def _with(run: Run, batch: Batch, fresh: Batch, name: str) -> tuple[Batch, "np.ndarray[Any, Any]"]:
    """The batch with what was mapped again, and the rows for which that failed."""
    assert run.outward is not None and batch.outgoing is not None and fresh.outgoing is not None  # noqa: S101 - `mapped` was here
    outgoing, rows = batch.outgoing.copy(), {record: at for at, record in enumerate(batch.records.index)}
    columns = [rule.rule.target for rule in run.outward.rules if name in rule.rule.sources]
    for column in columns:
        values = array(outgoing[column]).to_pylist()
        for record, text in zip(fresh.outgoing.index, array(fresh.outgoing[column]).to_pylist(), strict=True):
            values[rows[record]] = text
        outgoing[column] = extension(pa.array(values, TEXT))
    failed = [rows[record] for record in array(fresh.rejected["record_id"]).to_pylist()]
    return replace(batch, outgoing=outgoing), np.array(failed, dtype=int)


def _upon(run: Run, batch: Batch, raw: pd.DataFrame) -> Batch:
    """Outgoing lines laid upon those that are there, by the field that holds the line's key."""
    if run.outward is None or batch.outgoing is None:
        return batch
    outgoing = batch.outgoing
    for rule in run.outward.rules:
        lines, column = run.lines.get(str(rule.rule.source)), rule.rule.target
        key = next((one.rule.target for one in rule.lines if lines and one.rule.source == lines[0].key), None)
        if key is None or column not in raw.columns:
            continue
        pairs = zip(array(outgoing[column]).to_pylist(), array(raw[column]).to_pylist(), strict=True)
        outgoing = outgoing.assign(**{column: extension(pa.array([_laid(new, old, key) for new, old in pairs], TEXT))})
    return replace(batch, outgoing=outgoing)


def _laid(new: str | None, old: str | None, key: str) -> str | None:
    if new is None or old is None:
        return new
    there = {_key(line, key): line for line in parse_json(old) if isinstance(line, dict)}
    lines = [(there.get(_key(line, key)), line) for line in parse_json(new)]
    return json_text([filled(line) if known is None else _over(known, line) for known, line in lines])


def _key(line: Any, path: str) -> str:
    """1 and "1" are the same."""
    value = line_value(line, path)
    return value if isinstance(value, str) else json_text(value)


def _over(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{name: _over(old.get(name), value) for name, value in new.items()}}
    return new
