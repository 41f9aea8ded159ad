"""Writing through a manifest: one call a record, or batches; and finding out what became of a write that got no answer.

A refusal is the record's, and the others go on. An error that is not about a record (no network, no permission) is raised if
nothing was sent before; else what has not been sent yet is UNKNOWN too, and a probe will find it ABSENT.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from connector_resources.answers import Told
from connector_resources.contract import Changes, Outcome
from connector_resources.errors import (
    AnswerLost,
    AnswerTooLarge,
    ConfigurationError,
    IntegrationError,
    RecordError,
    Redirected,
    RetryableError,
    SystemUnavailable,
)
from connector_resources.frames import arrow_array
from connector_resources.generic_read import Ask
from connector_resources.manifest import Batch, EntitySpec, Header, Path, Writing
from connector_resources.paging import Reply
from connector_resources.refusals import Gone, Moved, Nonsense, Refusals, shown_code
from connector_resources.templates import NOTHING, dropped, fill, places, texts
from connector_resources.values import Misfit, at, outgoing, put, token, truth

if TYPE_CHECKING:
    import pandas as pd

_NOT_SENT = "It was not sent. {}"
_LOST = "{} may have carried this change out, but its answer was lost; it is looked up before it is sent again."
_UNCLEAR = "{} It is looked up before it is sent again."


@dataclass(frozen=True)
class Step:
    """One change: `values` by field name as Python's, those that are to be written only."""

    row: Any
    action: str
    id: str | None
    version: str | None
    intent: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    outcome: Outcome
    id: str | None = None
    version: str | None = None
    message: str | None = None


def steps(changes: Changes) -> list[Step]:
    """The rows of a frame of changes."""
    import pyarrow as pa

    columns = {name: pa.array(changes.records[name]).to_pylist() for name in changes.records.columns}
    written = {name: changes.written[name].to_numpy(dtype=bool) for name in columns}
    told = {name: pa.array(changes.steps[name], pa.string()).to_pylist() for name in ("action", "id", "version", "intent")}
    return [
        Step(
            row=row,
            action=told["action"][place],
            id=told["id"][place],
            version=told["version"][place],
            intent=told["intent"][place],
            values={name: values[place] for name, values in columns.items() if written[name][place]},
        )
        for place, row in enumerate(changes.steps.index)
    ]


def outcomes(changes: Changes, results: Sequence[Result]) -> "pd.DataFrame":
    """The frame that a connector's `write` and `probe` return."""
    import pandas as pd
    import pyarrow as pa

    index = changes.steps.index
    columns = {
        name: pd.Series(
            pd.arrays.ArrowExtensionArray(arrow_array([getattr(r, name) for r in results], pa.string())), index=index
        )
        for name in ("id", "version", "message")
    }
    outcome = pd.Series([result.outcome for result in results], index=index, dtype=object)
    return pd.DataFrame({"outcome": outcome, **columns}, columns=["outcome", "id", "version", "message"])


class Writer:
    """Writes to one entity. `textual`: requests know no types but text."""

    def __init__(self, ask: Ask, spec: EntitySpec, title: str, refusals: Refusals) -> None:
        self.ask = ask
        self.spec = spec
        self.title = title
        self.refusals = refusals

    def write(self, changes: Changes) -> "pd.DataFrame":
        given = steps(changes)
        self._check(given)
        unfit = {one.row: Result(Outcome.REFUSED, one.id, None, why) for one in given if (why := self._unfit(one))}
        results: dict[Any, Result] = {}
        unsent = ""
        for some, batch in self._calls([one for one in given if one.row not in unfit]):
            try:
                results |= self._batched(some, batch) if batch else {some[0].row: self._single(some[0])}
            except IntegrationError as problem:
                if not results:
                    raise
                if not isinstance(problem, RetryableError):  # what is tried again later was refused before it was carried out
                    results |= {one.row: Result(Outcome.UNKNOWN, one.id, None, str(problem)) for one in some}
                unsent = _NOT_SENT.format(problem)
                break
        results |= unfit
        return outcomes(changes, [results.get(one.row, Result(Outcome.ABSENT, one.id, None, unsent)) for one in given])

    def _check(self, given: Sequence[Step]) -> None:
        """Raises ConfigurationError for an action or a field that cannot be written at all, before anything is sent."""
        for action in dict.fromkeys(one.action for one in given):
            if self.way(action) is None:
                raise ConfigurationError(
                    f"The manifest of {self.title} describes no {action} of {self.spec.entity.name}; add it."
                )
        for name in dict.fromkeys(name for one in given for name in one.values):
            field = self.spec.entity.field(name)
            if field is None or not field.writable:
                raise ConfigurationError(
                    f"{self.title} does not let {self.spec.entity.name}.{name} be written; map another field."
                )

    def _unfit(self, one: Step) -> str:
        """Why a record is not sent: a value, or a field that its request would leave out, which must not count as written."""
        try:
            filled = self.values(one)
            way = self.way(one.action)
            assert way is not None  # noqa: S101 - _check has looked
            sent = {} if isinstance(way, Batch) else texts(way.call.headers, filled)
        except (Misfit, ValueError, TypeError):
            return "A value of it cannot be written as the manifest says."
        if bad := next((name for name, text in sent.items() if not (text.isascii() and text.isprintable())), None):
            return f"The request's header {bad} would hold a character that no header can (RFC 9110, 5.5)."
        request = way.item if isinstance(way, Batch) else (way.call.path, way.call.params, way.call.headers, way.call.body)
        if lost := next(dropped(request, filled, {f"record.{name}" for name in one.values}), None):
            return f"The manifest's text '{lost}' is left out where one of its values is missing: send each field by itself."
        stamp = self.spec.writes["create"].stamp if one.action == "create" and "create" in self.spec.writes else None
        if stamp and (name := next((n for n in one.values if _overlaps(self.spec.fields[n].write_path, stamp)), None)):
            return f"The manifest stamps {name} when it creates a {self.spec.entity.name}, so no value of ours can go there."
        said = set(places(request))
        if "record" in said:
            return ""
        said |= {f"record.{self.spec.entity.upsert_key}"} if "key" in said else set()
        left = next((name for name in one.values if f"record.{name}" not in said), None)
        if left is None:
            return ""
        what = f"{one.action} of {self.spec.entity.name}"
        return f"The manifest's {what} does not say {{record.{left}}}: add it there, or map {left} inbound only."

    def way(self, action: str) -> "Writing | Batch | None":
        """How an action is carried out; None where the manifest describes no way."""
        if self.spec.batch and action in self.spec.batch.actions:
            return self.spec.batch
        if action == "create" and "upsert" in self.spec.writes:
            return self.spec.writes["upsert"]
        return self.spec.writes.get(action)

    def _calls(self, given: Sequence[Step]) -> Iterator[tuple[list[Step], Batch | None]]:
        """Steps that go out in one call, in order."""
        waiting: list[Step] = []
        for one in given:
            way = self.way(one.action)
            if isinstance(way, Batch):
                waiting.append(one)
                if len(waiting) == way.size:
                    yield waiting, way
                    waiting = []
            else:
                yield [one], None
        if waiting:
            yield waiting, self.spec.batch

    def values(self, one: Step) -> dict[str, Any]:
        """What placeholders name: the record nested as the manifest says, and single fields of it by name."""
        record: dict[str, Any] = {}
        by_name = {name: outgoing(self.spec.fields[name], value) for name, value in one.values.items()}
        for name, value in by_name.items():
            put(record, self.spec.fields[name].write_path, value)
        create = self.spec.writes.get("create")
        if one.action == "create" and create and create.stamp:
            put(record, create.stamp, one.intent)
        key, way = by_name.get(self.spec.entity.upsert_key or ""), self.way(one.action)
        any_version = way.any_version if isinstance(way, Writing) else None
        return {
            "record": _Fields(record, by_name),
            "id": token(one.id, self.spec.key.number),
            "version": any_version if one.version is None else token(one.version, self.spec.numbered_version),
            "intent": one.intent,
            "key": key,
            "action": one.action,
        }

    def _single(self, one: Step) -> Result:
        way = self.way(one.action)
        assert isinstance(way, Writing)  # noqa: S101 - _check has looked
        upsert = way is self.spec.writes.get("upsert")
        values = self.values(one)
        if upsert and values["key"] in (None, ""):
            return Result(
                Outcome.REFUSED, one.id, None, f"It has no {self.spec.entity.upsert_key}, by which it is recognised."
            )
        try:
            reply = self.ask(way.call, values, about_record=True, again=way.keyed or upsert)
        except Gone as gone:
            return Result(Outcome.DONE, one.id) if one.action == "delete" else Result(Outcome.REFUSED, one.id, None, str(gone))
        except Moved as moved:
            return Result(Outcome.MOVED, one.id, None, str(moved))
        except RecordError as refused:
            return Result(Outcome.REFUSED, one.id, None, str(refused))
        except Redirected as elsewhere:
            return _elsewhere(one, elsewhere)
        except Nonsense as unclear:
            return Result(Outcome.UNKNOWN, one.id, None, _UNCLEAR.format(unclear))
        except (AnswerLost, AnswerTooLarge, SystemUnavailable):
            return Result(Outcome.UNKNOWN, one.id, None, _LOST.format(self.title))
        return self._done(one, way, reply)

    def _done(self, one: Step, way: Writing, reply: Reply) -> Result:
        refused = reply.value(way.refusals) if way.refusals else None
        if refused:
            return self._refused(one, refused)
        id_ = reply.value(way.id)
        if isinstance(way.id, Header) and isinstance(id_, str):
            id_ = self._id_in(id_)
        version = reply.value(way.version)
        if one.action == "create" and id_ in (None, ""):
            return Result(Outcome.UNKNOWN, one.id, None, _UNCLEAR.format(self._nameless(way)))
        found = str(id_) if id_ not in (None, "") else one.id
        return Result(Outcome.DONE, found, str(version) if version is not None else None)

    def _id_in(self, url: str) -> str:
        """The last step of a URL, or what stands there where the manifest's paths have {id}: the 7 of OData's `Things(7)`."""
        _, slash, last = url.rstrip("/").rpartition("/")
        last = unquote(last) if slash else last
        ways = (self.spec.by_id, self.spec.writes.get("update"), self.spec.writes.get("delete"))
        for step in (step for way in ways if way for step in way.call.path.split("/") if "{id}" in step):
            if found := re.fullmatch(re.escape(step).replace(r"\{id\}", "(.+)"), last):
                return found[1]
        return last

    def _nameless(self, way: Writing) -> str:
        place = way.id.name if isinstance(way.id, Header) else ".".join(way.id or ())
        where = f"at {place}" if place else "that the manifest names"
        return f"{self.title} answered a create, and told no id {where}: check its `id` in the manifest."

    def _refused(self, one: Step, refused: Any) -> Result:
        """By the first of a list of refusals: its code and the names of fields; never its text, which may quote values."""
        first = refused[0] if isinstance(refused, list) else refused
        told = first if isinstance(first, Mapping) else {}
        word = first if isinstance(first, str) and not re.search(r"\s", first) else None  # the name of a union's type
        code, sent = shown_code(told.get("code", word)), Told("", self.values(one))
        known = self.refusals.of(None, code, about_record=True, told=sent)
        if isinstance(known, Gone) and one.action == "delete":
            return Result(Outcome.DONE, one.id)
        if known is not None:
            return Result(Outcome.MOVED if isinstance(known, Moved) else Outcome.REFUSED, one.id, None, str(known))
        field = told.get("field")
        path = shown_code(".".join(map(str, field)) if isinstance(field, list) else field)
        about = ", ".join(sent.without_values(part) for part in (code, path) if part)
        why = f"{self.title} does not take this record{f' ({about})' if about else ''}; correct it where it comes from."
        return Result(Outcome.REFUSED, one.id, None, why)

    def _batched(self, some: Sequence[Step], batch: Batch) -> dict[Any, Result]:
        items = [fill(batch.item, self.values(one)) for one in some]
        try:
            reply = self.ask(batch.call, {"items": items}, again=batch.keyed)
            found = at(reply.content, batch.results)
            if not isinstance(found, list) or len(found) != len(some):
                raise Nonsense(f"{self.title} answered a batch of {len(some)} without as many results.")
        except Redirected as elsewhere:
            return {one.row: _elsewhere(one, elsewhere) for one in some}
        except Nonsense as unclear:
            return {one.row: Result(Outcome.UNKNOWN, one.id, None, _UNCLEAR.format(unclear)) for one in some}
        except (AnswerLost, AnswerTooLarge, SystemUnavailable):
            return {one.row: Result(Outcome.UNKNOWN, one.id, None, _LOST.format(self.title)) for one in some}
        return {one.row: self._of_batch(one, batch, result) for one, result in zip(some, found, strict=True)}

    def _of_batch(self, one: Step, batch: Batch, result: Any) -> Result:
        def told(path: Path | None) -> Any:
            found = at(result, path) if path else None
            return None if found is NOTHING else found

        raw, code = told(batch.status), shown_code(told(batch.code)) if batch.code else ""
        status = int(raw) if isinstance(raw, int | str) and str(raw).isdigit() else None
        said = told(batch.ok) if batch.ok else not code and (status or 200) < 300
        well = truth(said)
        if well is None and said is not None:
            return Result(Outcome.UNKNOWN, one.id, None, f"{self.title} says neither yes nor no to this record.")
        if well:
            id_, version = told(batch.id), told(batch.version)
            return Result(
                Outcome.DONE, one.id if id_ in (None, "") else str(id_), str(version) if version is not None else None
            )
        problem = self.refusals.of(status, code, about_record=True, told=Told("", self.values(one)))
        if isinstance(problem, Gone) and one.action == "delete":
            return Result(Outcome.DONE, one.id)
        if isinstance(problem, RecordError) or problem is None:
            kind = Outcome.MOVED if isinstance(problem, Moved) else Outcome.REFUSED
            why = str(problem) if problem else f"{self.title} does not take this record; correct it where it comes from."
            return Result(kind, one.id, None, why)
        return Result(Outcome.UNKNOWN, one.id, None, str(problem))


def _elsewhere(one: Step, redirected: Redirected) -> Result:
    """A record's own matter: others may have their place still."""
    return Result(Outcome.REFUSED if redirected.undone else Outcome.UNKNOWN, one.id, None, str(redirected))


def _overlaps(one: Path, other: Path) -> bool:
    return all(a == b for a, b in zip(one, other, strict=False))


class _Fields(dict[str, Any]):
    """A record as it is written, whose single fields are found by name: {record.city} wherever city stands in it."""

    def __init__(self, nested: Mapping[str, Any], by_name: Mapping[str, Any]) -> None:
        super().__init__(nested)
        self.by_name = by_name

    def get(self, name: str, default: Any = None) -> Any:
        return self.by_name.get(name, default)
