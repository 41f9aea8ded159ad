"""Transforms of numbers and money. Decimal throughout, never a float."""

import string
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.contract import FieldType
from integration_pipelines.canonical import per_unique, rescaled
from integration_pipelines.steps.transforms_base import (
    DECIMAL,
    EXACT,
    SCALE,
    Scope,
    Source,
    choose,
    fit,
    guarded,
    matching,
    quantized,
    transform,
)

STRING, WHOLE, NUMBER = FieldType.STRING, FieldType.INTEGER, FieldType.DECIMAL
Rounding = Literal["half_even", "half_up", "up", "down"]
_ARROW_MODE = {
    "half_even": "half_to_even",
    "half_up": "half_towards_infinity",
    "up": "towards_infinity",
    "down": "towards_zero",
}
_PYTHON_MODE = {"half_even": "ROUND_HALF_EVEN", "half_up": "ROUND_HALF_UP", "up": "ROUND_UP", "down": "ROUND_DOWN"}

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_LONGEST_BASE62 = 10  # 62 ** 10 is less than 2 ** 63

# ISO 4217, list one: the currencies whose minor unit is not two decimals.
_MINOR_UNITS = {
    0: ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"),
    3: ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"),
    4: ("CLF", "UYW"),
}


def rounded(values: pa.Array, scale: int, mode: str) -> pa.Array:
    """Decimals rounded to decimal128(38, scale); null where a value has too many digits for that."""
    if not 0 <= scale <= SCALE:
        raise ValueError(f"'scale' goes from 0 to {SCALE}")
    wanted = pa.decimal128(38, scale)
    try:
        near = values if scale >= values.type.scale else pc.round(values, scale, round_mode=_ARROW_MODE[mode])
        return rescaled(near, wanted)
    except pa.ArrowInvalid:
        return per_unique(values, guarded(lambda value: quantized(value, scale, _PYTHON_MODE[mode])), wanted)


def _decimals(values: pa.Array) -> pa.Array:
    return values if pa.types.is_decimal(values.type) else fit(values, pa.decimal128(38, 0))


@transform(STRING, NUMBER, WHOLE, gives=WHOLE, reason="is not a whole number of at most 19 digits")
def to_integer(values: pa.Array, _: Scope) -> pa.Array:
    """A whole number from digits, or from a decimal without a fraction."""
    if pa.types.is_string(values.type):
        values = pc.utf8_trim_whitespace(values)
    return fit(values, pa.int64())


@transform(STRING, gives=WHOLE, reason="is not a number of at most ten digits and letters")
def base62(values: pa.Array, _: Scope) -> pa.Array:
    """The number that a text of digits, capitals and small letters stands for, as ids do that are counted in base 62."""
    return per_unique(values, guarded(_from_base62), pa.int64())


def _from_base62(text: str) -> int:
    if not 0 < len(text) <= _LONGEST_BASE62:
        raise ValueError
    number = 0
    for letter in text:
        number = number * 62 + _BASE62.index(letter)
    return number


@transform(STRING, WHOLE, NUMBER, gives=NUMBER, reason="is not a number written with these separators")
def to_decimal(values: pa.Array, _: Scope, *, decimal: str = ".", group: str = "") -> pa.Array:
    """An exact number from text. `group` separates thousands (none by default; a blank stands for all kinds of blanks)."""
    if not pa.types.is_string(values.type):
        return fit(values, DECIMAL)
    signs = decimal + group
    if len(decimal) != 1 or len(group) > 1 or group == decimal or any(sign.isdigit() or sign in "+-" for sign in signs):
        raise ValueError("'decimal' is one character, 'group' another one or none; neither is a digit, + or -")
    point, between = _escaped(decimal), r"[\s\x{a0}\x{202f}\x{2009}]" if group == " " else _escaped(group)
    whole = rf"([0-9]{{1,3}}({between}[0-9]{{3}})+|[0-9]+)" if group else "[0-9]+"
    texts = matching(pc.utf8_trim_whitespace(values), rf"^[+-]?{whole}({point}[0-9]+)?$")
    if group:
        texts = pc.replace_substring_regex(texts, between, "")
    return fit(pc.replace_substring(texts, decimal, "."), DECIMAL)


def _escaped(sign: str) -> str:
    return rf"\x{{{ord(sign):x}}}" if sign else ""


@transform(STRING, WHOLE, NUMBER, gives=NUMBER, reason="is not an amount written with these separators")
def parse_money(values: pa.Array, scope: Scope, *, decimal: str = ".", group: str = ",") -> pa.Array:
    """An exact amount from text with a currency sign or code before or behind it; brackets mean less than nothing."""
    if not pa.types.is_string(values.type):
        return fit(values, DECIMAL)
    texts = pc.utf8_trim_whitespace(pc.replace_substring(values, "−", "-"))
    texts = pc.replace_substring_regex(texts, r"^\((.+)\)$", r"-\1")
    sign = r"(?:\p{Sc}|[A-Za-z]{1,3}\p{Sc}|[A-Z]{3})"
    texts = pc.replace_substring_regex(texts, rf"^([+-]?)[\s\p{{Z}}]*{sign}[\s\p{{Z}}]*([+-]?)", r"\1\2")
    texts = pc.replace_substring_regex(texts, rf"[\s\p{{Z}}]*{sign}$", "")
    found: pa.Array = to_decimal.run(texts, scope, decimal=decimal, group=group)
    return found


@transform(NUMBER, WHOLE, gives=NUMBER, reason="has too many digits")
def round_(values: pa.Array, _: Scope, *, scale: int, mode: Rounding = "half_even") -> pa.Array:
    """To `scale` decimals."""
    return rounded(_decimals(values), scale, mode)


@transform(NUMBER, WHOLE, gives=NUMBER, reversible=True, reason="has too many digits, or no known currency beside it")
def money(
    values: pa.Array,
    scope: Scope,
    *,
    scale: int | None = None,
    currency_field: Source | None = None,
    mode: Rounding = "half_even",
) -> pa.Array:
    """Rounded to `scale` decimals, or to the minor unit of the ISO 4217 code in another source field."""
    if (scale is None) == (currency_field is None):
        raise ValueError("say either 'scale' or 'currency_field'")
    amounts = _decimals(values)
    if scale is not None:
        return rounded(amounts, scale, mode)
    codes = pc.utf8_upper(pc.utf8_trim_whitespace(scope.text(str(currency_field))))
    widest = pa.decimal128(38, 4)
    result = fit(rounded(amounts, 2, mode), widest)
    for places, of in _MINOR_UNITS.items():
        result = pc.if_else(choose(of, codes), fit(rounded(amounts, places, mode), widest), result)
    return pc.if_else(pc.match_substring_regex(codes, "^[A-Z]{3}$"), result, pa.scalar(None, widest))


@transform(NUMBER, WHOLE, gives=NUMBER, reason="has too many digits when it is multiplied")
def multiply(values: pa.Array, _: Scope, *, by: str | int) -> pa.Array:
    """Exactly; more than 18 decimals fail."""
    factor = _number(by)
    return per_unique(values, guarded(lambda value: quantized(EXACT.multiply(Decimal(value), factor), SCALE)), DECIMAL)


@transform(NUMBER, WHOLE, gives=NUMBER, reason="has too many digits when it is divided")
def divide(values: pa.Array, _: Scope, *, by: str | int) -> pa.Array:
    """Rounded half to even at 18 decimals."""
    divisor = _number(by)
    if not divisor:
        raise ValueError("'by' must not be zero")

    def one(value: Any) -> Decimal | None:
        return quantized(EXACT.divide(Decimal(value), divisor), SCALE, _PYTHON_MODE["half_even"])

    return per_unique(values, guarded(one), DECIMAL)


def _number(text: str | int) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or abs(number.adjusted()) > SCALE or len(number.as_tuple().digits) > 38:
        raise ValueError("'by' is a number with a point before its decimals, in quotes: \"0.01\"")
    return number


@transform(NUMBER, WHOLE, reason="is too small")
def abs_(values: pa.Array, _: Scope) -> pa.Array:
    """Without its sign."""
    return pc.abs(_negatable(values))


@transform(NUMBER, WHOLE, reason="is too small")
def negate(values: pa.Array, _: Scope) -> pa.Array:
    """With the other sign."""
    return pc.negate(_negatable(values))


def _negatable(values: pa.Array) -> pa.Array:
    """The smallest int64 has no positive twin: it would silently stay negative."""
    if not pa.types.is_integer(values.type):
        return values
    return pc.if_else(pc.equal(values, -(2**63)), pa.scalar(None, pa.int64()), values)


NUMBERS = (to_integer, base62, to_decimal, parse_money, round_, money, multiply, divide, abs_, negate)
