"""Values between JSON-like records and Arrow columns, typed by a manifest's fields and never by looking at them.

`column` reads: each value must be of its field's type, or the whole answer is refused (a ContractError naming entity and
field), because a schema has drifted; a field that is `lenient` takes what can be read exactly. XML and forms have no types but
text, so for them every field reads text (`textual`). `outgoing` writes. Money passes through no float in either direction.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

import orjson

from connector_resources.contract import FieldType
from connector_resources.errors import ContractError
from connector_resources.frames import arrow_array, arrow_type, json_string
from connector_resources.templates import NOTHING

if TYPE_CHECKING:
    import pyarrow as pa

    from connector_resources.manifest import FieldSpec, Path

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_DIGITS = 30
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:Z|[+-][0-9]{2}:[0-9]{2})?", re.ASCII)  # XML may write a zone behind a date
_WHOLE = re.compile(rf"[+-]?[0-9]{{1,{_DIGITS}}}", re.ASCII)


class Misfit(Exception):
    """A value is not of its field's type."""


class MarkedText(str):
    """A text that has attributes (XML): `limit` is 5.50, and `limit.@currency` EUR."""

    __slots__ = ("marks",)
    marks: Mapping[str, str]

    def __new__(cls, text: str, marks: Mapping[str, str]) -> Self:
        made = super().__new__(cls, text)
        made.marks = marks
        return made

    def __repr__(self) -> str:
        return f"{str(self)!r} {self.marks}"


def at(content: Any, path: "Path") -> Any:
    """What stands at this path: keys of mappings, and positions in lists (-1 is the last). NOTHING where there is nothing;
    None where something on the way is null."""
    for step in path:
        if isinstance(content, Mapping):
            content = content.get(step, NOTHING)
        elif isinstance(content, list) and re.fullmatch(r"-?[0-9]{1,6}", step):
            content = content[int(step)] if -len(content) <= int(step) < len(content) else NOTHING
        elif isinstance(content, MarkedText):
            content = content.marks.get(step, NOTHING)
        elif content is None:
            return None
        else:
            return NOTHING
    return content


def put(record: dict[str, Any], path: "Path", value: Any) -> None:
    """Set what stands at this path, with the mappings on the way."""
    *parents, last = path
    for step in parents:
        record = record.setdefault(step, {})
    record[last] = value


def column(entity: str, spec: "FieldSpec", values: Sequence[Any], textual: bool = False) -> "tuple[pa.Array, list[bool]]":
    """The Arrow column of one field's values, and where they are absent. Raises ContractError for one of another type."""
    import pyarrow as pa

    absent = [value is NOTHING for value in values]
    kind = arrow_type(spec.field)
    present = [None if value is NOTHING else value for value in values] if True in absent else values
    try:
        whole = _at_once(spec, present, kind)
        if whole is None:
            whole = arrow_array([None if value is None else incoming(spec, value, textual) for value in present], kind)
        return whole, absent
    except (Misfit, ValueError, TypeError, OverflowError, pa.ArrowException):
        wanted = spec.field.type.value + (f" (scale {spec.field.scale})" if spec.field.type is FieldType.DECIMAL else "")
        raise ContractError(
            f"A value of {entity}.{spec.field.name} is no {wanted}, which the manifest promises: if the other side has "
            "changed the field, correct it there (`type`, `scale`, `format`, `zone`, `lenient`)."
        ) from None


_PLAIN: Mapping[FieldType, set[type]] = {
    FieldType.STRING: {str},
    FieldType.INTEGER: {int},
    FieldType.DECIMAL: {int, Decimal},
    FieldType.BOOLEAN: {bool},
    FieldType.DATE: {str},
    FieldType.INSTANT: {str},
}


def _at_once(spec: "FieldSpec", values: Sequence[Any], kind: "pa.DataType") -> "pa.Array | None":
    """The column where all values are plainly of the field's type; None where each must be looked at."""
    import pyarrow as pa

    found = set(map(type, values)) - {type(None)}
    if not found <= _PLAIN.get(spec.field.type, set()):
        return None
    if spec.field.type not in (FieldType.DATE, FieldType.INSTANT):
        return arrow_array(values, kind)
    if spec.format != "iso":
        return None
    try:
        return pa.array(values, pa.string()).cast(kind)
    except pa.ArrowInvalid:
        return None


def incoming(spec: "FieldSpec", value: Any, textual: bool = False) -> Any:
    """One value, not null, as Python's. Raises Misfit."""
    lenient = spec.lenient or textual
    match spec.field.type:
        case FieldType.STRING:
            return _string(value, spec.lenient)
        case FieldType.JSON:
            return json_text(_unmarked(value) if textual else value)
        case _ if textual and value == "":
            return None
        case FieldType.INTEGER:
            return _integer(value, lenient)
        case FieldType.DECIMAL:
            return _decimal(value)
        case FieldType.BOOLEAN:
            return _boolean(value, lenient)
        case FieldType.DATE:
            return _date(spec, value)
        case FieldType.INSTANT:
            return _instant(spec, value, lenient)
    raise Misfit


def _unmarked(value: Any) -> Any:
    """Nested texts without attributes, but for what consists of nothing else: `<line sku="a" quantity="2"/>`."""
    if isinstance(value, MarkedText):
        return str(value) or value.marks
    if isinstance(value, Mapping):
        return {name: _unmarked(one) for name, one in value.items()}
    return list(map(_unmarked, value)) if isinstance(value, list) else value


def _string(value: Any, lenient: bool) -> str:
    if isinstance(value, str):
        return value
    if lenient and isinstance(value, bool | int | Decimal):
        return json_text(value)
    raise Misfit


def _integer(value: Any, lenient: bool) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if lenient and isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value)
    if lenient and isinstance(value, Decimal) and value.adjusted() < _DIGITS and value == value.to_integral_value():
        return int(value)  # of 1e500000000 this would take hours
    raise Misfit


def _decimal(value: Any) -> Decimal:
    """Numbers, and texts of them: both are exact."""
    if isinstance(value, Decimal) or (isinstance(value, int) and not isinstance(value, bool)):
        return Decimal(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return Decimal(value.strip())
    raise Misfit


def truth(value: Any) -> bool | None:
    """What an answer's yes or no means, also as the text or number that XML Schema has for it; None for anything else."""
    try:
        return _boolean(value, lenient=True)
    except Misfit:
        return None


def _boolean(value: Any, lenient: bool) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower() if lenient and isinstance(value, str | int) else ""
    if word in ("true", "false", "1", "0"):
        return word in ("true", "1")
    raise Misfit


def _date(spec: "FieldSpec", value: Any) -> date:
    if not isinstance(value, str):
        raise Misfit
    if spec.format != "iso":
        return datetime.strptime(value, spec.format).date()  # noqa: DTZ007 - a civil date has no zone
    if not _DAY.fullmatch(value):
        if spec.lenient and re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T", value):
            return date.fromisoformat(value[:10])
        raise Misfit
    return date.fromisoformat(value[:10])


def _instant(spec: "FieldSpec", value: Any, lenient: bool) -> datetime:
    if spec.format in ("seconds", "millis"):
        number = _decimal(value) if lenient or not isinstance(value, str) else None
        if number is None or number.adjusted() >= _DIGITS:
            raise Misfit
        micros = number * (1_000_000 if spec.format == "seconds" else 1_000)
        return _EPOCH + timedelta(microseconds=int(micros))
    if not isinstance(value, str):
        raise Misfit
    iso = spec.format == "iso"
    moment = datetime.fromisoformat(value) if iso else datetime.strptime(value, spec.format)  # noqa: DTZ007 - looked at below
    if moment.tzinfo is None:
        if spec.zone is None:  # somebody must say where that clock hangs
            raise Misfit
        moment = moment.replace(tzinfo=spec.zone)
    return moment.astimezone(UTC)


def since_text(moment: datetime, form: str, inclusive: bool, zone: tzinfo = UTC) -> str | int:
    """{since}: never later than the instant, and one unit earlier where the other side would leave out that instant. `zone`:
    where the clock hangs, of a form that does not say it."""
    moment = moment.astimezone(UTC)
    match form:
        case "date":
            day = moment.astimezone(zone).date()
            return (day if inclusive else day - timedelta(days=1)).isoformat()
        case "seconds" | "millis":
            unit = timedelta(seconds=1) if form == "seconds" else timedelta(milliseconds=1)
            return (moment - _EPOCH) // unit - (0 if inclusive else 1)
    if form != "iso":
        return _wall_clock(moment if inclusive else moment - timedelta(seconds=1), zone).strftime(form)
    moment = moment if inclusive else moment - timedelta(milliseconds=1)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _wall_clock(moment: datetime, zone: tzinfo) -> datetime:
    """What that clock shows; an hour less in the one that it shows twice, which may be taken for the second time."""
    shown = moment.astimezone(zone)
    twice = shown.replace(fold=0).utcoffset() != shown.replace(fold=1).utcoffset()
    return shown - timedelta(hours=1) if twice else shown


def outgoing(spec: "FieldSpec", value: Any) -> Any:
    """A Python value as a request writes it: Decimals stay Decimals (`json_text` writes them exactly), or become text."""
    match spec.field.type:
        case _ if value is None:
            return None
        case FieldType.DECIMAL | FieldType.INTEGER:
            return value if spec.send == "number" else json_text(value)
        case FieldType.JSON:
            return json.loads(value, parse_float=Decimal)
        case FieldType.DATE:
            return value.isoformat() if spec.format == "iso" else value.strftime(spec.format)
        case FieldType.INSTANT:
            return _outgoing_instant(spec, value)
    return value


def token(text: str | None, number: bool) -> str | int | None:
    """An id or a version as a request says it: as the integer that it is on the other side, if it is one."""
    return int(text) if number and text and _WHOLE.fullmatch(text) and str(int(text)) == text else text


def _outgoing_instant(spec: "FieldSpec", value: datetime) -> str | int:
    moment = value.astimezone(UTC)
    if spec.format in ("seconds", "millis"):
        return (moment - _EPOCH) // (timedelta(seconds=1) if spec.format == "seconds" else timedelta(milliseconds=1))
    if spec.format != "iso":
        return moment.astimezone(spec.zone or UTC).strftime(spec.format)
    return moment.isoformat().replace("+00:00", "Z")


def json_text(value: Any) -> str:
    """JSON with exact numbers: Decimals are written digit by digit."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # it holds a Decimal, an integer of more than 64 bits, or a record of ours
        return _exact(value)


def _exact(value: Any) -> str:
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise Misfit
        return format(value, "f") if -18 <= value.adjusted() <= 38 else str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json_string(str(k))}:{_exact(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_exact, value)) + "]"
    return json_string(value) if isinstance(value, str) else json.dumps(value)
