"""What a transform is: a named function from a column to a column, the arguments it takes, and when it has failed.

A transform's arguments are the keyword-only parameters of its Python function; their annotations are what a mapping may write
there. Values travel as Arrow arrays and never as floats; a decimal made by a transform is decimal128(38, 18): up to 20 digits
before the point and 18 after it, exactly.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, NewType, Protocol, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.compute as pc

from connector_resources import lined_yaml
from connector_resources.contract import FieldType
from connector_resources.errors import ConfigurationError
from integration_pipelines.canonical import TEXT, per_unique, rescaled, text_of

Source = NewType("Source", str)  # an argument that names a source field

SCALE = 18
DECIMAL = pa.decimal128(38, SCALE)
INSTANT = pa.timestamp("us", "UTC")
EXACT = Context(prec=120, rounding=ROUND_HALF_EVEN)
ON_ERROR = ("reject", "null", "keep")


class Scope(Protocol):
    """What a transform sees beside its own column."""

    @property
    def tables(self) -> Mapping[str, Mapping[str, str]]:
        """The lookup tables of the mapping."""
        ...

    def text(self, source: str) -> pa.Array:
        """Another source field of the same records, as canonical text."""
        ...


@dataclass(frozen=True)
class Tables:
    """A scope without records: to try a chain's arguments, and to normalise a match key."""

    tables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def text(self, source: str) -> pa.Array:  # noqa: ARG002 - no records, so each field is empty
        return pa.array([], TEXT)


@dataclass(frozen=True)
class Shape:
    """The type of a column on its way: kind None means that nobody describes it (a value inside JSON, a field of a parent)."""

    kind: FieldType | None
    scale: int = 0


@dataclass(frozen=True)
class Transform:
    """`takes`: kinds it accepts, () for all. `gives`: the kind of its result, None for the kind that came in.
    `reason`: it can fail, a null where there was a value is a failure, and this says why. `reversible`: it only tidies, so
    the other direction may write the value as it stands."""

    name: str
    run: Callable[..., pa.Array]
    takes: tuple[FieldType, ...]
    gives: FieldType | None
    reason: str | None
    reversible: bool

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """By the name that a mapping uses: `in_` is written `in`."""
        found = inspect.signature(self.run).parameters.values()
        return {p.name.rstrip("_"): p for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY}


def transform(
    *takes: FieldType, gives: FieldType | None = None, reason: str | None = None, reversible: bool = False
) -> Callable[[Callable[..., pa.Array]], Transform]:
    """Make a transform of a function `(values, scope, *, arguments…) -> values`."""
    return lambda run: Transform(run.__name__.rstrip("_"), run, takes, gives, reason, reversible)


@dataclass(frozen=True)
class Step:
    """A transform with its arguments: one link of a chain."""

    transform: Transform
    arguments: Mapping[str, Any]
    on_error: str = "reject"

    @property
    def sources(self) -> tuple[str, ...]:
        """Source fields that the arguments name."""
        found: list[str] = []
        for name, parameter in self.transform.parameters.items():
            value = self.arguments.get(name)
            if value is not None and _names_source(parameter.annotation):
                found += [value] if isinstance(value, str) else value
        return tuple(found)

    def shape(self, before: Shape) -> Shape:
        """The shape of the result. Raises ConfigurationError when such a column is not accepted."""
        takes, gives = self.transform.takes, self.transform.gives
        if takes and before.kind not in (None, *takes):
            kinds = " or ".join(kind.value for kind in takes)
            came = before.kind.value if before.kind else "unknown"
            raise ConfigurationError(f"'{self.transform.name}' takes {kinds}, and here comes {came}; convert it before this")
        kind = gives or before.kind or (takes[0] if takes else None)
        if self.on_error == "keep" and kind is not before.kind and before.kind is not None:
            raise ConfigurationError("'on_error: keep' needs a transform that keeps the type; say 'null' or 'reject'")
        return Shape(kind, before.scale if kind is before.kind else 0)

    def perform(self, values: pa.Array, scope: Scope) -> tuple[pa.Array, pa.Array]:
        """The transformed column, and a mask of the records that failed and are to be rejected."""
        accepted = values
        if self.transform.takes and kind_of(values.type) not in self.transform.takes:
            accepted = fit(values, _ARROW[self.transform.takes[0]])
        arguments = {self.transform.parameters[name].name: value for name, value in self.arguments.items()}
        result = self.transform.run(accepted, scope, **arguments)
        failed = pc.and_(pc.is_valid(values), pc.is_null(result if self.transform.reason else accepted))
        if self.on_error == "keep":  # what is not even of the type cannot be kept
            return pc.if_else(failed, accepted, result), pc.and_(failed, pc.is_null(accepted))
        return result, failed if self.on_error == "reject" else pa.repeat(pa.scalar(False), len(values))


def parse_step(raw: Any, known: Mapping[str, Transform], tables: Mapping[str, Mapping[str, str]]) -> Step:
    """A step from `trim`, `{truncate: 40}` or `{truncate: {length: 40, on_error: keep}}`.

    Raises ConfigurationError for an unknown name, an argument that is missing, unknown or of the wrong type, a time zone or a
    pattern that does not exist.
    """
    name, given = (raw, {}) if isinstance(raw, str) else next(iter(raw.items())) if _single(raw) else (None, None)
    if name is None:
        raise ConfigurationError("a transform is a name, or one name with its arguments: {truncate: 40}")
    if name not in known:
        raise ConfigurationError(f"unknown transform '{name}'{lined_yaml.suggestion(str(name), known)}")
    found = known[name]
    names = found.parameters
    if not (isinstance(given, dict) and (not given or set(given) & {*names, "on_error"})):
        if not names:
            raise ConfigurationError(f"'{name}' takes no arguments")
        given = {next(iter(names)): given}
    arguments = dict(given)
    on_error = arguments.pop("on_error", "reject") or "null"
    if on_error not in ON_ERROR:
        raise ConfigurationError(f"'on_error' is one of {', '.join(ON_ERROR)}")
    step = Step(found, MappingProxyType(_checked(found, arguments)), on_error)
    try:  # once over nothing: a bad zone, pattern or table shows here and not at night
        kind = found.takes[0] if found.takes else FieldType.STRING
        step.perform(pa.nulls(0, _ARROW[kind]), Tables(tables))
    except (ValueError, pa.ArrowInvalid) as problem:
        raise ConfigurationError(f"'{name}': {problem}") from None
    return step


def _single(raw: Any) -> bool:
    return isinstance(raw, dict) and len(raw) == 1


def _checked(found: Transform, arguments: dict[str, Any]) -> dict[str, Any]:
    names = found.parameters
    for name, value in arguments.items():
        if name not in names:
            raise ConfigurationError(f"'{found.name}' has no argument '{name}'{lined_yaml.suggestion(name, names)}")
        if not _fits(value, names[name].annotation):
            raise ConfigurationError(f"'{name}' of '{found.name}' must be {_words(names[name].annotation)}")
    for name, parameter in names.items():
        if parameter.default is inspect.Parameter.empty and name not in arguments:
            raise ConfigurationError(f"'{found.name}' needs '{name}': {_words(parameter.annotation)}")
    return arguments


def _names_source(hint: Any) -> bool:
    return hint is Source or any(_names_source(part) for part in get_args(hint))


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if origin is list:
        return isinstance(value, list) and bool(value) and all(_fits(item, get_args(hint)[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items())
    kind = str if hint is Source else hint
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _words(hint: Any) -> str:
    origin, parts = get_origin(hint), [part for part in get_args(hint) if part is not NoneType]
    if origin in (Union, UnionType):
        return " or ".join(map(_words, parts))
    if origin is Literal:
        return f"one of {', '.join(parts)}"
    if origin is list:
        return f"a list of {_words(parts[0])}"
    plain = {str: "text", int: "a whole number", bool: "true or false", Source: "the name of a source field"}
    return "a table of texts" if origin is dict else plain.get(hint, "something else")


# Types, and how a value comes from one to another without loss. A null in the result where a value was: it does not fit.

_ARROW: Mapping[FieldType, pa.DataType] = MappingProxyType(
    {
        FieldType.STRING: TEXT,
        FieldType.JSON: TEXT,
        FieldType.INTEGER: pa.int64(),
        FieldType.DECIMAL: DECIMAL,
        FieldType.BOOLEAN: pa.bool_(),
        FieldType.DATE: pa.date32(),
        FieldType.INSTANT: INSTANT,
    }
)


def kind_of(kind: pa.DataType) -> FieldType:
    """The field type of an Arrow column (JSON is text there)."""
    tests = (pa.types.is_integer, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_date, pa.types.is_timestamp)
    kinds = (FieldType.INTEGER, FieldType.DECIMAL, FieldType.BOOLEAN, FieldType.DATE, FieldType.INSTANT)
    return next((found for test, found in zip(tests, kinds, strict=True) if test(kind)), FieldType.STRING)


def as_text(values: pa.Array) -> pa.Array:
    """Canonical text of a column of any kind."""
    return text_of(values, kind_of(values.type))


def quantized(value: Decimal, scale: int, rounding: str | None = None) -> Decimal | None:
    """At this scale exactly (or rounded), None when it has more digits than 38, or more decimals and may not round."""
    try:
        found = value.quantize(Decimal(1).scaleb(-scale), rounding=rounding, context=EXACT)
    except InvalidOperation:
        return None
    return found if (rounding or found == value) and len(found.as_tuple().digits) <= 38 else None


def fit(values: pa.Array, to: pa.DataType) -> pa.Array:
    """The same values as `to`, null where one does not fit without loss. Text is read strictly: ISO dates, instants with an
    offset, a point before decimals, `true` and `false`."""
    if values.type == to:
        return values
    if pa.types.is_string(to):
        return as_text(values)
    if pa.types.is_string(values.type):
        return _from_text(values, to)
    if pa.types.is_decimal(to) and pa.types.is_decimal(values.type):
        return _cast(values, to, lambda value: quantized(value, to.scale))
    if pa.types.is_decimal(to) and pa.types.is_integer(values.type):
        return _cast(values, to, lambda value: quantized(Decimal(value), to.scale))
    if pa.types.is_integer(to) and pa.types.is_decimal(values.type):
        return _cast(values, to, lambda value: int(value) if value == int(value) and abs(value) < 2**63 else None)
    if pa.types.is_integer(to) and pa.types.is_integer(values.type):
        return values.cast(to)
    if pa.types.is_timestamp(to) and pa.types.is_timestamp(values.type) and values.type.tz:
        return values.cast(to)
    return pa.nulls(len(values), to)


def matching(values: pa.Array, pattern: str) -> pa.Array:
    """Null where the text does not match (RE2: linear time)."""
    return pc.if_else(pc.match_substring_regex(values, pattern), values, pa.scalar(None, TEXT))


def _cast(values: pa.Array, to: pa.DataType, one: Callable[[Any], Any]) -> pa.Array:
    """All at once where all fit, else value by value."""
    decimals = pa.types.is_decimal(to) and pa.types.is_decimal(values.type)
    try:
        return rescaled(values, to) if decimals else values.cast(to)
    except pa.ArrowInvalid:
        return per_unique(values, one, to)


def guarded(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """None where `convert` cannot read a value."""

    def one(value: Any) -> Any:
        try:
            return convert(value)
        except (ValueError, OverflowError, InvalidOperation):
            return None

    return one


def read_instant(text: str) -> datetime | None:
    """An ISO 8601 instant with its offset; None without one. Raises OverflowError where UTC's calendar has no such day."""
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC) if found.tzinfo else None


def _whole(text: str) -> int | None:
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None


def _from_text(values: pa.Array, to: pa.DataType) -> pa.Array:
    if pa.types.is_integer(to):
        digits = pc.replace_substring_regex(matching(values, r"^[+-]?[0-9]+$"), r"^\+", "")
        return _cast(digits, to, guarded(_whole))
    if pa.types.is_decimal(to):
        plain = matching(values, r"^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?$")
        one = guarded(lambda text: quantized(Decimal(text), to.scale))
        short = pc.match_substring_regex(plain, r"^[+-]?[0-9]{1,20}(\.[0-9]{1,18})?$")  # Arrow lets longer ones wrap round
        return _cast(plain, to, one) if pc.all(short).as_py() else per_unique(plain, one, to)
    if pa.types.is_boolean(to):
        return pc.equal(matching(values, "^(true|false)$"), "true")
    if pa.types.is_date(to):
        return per_unique(matching(values, r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), guarded(date.fromisoformat), to)
    return per_unique(values, guarded(read_instant), to)


def choose(values: Sequence[str], sought: pa.Array) -> pa.Array:
    """True where `sought` is one of `values`, False for null."""
    return pc.is_in(sought, value_set=pa.array(list(values), TEXT))
