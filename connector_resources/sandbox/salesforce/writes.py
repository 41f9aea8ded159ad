"""Create, update, delete and upsert of one record, checked as the org checks them.

Follows "sObject Basic Information", "sObject Rows" and "sObject Rows by External ID" of the REST API Developer Guide.
"""

from connector_resources.sandbox.salesforce import derived, ids
from connector_resources.sandbox.salesforce.org import Org
from connector_resources.sandbox.salesforce.reading import Named, Reading, check_writable, not_writable, read
from connector_resources.sandbox.salesforce.records import Record
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


def create(org: Org, kind: SObjectType, reading: Reading) -> str:
    """The new record's id. Raises Refusal 400."""
    with org.lock:
        values = _settled(org, kind, reading, None)
        _admit(org, kind, values, values)
        missing = [name for name in kind.required if values.get(name) is None and org.field(kind, name)]
        if missing:
            raise Refusal(400, "REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(missing)}]", missing)
        derived.check(org, kind, values)
        made = org.insert(kind.name, [values | derived.values(org, kind, values)])[0]
        derived.roll_up(org, kind, org.records[kind.name][made])
        return made


def update(org: Org, kind: SObjectType, id_: str, reading: Reading) -> None:
    """Raises Refusal 400 or 404."""
    with org.lock:
        record = live(org, kind, id_)
        values = derived.taken(org, kind, record["Id"], _settled(org, kind, reading, record["Id"]))
        _admit(org, kind, record, record | values)
        changed = values | derived.values(org, kind, {name: v for name, v in (record | values).items() if v is not None})
        org.update(kind.name, {record["Id"]: changed})
        derived.roll_up(org, kind, record)


def delete(org: Org, kind: SObjectType, id_: str) -> None:
    """Raises Refusal 404, also for a record that is deleted already."""
    with org.lock:
        check_writable(kind)
        record = live(org, kind, id_)
        _admit(org, kind, record, record)
        org.delete(kind.name, [record["Id"]])
        derived.roll_up(org, kind, record)


def upsert(org: Org, kind: SObjectType, field_name: str, value: str, reading: Reading) -> tuple[str, bool]:
    """The record's id, and whether it is new. Raises Refusal 300 (with the paths of all) when several have the value."""
    with org.lock:
        field = key_field(org, kind, field_name)
        if field.name in reading.values:
            message = f"The {field.name} field should not be specified in the sobject data."
            raise Refusal(400, "INVALID_FIELD", message, [field.name])
        if field.type == "id":
            update(org, kind, value, reading)
            return live(org, kind, value)["Id"], False
        found = with_value(org, kind, field, value)
        if found is not None:
            update(org, kind, found["Id"], reading)
            return found["Id"], False
        key = read(org, kind, {field.name: value})
        return create(org, kind, Reading(reading.values | key.values, reading.parents)), True


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


def _settled(org: Org, kind: SObjectType, reading: Reading, own_id: str | None) -> Record:
    """The values of a body, once those of other records allow them. Raises Refusal 400."""
    named = {name: _parent(org, parent) for name, parent in reading.parents.items()}
    values = reading.values | named
    for name, value in values.items():
        field = kind.fields[name]
        if field.fixed and own_id is not None:
            raise not_writable(field)
        if value is None:
            continue
        if field.to:
            _check_parent(org, field.to, value)
        if field.external and field.unique:
            _check_unique(org, kind, field, value, own_id)
    return values


def _parent(org: Org, named: Named) -> str:
    """The id of the parent that a nested {external id field: value} names."""
    kind = named.step.kind
    found = with_value(org, kind, key_field(org, kind, named.field), named.value)
    if found is None:
        message = f"Foreign key external ID: {named.value} not found for field {named.field} in entity {kind.name}"
        raise Refusal(400, "INVALID_FIELD", message, [])
    id_: str = found["Id"]
    return id_


def _check_parent(org: Org, sobject: str, id_: str) -> None:
    parent = org.records[sobject].get(id_)
    if parent is None:
        raise Refusal(400, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", [])
    if parent.get("IsDeleted"):
        raise Refusal(400, "ENTITY_IS_DELETED", "entity is deleted", [])


def _admit(org: Org, kind: SObjectType, before: Record, after: Record) -> None:
    """Locks the record and its parents, before and after. Raises Refusal when somebody else has them, or a fault says no."""
    fault = org.refusing(kind.name, after) or org.refusing(kind.name, before)
    if fault is not None:
        message = fault.body or _MESSAGES.get(fault.code, "The record is refused.").format(field=fault.field)
        raise Refusal(400, fault.code, message, [fault.field] if fault.code in _NAMING else [])
    wanted = {record[name] for record in (before, after) for name in kind.locking if record.get(name)}
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
