"""Transforms of text, and the choices between values. Patterns are RE2: linear time, whatever the text."""

import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.contract import FieldType
from integration_pipelines.canonical import TEXT, per_unique
from integration_pipelines.steps.transforms_base import Scope, Source, as_text, choose, transform

STRING = FieldType.STRING
_NULL = pa.scalar(None, TEXT)
_LONGEST = 32_000
_TRUE = ("true", "yes", "y", "on", "1")
_FALSE = ("false", "no", "n", "off", "0")


def _at_least(minimum: int, **numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and not minimum <= number <= _LONGEST:
            raise ValueError(f"'{name}' goes from {minimum} to {_LONGEST}")


@transform(STRING, reversible=True)
def trim(values: pa.Array, _: Scope) -> pa.Array:
    """Without white space at both ends."""
    return pc.utf8_trim_whitespace(values)


@transform(STRING, reversible=True)
def collapse_spaces(values: pa.Array, _: Scope) -> pa.Array:
    """Runs of white space become one blank, none at the ends."""
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(values, r"[\s\p{Z}]+", " "))


@transform(STRING)
def upper(values: pa.Array, _: Scope) -> pa.Array:
    """In capitals."""
    return pc.utf8_upper(values)


@transform(STRING)
def lower(values: pa.Array, _: Scope) -> pa.Array:
    """In small letters."""
    return pc.utf8_lower(values)


@transform(STRING)
def title(values: pa.Array, _: Scope) -> pa.Array:
    """Each word with a capital first."""
    return pc.utf8_title(values)


@transform(STRING)
def replace(values: pa.Array, _: Scope, *, find: str, by: str = "") -> pa.Array:
    """Each `find` becomes `by`, literally."""
    if not find:
        raise ValueError("'find' must not be empty")
    return pc.replace_substring(values, find, by)


@transform(STRING)
def regex_replace(values: pa.Array, _: Scope, *, pattern: str, by: str = "") -> pa.Array:
    r"""Each match of an RE2 pattern becomes `by`, where `\1` is the first group."""
    pc.replace_substring_regex(pa.array([""], TEXT), pattern, by)  # Arrow looks at the pattern only when there is a value
    return pc.replace_substring_regex(values, pattern, by)


@transform(STRING)
def substring(values: pa.Array, _: Scope, *, start: int, length: int | None = None) -> pa.Array:
    """From character `start` (the first is 1), at most `length` characters."""
    _at_least(1, start=start, length=length)
    return pc.utf8_slice_codeunits(values, start - 1, None if length is None else start - 1 + length)


@transform(STRING)
def truncate(values: pa.Array, _: Scope, *, length: int) -> pa.Array:
    """At most `length` characters."""
    _at_least(1, length=length)
    return pc.utf8_slice_codeunits(values, 0, length)


@transform(STRING)
def pad_left(values: pa.Array, _: Scope, *, width: int, by: str = "0") -> pa.Array:
    """Filled up to `width` characters in front."""
    _at_least(1, width=width)
    if len(by) != 1:
        raise ValueError("'by' is one character")
    return pc.utf8_lpad(values, width, by)


@transform(STRING)
def strip_prefix(values: pa.Array, _: Scope, *, prefix: str) -> pa.Array:
    """Without `prefix` where it stands in front."""
    return pc.if_else(pc.starts_with(values, prefix), pc.utf8_slice_codeunits(values, len(prefix)), values)


@transform(STRING)
def concat(values: pa.Array, scope: Scope, *, sources: list[Source], by: str = " ") -> pa.Array:
    """The value and other source fields behind it, joined; nulls are left out, and all null gives null."""
    joined = values
    for source in sources:  # pair by pair: with null_handling="skip", Arrow 26 loses the rows whose parts are all null
        part = scope.text(source)
        joined = pc.coalesce(pc.binary_join_element_wise(joined, part, by), joined, part)
    return joined


@transform(STRING)
def split(values: pa.Array, _: Scope, *, by: str, part: int) -> pa.Array:
    """One part of a text: 1 is the first, -1 the last; null where there are fewer."""
    if not by or not part:
        raise ValueError("'by' must not be empty, and 'part' counts from 1, or from -1 at the end")

    def one(text: str) -> str | None:
        parts = text.split(by)
        at = part - 1 if part > 0 else part
        return parts[at] if -len(parts) <= at < len(parts) else None

    return per_unique(values, one, TEXT)


@transform(STRING, reversible=True)
def empty_to_null(values: pa.Array, _: Scope) -> pa.Array:
    """Null where the text is empty or blank."""
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(values), ""), _NULL, values)


@transform(gives=STRING)
def to_text(values: pa.Array, _: Scope) -> pa.Array:
    """Canonical text of any type: decimals at their scale, dates and instants as ISO 8601."""
    return as_text(values)


@transform(STRING)
def if_null(values: pa.Array, scope: Scope, *, value: str | None = None, source: Source | None = None) -> pa.Array:
    """Where the value is null: a constant, or what another source field holds."""
    if (value is None) == (source is None):
        raise ValueError("say either 'value' or 'source'")
    return pc.coalesce(values, scope.text(source) if source else value)


def _folded(texts: pa.Array) -> pa.Array:
    return pc.utf8_lower(pc.utf8_trim_whitespace(texts))


@transform(STRING, gives=FieldType.BOOLEAN, reason="is none of the words for true or false")
def map_boolean(values: pa.Array, _: Scope, *, true: list[str] | None = None, false: list[str] | None = None) -> pa.Array:
    """Words for true and false, whatever their case."""
    words = _folded(values)
    yes, no = (pc.is_in(words, value_set=_folded(pa.array(known, TEXT))) for known in (true or _TRUE, false or _FALSE))
    return pc.if_else(yes, True, pc.if_else(no, False, pa.scalar(None, pa.bool_())))


@transform(STRING, reason="is not in the lookup table")
def lookup(
    values: pa.Array, scope: Scope, *, table: str | dict[str, str], default: str | None = None, ignore_case: bool = False
) -> pa.Array:
    """The text beside the value in a table of the mapping (or one written here); else `default`, else it fails."""
    found = scope.tables.get(table) if isinstance(table, str) else table
    if found is None:
        raise ValueError(f"there is no lookup table '{table}'; write it under transformation_functions, lookups")
    keys, sought = (pc.utf8_lower(texts) if ignore_case else texts for texts in (pa.array(list(found), TEXT), values))
    if len(set(zip(keys.to_pylist(), found.values(), strict=True))) > len(set(keys.to_pylist())):
        raise ValueError("the table tells keys apart by their case, and 'ignore_case' does not; leave one of them out")
    at = pc.index_in(sought, value_set=keys)
    hits = pa.array(list(found.values()), TEXT).take(at)
    if default is None:
        return hits
    return pc.if_else(pc.is_null(values), _NULL, pc.coalesce(hits, default))


@transform(gives=FieldType.BOOLEAN)
def condition(
    values: pa.Array,
    scope: Scope,
    *,
    source: Source | None = None,
    equals: str | int | bool | None = None,
    in_: list[str | int | bool] | None = None,
    not_in: list[str | int | bool] | None = None,
    is_null: bool | None = None,
) -> pa.Array:
    """Whether the value (or another source field) passes one test, compared as canonical text; never null."""
    if sum(test is not None for test in (equals, in_, not_in, is_null)) != 1:
        raise ValueError("say one of 'equals', 'in', 'not_in' and 'is_null'")
    texts = scope.text(source) if source else as_text(values)
    if is_null is not None:
        return pc.equal(pc.is_null(texts), is_null)
    named = in_ or not_in or ([] if equals is None else [equals])
    found = choose([constant_text(item) for item in named], texts)
    return pc.invert(found) if not_in else found


@transform(STRING)
def when(
    values: pa.Array,
    scope: Scope,
    *,
    source: Source | None = None,
    equals: str | int | bool | None = None,
    in_: list[str | int | bool] | None = None,
    not_in: list[str | int | bool] | None = None,
    is_null: bool | None = None,
    then: str | None = None,
    else_: str | None = None,
) -> pa.Array:
    """`then` where the test holds, `else` where it does not; without one of them the value stays."""
    holds = condition.run(values, scope, source=source, equals=equals, in_=in_, not_in=not_in, is_null=is_null)
    return pc.if_else(holds, values if then is None else then, values if else_ is None else else_)


def constant_text(value: str | int | bool | None) -> str:
    """A constant of a mapping as canonical text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


TEXTS = (
    *(trim, collapse_spaces, upper, lower, title, replace, regex_replace, substring, truncate, pad_left, strip_prefix),
    *(concat, split, empty_to_null, to_text, if_null, map_boolean, lookup, when),
)
