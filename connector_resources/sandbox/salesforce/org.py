"""The org in memory: records by sobject type, sessions, cursors and the count of calls.

All public methods are safe to call from any thread while the org is being served; tests use them to set a scene.
"""

import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from connector_resources.sandbox.salesforce.ids import record_id
from connector_resources.sandbox.salesforce.index import Index
from connector_resources.sandbox.salesforce.locks import Locks
from connector_resources.sandbox.salesforce.records import Record, instant_of, instant_text
from connector_resources.sandbox.salesforce.refusal import Refusal, not_found
from connector_resources.sandbox.salesforce.schema import SField, SObjectType, load_schema
from connector_resources.sandbox.salesforce.seed import REFERENCE, Seed
from connector_resources.sandbox.salesforce.stored import readers

if TYPE_CHECKING:
    from connector_resources.sandbox.salesforce.jobs import Job

CURSOR_LIFE = timedelta(days=2)


class Refusing(Protocol):
    """Why a record cannot be written: Salesforce's status code, and the message if not the usual one."""

    code: str
    field: str
    body: Any


@dataclass
class Cursor:
    """What is left of a query's answer: ids as the query found them; values are read when a page is served."""

    ids: list[str]
    page: Callable[[Sequence[str]], list[dict[str, Any]]]
    batch: int
    born: datetime


class Org:
    """`records["Account"][id]` is a record: its fields that are not null, deleted records included (IsDeleted).

    api_limit, api_used   calls a day, and those made so far (Sforce-Limit-Info)
    bulk_queue            looks at a bulk job after which it begins
    session_seconds       how long an access token lives
    whole_seconds         instants of writes have no more, as the real one's: two of a second look alike
    earliest_deleted      `earliestDateAvailable` of the deleted-records resource
    """

    def __init__(
        self,
        seed: int,
        accounts: int,
        contacts: int,
        now: Callable[[], datetime],
        hidden: Callable[[], frozenset[tuple[str, str]]] = frozenset,
        refusing: Callable[[str, Mapping[str, Any]], "Refusing | None"] = lambda _, __: None,
    ) -> None:
        """`hidden()`: (sobject type, field) pairs that describe, query and writes do not know. `refusing(type, record)`: why
        this record cannot be written, if so."""
        self.lock = threading.RLock()
        self.now = now
        self.schema = load_schema()
        self.readers = readers(self.schema)
        self.records = Seed(self.schema, seed, accounts, contacts).tables()
        self.api_limit = 100_000
        self.api_used = 0
        self.bulk_queue = 0
        self.session_seconds = 7200
        self.whole_seconds = False
        self.hidden = hidden
        self.refusing = refusing
        self.locks = Locks()
        self.index = Index()
        self.jobs: dict[str, Job] = {}
        self.earliest_deleted = REFERENCE
        self.user_id = next(iter(self.records["User"]))
        self.id = next(iter(self.records["Organization"]))
        self._numbers = {sobject: len(table) for sobject, table in self.records.items()}
        self._last = REFERENCE
        self._sessions: dict[str, datetime] = {}
        self._cursors: dict[str, Cursor] = {}

    def kind(self, name: str) -> SObjectType:
        """The sobject type of this name, whatever its case. Raises Refusal 404."""
        for known, kind in self.schema.items():
            if known.lower() == name.lower():
                return kind
        raise not_found()

    def fields(self, kind: SObjectType) -> Mapping[str, SField]:
        """The fields that can be seen now."""
        hidden = self.hidden()
        return (
            kind.fields
            if not hidden
            else {name: field for name, field in kind.fields.items() if (kind.name, name) not in hidden}
        )

    def field(self, kind: SObjectType, name: str) -> SField | None:
        """The field of this name, whatever its case, if it can be seen now."""
        found = kind.fields.get(name) or kind.by_lower_name.get(name.lower())
        hidden = self.hidden()
        return None if found is None or (hidden and (kind.name, found.name) in hidden) else found

    # Records

    def tick(self) -> str:
        """The instant of a write: real time, and later than each write before it, unless they are counted in whole seconds."""
        with self.lock:
            if self.whole_seconds:
                self._last = max(self.now(), self._last).replace(microsecond=0)
                return instant_text(self._last)
            self._last = max(self.now(), self._last + timedelta(milliseconds=1))
            self._last = self._last.replace(microsecond=self._last.microsecond // 1000 * 1000)
            return instant_text(self._last)

    def next_number(self, sobject: str) -> int:
        """Of the record that is made next, from 1; none comes twice, whatever was deleted."""
        return self._numbers[sobject] + 1

    def insert(self, sobject: str, rows: Iterable[Mapping[str, Any]], at: datetime | None = None) -> list[str]:
        """Store new records without checking them; their ids. All get one instant: `at`, or now."""
        with self.lock:
            stamp = instant_text(at) if at else self.tick()
            who = {"CreatedById": self.user_id, "LastModifiedById": self.user_id}
            when = dict.fromkeys(("CreatedDate", "LastModifiedDate", "SystemModstamp"), stamp)
            owner = {"OwnerId": self.user_id} if "OwnerId" in self.schema[sobject].fields else {}
            ids = []
            for row in rows:
                self._numbers[sobject] += 1
                record = {"Id": record_id(self.schema[sobject].prefix, self._numbers[sobject]), **owner}
                record |= {name: value for name, value in row.items() if value is not None}
                self.records[sobject][record["Id"]] = record | when | who
                self.index.add(sobject, record["Id"], record)
                ids.append(record["Id"])
            return ids

    def update(self, sobject: str, changes: Mapping[str, Mapping[str, Any]], at: datetime | None = None) -> None:
        """Change records (id → fields; None clears) without checking. All get one instant: `at`, or now."""
        with self.lock:
            stamp = instant_text(at) if at else self.tick()
            for id_, changed in changes.items():
                record = self.records[sobject][id_]
                record |= {**changed, "LastModifiedDate": stamp, "SystemModstamp": stamp, "LastModifiedById": self.user_id}
                for name in [name for name, value in changed.items() if value is None]:
                    del record[name]
                self.index.add(sobject, id_, changed)

    def delete(self, sobject: str, ids: Iterable[str], at: datetime | None = None) -> None:
        """Into the recycle bin, and what cascades with them (an account's contacts). One instant: `at`, or now."""
        with self.lock:
            moment = at or instant_of(self.tick())
            gone = {id_: {"IsDeleted": True} for id_ in ids}
            self.update(sobject, gone, moment)
            for child in self.schema[sobject].children:
                if child.cascade and gone:
                    table = self.records[child.sobject].values()
                    self.delete(child.sobject, [r["Id"] for r in table if _hangs(r, child.field, gone)], moment)

    def merge(self, sobject: str, winner: str, losers: Iterable[str]) -> None:
        """Merge as a user does: losers go to the recycle bin and name the winner; their children move to it."""
        with self.lock:
            stamp = instant_of(self.tick())
            gone = {id_: {"IsDeleted": True, "MasterRecordId": winner} for id_ in losers}
            for child in self.schema[sobject].children:
                table = self.records[child.sobject].values()
                moved = {r["Id"]: {child.field: winner} for r in table if _hangs(r, child.field, gone)}
                self.update(child.sobject, moved, stamp)
            self.update(sobject, gone, stamp)
            self.update(sobject, {winner: {}}, stamp)

    def copied(self) -> dict[str, dict[str, Record]]:
        """The records as they stand now, to go back to."""
        with self.lock:
            return {sobject: {id_: dict(r) for id_, r in table.items()} for sobject, table in self.records.items()}

    def restore(self, copied: Mapping[str, Mapping[str, Record]]) -> None:
        """Go back to what `copied` gave."""
        with self.lock:
            for sobject, table in self.records.items():  # in place: open cursors look into these tables
                table.clear()
                table.update(copied[sobject])
            self.index.clear()

    def stamp(self, sobject: str, ids: Iterable[str], instant: datetime) -> None:
        """Set SystemModstamp alone, as a change by the system does."""
        with self.lock:
            for id_ in ids:
                self.records[sobject][id_]["SystemModstamp"] = instant_text(instant)

    def empty_recycle_bin(self) -> None:
        """Purge deleted records for good; the deleted-records resource knows nothing before now."""
        with self.lock:
            for table in self.records.values():  # in place: open cursors look into these tables
                for id_ in [id_ for id_, record in table.items() if record.get("IsDeleted")]:
                    del table[id_]
            self.earliest_deleted = instant_of(self.tick())

    # Sessions

    def open_session(self) -> str:
        """A new access token."""
        token = f"{self.id[:15]}!AQ{secrets.token_urlsafe(64)}"
        with self.lock:
            self._sessions[token] = self.now() + timedelta(seconds=self.session_seconds)
        return token

    def valid_session(self, token: str | None) -> bool:
        with self.lock:
            return token in self._sessions and self._sessions[token] > self.now()

    def revoke_tokens(self) -> None:
        """Every access token ends now; refresh token and keys stay good."""
        with self.lock:
            self._sessions.clear()

    def count_call(self) -> None:
        """Raises Refusal 403 when the day's calls are used up."""
        with self.lock:
            if self.api_used >= self.api_limit:
                raise Refusal(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
            self.api_used += 1

    # Cursors

    def keep_cursor(self, cursor: Cursor) -> str:
        """Keep what is left of an answer; the name that its locators begin with."""
        with self.lock:
            name = record_id("01g", secrets.randbelow(62**9))
            self._cursors = {known: c for known, c in self._cursors.items() if self.now() - c.born < CURSOR_LIFE}
            self._cursors[name] = cursor
            return name

    def cursor(self, name: str) -> Cursor:
        """Raises Refusal 400 for a cursor that is not known or two days old."""
        with self.lock:
            found = self._cursors.get(name)
            if found is None or self.now() - found.born >= CURSOR_LIFE:
                raise Refusal(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
            return found

    def expire_cursors(self) -> None:
        """Every open query locator ends now."""
        with self.lock:
            self._cursors.clear()


def _hangs(record: Record, field: str, parents: Mapping[str, Any]) -> bool:
    return record.get(field) in parents and not record.get("IsDeleted")


def utc_now() -> datetime:
    return datetime.now(UTC)
