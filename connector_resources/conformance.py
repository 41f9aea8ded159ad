"""The conformance suite: what every connector must do, tried on a real endpoint.

Reading is tried on any entity. Writing makes records, so it is tried only where a sample of values is given. Faults are made
on our own side of the wire (wire.py): a request really goes out, and its answer is thrown away. Nothing here knows a vendor.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeAlias

import httpx
import pandas as pd
import pyarrow as pa

from connector_resources.contract import Connector, Entity, Page, Window
from connector_resources.errors import ConfigurationError, IntegrationError
from connector_resources.frames import arrow_type
from connector_resources.http import Http
from connector_resources.wire import Meddle, Pass

_CANARY = "canary-7f3a@example.org"
_NO_RECORD = "7f3a7f3a7f3a7f3a"


class Verdict(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Finding:
    """What one check found. `sentence`: what was seen, or what is missing and where to put it right."""

    name: str
    verdict: Verdict
    sentence: str


class Fails(Exception):
    """The connector breaks its promise."""


class NotApplicable(Exception):
    """The connector does not promise this, or there is nothing to try it on."""


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


Check: TypeAlias = Callable[[Trial], str]


def records(pages: Iterable[Page]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for page in pages:
        columns = {str(name): pa.array(page.records[name]).to_pylist() for name in page.records.columns}
        for at, (id_, deleted) in enumerate(zip(page.records.index, page.marks["deleted"], strict=True)):
            if not deleted:
                absent = {str(n) for n in page.absent.columns if page.absent[n].iloc[at]} if page.absent is not None else set()
                found[str(id_)] = {name: values[at] for name, values in columns.items() if name not in absent}
    return found


def conform(trial: Trial) -> Iterator[Finding]:
    """Every check's finding, one after the other; those that write only with a sample."""
    from connector_resources.conformance_write import WRITING, cleared

    for name, check in READING.items():
        yield _found(name, check, trial)
    for name, check in WRITING.items():
        if trial.sample is None:
            yield Finding(
                name, Verdict.NOT_APPLICABLE, "Nothing was written: it makes records, so it is tried only when asked for."
            )
        else:
            yield _found(name, check, trial)
    if trial.made:
        yield _found("what was made is deleted again", cleared, trial)


def _found(name: str, check: Check, trial: Trial) -> Finding:
    try:
        return Finding(name, Verdict.PASSED, check(trial))
    except NotApplicable as reason:
        return Finding(name, Verdict.NOT_APPLICABLE, str(reason))
    except (Fails, IntegrationError) as problem:
        return Finding(name, Verdict.FAILED, str(problem))


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


# Reading


def described(trial: Trial) -> str:
    entity = trial.entity
    if entity.field(entity.key) is None:
        raise Fails(f"The description's key {entity.key} is none of its fields.")
    with trial.connector() as connector:
        if trial.entity_name not in connector.entities():
            raise Fails(f"It is not among the entities that the connector lists: add {trial.entity_name}.")
        try:
            connector.describe("no_such_entity_7f3a")
        except ConfigurationError:
            return f"{len(entity.fields)} fields, key {entity.key}, modified {entity.modified or 'not told'}."
    raise Fails("An entity that does not exist is described all the same, instead of a ConfigurationError.")


def reached_the_end(trial: Trial) -> str:
    dated = trial.dated
    middle, began = dated[len(dated) // 2][0], trial.began
    with trial.connector() as connector:
        later = trial.seen(connector, Window(middle, deleted=False))
    known = {id_ for moment, id_ in dated if moment >= middle}
    unknown = later.keys() - trial.whole.keys()
    strange = [id_ for id_ in unknown if (moment := later[id_]) is not None and moment < began]
    if strange:
        raise Fails(
            f"{len(strange)} records of the later half did not come when everything was read: it stops before the last page."
        )
    return f"{len(trial.whole)} records; the later half ({len(known)}), read by itself, brings no other ones."


def borders(trial: Trial) -> str:
    if not type_of(trial).delta_read:
        raise NotApplicable("The connector cannot read only what has changed (capability delta_read).")
    dated = trial.dated
    places = sorted({0, len(dated) // 3, len(dated) // 2, len(dated) - 1})
    with trial.connector() as connector:
        for place in places:
            moment = dated[place][0]
            found = trial.seen(connector, Window(moment, deleted=False))
            missing = [id_ for at, id_ in dated if at >= moment and id_ not in found]
            if missing:
                raise Fails(f"{len(missing)} records at or after a watermark are not read from it: `since` must be inclusive.")
        ahead = trial.seen(connector, Window(dated[-1][0] + timedelta(days=400), deleted=False))
    if ahead:
        raise Fails(f"A watermark in the future still brings {len(ahead)} records: `since` does not reach the request.")
    return f"From {len(places)} watermarks, each record that shares the instant or comes later is read."


def typed(trial: Trial) -> str:
    wanted = {one.name: arrow_type(one) for one in trial.entity.fields}
    pages = 0
    with trial.connector() as connector:
        for page in connector.read(trial.entity, trial.entity.names, Window(trial.since)):
            pages += 1
            _check_frame(page.records, wanted)
            if list(page.records.columns) != list(trial.entity.names):
                raise Fails("A page does not have the columns that were asked for, in their order.")
            if page.absent is not None and not page.absent.index.equals(page.records.index):
                raise Fails("The mask of absent values has another index than the records.")
    return f"{pages} pages, every column of the type that the description gives it."


def _check_frame(frame: pd.DataFrame, wanted: Mapping[str, Any]) -> None:
    for name in frame.columns:
        kind = getattr(frame[name].dtype, "pyarrow_dtype", None)
        if kind != wanted[str(name)]:
            raise Fails(f"The column {name} is {frame[name].dtype} and not Arrow's {wanted[str(name)]}.")


def by_ids(trial: Trial) -> str:
    ids = list(trial.whole)
    some = list(dict.fromkeys([*ids[:3], *ids[-3:]]))
    with trial.connector() as connector:
        found = trial.records(connector, [*some, _NO_RECORD])
    if set(found) - set(some) or len(found) < len(some):
        raise Fails(f"Of {len(some)} records that exist and one that does not, {len(found)} came.")
    return f"{len(some)} records by their ids; one that does not exist is missing and no error."


def unknown_field(trial: Trial) -> str:
    with trial.connector() as connector:
        try:
            list(connector.read(trial.entity, ["no_such_field_7f3a"], Window()))
        except ConfigurationError as refusal:
            if "no_such_field_7f3a" in str(refusal):
                return "A field that does not exist is refused by name."
    raise Fails("A field that does not exist must be refused with a ConfigurationError that names it.")


def survives(trial: Trial) -> str:
    faults: Mapping[str, Meddle] = {
        "429 with Retry-After": answering(429, **{"Retry-After": "0"}),
        "429": answering(429),
        "503": answering(503),
        "a lost answer": losing,
    }
    struck = 0
    for name, fault in faults.items():
        for at in (0, 1):
            once = Once(fault, concerns=lambda request: "token" not in request.url.path, at=at)
            with trial.connector() as connector:
                meddled(connector, once)
                found = trial.seen(connector, Window(trial.since, deleted=False))
            struck += once.struck
            missing = len(trial.whole.keys() - found.keys())
            if missing:
                raise Fails(f"After {name} at request {at + 1}, {missing} records did not come.")
    return f"{struck} faults (429, 503, lost answers) during reads, and every record came."


def signs_in_again(trial: Trial) -> str:
    def spoil(request: httpx.Request, through: Pass) -> httpx.Response:
        request.headers["Authorization"] = "Bearer spent"
        return through(request)

    for at in (1, 0):
        once = Once(spoil, concerns=lambda request: request.headers.get("authorization", "").startswith("Bearer "), at=at)
        with trial.connector() as connector:
            if connector.given.authentication_method != "oauth2":
                raise NotApplicable("The connector signs in with credentials that do not expire by themselves.")
            meddled(connector, once)
            found = trial.seen(connector, Window(trial.since, deleted=False))
        if once.struck:
            if trial.whole.keys() - found.keys():
                raise Fails("After a token had expired in the middle, records were missing.")
            return "A token that expires during a read is replaced, and every record comes."
    raise NotApplicable("No request carries a bearer token.")


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def redacted(trial: Trial) -> str:
    told, lines, root = [], _Lines(), logging.getLogger()
    root.addHandler(lines)
    try:
        for status in (400, 401, 403, 404, 409, 422, 500):
            body = f'{{"message": "{_CANARY}", "error": {{"message": "{_CANARY}"}}}}'
            with trial.connector() as connector:
                secrets = [value for value in connector.given.credentials.load().values() if len(value) > 7]
                meddled(connector, answering(status, body, **{"Content-Type": "application/json"}))
                try:
                    connector.test()
                except IntegrationError as refusal:
                    told.append(str(refusal))
    finally:
        root.removeHandler(lines)
    for text in (*told, *lines.lines):
        if _CANARY in text:
            raise Fails("An error or a log line quotes what the other side's message says, which may hold a record's values.")
        if any(secret in text for secret in secrets):
            raise Fails("An error or a log line shows a credential.")
    if len(told) < 7:
        raise Fails(f"Of 7 refusals of the other side, {7 - len(told)} were taken for a success.")
    return f"{len(told)} refusals become errors, none of which quotes the other side's text or a credential."


def type_of(trial: Trial) -> Any:
    with trial.connector() as connector:
        return connector.capabilities


READING: Mapping[str, Check] = {
    "the entity is described": described,
    "types are kept in every column": typed,
    "the last page is reached": reached_the_end,
    "nothing is lost at the border of a watermark": borders,
    "records are read by their ids": by_ids,
    "a field that is not there is refused by name": unknown_field,
    "reads survive faults that pass": survives,
    "a sign-in that expires is renewed": signs_in_again,
    "errors and logs show no secret and no value": redacted,
}
