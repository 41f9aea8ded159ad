"""SOQL text → a Query, in Salesforce's words when it is wrong."""

import re
from dataclasses import dataclass
from datetime import UTC
from functools import cache
from importlib import resources
from typing import Any, Literal, TypeAlias

from lark import Lark, Token, Transformer, UnexpectedInput
from lark.exceptions import VisitError

from connector_resources.sandbox.salesforce.records import instant_of, instant_text
from connector_resources.sandbox.salesforce.refusal import Refusal


@dataclass(frozen=True)
class Value:
    """A literal. `value`: text in its stored form, a number, a bool, None, or the name of a period ("LAST_N_DAYS:3")."""

    kind: Literal["string", "number", "datetime", "date", "null", "boolean", "period"]
    value: Any


@dataclass(frozen=True)
class Comparison:
    path: Token
    operator: str
    value: Value


@dataclass(frozen=True)
class Membership:
    path: Token
    choices: "tuple[Value, ...] | Query"
    negated: bool


@dataclass(frozen=True)
class Negation:
    term: "Condition"


@dataclass(frozen=True)
class Junction:
    every: bool
    terms: "tuple[Condition, ...]"


Condition: TypeAlias = Comparison | Membership | Negation | Junction


@dataclass(frozen=True)
class Selected:
    """An item of the select list: a field's path, FIELDS(path), function(path), or a query over children (`children`)."""

    path: Token | None
    function: str | None = None
    alias: str | None = None
    children: "Query | None" = None


@dataclass(frozen=True)
class Sort:
    path: Token
    descending: bool
    nulls_last: bool


@dataclass(frozen=True)
class Query:
    text: str
    items: tuple[Selected, ...]
    sobject: Token
    where: Condition | None = None
    order: tuple[Sort, ...] = ()
    limit: int | None = None
    offset: int = 0


@cache
def _grammar() -> Lark:
    text = (resources.files(__package__ or "") / "soql.lark").read_text(encoding="utf-8")
    return Lark(text, start="query", parser="lalr", maybe_placeholders=False)


def parse(text: str) -> Query:
    """Raises Refusal 400 MALFORMED_QUERY that shows the place."""
    try:
        tree = _grammar().parse(text)
    except UnexpectedInput as problem:
        at = problem.pos_in_stream if problem.pos_in_stream is not None else len(text)
        token = getattr(problem, "token", None)
        if token is not None and token.type == "$END":
            raise refusal(text, len(text), "MALFORMED_QUERY", "unexpected token: '<EOF>'") from None
        word = str(token) if token is not None else text[at : at + 1]
        raise refusal(text, at, "MALFORMED_QUERY", f"unexpected token: '{word}'") from None
    try:
        found: Query = _Builder(text).transform(tree)
    except VisitError as wrapped:
        raise wrapped.orig_exc from None
    return found


def refusal(text: str, at: int, code: str, message: str) -> Refusal:
    """A refusal that shows the part of the query around the place, as Salesforce does."""
    row = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    start = max(0, at - 40)
    excerpt = text[start : at + 40].replace("\n", " ")
    return Refusal(400, code, f"\n{excerpt}\n{' ' * (at - start)}^\nERROR at Row:{row}:Column:{column}\n{message}")


_STRING = re.compile(r"'(?:\\.|[^'\\])*'", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


def unescaped(quoted: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1].lower(), match[1]), quoted[1:-1], flags=re.DOTALL)


class _Builder(Transformer[Token, Any]):
    """Tree → Query. Method names are the grammar's rule and terminal names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    # Values. LIKE needs the raw text of a string, because \% differs from %: it is unescaped in two steps.

    def STRING(self, token: Token) -> Value:
        return Value("string", str(token))

    def STRINGS(self, token: Token) -> list[Value]:
        return [Value("string", one[0]) for one in _STRING.finditer(token)]

    def NUMBER(self, token: Token) -> Value:
        return Value("number", float(token) if re.search("[.eE]", token) else int(token))

    def DATETIME(self, token: Token) -> Value:
        try:
            return Value("datetime", instant_text(instant_of(token.upper()).astimezone(UTC)))
        except ValueError:
            raise refusal(self.text, token.start_pos or 0, "MALFORMED_QUERY", f"Invalid date value: {token}") from None

    def DATE(self, token: Token) -> Value:
        return Value("date", str(token))

    def NULL(self, _: Token) -> Value:
        return Value("null", None)

    def BOOLEAN(self, token: Token) -> Value:
        return Value("boolean", token.lower() == "true")

    def PERIOD(self, token: Token) -> Value:
        return Value("period", token.upper())

    # Conditions

    def comparison(self, parts: list[Any]) -> Comparison:
        path, operator, value = parts
        operator = operator.upper().replace("<>", "!=")
        if value.kind == "string" and operator != "LIKE":
            value = Value("string", unescaped(value.value))
        return Comparison(path, operator, value)

    def member(self, parts: list[Any], negated: bool = False) -> Membership:
        path, *choices = parts
        if isinstance(choices[0], Query):
            return Membership(path, choices[0], negated)
        flat = (one for choice in choices for one in (choice if isinstance(choice, list) else [choice]))
        plain = (Value("string", unescaped(v.value)) if v.kind == "string" else v for v in flat)
        return Membership(path, tuple(plain), negated)

    def not_member(self, parts: list[Any]) -> Membership:
        return self.member(parts, negated=True)

    def negation(self, parts: list[Any]) -> Negation:
        return Negation(parts[0])

    def conjunction(self, parts: list[Any]) -> Junction:
        return Junction(True, tuple(parts))

    def disjunction(self, parts: list[Any]) -> Junction:
        return Junction(False, tuple(parts))

    # The query

    def field(self, parts: list[Token]) -> Selected:
        return Selected(parts[0])

    def fields(self, parts: list[Token]) -> Selected:
        return Selected(parts[1], "FIELDS")

    def aggregate(self, parts: list[Token]) -> Selected:
        function, *names = parts
        empty = re.match(r"\s*\(\s*\)", self.text[function.end_pos or 0 :]) is not None
        path = None if empty or not names else names.pop(0)
        return Selected(path, function.upper(), str(names[0]) if names else None)

    def children(self, parts: list[Query]) -> Selected:
        return Selected(None, "CHILDREN", children=parts[0])

    def sort(self, parts: list[Token]) -> Sort:
        words = " ".join(parts[1:]).upper().split()
        return Sort(parts[0], "DESC" in words, "LAST" in words)

    def where(self, parts: list[Any]) -> tuple[str, Any]:
        return "where", parts[0]

    def order(self, parts: list[Any]) -> tuple[str, Any]:
        return "order", tuple(parts)

    def limit(self, parts: list[Value]) -> tuple[str, Any]:
        return "limit", int(parts[0].value)

    def offset(self, parts: list[Value]) -> tuple[str, Any]:
        return "offset", int(parts[0].value)

    def query(self, parts: list[Any]) -> Query:
        items = tuple(part for part in parts if isinstance(part, Selected))
        sobject, *clauses = parts[len(items) :]
        return Query(self.text, items, sobject, **dict(clauses))
