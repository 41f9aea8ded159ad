"""The reading half of the conformance suite. It changes nothing."""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx
import pandas as pd

from connector_resources.conformance_trial import (
    Check,
    Fails,
    NotApplicable,
    Once,
    Trial,
    answering,
    losing,
    meddled,
    no_such,
    type_of,
)
from connector_resources.contract import Window
from connector_resources.errors import ConfigurationError, IntegrationError
from connector_resources.frames import arrow_type
from connector_resources.wire import Meddle, Pass

_CANARY = "canary-7f3a@example.org"


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
    pages, never = 0, set(wanted)
    with trial.connector() as connector:
        for page in connector.read(trial.entity, trial.entity.names, Window(trial.since)):
            pages += 1
            _check_frame(page.records, wanted)
            never -= {name for name in never if page.absent is None or not page.absent[name].all()}
            if list(page.records.columns) != list(trial.entity.names):
                raise Fails("A page does not have the columns that were asked for, in their order.")
            if page.absent is not None and not page.absent.index.equals(page.records.index):
                raise Fails("The mask of absent values has another index than the records.")
    gone = f" In no record: {', '.join(sorted(never))}; check where the field stands." if pages and never else ""
    return f"{pages} pages, every column of the type that the description gives it.{gone}"


def _check_frame(frame: pd.DataFrame, wanted: Mapping[str, Any]) -> None:
    for name in frame.columns:
        kind = getattr(frame[name].dtype, "pyarrow_dtype", None)
        if kind != wanted[str(name)]:
            raise Fails(f"The column {name} is {frame[name].dtype} and not Arrow's {wanted[str(name)]}.")


def by_ids(trial: Trial) -> str:
    ids = list(trial.whole)
    some = list(dict.fromkeys([*ids[:3], *ids[-3:]]))
    with trial.connector() as connector:
        found = trial.records(connector, [*some, no_such(ids)])
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
