"""How a record lies in memory, and the texts of its instants.

A record holds only fields that are not null, in the form that JSON has for them; instants are texts of one length in UTC, so
that they compare as texts. Compound fields are made when they are read.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from connector_resources.sandbox.salesforce.schema import ADDRESS_PARTS, SObjectType

Record: TypeAlias = dict[str, Any]


def instant_text(moment: datetime) -> str:
    """ "2026-01-31T12:00:00.000+0000": how the REST API writes an instant, milliseconds cut off."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "+0000"


def instant_of(text: str) -> datetime:
    """An ISO 8601 instant as aware UTC. Raises ValueError for anything else, and without an offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("an instant needs an offset")
    return moment.astimezone(UTC)


def value_of(record: Mapping[str, Any], kind: SObjectType, name: str) -> Any:
    """The value of one field, compound ones built."""
    field = kind.fields[name]
    if field.type == "boolean":
        return record.get(name, False)
    if field.type == "address":
        parts = {part[0].lower() + part[1:]: record.get(name.removesuffix("Address") + part) for part in ADDRESS_PARTS}
        return parts if any(value is not None for value in parts.values()) else None
    if field.name_field and "LastName" in kind.fields:
        return " ".join(record[part] for part in ("FirstName", "LastName") if record.get(part))
    return record.get(name)
