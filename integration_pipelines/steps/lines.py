"""Child lines: a document's lines are one field, a JSON list of objects of canonical texts, sorted by the line's key.

Where both sides changed a document's lines, they are merged like records: line by line by their key, field by field. Lines
without a key are one field as a whole. In a line, a field that the other side does not name is null; one that B's line lacks
is of a newer mapping version, and meets for the first time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa

from connector_resources.contract import Field, FieldType, Lines
from integration_pipelines.canonical import TEXT, array, extension, json_text, parse_json, per_unique
from integration_pipelines.model import Batch, ConflictStrategy
from integration_pipelines.steps.base import Base, Bools, differs
from integration_pipelines.steps.merge import Merged, Sides
from integration_pipelines.steps.parents import parents, without_parent
from integration_pipelines.steps.run import Run
from integration_pipelines.store.database import Scope

_EXACT = Context(prec=76)
Line = Mapping[str, str | None]


def arranged(texts: pa.Array, lines: Lines) -> pa.Array:
    """Lists in the order of their lines' keys (of the lines themselves, where there is no key)."""
    return per_unique(texts, lambda text: written_lines(parse_json(text), lines), TEXT)


def written_lines(found: list[dict[str, Any]], lines: Lines) -> str:
    return json_text(sorted(found, key=lambda line: _place(line, lines.key)))


def _place(line: Line, key: str | None) -> tuple[int, str]:
    text = str(line.get(key)) if key else json_text(dict(line))
    return (len(text), text) if key and text.lstrip("-").isdigit() else (0, text)


@dataclass(eq=False)
class Unfit(Exception):
    """Why a document's lines cannot be taken; quotes no value."""

    field: str
    reason: str
    details: Mapping[str, Any] | None = None


def with_lines(run: Run, scope: Scope, batch: Batch) -> Batch:
    """The batch with its lines as canonical text and their references resolved; documents that do not fit are set aside."""
    for name, (lines, fields) in run.lines.items():
        if not len(batch):
            break
        if name not in batch.records.columns:  # the external side does not speak of them
            continue
        texts = array(batch.records[name]).to_pylist()
        parsed = [None if text is None or gone else parse_json(text) for text, gone in zip(texts, batch.deleted, strict=True)]
        known = _parents(run, scope, name, fields, [line for found in parsed if found for line in found])
        empty = None if run.mapping.null_policy(name) == "keep" else "[]"
        made: list[str | None] = []
        faults: dict[int, Unfit] = {}
        for at, found in enumerate(parsed):
            try:
                made.append(empty if found is None else _canonical(found, name, lines, fields, known))
            except Unfit as fault:
                faults[at] = fault
                made.append(None)
        mask = np.zeros(len(batch), dtype=bool)
        mask[list(faults)] = True
        told = [faults[at] for at in sorted(faults)]
        batch = replace(batch, records=batch.records.assign(**{name: extension(pa.array(made, TEXT))})).reject(
            mask,
            error_type="mapping",
            message=[f"{fault.field}: {fault.reason}" for fault in told],
            field=[fault.field for fault in told],
            rule="lines",
            details=[orjson.dumps(fault.details or {}).decode() for fault in told],
        )
    return batch


def _parents(run: Run, scope: Scope, name: str, fields: tuple[Field, ...], every: list[dict[str, Any]]) -> dict[str, Any]:
    """Field of a line → its reference and the ERP ids of the parents that are linked."""
    found = {}
    for field in fields:
        reference = run.mapping.references.get(f"{name}.{field.name}")
        if reference is not None:
            ids = sorted({str(line[field.name]) for line in every if line.get(field.name) is not None})
            found[field.name] = (reference, parents(run, scope, reference, ids))
    return found


def _canonical(
    found: list[dict[str, Any]], name: str, lines: Lines, fields: tuple[Field, ...], references: dict[str, Any]
) -> str:
    made = []
    for line in found:
        texts: dict[str, str | None] = {}
        for field in fields:
            value, place = line.get(field.name), f"{name}.{field.name}"
            if field.name in references and value is not None:
                reference, known = references[field.name]
                if known.get(str(value)) is None:
                    reason, details = without_parent(reference, str(value), known)
                    raise Unfit(place, f"the {reference.erp_entity} {reason}", details)
                value = known[str(value)]
            texts[field.name] = _text(value, field, place)
            if value is None and not field.nullable:
                raise Unfit(place, "a line has no value; correct the record where it comes from.")
        made.append(texts)
    keys = [line[lines.key] for line in made] if lines.key else []
    if None in keys or len(set(keys)) < len(keys):
        raise Unfit(f"{name}.{lines.key}", "two lines have the same key, or one has none; correct the record.")
    return written_lines(made, lines)


def _text(value: Any, field: Field, place: str) -> str | None:
    """Canonical text of one value of a line."""
    if value is None:
        return None
    try:
        if field.type is FieldType.DECIMAL:
            exact = Decimal(str(value)).quantize(Decimal(1).scaleb(-field.scale), ROUND_HALF_EVEN, _EXACT)
            return format(abs(exact) if exact == 0 else exact, "f")
        if field.type is FieldType.INTEGER:
            if Decimal(str(value)) != int(Decimal(str(value))):
                raise ValueError
            return str(int(Decimal(str(value))))
    except (InvalidOperation, ValueError, OverflowError):
        raise Unfit(place, f"a line's value is no {field.type.value}; correct the mapping or the record.") from None
    if field.type is FieldType.BOOLEAN:
        return "true" if value in (True, "true") else "false"
    return str(value)


def merge_lines(
    run: Run, batch: Batch, state: Sides, merged: Merged, contested: Bools, base: Base
) -> tuple[Batch, Merged, Base]:
    """Where both sides changed a document's lines: what is written is the merged list, and B (`base`: as it will be) becomes X
    all the same, so that the ERP's edits of lines stay edits of its own."""
    names = [field.name for field in run.fields]
    write, clash = merged.write.copy(), merged.clash.copy()
    for name, (lines, _) in run.lines.items():
        at = names.index(name)
        rows = np.flatnonzero(contested[:, at] & merged.said[:, at])
        if lines.key is None or not len(rows):
            continue
        values, spelled = array(batch.records[name]).to_pylist(), array(base.erp[name]).to_pylist()
        four = (state.external, state.erp, state.base.external, state.base.erp)
        for row in rows:
            sides = [by_key(side[name].iloc[row], lines.key) for side in four]
            wins, owns = external_wins(run, state, int(row), at), run.policies[at].external_owns
            lists, torn = merged_lines(*sides, external_wins=wins, external_owns=owns)
            clash[row, at] = torn
            if torn:
                continue
            values[row] = written_lines(lists, lines)
            write[row, at] = values[row] != state.erp[name].iloc[row]
            x, _, b, e = sides
            old = {
                key: {f: e[key].get(f) if (f, t) in b[key].items() else t for f, t in x[key].items()}
                for key in x
                if key in b and key in e
            }
            spelled[row] = written_lines([old.get(key, dict(line)) for key, line in x.items()], lines)
        batch = replace(batch, records=batch.records.assign(**{name: extension(pa.array(values, TEXT))}))
        base = replace(base, erp=base.erp.assign(**{name: extension(pa.array(spelled, TEXT))}))
    return batch, Merged(write, clash, merged.said), base


def respelled(base: str, erp: str, written: str, held: str, lines: Lines) -> str:
    """The ERP's spelling of B's lines (`base`; so far `erp`) after `written` was written and the ERP holds `held`: a value
    that was written as the external side said it is spelled as it is held now."""
    if lines.key is None:
        return held if written == base else erp
    x, e, w, h = (by_key(text, lines.key) for text in (base, erp, written, held))
    made = []
    for key, line in x.items():
        now, sent, before = dict(h.get(key, {})), dict(w.get(key, {})), dict(e.get(key, line))
        made.append({f: now[f] if f in now and sent.get(f, text) == text else before.get(f) for f, text in line.items()})
    return written_lines(made, lines)


def external_wins(run: Run, state: Sides, row: int, at: int) -> bool | None:
    """Who wins a clash inside a line; None: a person decides."""
    strategy = run.policies[at].strategy
    if strategy is ConflictStrategy.MANUAL:
        return None
    if strategy is ConflictStrategy.LAST_WRITE_WINS:
        return bool(state.external_at[row] > state.erp_at[row, at])
    return strategy is ConflictStrategy.SOURCE_WINS


def line_value(line: Any, path: str) -> Any:
    """What stands at the end of the way into a line; None where the way is not there."""
    for key in path.split("."):
        line = line.get(key) if isinstance(line, dict) else None
    return line


def put_value(line: dict[str, Any], path: str, value: Any) -> None:
    """Set what stands at the end of the way; objects on it are made."""
    *way, last = path.split(".")
    for key in way:
        line = line.setdefault(key, {})
    line[last] = value


def by_key(text: object, key: str) -> dict[str, Line]:
    found = parse_json(text) if isinstance(text, str) else []
    return {str(line[key]): line for line in found}


def own_fields(texts: pa.Array, lines: Lines, fields: Sequence[Field]) -> pa.Array:
    """Lists of lines with these fields of them alone."""
    names = {field.name for field in fields}

    def own(text: str) -> str:
        return written_lines([{n: t for n, t in line.items() if n in names} for line in parse_json(text)], lines)

    return per_unique(texts, own, TEXT)


def foreign_fields(now: str | None, before: str | None, lines: Lines, fields: Sequence[Field]) -> str | None:
    """The lines of `now`, each with those of its fields in `before` that are not among `fields`."""
    if now is None or before is None or lines.key is None:
        return now
    names, was = {field.name for field in fields}, by_key(before, lines.key)
    found = [
        {**{n: t for n, t in was.get(key, {}).items() if n not in names}, **line}
        for key, line in by_key(now, lines.key).items()
    ]
    return written_lines(found, lines)


def edited_cells(run: Run, texts: pd.DataFrame, base: pd.DataFrame) -> Bools:
    """Cells that are not as B has them. In child lines only the fields count that B knows."""
    out = differs(texts, base)
    for name, (lines, _) in run.lines.items():
        at = texts.columns.get_loc(name)
        for row in np.flatnonzero(out[:, at]) if lines.key else ():
            now, was = (by_key(side[name].iloc[row], str(lines.key)) for side in (texts, base))
            out[row, at] = now.keys() != was.keys() or any(_line_edited(line, was[key]) for key, line in now.items())
    return out


def _line_edited(line: Line, base: Line) -> bool:
    return any(line[name] != base[name] for name in line.keys() & base.keys())


def _met(new: str | None, old: str | None, *, external_owns: bool, outward: bool) -> str | None:
    """A first meeting: the owner's value, but a null overwrites nothing on the side that is written to."""
    owned, written = new if external_owns else old, new if outward else old
    return written if owned is None else owned


def merged_lines(
    x: dict[str, Line],
    e: dict[str, Line],
    b: dict[str, Line],
    b_erp: dict[str, Line],
    *,
    external_wins: bool | None,
    external_owns: bool,
    outward: bool = False,
) -> tuple[list[dict[str, Any]], bool]:
    """The merged lines, and whether a clash is left that nobody may decide."""
    made, torn = [], False
    for key in dict.fromkeys([*x, *e]):
        ours, theirs, base, spelled = e.get(key), x.get(key), b.get(key), b_erp.get(key)
        if base is not None and (ours is None or theirs is None):
            kept, untouched = (ours, spelled) if theirs is None else (theirs, base)
            if untouched is not None and not _line_edited(kept or {}, untouched):
                continue  # deleted on one side, untouched on the other
            torn |= external_wins is None
            if (theirs is not None) == bool(external_wins):
                made.append(dict(kept or {}))
            continue
        if ours is None or theirs is None:
            made.append(dict(ours or theirs or {}))
            continue
        line = {}
        for name in theirs:
            new, old, was = theirs[name], ours.get(name), (base or {}).get(name)
            if base is not None and name not in base:
                line[name] = _met(new, old, external_owns=external_owns, outward=outward)
                continue
            both = new != old and (base is None or (new != was and old != (spelled or {}).get(name)))
            torn |= both and external_wins is None
            line[name] = new if (both and external_wins) or (not both and new != was) else old
        made.append(line)
    return made, torn
