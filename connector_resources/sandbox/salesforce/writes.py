"""Create, update, delete and upsert of one record, checked as the org checks them.

Follows "sObject Basic Information", "sObject Rows" and "sObject Rows by External ID" of the REST API Developer Guide.
"""

import math
import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from connector_resources.sandbox.salesforce import derived, ids
from connector_resources.sandbox.salesforce.org import Org
from connector_resources.sandbox.salesforce.paths import relation
from connector_resources.sandbox.salesforce.records import Record, instant_of, instant_text
from connector_resources.sandbox.salesforce.refusal import Refusal, not_found
from connector_resources.sandbox.salesforce.schema import SField, SObjectType

_MESSAGES = {
    "UNABLE_TO_LOCK_ROW": "unable to obtain exclusive access to this record or 1 records",
    "DUPLICATES_DETECTED": "Use one of these records?",
    "REQUIRED_FIELD_MISSING": "Required fields are missing: [{field}]",
    "STRING_TOO_LONG": "{field}: data value too large",
    "DUPLICATE_VALUE": "duplicate value found: {field} duplicates value on record with id: <unknown>",
    "FIELD_CUSTOM_VALIDATION_EXCEPTION": "{field} breaks a rule of this org",
}
_NAMING = ("REQUIRED_FIELD_MISSING", "STRING_TOO_LONG", "FIELD_CUSTOM_VALIDATION_EXCEPTION")  # these name the field


def create(org: Org, kind: SObjectType, body: Mapping[str, Any]) -> str:
    """The new record's id. Raises Refusal 400."""
    with org.lock:
        _check_writable_type(kind)
        values = stored(org, kind, body, None)
        _admit(org, kind, values, values)
        missing = [field.name for field in org.fields(kind).values() if field.required and values.get(field.name) is None]
        if missing:
            raise Refusal(400, "REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(missing)}]", missing)
        derived.check(org, kind, values)
        made = org.insert(kind.name, [values | derived.values(org, kind, values)])[0]
        derived.roll_up(org, kind, org.records[kind.name][made])
        return made


def update(org: Org, kind: SObjectType, id_: str, body: Mapping[str, Any]) -> None:
    """Raises Refusal 400 or 404."""
    with org.lock:
        _check_writable_type(kind)
        record = live(org, kind, id_)
        values = stored(org, kind, body, record["Id"])
        _admit(org, kind, record, record | values)
        changed = values | derived.values(org, kind, {name: v for name, v in (record | values).items() if v is not None})
        org.update(kind.name, {record["Id"]: changed})
        derived.roll_up(org, kind, record)


def delete(org: Org, kind: SObjectType, id_: str) -> None:
    """Raises Refusal 404, also for a record that is deleted already."""
    with org.lock:
        _check_writable_type(kind)
        record = live(org, kind, id_)
        _admit(org, kind, record, record)
        org.delete(kind.name, [record["Id"]])
        derived.roll_up(org, kind, record)


def upsert(org: Org, kind: SObjectType, field_name: str, value: str, body: Mapping[str, Any]) -> tuple[str, bool]:
    """The record's id, and whether it is new. Raises Refusal 300 (with the paths of all) when several have the value."""
    with org.lock:
        field = key_field(org, kind, field_name)
        if field.name in body:
            message = f"The {field.name} field should not be specified in the sobject data."
            raise Refusal(400, "INVALID_FIELD", message, [field.name])
        if field.type == "id":
            update(org, kind, value, body)
            return live(org, kind, value)["Id"], False
        found = with_value(org, kind, field, value)
        if found is not None:
            update(org, kind, found["Id"], body)
            return found["Id"], False
        return create(org, kind, {**body, field.name: value}), True


class Ambiguous(Exception):
    """Several records have the value of an external id: HTTP 300 lists them."""

    def __init__(self, found: list[str]) -> None:
        super().__init__("several records")
        self.ids = found


def key_field(org: Org, kind: SObjectType, name: str) -> SField:
    """The field by which records can be addressed. Raises Refusal 404."""
    field = org.field(kind, name)
    if field is not None and (field.external or field.lookup or field.type == "id"):
        return field
    message = f"Provided external ID field does not exist or is not accessible: {name}"
    raise Refusal(404, "NOT_FOUND", message)


def with_value(org: Org, kind: SObjectType, field: SField, value: str) -> Record | None:
    """The live record whose field has this value, compared without case. Raises Ambiguous."""
    wanted, name, table = value.casefold(), field.name, org.records[kind.name]
    candidates = [table[id_] for id_ in org.index.candidates(org.records, kind.name, name, value) if id_ in table]
    found = [r for r in candidates if (v := r.get(name)) is not None and v.casefold() == wanted and not r.get("IsDeleted")]
    if len(found) > 1:
        raise Ambiguous([record["Id"] for record in found])
    return found[0] if found else None


def live(org: Org, kind: SObjectType, id_: str) -> Record:
    """Raises Refusal 404: ENTITY_IS_DELETED, or NOT_FOUND."""
    record = org.records[kind.name].get(ids.normal(id_) or "")
    if record is None:
        raise not_found()
    if record.get("IsDeleted"):
        raise Refusal(404, "ENTITY_IS_DELETED", "entity is deleted", [])
    return record


def _check_writable_type(kind: SObjectType) -> None:
    if kind.readonly:
        message = f"entity type cannot be inserted, updated or deleted: {kind.label}"
        raise Refusal(400, "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", message, [])


def stored(org: Org, kind: SObjectType, body: Mapping[str, Any], own_id: str | None) -> Record:
    """The body's values in the form in which they are stored. Raises Refusal 400."""
    values: Record = {}
    for name, value in body.items():
        if name == "attributes":
            continue
        field = org.field(kind, name)
        if field is None and (step := relation(org, kind, name)) and isinstance(value, dict):
            field, value = kind.fields[step.field], _parent(org, step.kind, name, value)
        if field is None:
            raise Refusal(400, "INVALID_FIELD", f"No such column '{name}' on sobject of type {kind.name}")
        if not field.writable or (field.fixed and own_id is not None):
            message = (
                f"Unable to create/update fields: {field.name}. Please check the security settings of this field and verify "
                "that it is read/write for your profile or permission set."
            )
            raise Refusal(400, "INVALID_FIELD_FOR_INSERT_UPDATE", message, [field.name])
        values[field.name] = kept = _stored(org, field, value)
        if kept is None and field.required:
            raise Refusal(400, "REQUIRED_FIELD_MISSING", f"Required fields are missing: [{field.name}]", [field.name])
        if field.external and field.unique and kept is not None:
            _check_unique(org, kind, field, kept, own_id)
    return values


def _parent(org: Org, kind: SObjectType, name: str, key: Mapping[str, Any]) -> str:
    """The id of the parent that a nested {external id field: value} names."""
    given = {field: value for field, value in key.items() if field not in ("attributes", "type")}
    if len(given) != 1:
        raise Refusal(400, "INVALID_FIELD", f"{name}: a parent is named by one external id field")
    [(field, value)] = given.items()
    found = with_value(org, kind, key_field(org, kind, field), str(value))
    if found is None:
        message = f"Foreign key external ID: {value} not found for field {field} in entity {kind.name}"
        raise Refusal(400, "INVALID_FIELD", message, [])
    id_: str = found["Id"]
    return id_


def _admit(org: Org, kind: SObjectType, before: Record, after: Record) -> None:
    """Locks the record and its parents, before and after. Raises Refusal when somebody else has them, or a fault says no."""
    fault = org.refusing(kind.name, after) or org.refusing(kind.name, before)
    if fault is not None:
        message = fault.body or _MESSAGES.get(fault.code, "The record is refused.").format(field=fault.field)
        raise Refusal(400, fault.code, message, [fault.field] if fault.code in _NAMING else [])
    parents = [name for name, field in kind.fields.items() if field.to not in (None, "User")]
    wanted = {record[name] for record in (before, after) for name in ("Id", *parents) if record.get(name)}
    if held := org.locks.take(wanted):
        raise Refusal(400, "UNABLE_TO_LOCK_ROW", f"{_MESSAGES['UNABLE_TO_LOCK_ROW']}: {held}", [])


def _check_unique(org: Org, kind: SObjectType, field: SField, value: str, own_id: str | None) -> None:
    try:
        found = with_value(org, kind, field, value)
        other = None if found is None else str(found["Id"])
    except Ambiguous as several:
        other = several.ids[0]
    if other not in (None, own_id):
        message = f"duplicate value found: {field.name} duplicates value on record with id: {str(other)[:15]}"
        raise Refusal(400, "DUPLICATE_VALUE", message, [])


def _stored(org: Org, field: SField, value: Any) -> Any:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    match field.type:
        case "boolean":
            if not isinstance(value, bool):
                raise _unreadable("boolean", value)
            return value
        case "int" | "double" | "currency" | "percent":
            return _number(field, value)
        case "date":
            return _moment(value, "date")
        case "datetime":
            return _moment(value, "datetime")
        case "reference":
            return _reference(org, field, value)
    return _text(field, value)


def _text(field: SField, value: Any) -> str:
    if isinstance(value, (dict, list)):
        raise _unreadable("string", value)
    text = (str(value).lower() if isinstance(value, bool) else str(value)).strip()
    if len(text) > field.length:
        message = f"{field.label}: data value too large: {text[:255]} (max length={field.length})"
        raise Refusal(400, "STRING_TOO_LONG", message, [field.name])
    if field.restricted and text not in field.choices:
        message = f"{field.label}: bad value for restricted picklist field: {text}"
        raise Refusal(400, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", message, [field.name])
    if field.type == "email" and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s.]{2,}", text):
        raise Refusal(400, "INVALID_EMAIL_ADDRESS", f"{field.label}: invalid email address: {text}", [field.name])
    return text


def _number(field: SField, value: Any) -> int | float:
    kind = "integer" if field.type == "int" else "double"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _unreadable(kind, value)
    try:
        number: int | float = float(value)
    except ValueError:
        raise _unreadable(kind, value) from None
    if not math.isfinite(number) or (field.type == "int" and number != int(number)):
        raise _unreadable(kind, value)
    number = int(number) if field.type == "int" else round(number, field.scale)
    if abs(number) >= 10 ** (field.digits or field.precision - field.scale):
        raise Refusal(400, "NUMBER_OUTSIDE_VALID_RANGE", f"{field.label}: value outside of valid range", [field.name])
    return number


def _moment(value: Any, kind: str) -> str:
    try:
        if kind == "datetime":
            return instant_text(instant_of(value))
        return date.fromisoformat(value[:10]).isoformat()
    except (TypeError, ValueError):
        raise _unreadable(kind, value) from None


def _reference(org: Org, field: SField, value: Any) -> str:
    full, parents = ids.normal(value), field.to or ""
    if full is None:
        raise Refusal(400, "MALFORMED_ID", f"{field.label}: id value of incorrect type: {value}", [field.name])
    if not full.startswith(org.schema[parents].prefix):
        raise Refusal(400, "FIELD_INTEGRITY_EXCEPTION", f"{field.label}: id value of incorrect type: {value}", [field.name])
    parent = org.records[parents].get(full)
    if parent is None:
        raise Refusal(400, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", [])
    if parent.get("IsDeleted"):
        raise Refusal(400, "ENTITY_IS_DELETED", "entity is deleted", [])
    return full


def _unreadable(kind: str, value: Any) -> Refusal:
    token = {bool: "BOOLEAN", str: "STRING", dict: "OBJECT", list: "ARRAY"}.get(type(value), "NUMBER")
    message = (
        f"Cannot deserialize instance of {kind} from VALUE_{token} value {value} or request may be missing a required field"
    )
    return Refusal(400, "JSON_PARSER_ERROR", f"{message} at [line:1, column:1]")
