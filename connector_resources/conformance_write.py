"""The writing half of the conformance suite. It makes records, and deletes them in the end where it can."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pandas as pd

from connector_resources.conformance_trial import (
    Check,
    Fails,
    NotApplicable,
    Once,
    Trial,
    changes_of,
    losing,
    meddled,
    no_such,
    step,
    type_of,
)
from connector_resources.contract import Connector, Field, FieldType, Outcome, Window
from connector_resources.errors import RetryableError
from connector_resources.wire import Meddle, Pass

_TRICKY: Mapping[FieldType, tuple[Any, ...]] = {
    FieldType.STRING: ("00123", 'Ünï 🎈 株式会社 "quoted" \'n \\ <b>&amp;', "x" * 32_000),
    FieldType.INTEGER: (2**53 + 1, 0, -7),
    FieldType.BOOLEAN: (False, True),
    FieldType.DATE: (date(2024, 2, 29), date(1969, 12, 31)),
    FieldType.INSTANT: (datetime(2024, 3, 31, 1, 30, 0, 123_000, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    FieldType.JSON: ('{"a":[1,"00123",null]}',),
}

_SMALL = 4  # records a page


def _writes(request: httpx.Request) -> bool:
    return request.method in ("POST", "PUT", "PATCH", "DELETE") and "token" not in request.url.path


@contextmanager
def _writing(trial: Trial) -> Iterator[Connector]:
    if not type_of(trial).write:
        raise NotApplicable("The connector only reads (capability write).")
    with trial.connector() as connector:
        yield connector


def send(trial: Trial, connector: Connector, *steps: Mapping[str, Any], probe: bool = False) -> list[dict[str, Any]]:
    """Outcome, id, version and message of each step; ids of records that were made are remembered."""
    given = changes_of(trial.entity, *steps)
    found = (connector.probe if probe else connector.write)(trial.entity, given)
    results = [
        {str(name): None if value is None or value is pd.NA else value for name, value in row.items()}
        for row in found.to_dict("records")
    ]
    made = [one["id"] for one, asked in zip(results, steps, strict=True) if asked["action"] == "create" and one["id"]]
    trial.made.extend(id_ for id_ in made if id_ not in trial.made)
    return results


def made(trial: Trial, connector: Connector, **others: Any) -> dict[str, Any]:
    """One new record. Raises Fails where the system does not take the sample."""
    (result,) = send(trial, connector, step("create", _sample(trial) | others))
    if result["outcome"] != Outcome.DONE:
        raise Fails(f"The sample is not taken ({result['outcome']}): {result['message'] or 'no reason given'}")
    return result


def _sample(trial: Trial) -> dict[str, Any]:
    """The sample; a field that no two records may share gets a text of its own."""
    values = dict(trial.sample or {})
    for name in values:
        field = trial.entity.field(name)
        if field is not None and field.unique and field.type is FieldType.STRING:
            values[name] = f"{values[name]}-{uuid4().hex[:8]}"[-(field.max_length or 255) :]
    return values


def values_kept(trial: Trial) -> str:
    with _writing(trial) as connector:
        record = made(trial, connector)
        kept, refused = 0, []
        for field in trial.entity.fields:
            if not field.writable or field.computed or field.unique or field.references or field.choices:
                continue
            for value in _tricky(field):
                (result,) = send(trial, connector, step("update", {field.name: value}, record["id"]))
                if result["outcome"] != Outcome.DONE:
                    refused.append(field.name)
                    continue
                back = trial.record(connector, record["id"]).get(field.name)
                if not _same(field, back, value):
                    raise Fails(f"A value of {field.name} ({field.type}) does not come back as it was written.")
                kept += 1
    about = f"; the system itself refused some for {', '.join(dict.fromkeys(refused))}" if refused else ""
    return f"{kept} values come back as they were written{about}."


def _tricky(field: Field) -> tuple[Any, ...]:
    if field.type is FieldType.DECIMAL:
        step_ = Decimal(1).scaleb(-field.scale)
        return Decimal(9_007_199_254_740) + step_, Decimal("-1.00").quantize(step_), Decimal(0).quantize(step_)
    values = _TRICKY.get(field.type, ())
    return tuple(value for value in values if not isinstance(value, str) or len(value) <= (field.max_length or 10**6))


def _same(field: Field, back: Any, value: Any) -> bool:
    if field.type is FieldType.JSON and back is not None:
        return bool(json.loads(back) == json.loads(value))
    return bool(back == value)


def null_and_absent(trial: Trial) -> str:
    with _writing(trial) as connector:
        record = made(trial, connector)
        before = trial.record(connector, record["id"])
        open_ = [f.name for f in trial.entity.fields if f.nullable and f.writable and not f.computed]
        name = next((one for one in open_ if before.get(one) is not None and one in (trial.sample or {})), None)
        if name is None:
            raise NotApplicable("The sample fills no field that may be empty.")
        (result,) = send(trial, connector, step("update", {name: None}, record["id"]))
        if result["outcome"] != Outcome.DONE:
            raise NotApplicable(f"The system does not let {name} be cleared.")
        after = trial.record(connector, record["id"])
        if after.get(name) is not None:
            raise Fails(f"{name} was written as null, and it still holds a value.")
        own = {name, trial.entity.modified, *(f.name for f in trial.entity.fields if f.computed)}
        moved = [one for one in before if one not in own and before[one] != after.get(one)]
        if moved:
            raise Fails(f"Only {name} was written, and {', '.join(moved)} changed with it.")
    return f"Null clears {name}; fields that are not written are left alone."


def no_double_create(trial: Trial) -> str:
    with _writing(trial) as connector:
        before = set(trial.seen(connector, Window(trial.since, deleted=False)))
    asked = step("create", _sample(trial))
    with trial.connector() as connector:
        once = Once(losing, concerns=_writes)
        meddled(connector, once)
        (result,) = send(trial, connector, asked)
    if not once.struck:
        raise NotApplicable("The create sends no request that changes something.")
    first = result["outcome"]
    with trial.connector() as connector:
        if first == Outcome.UNKNOWN:
            (result,) = send(trial, connector, asked, probe=True)
            if result["outcome"] == Outcome.ABSENT:
                (result,) = send(trial, connector, asked)
        after = set(trial.seen(connector, Window(trial.since, deleted=False)))
    fresh = after - before
    trial.made.extend(fresh - set(trial.made))
    if len(fresh) != 1:
        raise Fails(f"A create whose answer was lost made {len(fresh)} records instead of one.")
    if result["outcome"] == Outcome.UNKNOWN:
        raise NotApplicable(
            "The connector cannot tell whether a create arrived (capability idempotency); a person has to look."
        )
    if result["outcome"] != Outcome.DONE:
        raise Fails(f"A create whose answer was lost made a record, and is called {result['outcome']}.")
    how = "sent again with its key" if first == Outcome.DONE else "found by a probe"
    return f"A create whose answer was lost made one record; it was {how}."


def same_again(trial: Trial) -> str:
    """A, B, A: three writes of their own."""
    name = _text_field(trial)
    with _writing(trial) as connector:
        record = made(trial, connector)
        for value in ("A", "B", "A"):
            (result,) = send(trial, connector, step("update", {name: value}, record["id"]))
            if result["outcome"] != Outcome.DONE:
                raise NotApplicable(f"The system does not take such a text in {name}.")
        back = trial.record(connector, record["id"]).get(name)
    if back != "A":
        raise Fails(f"{name} was set to A, B and A, and holds something else: a key was used for two writes.")
    return f"{name} set to A, B and A holds A."


def edit_kept(trial: Trial) -> str:
    """An update's answer is lost, somebody edits the record, and the update is sent again if the probe says so."""
    name = _text_field(trial)
    record, asked = _lost_update(trial, name)
    with trial.connector() as other:
        (edit,) = send(trial, other, step("update", {name: "theirs"}, record["id"]))
        if edit["outcome"] != Outcome.DONE:
            raise NotApplicable(f"The system does not take such a text in {name}.")
        (result,) = send(trial, other, asked, probe=True)
        if result["outcome"] == Outcome.ABSENT:
            (result,) = send(trial, other, asked)
        back = trial.record(other, record["id"]).get(name)
    if back != "theirs":
        raise Fails("An update that was sent again after a lost answer overwrote what somebody had changed meanwhile.")
    return f"An edit between the lost answer and the second look is kept ({result['outcome']})."


def _all_lost(request: httpx.Request, through: Pass) -> httpx.Response:
    return losing(request, through) if _writes(request) else through(request)


def _lost_update(trial: Trial, name: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """A record, and an update of it that got no answer. All answers are lost, or, where the connector then does not come to
    its write because it reads by POST before, one after the other."""
    each: list[Meddle] = [Once(losing, concerns=_writes, at=at) for at in range(4)]
    told: object = "an error"
    for meddle in [_all_lost, *each]:
        with _writing(trial) as connector:
            record = made(trial, connector)
        asked = step("update", {name: "ours"}, record["id"], record["version"])
        with trial.connector() as connector:
            meddled(connector, meddle)
            try:
                (result,) = send(trial, connector, asked)
            except RetryableError:
                continue
        told = result["outcome"]
        if told == Outcome.UNKNOWN:
            return record, asked
    raise Fails(f"An update that never got an answer is called {told} instead of unknown.")


def partial_failure(trial: Trial) -> str:
    name = _text_field(trial)
    with _writing(trial) as connector:
        record = made(trial, connector)
        results = send(
            trial,
            connector,
            step("create", _sample(trial)),
            step("update", {name: "x"}, no_such([*trial.whole, record["id"]])),
            step("update", {name: "y"}, record["id"]),
        )
    got = [str(one["outcome"]) for one in results]
    if got[0] != Outcome.DONE or got[2] != Outcome.DONE or got[1] not in (Outcome.REFUSED, Outcome.MOVED):
        raise Fails(f"A good, a bad and a good change came out as {', '.join(got)}.")
    return f"One record that cannot be changed is {got[1]}, and those around it are written."


def version_guards(trial: Trial) -> str:
    if not type_of(trial).conditional_write:
        raise NotApplicable("The system cannot write only if a record is unchanged (capability conditional_write).")
    name = _text_field(trial)
    with _writing(trial) as connector:
        record = made(trial, connector)
        if record["version"] is None:
            page = next(iter(connector.read_ids(trial.entity, [trial.entity.key], [record["id"]])))
            record["version"] = page.marks["version"].iloc[0]
        first, second = (
            send(trial, connector, step("update", {name: text}, record["id"], record["version"]))[0] for text in ("a", "b")
        )
    if (first["outcome"], second["outcome"]) != (Outcome.DONE, Outcome.MOVED):
        raise Fails(f"Two updates of one version came out as {first['outcome']} and {second['outcome']}, not done and moved.")
    return "Of two updates of the same version the second is moved, and not written."


def changing_under_the_read(trial: Trial) -> str:
    """Changes the earliest of each page of its own records. Where all must be read those stand last, and it does less."""
    name = _text_field(trial)
    with _writing(trial) as connector:
        records = [made(trial, connector)["id"] for _ in range(3 * _SMALL)]
        window = Window(trial.since)
        start = trial.seen(connector, Window(trial.since, deleted=False))
        moments = [moment for id_ in records if (moment := start.get(id_))]
        if type_of(trial).delta_read and moments:
            window = Window(min(moments), page_size=_SMALL)
            start = {id_: moment for id_, moment in start.items() if moment and moment >= min(moments)}
        found: set[str] = set()
        pages = 0
        for page in connector.read(trial.entity, [trial.entity.key], window):
            came = [str(id_) for id_ in page.records.index]
            found |= set(came)
            pages += 1
            if earliest := next((id_ for id_ in [*came, *records] if id_ in records), ""):
                records.remove(earliest)
                with trial.connector() as other:
                    send(trial, other, step("update", {name: f"edit {pages}"}, earliest))
    if missing := start.keys() - found:
        raise Fails(f"While records changed, {len(missing)} others did not come: pages shift; read in a stable order.")
    if pages < 2:
        raise NotApplicable("All records come in one page here: whether pages shift cannot be seen.")
    return f"{pages} pages were read while records changed, and none of {len(start)} is missing."


def deletes(trial: Trial) -> str:
    able = type_of(trial)
    with _writing(trial) as connector:
        record = made(trial, connector)
        (result,) = send(trial, connector, step("delete", id_=record["id"]))
        if result["outcome"] != Outcome.DONE:
            raise Fails(f"A record that was just made could not be deleted: {result['message']}")
        if record["id"] in trial.records(connector, [record["id"]]):
            raise Fails("A deleted record still comes as if it were there.")
        (again,) = send(trial, connector, step("delete", id_=record["id"]))
        if again["outcome"] not in (Outcome.DONE, Outcome.REFUSED):
            raise Fails(f"Deleting a record again comes out as {again['outcome']}.")
        if not able.deletes:
            return "A record is deleted; the system does not tell of deletions (capability deletes)."
        told = [
            str(id_)
            for page in connector.read(trial.entity, [trial.entity.key], Window(trial.since))
            for id_, gone in zip(page.marks.index, page.marks["deleted"], strict=True)
            if gone
        ]
        if record["id"] not in told:
            raise Fails("The next read does not tell that the record was deleted (Window.deleted).")
    return "A record is deleted, and the next read tells so."


def cleared(trial: Trial) -> str:
    with trial.connector() as connector:
        gone = (Outcome.DONE, Outcome.REFUSED)
        left = [id_ for id_ in trial.made if send(trial, connector, step("delete", id_=id_))[0]["outcome"] not in gone]
    if left:
        raise Fails(f"{len(left)} records that the suite made are still there: {', '.join(left)}.")
    return f"{len(trial.made)} records."


def _text_field(trial: Trial) -> str:
    """A text of the sample that may be changed at will."""
    for name in trial.sample or {}:
        field = trial.entity.field(name)
        if (
            field
            and field.type is FieldType.STRING
            and field.writable
            and not (field.unique or field.choices or field.references)
        ):
            return name
    raise NotApplicable("The sample holds no plain text to change.")


WRITING: Mapping[str, Check] = {
    "values come back as they were written": values_kept,
    "null and absent are different": null_and_absent,
    "a lost answer makes no second record": no_double_create,
    "A, B, A arrives as A": same_again,
    "an edit after a lost answer is kept": edit_kept,
    "one bad record does not stop the others": partial_failure,
    "a version guards against lost updates": version_guards,
    "no record is missed while others change": changing_under_the_read,
    "deletes are carried out and told": deletes,
}
