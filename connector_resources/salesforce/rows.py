"""Changes of an entity as rows to send, checked against its description."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from connector_resources.contract import Changes, Entity, Field
from connector_resources.errors import ConfigurationError
from connector_resources.frames import json_strings
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
    keys, ties = key_values(described.entity, changes), Ties(described, columns)
    told = zip(_contents(described.entity, changes, columns, keys), ties.of(changes), keys, *steps.values(), strict=True)
    named = described.entity.name if ties.named else None  # else nobody refers to a new record by its key
    return [_row(named, at, *one) for at, one in enumerate(told)]


def _contents(
    entity: Entity, changes: Changes, columns: Sequence[str], keys: Sequence[str | None]
) -> Iterator[tuple[bytes, bool]]:
    """Each record as JSON, as the API takes it, and whether no field of it is to be written. A parent that is named by an
    external id (Account.ERP_Id__c) is an object, or null."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    parts: list[pa.Array | str] = [f'{{"attributes":{{"type":"{entity.name}"}}']
    some = np.zeros(len(changes.steps), dtype=bool)
    for name in columns:
        told, content = changes.written[name].to_numpy(dtype=bool), values.json(changes.records[name])
        relationship, point, inner = name.partition(".")
        if point:
            nested = pc.binary_join_element_wise(f'{{"{inner}":', content, "}", "")
            content = pc.if_else(pc.equal(content, "null"), content, nested)
        if name == entity.upsert_key:
            told = told & np.array([key is None for key in keys])
        some |= told
        if told.all():
            parts += [f',"{relationship}":', content]
        else:
            parts.append(pc.if_else(pa.array(told), pc.binary_join_element_wise(f',"{relationship}":', content, ""), ""))
    ids = values.json(changes.steps["id"])
    update = pc.and_(pa.array(list(changes.steps["action"] == "update"), pa.bool_()), pc.not_equal(ids, "null"))
    named = pc.if_else(update, pc.binary_join_element_wise(',"id":', ids, ""), "")
    if entity.upsert_key:
        written = json_strings(pa.array(keys, pa.string()))
        named = pc.coalesce(pc.binary_join_element_wise(f',"{entity.upsert_key}":', written, ""), named)
    whole = pc.binary_join_element_wise(*parts, named, "}", "")
    return zip(whole.cast(pa.binary()).to_pylist(), (~some).tolist(), strict=True)


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
    named: str | None,
    at: int,
    content: tuple[bytes, bool],
    tied: tuple[frozenset[str], frozenset[str]],
    key: str | None,
    action: str | None,
    id_: str | None,
    version: str | None,
    _intent: str | None,
) -> Row:
    (sent, nothing), (locks, needs) = content, tied
    own = id_[:15] if id_ else f"{named} {key.casefold()}" if key and named else None
    if own:
        locks = locks.union((own,)) if locks else frozenset((own,))
    if action == "delete":
        return Row(at, action, id_, version, None, None, 0, locks)
    empty = nothing and action == "update"
    return Row(at, str(action), id_, version, key, orjson.Fragment(sent), len(sent), locks, needs, empty)


class Ties:
    """What the values of these columns tie a record to: by the id of a parent (`ids`), or by one of its keys (`named`)."""

    def __init__(self, described: Description, columns: Sequence[str]) -> None:
        self.described = described
        self.ids = [name for name in locking(described) if name in columns]
        self.named = [name for name in columns if "." in name]

    def of(self, changes: Changes) -> Iterable[tuple[frozenset[str], frozenset[str]]]:
        """Of each record its locks, and keys of records of the same entity that must be there first."""
        nothing: frozenset[str] = frozenset()
        if not self.ids and not self.named:
            return [(nothing, nothing)] * len(changes.steps)
        names = [*self.ids, *self.named]
        told = [changes.written[name].to_numpy(dtype=bool) for name in names]
        texts = [
            [text if wanted else None for text, wanted in zip(_texts(changes.records[name]), mask, strict=True)]
            for name, mask in zip(names, told, strict=True)
        ]
        return [self._of(dict(zip(names, row, strict=True))) for row in zip(*texts, strict=True)]

    def _of(self, parents: Mapping[str, str | None]) -> tuple[frozenset[str], frozenset[str]]:
        locks, needs, entity = set(), set(), self.described.entity
        for name in self.ids:
            if id_ := parents[name]:
                locks.add(id_[:15])
        for name in self.named:
            relationship, _, key = name.partition(".")
            if (value := parents[name]) is not None:
                kinds = self.described.parents[relationship]
                locks |= {f"{kind} {value.casefold()}" for kind in kinds if kind not in _SHARED}
                if entity.name in kinds and key == entity.upsert_key:
                    needs.add(value.casefold())
        return frozenset(locks), frozenset(needs)


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
