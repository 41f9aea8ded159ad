"""What can be said of a record's body without looking at other records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connector_resources.sandbox.salesforce.org import Org
from connector_resources.sandbox.salesforce.paths import Step, relation
from connector_resources.sandbox.salesforce.records import Record
from connector_resources.sandbox.salesforce.refusal import Refusal
from connector_resources.sandbox.salesforce.schema import SField, SObjectType


@dataclass
class Reading:
    """A body that could be read. `values`: as they will be stored; `parents`: field → the parent that is named by its key."""

    values: Record
    parents: dict[str, "Named"]


@dataclass(frozen=True)
class Named:
    """A parent, named by a field that is unique among its like."""

    step: Step
    relationship: str
    field: str
    value: str


def read(org: Org, kind: SObjectType, body: Mapping[str, Any]) -> Reading:
    """Raises Refusal 400."""
    check_writable(kind)
    found, readers = Reading({}, {}), org.readers[kind.name]
    plain = {} if org.hidden() else readers
    for name, value in body.items():
        if name in plain:  # a field that may be written, by its very name
            found.values[name] = plain[name](value)
            continue
        if name == "attributes":
            continue
        field = org.field(kind, name)
        if field is None and isinstance(value, dict) and (step := relation(org, kind, name)):
            field = kind.fields[step.field]
            found.parents[field.name] = _named(step, name, value)
        if field is None:
            raise Refusal(400, "INVALID_FIELD", f"No such column '{name}' on sobject of type {kind.name}")
        if not field.writable:
            raise not_writable(field)
        if field.name not in found.parents:
            found.values[field.name] = readers[field.name](value)
    return found


def check_writable(kind: SObjectType) -> None:
    """Raises Refusal 400 for a type whose records cannot be written."""
    if kind.readonly:
        message = f"entity type cannot be inserted, updated or deleted: {kind.label}"
        raise Refusal(400, "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", message, [])


def not_writable(field: SField) -> Refusal:
    message = (
        f"Unable to create/update fields: {field.name}. Please check the security settings of this field and verify "
        "that it is read/write for your profile or permission set."
    )
    return Refusal(400, "INVALID_FIELD_FOR_INSERT_UPDATE", message, [field.name])


def _named(step: Step, relationship: str, key: Mapping[str, Any]) -> Named:
    given = {field: value for field, value in key.items() if field not in ("attributes", "type")}
    if len(given) != 1:
        raise Refusal(400, "INVALID_FIELD", f"{relationship}: a parent is named by one external id field")
    [(field, value)] = given.items()
    return Named(step, relationship, field, str(value))
