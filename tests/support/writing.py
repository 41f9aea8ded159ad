"""Changes as the load step hands them to a connector, made by hand."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import pandas as pd
import pyarrow as pa

from connector_resources.contract import Changes, Connector, Entity, Outcome
from connector_resources.frames import arrow_type


def change(
    action: str, id_: str | None = None, version: str | None = None, intent: str | None = None, **values: Any
) -> dict[str, Any]:
    """One change; a field that is not named is not written."""
    return {"action": action, "id": id_, "version": version, "intent": intent or str(uuid4()), "values": values}


def changes(entity: Entity, *wanted: Mapping[str, Any]) -> Changes:
    """The frames of these changes; their index is r0, r1, …"""
    index = pd.Index([f"r{number}" for number in range(len(wanted))])
    names = list(dict.fromkeys(name for one in wanted for name in one["values"]))
    records = {name: _column(entity, name, [one["values"].get(name) for one in wanted]) for name in names}
    written = {name: [name in one["values"] for one in wanted] for name in names}
    steps = {name: [one[name] for one in wanted] for name in ("action", "id", "version", "intent")}
    return Changes(
        pd.DataFrame(records, index=index),
        pd.DataFrame(written, index=index, columns=names, dtype=bool),
        pd.DataFrame(steps, index=index, dtype=object),
    )


def write(connector: Connector, entity: Entity, *wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Outcome, id, version and message of each change, in their order."""
    return told(connector.write(entity, changes(entity, *wanted)))


def told(outcomes: pd.DataFrame) -> list[dict[str, Any]]:
    assert list(outcomes.columns) == ["outcome", "id", "version", "message"]
    assert [str(name) for name in outcomes.index] == [f"r{number}" for number in range(len(outcomes))]
    assert set(outcomes["outcome"]) <= set(Outcome)
    return [{str(name): value for name, value in row.items()} for row in outcomes.to_dict("records")]


def _column(entity: Entity, name: str, values: Sequence[Any]) -> pd.arrays.ArrowExtensionArray:
    field = entity.field(name)
    return pd.arrays.ArrowExtensionArray(pa.array(values, arrow_type(field) if field else pa.string()))
