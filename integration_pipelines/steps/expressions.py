"""Expressions of rules: one SQL value over the fields of one record, checked before DuckDB sees a record.

The text is parsed within the very statement that is run later, so what was checked is what runs. Of its syntax tree,
everything that is not on a list is refused: classes of nodes and their keys, functions, types. What is left can read the
columns it names and nothing else, and the size of every text on the way is bounded by `growth`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from connector_resources import lined_yaml
from connector_resources.errors import ConfigurationError
from integration_pipelines.steps.calculator import Calculator
from integration_pipelines.steps.expression_functions import FUNCTIONS, READ, SMALL, TYPES, Growth, joined, longest

LONGEST = 2_000  # characters; DuckDB's parser takes seconds for a thousand brackets that nobody closes
DEEPEST = 100
MOST_BRACKETS = 200
MOST_TIMES = 1_000
MOST_PLUS = 32_000  # bytes
MOST_PATTERN = 1_000  # states of a regular expression, roughly: each may cost one step for each character

_FRAME = "SELECT TRY([({}\n)]) FROM r"  # a list of one value, or null where the expression has failed
_EVERYWHERE = {"class", "type", "query_location", "query_location_length"}
_KEYS: Mapping[str, set[str]] = MappingProxyType(
    {
        "COLUMN_REF": {"column_names"},
        "CONSTANT": {"literal"},
        "FUNCTION": {"function_name", "order_bys", "is_operator", "arguments", "qualified_name"},
        "CASE": {"case_checks", "else_expr"},
        "CAST": {"child", "type_expr", "try_cast"},
        "TYPE": {"type_name", "children", "qualified_name"},
        "COMPARISON": {"left", "right"},
        "CONJUNCTION": {"children"},
        "OPERATOR": {"children"},
        "BETWEEN": {"input", "lower", "upper"},
    }
)
_OPERATORS = {
    *("OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "OPERATOR_COALESCE", "COMPARE_IN", "COMPARE_NOT_IN"),
}
_LITERALS = {"STRING", "INTEGER", "NUMERIC", "BOOLEAN", "NULL_LITERAL"}
_CHOOSING = {"if": 1, "greatest": 0, "least": 0}  # functions that give one of their arguments, from this one on
_WORDS = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function",
    "STAR": "'*'",
    "LAMBDA": "a lambda",
    "PARAMETER": "a parameter",
    "COLLATE": "'collate'",
    "POSITIONAL_REFERENCE": "a column's number",
    "OPERATOR_TRY": "'try' (write try_cast)",
    "ARRAY_EXTRACT": "'[…]' (write substr)",
    "ARRAY_SLICE": "'[…]' (write substr)",
}


@dataclass(frozen=True)
class Expression:
    """A checked expression. `sources`: the fields it reads, in order. `growth`: the most bytes that all texts read and made on
    the way can have together. `choices`: what chooses between values (coalesce, CASE), each as its name and a statement that
    selects it and then those values."""

    text: str
    sources: tuple[str, ...]
    growth: Growth
    choices: tuple[tuple[str, str], ...]

    @property
    def statement(self) -> str:
        """What is run over a relation `r` of the sources: one list of one value for each record, null where it failed."""
        return _FRAME.format(self.text)


def parse(text: str, calculator: Calculator) -> Expression:
    """Check an expression. Raises ConfigurationError saying what is not allowed, and what to write instead."""
    if not text.strip():
        raise ConfigurationError("the expression is empty; write one SQL value over the fields of the record")
    if len(text) > LONGEST:
        raise ConfigurationError(f"an expression has at most {LONGEST} characters; split it into rules, or use transforms")
    if sum(map(text.count, "([{")) > MOST_BRACKETS:
        raise ConfigurationError(f"an expression has at most {MOST_BRACKETS} brackets; split it into rules, or use transforms")
    tree, empty = (calculator.tree(_FRAME.format(one)) for one in (text, "NULL"))
    inside, frame = _unwrapped(tree)
    if inside is None or frame != _unwrapped(empty)[1]:
        raise ConfigurationError("this is not one value; write one SQL expression, without 'select' and without ';'")
    check = _Check(calculator)
    check.size(inside, 0)
    if not check.sources:
        raise ConfigurationError("the expression reads no field; write a 'constant' instead")
    if check.made.times > MOST_TIMES or check.made.plus > MOST_PLUS:
        raise ConfigurationError("the expression can make a text many times as long as what it reads; replace or join less")
    folded = {name.lower(): name for name in check.sources}
    if len(folded) < len(check.sources):
        twice = next(name for name in check.sources if folded[name.lower()] != name)
        raise ConfigurationError(f"SQL cannot tell '{twice}' from '{folded[twice.lower()]}'; write the field in one way")
    choices = tuple((name, calculator.written([one, *values])) for name, one, values in check.choices)
    return Expression(text, tuple(check.sources), check.made, choices)


def _unwrapped(tree: Any) -> tuple[Any, Any]:
    """The expression within the frame, taken out, and the frame without places; (None, None) if it is not there alone."""
    try:
        (item,) = tree["statements"][0]["node"]["select_list"]
        (argument,) = item["children"][0]["arguments"]
        return argument.pop("expression"), _placeless(tree)
    except (KeyError, ValueError, IndexError, TypeError):
        return None, None


def _placeless(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _placeless(value) for key, value in node.items() if not key.startswith("query_location")}
    return [_placeless(item) for item in node] if isinstance(node, list) else node


@dataclass
class _Check:
    """One syntax tree while it is walked. Each method takes a node and tells how long a text it can give."""

    calculator: Calculator
    sources: dict[str, None] = field(default_factory=dict)
    made: Growth = READ
    choices: list[tuple[str, Any, list[Any]]] = field(default_factory=list)

    def size(self, node: Any, depth: int) -> Growth:
        kind = node["class"]
        ways: dict[str, Callable[[Any, int], Growth]] = {
            "COLUMN_REF": self.column,
            "CONSTANT": self.constant,
            "FUNCTION": self.function,
            "CASE": self.case,
            "CAST": self.cast,
            "OPERATOR": self.operator,
        }
        if depth > DEEPEST:
            raise ConfigurationError(f"the expression is nested more than {DEEPEST} deep; use concat, or write it more simply")
        self.known(node, node["type"] if kind == "OPERATOR" and node["type"] not in _OPERATORS else kind)
        if kind in ways:
            return ways[kind](node, depth + 1)
        for key in ("left", "right", "children", "input", "lower", "upper"):
            self.sizes(node.get(key, []), depth + 1)
        return SMALL

    def sizes(self, nodes: Any, depth: int) -> list[Growth]:
        return [self.size(node, depth) for node in (nodes if isinstance(nodes, list) else [nodes])]

    def known(self, node: Any, kind: str) -> None:
        extra = set(node) - _EVERYWHERE - _KEYS.get(node["class"], set())
        if kind not in _KEYS or extra:
            what = _WORDS.get(kind) or " ".join([kind.replace("_", " ").lower(), *(f"with '{key}'" for key in sorted(extra))])
            raise ConfigurationError(f"{what} is not allowed; an expression sees the fields of one record and nothing else")

    def column(self, node: Any, _: int) -> Growth:
        names = node["column_names"]
        if len(names) > 1:
            dotted = ".".join(names)
            raise ConfigurationError(f'write a way into a field in double quotes: "{dotted}", not {dotted}')
        self.sources[names[0]] = None
        return Growth(1, SMALL.plus)

    def constant(self, node: Any, _: int) -> Growth:
        literal = node["literal"]
        if literal["kind"] not in _LITERALS:
            raise ConfigurationError(f"a constant of kind {literal['kind'].lower()} is not allowed; write text or a number")
        return Growth(0, max(SMALL.plus, len(literal.get("text", "").encode())))

    def function(self, node: Any, depth: int) -> Growth:
        name = node["function_name"].lower()
        if name not in FUNCTIONS or node["qualified_name"] != {"path": [node["function_name"]]}:
            called = ".".join(node["qualified_name"]["path"])
            words = [one for one in FUNCTIONS if one.isidentifier()]
            raise ConfigurationError(f"the function '{called}' is not allowed{lined_yaml.suggestion(called, words)}")
        allowed, arguments = FUNCTIONS[name], node.get("arguments", [])
        if set(node["order_bys"]) != {"type"} or any(set(argument) != {"expression"} for argument in arguments):
            raise ConfigurationError(f"'{name}' takes plain arguments, without names or an order")
        if len(arguments) < allowed.least:
            raise ConfigurationError(f"'{name}' needs {allowed.least} arguments")
        nodes = [argument["expression"] for argument in arguments]
        sizes = self.sizes(nodes, depth)
        texts = [_written(one) for one in nodes]
        if None in texts[allowed.fixed]:
            at = ", ".join(str(number + 1) for number in range(len(nodes))[allowed.fixed] if texts[number] is None)
            raise ConfigurationError(f"argument {at} of '{name}' must be written out, as text or a number")
        if allowed.trial:
            self.trial(name, texts[allowed.fixed][0], allowed.trial)
        if allowed.pattern and _states(str(texts[1])) > MOST_PATTERN:
            raise ConfigurationError("the pattern repeats too much; count smaller, or write * or +")
        if name in _CHOOSING:
            self.choices.append((name, node, nodes[_CHOOSING[name] :]))
        return self.make(allowed.size(sizes, texts))

    def trial(self, name: str, text: str | None, statement: str) -> None:
        problem = self.calculator.problem(statement, text)
        if problem:
            raise ConfigurationError(f"'{text}' is nothing that '{name}' understands: {problem}")

    def case(self, node: Any, depth: int) -> Growth:
        for check in node["case_checks"]:
            self.size(check["when_expr"], depth)
        branches = [*(check["then_expr"] for check in node["case_checks"]), node["else_expr"]]
        self.choices.append(("CASE", node, branches))
        return self.make(longest(self.sizes(branches, depth)))

    def cast(self, node: Any, depth: int) -> Growth:
        kind = node["type_expr"]
        self.known(kind, kind["class"])
        name, parameters = kind.get("type_name", "").upper(), kind.get("children", [])
        if name not in TYPES or len(kind["qualified_name"]["path"]) > 1:
            known = "VARCHAR, BIGINT, DECIMAL(18, 2), BOOLEAN, DATE, TIMESTAMP or TIMESTAMPTZ"
            raise ConfigurationError(f"a cast to {name or 'this type'} is not allowed; there is {known}")
        digits = name in ("DECIMAL", "NUMERIC")
        if digits and len(parameters) != 2:
            raise ConfigurationError("say how many digits the decimal has, in all and behind the point: DECIMAL(18, 2)")
        if parameters and not digits:
            raise ConfigurationError(f"{name} takes no length, SQL would not heed it; write left(…, length)")
        self.sizes(parameters, depth)
        return self.make(self.size(node["child"], depth) + SMALL)

    def operator(self, node: Any, depth: int) -> Growth:
        sizes = self.sizes(node["children"], depth)
        if node["type"] != "OPERATOR_COALESCE":
            return self.make(SMALL)
        self.choices.append(("coalesce", node, node["children"]))
        return self.make(longest(sizes))

    def make(self, size: Growth) -> Growth:
        self.made = joined((self.made, size))
        return size


def _written(node: Any) -> str | None:
    """The text of a constant, None for null and for all that is not written out. The tree leaves empty texts out."""
    literal = node.get("literal", {"kind": "NULL_LITERAL"})
    return None if literal["kind"] == "NULL_LITERAL" else literal.get("text", "")


def _states(pattern: str) -> int:
    """About how many states RE2 makes of a pattern: it writes counted repetitions out, those of groups within groups."""
    counts = re.findall(r"(\))?\{(\d+)(?:,(\d*))?\}", pattern)
    states, groups = len(pattern), 1
    for group, least, most in counts:
        times = min(int((most or least)[:5]), MOST_PATTERN + 1)
        states, groups = (states, groups * max(1, times)) if group else (states + times, groups)
    return states * groups
