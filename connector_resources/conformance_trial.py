"""A connector on trial: what the checks of the conformance suite share, and the faults that they make on its wire."""

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, TypeAlias
from uuid import uuid4

import httpx
import pandas as pd
import pyarrow as pa

from connector_resources.contract import Capabilities, Changes, Connector, Entity, GrantState, Page, Window
from connector_resources.errors import ConfigurationError
from connector_resources.frames import arrow_type
from connector_resources.http import Http
from connector_resources.lined_yaml import suggestion
from connector_resources.manifest import FieldSpec
from connector_resources.values import Misfit, incoming
from connector_resources.wire import Meddle, Pass

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)
_GLOBAL = re.compile(r"(\w+):([0-9]+)", re.ASCII)  # behind base64


class Fails(Exception):
    """The connector breaks its promise."""


class NotApplicable(Exception):
    """The connector does not promise this, or there is nothing to try it on."""


@dataclass
class Held:
    """A CredentialStore in memory, for one process that tries a connector out. Nulls count as not there."""

    credentials: dict[str, Any]

    def load(self) -> Mapping[str, str]:
        return {name: str(value) for name, value in self.credentials.items() if value is not None}

    @contextmanager
    def exclusive(self) -> Iterator["Held"]:
        yield self

    def store(self, changed: Mapping[str, str | None], state: GrantState | None = None) -> None:  # noqa: ARG002 - nobody asks
        self.credentials = {name: value for name, value in {**self.credentials, **changed}.items() if value is not None}


def no_such(ids: Iterable[str]) -> str:
    """An id that none of these is, in their shape (numbers, UUIDs, Relay's global ids): another one would be refused for its
    shape."""
    known = list(ids)
    if known and all(id_.isdecimal() for id_ in known):
        return str(max(map(int, known)) + 1_000_003).zfill(len(known[-1]))
    if known and all(_UUID.fullmatch(id_) for id_ in known):
        return str(uuid4())
    told = [_GLOBAL.fullmatch(_decoded(id_)) for id_ in known]
    if known and all(told):
        kind, numbers = next(one[1] for one in told if one), [one[2] for one in told if one]
        return base64.b64encode(f"{kind}:{no_such(numbers)}".encode()).decode()
    return "7f3a7f3a7f3a7f3a"


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("ascii")
    except ValueError:
        return ""


@dataclass
class Trial:
    """One connector on trial with one entity. `opened` makes a connector of its own for each check; `sample`: values of a
    record that the system takes, as Python's; `since`: leave out what is older."""

    opened: Callable[[], Connector]
    entity_name: str
    sample: Mapping[str, Any] | None = None
    since: datetime | None = None
    made: list[str] = field(default_factory=list)  # ids of records that the suite made

    @contextmanager
    def connector(self) -> Iterator[Connector]:
        with self.opened() as connector:
            yield connector

    @cached_property
    def entity(self) -> Entity:
        with self.connector() as connector:
            return connector.describe(self.entity_name)

    @cached_property
    def began(self) -> datetime:
        """What was changed later may have come in between. Clocks differ by a minute at most."""
        with self.connector() as connector:
            return connector.given.now() - timedelta(minutes=1)

    @cached_property
    def whole(self) -> dict[str, datetime | None]:
        """Every record that is not deleted → when it was modified."""
        with self.connector() as connector:
            return self.seen(connector, Window(self.since, deleted=False))

    def seen(self, connector: Connector, window: Window) -> dict[str, datetime | None]:
        found: dict[str, datetime | None] = {}
        for page in connector.read(self.entity, [self.entity.key], window):
            if page.marks.index.has_duplicates:
                raise Fails("One page holds an id twice.")
            moments = pa.array(page.marks["modified"]).to_pylist()
            found |= dict(zip(map(str, page.marks.index), moments, strict=True))
        return found

    def records(self, connector: Connector, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Fields of these records by id; what is absent is missing, and so are deleted records."""
        return records(connector.read_ids(self.entity, self.entity.names, ids))

    def record(self, connector: Connector, id_: str) -> dict[str, Any]:
        """Raises Fails where it does not come."""
        found = self.records(connector, [id_])
        if id_ not in found:
            raise Fails("A record that is there does not come when it is read by its id.")
        return found[id_]

    @property
    def dated(self) -> list[tuple[datetime, str]]:
        """Records by modification. Raises NotApplicable where there are none, or no such field."""
        if not self.entity.modified:
            raise NotApplicable(f"{self.entity_name} has no field that says when a record last changed.")
        found = sorted((moment, id_) for id_, moment in self.whole.items() if moment is not None)
        if not found:
            raise NotApplicable(f"There is no record of {self.entity_name} to try it on.")
        return found


Check: TypeAlias = Callable[[Trial], str]  # what it saw; raises Fails or NotApplicable


def records(pages: Iterable[Page]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for page in pages:
        columns = {str(name): pa.array(page.records[name]).to_pylist() for name in page.records.columns}
        for at, (id_, deleted) in enumerate(zip(page.records.index, page.marks["deleted"], strict=True)):
            if not deleted:
                absent = {str(n) for n in page.absent.columns if page.absent[n].iloc[at]} if page.absent is not None else set()
                found[str(id_)] = {name: values[at] for name, values in columns.items() if name not in absent}
    return found


def meddled(connector: Connector, meddle: Meddle) -> None:
    """Let `meddle` decide what becomes of the connector's requests. Raises NotApplicable where they do not go through Http."""
    found = [part for part in vars(connector).values() if isinstance(part, Http)]
    if not found:
        raise NotApplicable("The connector does not use our HTTP floor, so that no fault can be made on its wire.")
    for http in found:
        http.wire.meddle = meddle


class Once:
    """Does something to the request that comes at place `at` (0: the first) among those that `concerns` says yes to."""

    def __init__(self, act: Meddle, concerns: Callable[[httpx.Request], bool] = lambda _: True, at: int = 0) -> None:
        self.act = act
        self.concerns = concerns
        self.at = at
        self.seen = 0
        self.struck = False

    def __call__(self, request: httpx.Request, through: Pass) -> httpx.Response:
        if self.concerns(request):
            self.seen += 1
            if self.seen == self.at + 1:
                self.struck = True
                return self.act(request, through)
        return through(request)


def losing(request: httpx.Request, through: Pass) -> httpx.Response:
    """The request arrives, and its answer does not."""
    through(request).read()
    raise httpx.ReadError("lost", request=request)


def answering(status: int, body: str = "", **headers: str) -> Meddle:
    """The request does not arrive, and this comes back."""
    return lambda request, _: httpx.Response(status, text=body, headers=headers, request=request)


def type_of(trial: Trial) -> Capabilities:
    """What the connector promises."""
    with trial.connector() as connector:
        return connector.capabilities


# Changes to try


def sample_of(entity: Entity, values: Mapping[str, Any]) -> dict[str, Any]:
    """A sample from JSON (numbers as Decimals), typed by the entity's fields. Raises ConfigurationError naming a field."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        field = entity.field(name)
        if field is None:
            raise ConfigurationError(f"The sample's '{name}' is no field of {entity.name}{suggestion(name, entity.names)}")
        try:
            found[name] = None if value is None else incoming(FieldSpec(field, (), ()), value)
        except (Misfit, ValueError):
            raise ConfigurationError(f"The sample's value of {name} is no {field.type}.") from None
    return found


def step(
    action: str, values: Mapping[str, Any] | None = None, id_: str | None = None, version: str | None = None
) -> dict[str, Any]:
    return {"action": action, "id": id_, "version": version, "intent": str(uuid4()), "values": dict(values or {})}


def changes_of(entity: Entity, *steps: Mapping[str, Any]) -> Changes:
    """One row a step (action, id, version, intent, values by field name)."""
    index = pd.Index([str(at) for at in range(len(steps))])
    names = list(dict.fromkeys(name for one in steps for name in one["values"]))
    fields = [found for name in names if (found := entity.field(name))]

    def typed(values: list[Any], kind: Any) -> pd.arrays.ArrowExtensionArray:
        return pd.arrays.ArrowExtensionArray(pa.array(values, kind))

    values = {f.name: typed([one["values"].get(f.name) for one in steps], arrow_type(f)) for f in fields}
    written = {f.name: [f.name in one["values"] for one in steps] for f in fields}
    told = {name: typed([one[name] for one in steps], pa.string()) for name in ("action", "id", "version", "intent")}
    return Changes(
        pd.DataFrame(values, index=index), pd.DataFrame(written, index=index, dtype=bool), pd.DataFrame(told, index=index)
    )
