"""Changes of an entity as rows to send, checked against its description."""

from typing import TYPE_CHECKING, Any

import orjson

from connector_resources.contract import Changes, Entity, Field
from connector_resources.errors import ConfigurationError
from connector_resources.lined_yaml import suggestion
from connector_resources.salesforce import values
from connector_resources.salesforce.describe import Description
from connector_resources.salesforce.lanes import Row

if TYPE_CHECKING:
    import pandas as pd

# Everybody's records refer to these; a write does not lock them, or all writes would be one lane
_SHARED = frozenset(
    {"User", "Group", "Organization", "RecordType", "BusinessHours", "Pricebook2", "PricebookEntry", "Product2"}
)


def rows(described: Description, changes: Changes) -> list[Row]:
    """One row a change, in their order. Raises ConfigurationError naming a field that cannot be written."""
    columns = [str(name) for name in changes.written.columns if changes.written[name].any()]
    for name in columns:
        _check(described, name)
    steps = {name: _texts(changes.steps[name]) for name in ("action", "id", "version", "intent")}
    bodies = values.written(changes)
    keys = key_values(described.entity, changes)
    return [
        _row(described, at, body, key, *step)
        for at, (body, key, *step) in enumerate(zip(bodies, keys, *steps.values(), strict=True))
    ]


def key_values(entity: Entity, changes: Changes) -> list[str | None]:
    """What stands in the upsert key of each record that is to be created: the value mapped to it, else the write's intent."""
    name, creates = entity.upsert_key, [action == "create" for action in changes.steps["action"]]
    if name is None:
        return [None] * len(creates)
    intents = _texts(changes.steps["intent"])
    if name not in changes.written.columns:
        return [intent if new else None for new, intent in zip(creates, intents, strict=True)]
    mapped = values.texts(changes.records[name]).to_pylist()
    told = changes.written[name].to_numpy(dtype=bool)
    chosen = [(text or "").strip() if wanted else "" for text, wanted in zip(mapped, told, strict=True)]
    return [(text or intent) if new else None for new, text, intent in zip(creates, chosen, intents, strict=True)]


def locking(described: Description) -> list[str]:
    """Fields that hold ids of parents which a write of this entity locks."""
    return [field.name for field in described.entity.fields if field.references and not _SHARED.issuperset(field.references)]


def _row(
    described: Description,
    at: int,
    body: dict[str, Any],
    key: str | None,
    action: str | None,
    id_: str | None,
    version: str | None,
    _intent: str | None,
) -> Row:
    entity = described.entity
    locks, needs = _ties(described, body)
    locks |= {id_[:15]} if id_ else {f"{entity.name} {key.casefold()}"} if key else set()
    if action == "delete":
        return Row(at, action, id_, version, None, None, 0, frozenset(locks))
    named: dict[str, Any] = {"id": id_} if action == "update" else {}
    if key and entity.upsert_key:
        named = {entity.upsert_key: key}
    told = {"attributes": {"type": entity.name}, **_nested(body), **named}
    content = orjson.dumps(told)
    return Row(
        at,
        str(action),
        id_,
        version,
        key,
        orjson.Fragment(content),
        len(content),
        frozenset(locks),
        frozenset(needs),
        empty=action == "update" and not body,
    )


def _ties(described: Description, body: dict[str, Any]) -> tuple[set[str], set[str]]:
    """What a record's values tie it to: locks, and keys of records of the same entity that must be there first."""
    locks, needs, entity = set(), set(), described.entity
    for name in locking(described):
        if body.get(name):
            locks.add(str(body[name])[:15])
    for name, value in body.items():
        relationship, point, key = name.partition(".")
        if point and value is not None:
            parents = described.parents[relationship]
            locks |= {f"{parent} {str(value).casefold()}" for parent in parents if parent not in _SHARED}
            if entity.name in parents and key == entity.upsert_key:
                needs.add(str(value).casefold())
    return locks, needs


def _nested(body: dict[str, Any]) -> dict[str, Any]:
    """Parents that are named by an external id (Account.ERP_Id__c) as the API takes them: objects, or null."""
    told: dict[str, Any] = {}
    for name, value in body.items():
        relationship, point, key = name.partition(".")
        told[relationship] = value if not point or value is None else {key: value}
    return told


def _check(described: Description, name: str) -> None:
    entity = described.entity
    relationship, point, _ = name.partition(".")
    if point and relationship in described.parents:
        return
    field: Field | None = entity.field(name)
    if field is None:
        raise ConfigurationError(
            f"Salesforce has no field '{name}' on {entity.name} that could be written{suggestion(name, entity.names)}"
        )
    if not field.writable:
        raise ConfigurationError(
            f"Salesforce sets {entity.name}.{name} itself, or does not let the connector's user write it: take it out of the "
            "mapping's outbound rules, or give the user Edit on the field."
        )


def _texts(column: "pd.Series[Any]") -> list[str | None]:
    texts: list[str | None] = values.texts(column).to_pylist()
    return texts
