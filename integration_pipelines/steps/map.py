"""Step three, map: a batch of external records becomes a batch with the ERP's fields.

The law for what a target's field is, in this order:
1. the record is deleted, or the rule's `when` does not hold: absent;
2. a source that the rule reads is absent: absent, unless `default_on` says `absent` or `both`;
3. the chain's result; where that is null, the `default` (unless `default_on: absent`).
A record for which a rule fails is rejected with the first rule that failed; nothing of its values gets into the message.
"""

import json
from collections.abc import Mapping as Table
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.contract import Entity
from connector_resources.frames import UNSTORABLE, arrow_array, arrow_type, unstorable
from integration_pipelines.canonical import TEXT, array, extension, frame, json_text, parse_json
from integration_pipelines.model import Batch, absence_frame
from integration_pipelines.steps.lines import put_value
from integration_pipelines.steps.mapping import CompiledRule, Mapping
from integration_pipelines.steps.transforms import Scope, Step, as_text, fit

Bools: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"
_MISSING = object()
_UNREADABLE = object()


def apply(mapping: Mapping, batch: Batch) -> Batch:
    """The batch with the mapping's fields: same index and marks, columns of the target fields' Arrow types (text where a field
    holds a parent's external id), `absent` beside them (None when all is there), failures in `rejected`."""
    records = _Records(mapping, batch)
    faults = _Faults(len(batch))
    inside = np.ones(len(batch), dtype=bool)
    for step in mapping.conditions:
        inside &= _passes(step, records, len(batch))
    live = ~batch.deleted & inside
    columns: dict[str, pa.Array] = {}
    absent: dict[str, Bools] = {}
    for rule in mapping.rules:
        columns[rule.rule.target], absent[rule.rule.target] = _evaluate(rule, records, live, faults)
    kept = faults.reject(batch)
    mapped = Batch(
        frame(columns, batch.records.index),
        batch.marks.assign(outside=extension(pa.array(~inside & ~batch.deleted))) if mapping.conditions else batch.marks,
        absence_frame(absent, batch.records.index) if any(mask.any() for mask in absent.values()) else None,
    ).take(faults.first < 0)
    return Batch(mapped.records, mapped.marks, mapped.absent, kept.rejected)


def inside(mapping: Mapping, batch: Batch) -> Bools:
    """Where the mapping's conditions hold, as far as the batch has columns for them."""
    records, held = _Records(mapping, batch), np.ones(len(batch), dtype=bool)
    for step in mapping.conditions:
        if mapping.paths[step.sources[0]].column in batch.records.columns:
            held &= _passes(step, records, len(batch))
    return held


class _Columns(Scope, Protocol):
    """The source columns as the rules see them: those of a batch, or those of the child lines in it."""

    def values(self, source: str) -> pa.Array: ...

    def absent(self, source: str) -> Bools: ...

    def unreadable(self, source: str) -> Bools: ...


@dataclass
class _Faults:
    """Which records failed, and at which rule first."""

    count: int
    reasons: list[tuple[str, str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.first = np.full(self.count, -1)

    def add(self, failed: Bools, rule: CompiledRule, what: str, reason: str) -> None:
        """`what` is the transform, or the word for what else went wrong; `reason` completes a sentence and quotes no value."""
        new = failed & (self.first < 0)
        if new.any():
            one = rule.rule
            way = "correct it at the source, or change the rule"
            subject = f"What {one.source or 'the constant'} holds"
            details = {"source": one.source}
            if one.expression:
                subject = "A field of the expression" if what == "source" else "What the expression gives"
                details = {"expression": one.expression.text}
            message = f"{subject} {reason}, so {one.target} cannot be set: {way}."
            self.first[new] = len(self.reasons)
            self.reasons.append((one.target, f"{one.number}: {what}", message, json.dumps(details)))

    def reject(self, batch: Batch) -> Batch:
        bad = self.first >= 0
        chosen = [self.reasons[at] for at in self.first[bad]]
        fields, rules, messages, details = ([c[at] for c in chosen] for at in range(4))
        return batch.reject(bad, error_type="mapping", message=messages, field=fields, rule=rules, details=details)


def _evaluate(compiled: CompiledRule, columns: _Columns, live: Bools, faults: _Faults) -> tuple[pa.Array, Bools]:
    """One rule over all records: the column, and where it is absent."""
    rule, count = compiled.rule, len(live)
    applies = live & _holds(compiled, columns, live)
    silent = np.zeros(count, dtype=bool)
    for source in rule.sources:
        silent |= columns.absent(source)
    heard = applies & ~silent
    for source in rule.sources:
        faults.add(heard & columns.unreadable(source), compiled, "source", "is not what its description promises")
        faults.add(heard & unstorable(columns.values(source)), compiled, "source", UNSTORABLE)
    if compiled.constant is not None:
        values = pa.repeat(compiled.constant[0], count)
    elif rule.lines:
        values = _lines(compiled, columns, heard, faults)
    else:
        values = _chain(compiled, columns, heard, faults)
    empty = ~_bools(pc.is_valid(values))
    if compiled.default is not None:
        filled = (heard & empty & (rule.default_on != "absent")) | (applies & silent & (rule.default_on != "null"))
        values = pc.if_else(pa.array(filled), compiled.default[0], values)
        silent, empty = silent & ~filled, empty & ~filled
    absent = ~applies | silent
    if rule.required:
        faults.add(empty & ~absent, compiled, "required", "is empty, and this rule requires a value")
    if absent.any():
        values = pc.if_else(pa.array(absent), pa.scalar(None, values.type), values)
    return values, absent


def _holds(compiled: CompiledRule, columns: _Columns, live: Bools) -> Bools:
    step = compiled.rule.when
    if step is None:
        return np.ones(len(live), dtype=bool)
    return _passes(step, columns, len(live))


def _passes(step: Step, columns: _Columns, count: int) -> Bools:
    """Where a condition holds; it does not where its source is absent."""
    holds, _ = step.perform(pa.nulls(count, TEXT), columns)
    return _bools(holds) & ~columns.absent(step.sources[0]) & ~columns.unreadable(step.sources[0])


def _chain(compiled: CompiledRule, columns: _Columns, heard: Bools, faults: _Faults) -> pa.Array:
    rule = compiled.rule
    if compiled.calculation:
        given = {source: columns.values(source) for source in compiled.calculation.types}
        values, failures = compiled.calculation.perform(given, heard)
        for reason, mask in failures.items():
            faults.add(mask, compiled, "expression", reason)
    else:
        values = columns.values(str(rule.source))
    for step in rule.chain:
        values, failed = step.perform(values, columns)
        faults.add(_bools(failed) & heard, compiled, step.transform.name, step.transform.reason or "is of another type")
    if compiled.type is None:
        return values
    fitting = fit(values, compiled.type)
    lost = _bools(pc.and_(pc.is_valid(values), pc.is_null(fitting)))
    faults.add(lost & heard, compiled, "type", "does not fit the field's type without loss")
    return fitting


def _lines(compiled: CompiledRule, columns: _Columns, heard: Bools, faults: _Faults) -> pa.Array:
    """Child lines, all of the batch as one frame: one JSON text a record, the list of what its lines became."""
    texts = columns.values(str(compiled.rule.source))
    lists = [None if text is None or not ok else _parsed(text) for text, ok in zip(texts.to_pylist(), heard, strict=True)]
    wrong = np.array(
        [x is not None and not (isinstance(x, list) and all(isinstance(y, dict) for y in x)) for x in lists], bool
    )
    faults.add(wrong, compiled, "lines", "is not a list of lines")
    owners = np.array([at for at, x in enumerate(lists) if x and not wrong[at] for _ in x], dtype=int)
    inner = _Lines([line for at, x in enumerate(lists) if x and not wrong[at] for line in x], columns.tables, compiled.line)
    within = _Faults(len(owners))
    mapped: list[dict[str, Any]] = [{} for _ in owners]
    for rule in compiled.lines:
        values, absent = _evaluate(rule, inner, np.ones(len(owners), dtype=bool), within)
        for line, value, missing in zip(mapped, _json_values(values), absent, strict=True):
            if not missing:
                put_value(line, rule.rule.target, value)
    for at, (target, number, message, details) in enumerate(within.reasons):
        hit = np.zeros(faults.count, dtype=bool)
        hit[owners[within.first == at]] = True
        new = hit & (faults.first < 0)
        faults.first[new] = len(faults.reasons)
        faults.reasons.append((f"{compiled.rule.target}.{target}", number, message, details))
    grouped: list[list[dict[str, Any]] | None] = [None if x is None or wrong[at] else [] for at, x in enumerate(lists)]
    for owner, line in zip(owners, mapped, strict=True):
        grouped[owner].append(line)
    return pa.array([None if group is None else json_text(group) for group in grouped], TEXT)


def _json_values(values: pa.Array) -> list[Any]:
    """Numbers and truth values as JSON has them, dates and instants as canonical text."""
    if pa.types.is_decimal(values.type) or pa.types.is_boolean(values.type) or pa.types.is_integer(values.type):
        plain: list[Any] = values.to_pylist()
        return plain
    texts: list[Any] = as_text(values).to_pylist()
    return texts


class _Documents:
    """JSON values, each different one parsed once, to be walked into."""

    def __init__(self, parsed: Sequence[Any], at: pa.Array) -> None:
        self.parsed = parsed
        self.at = at

    def walk(self, keys: tuple[str, ...]) -> tuple[pa.Array, Bools, Bools]:
        """The texts at the end of the way, where the way was not there, and where the document is not JSON. Null on the way
        is null at its end; a key that is missing is absent."""
        found = [_walk(document, keys) for document in self.parsed]
        missing = pa.array([value is _MISSING for value in found], pa.bool_())
        broken = pa.array([value is _UNREADABLE for value in found], pa.bool_())
        texts = arrow_array([None if value is _MISSING or value is _UNREADABLE else _leaf(value) for value in found], TEXT)
        return texts.take(self.at), _bools(missing.take(self.at)), _bools(broken.take(self.at))


def _parsed(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return _UNREADABLE


def _walk(document: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        if document is None or document is _UNREADABLE:
            break
        if isinstance(document, dict):
            document = document.get(key, _MISSING)
        elif isinstance(document, list) and key.isascii() and key.isdigit() and int(key[:6]) < len(document):
            document = document[int(key[:6])]
        else:
            return _MISSING
        if document is _MISSING:
            break
    return document


def _leaf(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Decimal) and abs(value.adjusted()) < 40:
        return format(value, "f")
    return json_text(value)


@dataclass
class _Records:
    """The columns of a batch."""

    mapping: Mapping
    batch: Batch

    def __post_init__(self) -> None:
        self.tables: Table[str, Table[str, str]] = self.mapping.definition.lookups
        self.documents: dict[str, _Documents] = {}
        self.found: dict[str, tuple[pa.Array, Bools, Bools]] = {}

    def look(self, source: str) -> tuple[pa.Array, Bools, Bools]:
        if source not in self.found:
            self.found[source] = self._look(source)
        return self.found[source]

    def _look(self, source: str) -> tuple[pa.Array, Bools, Bools]:
        path, count = self.mapping.paths[source], len(self.batch)
        if path.column not in self.batch.records.columns:  # the other side did not say
            return pa.nulls(count, TEXT), np.ones(count, dtype=bool), np.zeros(count, dtype=bool)
        absent = self.batch.absence(path.column)
        values = array(self.batch.records[path.column])
        if not path.keys:
            return values, absent, np.zeros(count, dtype=bool)
        if path.column not in self.documents:
            encoded = values.dictionary_encode()
            parsed = [_parsed(text) for text in encoded.dictionary.to_pylist()]
            self.documents[path.column] = _Documents(parsed, encoded.indices)
        texts, missing, broken = self.documents[path.column].walk(path.keys)
        return texts, absent | missing, broken & ~absent

    def values(self, source: str) -> pa.Array:
        return self.look(source)[0]

    def text(self, source: str) -> pa.Array:
        return as_text(self.look(source)[0])

    def absent(self, source: str) -> Bools:
        return self.look(source)[1]

    def unreadable(self, source: str) -> Bools:
        return self.look(source)[2]


class _Lines:
    """The columns of child lines: every source is a way into the line. The ERP's lines hold canonical texts; `described` gives
    them their types back."""

    def __init__(
        self, lines: Sequence[dict[str, Any]], tables: Table[str, Table[str, str]], described: Entity | None = None
    ) -> None:
        self.tables = tables
        self.described = described
        self.documents = _Documents(lines, pa.array(range(len(lines)), pa.int64()))
        self.found: dict[str, tuple[pa.Array, Bools, Bools]] = {}

    def look(self, source: str) -> tuple[pa.Array, Bools, Bools]:
        if source not in self.found:
            texts, absent, broken = self.documents.walk(tuple(source.split(".")))
            field = self.described.field(source) if self.described else None
            if field:
                values = fit(texts, arrow_type(field))
                broken |= _bools(pc.and_(pc.is_valid(texts), pc.is_null(values)))
                texts = values
            self.found[source] = texts, absent, broken
        return self.found[source]

    def values(self, source: str) -> pa.Array:
        return self.look(source)[0]

    def text(self, source: str) -> pa.Array:
        return as_text(self.look(source)[0])

    def absent(self, source: str) -> Bools:
        return self.look(source)[1]

    def unreadable(self, source: str) -> Bools:
        return self.look(source)[2]


def _bools(mask: pa.Array) -> Bools:
    return np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), dtype=bool)
