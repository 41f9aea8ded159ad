"""What a value of JSON becomes when it is stored: one function a field, made once ("Field Types", Object Reference)."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, TypeAlias

from connector_resources.sandbox.salesforce import ids
from connector_resources.sandbox.salesforce.records import instant_of, instant_text
from connector_resources.sandbox.salesforce.refusal import Refusal
from connector_resources.sandbox.salesforce.schema import SField, SObjectType

Reader: TypeAlias = Callable[[Any], Any]
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]{2,}")


def readers(schema: Mapping[str, SObjectType]) -> dict[str, dict[str, Reader]]:
    """By type and field that may be written: value → as it is stored, None for one that clears the field. They raise Refusal
    400."""
    return {
        kind.name: {name: _required(field, _reader(schema, field)) for name, field in kind.fields.items() if field.writable}
        for kind in schema.values()
    }


def _required(field: SField, read: Reader) -> Reader:
    def required(value: Any) -> Any:
        kept = read(value)
        if kept is None:
            raise Refusal(400, "REQUIRED_FIELD_MISSING", f"Required fields are missing: [{field.name}]", [field.name])
        return kept

    return required if field.required else read


def _reader(schema: Mapping[str, SObjectType], field: SField) -> Reader:
    match field.type:
        case "boolean":
            return _filled(_boolean)
        case "int" | "double" | "currency" | "percent":
            return _filled(_number(field))
        case "date" | "datetime":
            return _filled(_moment(field.type))
        case "reference":
            return _filled(_reference(field, schema[field.to or ""].prefix))
    return _text(field)


def _filled(read: Reader) -> Reader:
    """Null and blank texts clear a field of any type."""
    return lambda value: None if value is None or (isinstance(value, str) and not value.strip()) else read(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _unreadable("boolean", value)
    return value


def _text(field: SField) -> Reader:
    length, choices, address = field.length, frozenset(field.choices) if field.restricted else None, field.type == "email"

    def read(value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            if isinstance(value, (dict, list)):
                raise _unreadable("string", value)
            value = str(value).lower() if isinstance(value, bool) else str(value)
        text: str = value.strip()
        if not text:
            return None
        if len(text) > length:
            message = f"{field.label}: data value too large: {text[:255]} (max length={length})"
            raise Refusal(400, "STRING_TOO_LONG", message, [field.name])
        if choices is not None and text not in choices:
            message = f"{field.label}: bad value for restricted picklist field: {text}"
            raise Refusal(400, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", message, [field.name])
        if address and not _ADDRESS.fullmatch(text):
            raise Refusal(400, "INVALID_EMAIL_ADDRESS", f"{field.label}: invalid email address: {text}", [field.name])
        return text

    return read


def _number(field: SField) -> Reader:
    whole, end = field.type == "int", 10 ** (field.digits or field.precision - field.scale)
    kind = "integer" if whole else "double"

    def read(value: Any) -> int | float:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise _unreadable(kind, value)
        try:
            number: int | float = float(value)
        except ValueError:
            raise _unreadable(kind, value) from None
        if not math.isfinite(number) or (whole and number != int(number)):
            raise _unreadable(kind, value)
        if whole and not -(2**31) <= number < 2**31:  # no Java int
            raise _unreadable(kind, value)
        number = int(number) if whole else round(number, field.scale)
        if abs(number) >= end:
            raise Refusal(400, "NUMBER_OUTSIDE_VALID_RANGE", f"{field.label}: value outside of valid range", [field.name])
        return number

    return read


def _moment(kind: str) -> Reader:
    def read(value: Any) -> str:
        try:
            return instant_text(instant_of(value)) if kind == "datetime" else date.fromisoformat(value[:10]).isoformat()
        except (TypeError, ValueError):
            raise _unreadable(kind, value) from None

    return read


def _reference(field: SField, prefix: str) -> Reader:
    def read(value: Any) -> str:
        full = ids.normal(value)
        message = f"{field.label}: id value of incorrect type: {value}"
        if full is None:
            raise Refusal(400, "MALFORMED_ID", message, [field.name])
        if not full.startswith(prefix):
            raise Refusal(400, "FIELD_INTEGRITY_EXCEPTION", message, [field.name])
        return full

    return read


def _unreadable(kind: str, value: Any) -> Refusal:
    token = {bool: "BOOLEAN", str: "STRING", dict: "OBJECT", list: "ARRAY"}.get(type(value), "NUMBER")
    message = (
        f"Cannot deserialize instance of {kind} from VALUE_{token} value {value} or request may be missing a required field"
    )
    return Refusal(400, "JSON_PARSER_ERROR", f"{message} at [line:1, column:1]")
