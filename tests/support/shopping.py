"""Connectors to the made-up shop that need not wait, and manifests that differ from the shop's in a few lines."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any
from uuid import uuid4

import pandas as pd
import pyarrow as pa

from connector_resources.contract import Changes, Connector, Entity, Given, GrantState, Page, Window
from connector_resources.frames import arrow_type
from connector_resources.manifest_parse import parse
from connector_resources.registry import manifest_class
from connector_resources.sandbox.generic import ShopSandbox


@dataclass
class Safe:
    """A CredentialStore over the shop's own credentials, whatever they are at the moment."""

    shop: ShopSandbox
    names: Sequence[str]
    changed: dict[str, str] = field(default_factory=dict)

    def load(self) -> Mapping[str, str]:
        return {name: self.shop.credentials[name] for name in self.names} | self.changed

    @contextmanager
    def exclusive(self) -> Iterator["Safe"]:
        yield self

    def store(self, changed: Mapping[str, str | None], state: GrantState | None = None) -> None:  # noqa: ARG002 - nobody asks
        self.changed = {name: value for name, value in {**self.changed, **changed}.items() if value is not None}


NAMES = {
    "api_key": ("api_key",),
    "basic": ("username", "password"),
    "oauth2": ("client_id", "client_secret"),
}


def manifest_text(name: str, *changes: tuple[str, str]) -> str:
    """The packaged manifest with these pieces of text exchanged, each of which must be there."""
    text = (resources.files("connector_resources") / "manifests" / f"{name}.yaml").read_text("utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


@dataclass
class Visit:
    """Makes connectors to the shop. `waits`: seconds that they would have slept; their clock moves by them."""

    shop: ShopSandbox
    waits: list[float] = field(default_factory=list)
    opened: list[Connector] = field(default_factory=list)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def now(self) -> datetime:
        return self.clock() + timedelta(seconds=sum(self.waits))

    def __call__(self, name: str = "sandbox-rest", *changes: tuple[str, str], method: str = "api_key", **others: Any) -> Any:
        kind: Callable[..., Connector] = manifest_class(parse(f"{name}.yaml", manifest_text(name, *changes)))
        store = others.pop("store", None) or Safe(self.shop, NAMES[method])
        given = Given(others.pop("url", self.shop.url), method, store, self.now, configuration=others.pop("configuration", {}))
        self.opened.append(kind(given, sleep=self.waits.append))
        return self.opened[-1]


def rows(pages: Iterator[Page]) -> dict[str, dict[str, Any]]:
    """Every record that was read by id, the last time it came; an absent field is missing."""
    found: dict[str, dict[str, Any]] = {}
    for page in pages:
        for at, (id_, record) in enumerate(zip(page.records.index, python(page.records), strict=True)):
            gone = () if page.absent is None else [name for name in page.absent.columns if page.absent[name].iloc[at]]
            found[str(id_)] = {name: value for name, value in record.items() if name not in gone}
    return found


def python(frame: pd.DataFrame) -> list[dict[str, Any]]:
    columns = {str(name): pa.array(frame[name]).to_pylist() for name in frame.columns}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def read(connector: Connector, entity: str = "customer", since: datetime | None = None, *fields: str) -> Any:
    described = connector.describe(entity)
    return rows(connector.read(described, fields or described.names, Window(since)))


def changes(entity: Entity, *steps: Mapping[str, Any]) -> Changes:
    """Changes of records; of each: action, id, version, intent, and the values of its fields."""
    index = pd.Index([f"row {at}" for at in range(len(steps))], name="row")
    names = list(dict.fromkeys(name for step in steps for name in step.get("values", {})))
    kinds = {name: arrow_type(found) for name in names if (found := entity.field(name))}
    values = {
        name: pd.arrays.ArrowExtensionArray(pa.array([step.get("values", {}).get(name) for step in steps], kind))
        for name, kind in kinds.items()
    }
    written = {name: [name in step.get("values", {}) for step in steps] for name in names}
    told = {
        "action": [step["action"] for step in steps],
        "id": [step.get("id") for step in steps],
        "version": [step.get("version") for step in steps],
        "intent": [step.get("intent") or str(uuid4()) for step in steps],
    }
    typed = {name: pd.arrays.ArrowExtensionArray(pa.array(column, pa.string())) for name, column in told.items()}
    return Changes(
        pd.DataFrame(values, index=index), pd.DataFrame(written, index=index, dtype=bool), pd.DataFrame(typed, index=index)
    )


def written(connector: Connector, *steps: dict[str, Any], probe: bool = False) -> list[dict[str, Any]]:
    entity = connector.describe("customer")
    found = (connector.probe if probe else connector.write)(entity, changes(entity, *steps))
    assert list(found.columns) == ["outcome", "id", "version", "message"]
    return python(found)


def create(**values: Any) -> dict[str, Any]:
    return {"action": "create", "intent": str(uuid4()), "values": {"name": "Acme", **values}}
