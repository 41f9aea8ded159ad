"""WHERE: a condition becomes a test of one record.

As in SOQL: text compares without case, '' is null, a comparison with < or > is never true of null, != is.
"""

import operator
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from lark import Token

from connector_resources.sandbox.salesforce import ids
from connector_resources.sandbox.salesforce.org import Org
from connector_resources.sandbox.salesforce.paths import Place, locate
from connector_resources.sandbox.salesforce.periods import period
from connector_resources.sandbox.salesforce.records import Record
from connector_resources.sandbox.salesforce.refusal import Refusal
from connector_resources.sandbox.salesforce.schema import SField, SObjectType
from connector_resources.sandbox.salesforce.soql import (
    Comparison,
    Condition,
    Junction,
    Membership,
    Negation,
    Query,
    Value,
    refusal,
    unescaped,
)

Test: TypeAlias = Callable[[Record], bool]
_ORDERED: dict[str, Callable[[Any, Any], bool]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_KINDS = {
    "int": ("number",),
    "double": ("number",),
    "currency": ("number",),
    "percent": ("number",),
    "boolean": ("boolean",),
    "date": ("date", "period"),
    "datetime": ("datetime", "period"),
}


class Conditions:
    """Compiles the conditions of one query. `inner` gives the values that a semi-join's query selects."""

    def __init__(self, org: Org, kind: SObjectType, text: str, inner: Callable[[Query], set[Any]]) -> None:
        self.org = org
        self.kind = kind
        self.text = text
        self.inner = inner

    def test(self, condition: Condition) -> Test:
        match condition:
            case Negation(term):
                inverted = self.test(term)
                return lambda record: not inverted(record)
            case Junction(every, terms):
                tests = [self.test(term) for term in terms]
                join = all if every else any
                return lambda record: join(test(record) for test in tests)
            case Membership():
                return self._membership(condition)
            case Comparison():
                return self._comparison(condition)

    def candidates(self, condition: Condition | None) -> Iterable[Record]:
        """The records among which those are that pass the test, in the order of their ids: few, where a key is asked for."""
        table = self.org.records[self.kind.name]
        if isinstance(condition, Membership) and not condition.negated and not isinstance(condition.choices, Query):
            place = self.place(condition.path)
            texts = [str(self._comparable(condition.path, place.field, value)) for value in condition.choices]
            if not place.steps and place.field.type == "id":
                return [table[id_] for id_ in sorted(set(texts)) if id_ in table]
            if not place.steps and place.field.external:
                name = place.field.name
                found = {i for text in texts for i in self.org.index.candidates(self.org.records, self.kind.name, name, text)}
                return [table[id_] for id_ in sorted(found) if id_ in table]
        return table.values()

    def place(self, path: Token) -> Place:
        try:
            return locate(self.org, self.kind, path)
        except Refusal as problem:
            raise self._refused(path, problem.code, problem.message) from None

    def _refused(self, token: Token, code: str, message: str) -> Refusal:
        return refusal(self.text, token.start_pos or 0, code, message)

    def _filterable(self, path: Token) -> Place:
        place = self.place(path)
        if not place.field.filterable:
            raise self._refused(path, "INVALID_FIELD", f"field '{path}' can not be filtered in a query call")
        return place

    def _comparable(self, path: Token, field: SField, value: Value) -> Any:
        """The literal in the form in which values of the field compare."""
        wanted = _KINDS.get(field.type, ("string",))
        if value.kind == "null":
            return None
        if value.kind not in wanted:
            quotes = "should be" if wanted == ("string",) else "should not be"
            word = {"string": "string", "number": "double"}.get(wanted[0], field.type)
            message = f"value of filter criterion for field '{path}' must be of type {word} and {quotes} enclosed in quotes"
            raise self._refused(path, "INVALID_FIELD", message)
        if field.type in ("id", "reference") and value.value:
            full = ids.normal(value.value)
            if full is None:
                raise self._refused(path, "INVALID_QUERY_FILTER_OPERATOR", f"invalid ID field: {value.value}")
            return full
        return value.value.casefold() or None if value.kind == "string" else value.value

    def _comparison(self, found: Comparison) -> Test:
        place = self._filterable(found.path)
        read = comparing(place, self.org)
        if found.operator == "LIKE":
            return self._like(found, place)
        if found.value.kind == "period" and place.field.type in ("date", "datetime"):
            return self._during(found, place.field, read)
        value = self._comparable(found.path, place.field, found.value)
        if found.operator in ("=", "!="):
            wanted = found.operator == "="
            return lambda record: (read(record) == value) is wanted
        compare = _ORDERED[found.operator]
        if value is None or place.field.type == "boolean":
            raise self._refused(found.path, "INVALID_QUERY_FILTER_OPERATOR", f"invalid operator on field {found.path}")

        def test(record: Record) -> bool:
            actual = read(record)
            return actual is not None and compare(actual, value)

        return test

    def _like(self, found: Comparison, place: Place) -> Test:
        if found.value.kind != "string" or place.field.type in (*_KINDS, "id", "reference"):
            raise self._refused(found.path, "INVALID_QUERY_FILTER_OPERATOR", f"invalid operator on field {found.path}")
        pattern = re.compile(like_pattern(found.value.value), re.IGNORECASE | re.DOTALL)
        read = place.reader(self.org.records)
        return lambda record: pattern.fullmatch(read(record) or "") is not None

    def _during(self, found: Comparison, field: SField, read: Callable[[Record], Any]) -> Test:
        days = period(found.value.value, self.org.now().date())
        if days is None:
            raise self._refused(found.path, "MALFORMED_QUERY", f"unexpected token: '{found.value.value}'")
        clock = "T00:00:00.000+0000" if field.type == "datetime" else ""
        first, end = (day.isoformat() + clock for day in days)
        tests: dict[str, Callable[[str], bool]] = {
            "=": lambda value: first <= value < end,
            "!=": lambda value: not first <= value < end,
            "<": lambda value: value < first,
            "<=": lambda value: value < end,
            ">": lambda value: value >= end,
            ">=": lambda value: value >= first,
        }
        test, of_null = tests[found.operator], found.operator == "!="
        return lambda record: of_null if (value := read(record)) is None else test(value)

    def _membership(self, found: Membership) -> Test:
        place = self._filterable(found.path)
        read, wanted = comparing(place, self.org), not found.negated
        if isinstance(found.choices, Query):
            choices = self.inner(found.choices)
        else:
            choices = {self._comparable(found.path, place.field, value) for value in found.choices}
        return lambda record: (read(record) in choices) is wanted


def comparing(place: Place, org: Org) -> Callable[[Record], Any]:
    """Record → the field's value in the form in which it is compared and sorted: text without case."""
    read = place.reader(org.records)
    if place.field.type in (*_KINDS, "id", "reference"):
        return read
    return lambda record: value.casefold() if isinstance(value := read(record), str) else value


def like_pattern(quoted: str) -> str:
    """A LIKE literal, quotes and escapes included, as a regular expression: % any text, _ one character, \\% itself."""
    pattern = ""
    for part in re.findall(r"\\.|[^\\]", quoted[1:-1], flags=re.DOTALL):
        pattern += {"%": ".*", "_": "."}.get(part) or re.escape(unescaped(f"'{part}'"))
    return pattern
