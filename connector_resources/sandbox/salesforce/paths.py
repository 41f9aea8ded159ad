"""Field paths as SOQL and REST name them (Name, Owner.Name): what they lead to, and how to get there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from connector_resources.sandbox.salesforce.org import Org
from connector_resources.sandbox.salesforce.records import Record, value_of
from connector_resources.sandbox.salesforce.refusal import Refusal
from connector_resources.sandbox.salesforce.schema import SField, SObjectType

_ADVICE = "Please reference your WSDL or the describe call for the appropriate names."


@dataclass(frozen=True)
class Step:
    """From a record to its parent: the relationship's name, the field that holds the parent's id, the parent's type."""

    relationship: str
    field: str
    kind: SObjectType


@dataclass(frozen=True)
class Place:
    """Where a path leads: over parents (none for a field of the record itself) to a field."""

    steps: tuple[Step, ...]
    kind: SObjectType
    field: SField

    def reader(self, records: Mapping[str, Mapping[str, Record]]) -> Callable[[Record], Any]:
        """Record → the field's value; None where a parent is missing."""
        kind, name, steps = self.kind, self.field.name, self.steps
        plain = self.field.type not in ("address", "boolean") and not (self.field.name_field and "LastName" in kind.fields)

        def read(record: Record) -> Any:
            for step in steps:
                parent = records[step.kind.name].get(record.get(step.field, ""))
                if parent is None:
                    return None
                record = parent
            return record.get(name) if plain else value_of(record, kind, name)

        return read


def locate(org: Org, kind: SObjectType, path: str) -> Place:
    """Raises Refusal 400 INVALID_FIELD in the words of a query's error."""
    *relationships, last = path.split(".")
    if relationships and relationships[0].lower() == kind.name.lower() and relation(org, kind, relationships[0]) is None:
        relationships = relationships[1:]
    steps = []
    for name in relationships:
        step = relation(org, kind, name)
        if step is None:
            raise Refusal(
                400,
                "INVALID_FIELD",
                f"Didn't understand relationship '{name}' in field path. If you are attempting to use a custom relationship, "
                f"be sure to append the '__r' after the custom relationship name. {_ADVICE}",
            )
        steps.append(step)
        kind = step.kind
    field = next((field for name, field in org.fields(kind).items() if name.lower() == last.lower()), None)
    if field is None:
        raise Refusal(
            400,
            "INVALID_FIELD",
            f"No such column '{last}' on entity '{kind.name}'. If you are attempting to use a custom field, be sure to append "
            f"the '__c' after the custom field name. {_ADVICE}",
        )
    return Place(tuple(steps), kind, field)


def relation(org: Org, kind: SObjectType, name: str) -> Step | None:
    """The step to the parent that this relationship leads to; None where there is no such relationship."""
    for field in org.fields(kind).values():
        if field.relationship and field.relationship.lower() == name.lower() and field.to:
            return Step(field.relationship, field.name, org.schema[field.to])
    return None
