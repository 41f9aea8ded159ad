"""What every connector promises, and what it is given. The one file that the author of a connector reads.

A connector talks to one system. It describes that system's entities, reads and writes their records as frames, and knows
nothing of tenants, sync configs or our tables. What it needs from the outside (credentials that may rotate, a budget of
calls, the time) is handed to it.

Records travel as a `Page`: a pandas frame whose index is the record id (text) and whose columns are the entity's fields, typed
by the entity's description and never by guessing at values:

    FieldType   Arrow type              Python value in Python-facing places
    STRING      string                  str         ("00123" stays "00123")
    INTEGER     int64                   int
    DECIMAL     decimal128(38, scale)   Decimal     (money is never a float)
    BOOLEAN     bool                    bool
    DATE        date32                  date        (a civil date: no zone, no shift)
    INSTANT     timestamp[us, UTC]      aware datetime in UTC
    JSON        string                  text of a JSON value (lists, addresses, child lines)

Null and absent are different: null is a value ("the phone was cleared"), absent means that the other side did not say.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from connector_resources.egress import Egress
from connector_resources.errors import ConfigurationError

if TYPE_CHECKING:  # pandas costs seconds to import; listing connectors needs none of it
    import pandas as pd

    from connector_resources.consent import Consent


class FieldType(StrEnum):
    STRING = "string"
    INTEGER = "integer"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    DATE = "date"
    INSTANT = "instant"
    JSON = "json"


@dataclass(frozen=True)
class Field:
    """One field of an entity.

    `personal`: True, False, or None for "not declared", which is masked like True.
    `references`: names of the entities whose ids this field may hold.
    `computed`: the system sets it itself; it takes no part in comparisons and is never written.
    `fixed`: it can be set when a record is made, and never again.
    `currency`: for money, the field of the same record that holds the ISO 4217 code.
    """

    name: str
    type: FieldType
    label: str = ""
    personal: bool | None = None
    nullable: bool = True
    writable: bool = True
    computed: bool = False
    fixed: bool = False
    unique: bool = False
    max_length: int | None = None
    scale: int = 0
    choices: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    currency: str | None = None

    @property
    def masked(self) -> bool:
        return self.personal is not False


@dataclass(frozen=True)
class Lines:
    """Child lines of a document: field `name` of the parent holds the lines of `entity`, matched by the line's `key`.
    Without a key the whole list is one field. A connector that describes lines is asked for them by the paths of their fields
    (`lines.quantity`), and answers with one JSON column `lines`: a list of objects."""

    name: str
    entity: str
    parent: str
    key: str | None = None


@dataclass(frozen=True)
class Condition:
    """`field` holds one of `values` (compared as text)."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Entity:
    """Description of one entity. `key` is its record id; `modified` the field that says when it last changed (the one that
    watermarks are made of); `active` the boolean field that deactivation clears; `upsert_key` the unique field by which a
    create that is sent twice is recognised, so that it makes one record."""

    name: str
    fields: tuple[Field, ...]
    key: str
    label: str = ""
    modified: str | None = None
    active: str | None = None
    upsert_key: str | None = None
    lines: tuple[Lines, ...] = ()
    immutable_when: Condition | None = None

    def field(self, name: str) -> Field | None:
        return next((f for f in self.fields if f.name == name), None)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.fields)


@dataclass(frozen=True)
class Capabilities:
    """What the rest of the system plans by.

    `idempotency`: how a repeated write is recognised ("header": an Idempotency-Key, "external_id": an upsert key,
    "probe_field": a stamped field that can be searched, "transaction": one transaction with ours, None: not at all).
    `find`: records can be looked up by what a field holds.
    """

    delta_read: bool = False
    deletes: bool = False
    bulk_read: bool = False
    write: bool = False
    upsert_key: bool = False
    conditional_write: bool = False
    idempotency: Literal["header", "external_id", "probe_field", "transaction"] | None = None
    batch_size: int = 1
    concurrency: int = 1
    webhooks: bool = False
    find: bool = False


@dataclass
class Page:
    """Some thousand records.

    records  index: record id (text, unique in the page); columns: the fields asked for, Arrow-typed as above
    marks    same index; columns: version (text: ETag, SyncToken, SystemModstamp, row version; opaque),
             modified (INSTANT, may be null), deleted (bool), merged_into (text: the id that survived a merge, or null), and,
             where the system tells, own (bool: it was we who modified it last; null where the version has to tell);
             unreadable (text: the field whose value is none of its type; such a record's values are all null)
    absent   same index and columns as records, True where the other side did not say; None when everything is present
    """

    records: "pd.DataFrame"
    marks: "pd.DataFrame"
    absent: "pd.DataFrame | None" = None


@dataclass
class Changes:
    """What to write; one row a record, the same index (any text, unique) in all three frames.

    records  values, Arrow-typed as in a Page
    written  same columns, True where the field is to be written; the others are left alone (a create takes their defaults)
    steps    columns: action ("create", "update", "delete"), id (the record's id; for a create the id it shall get, or null
             where the system makes ids itself), version (write only if the record still has this version token; null:
             unconditionally), intent (idempotency key: a random UUID for this write and no other)
    """

    records: "pd.DataFrame"
    written: "pd.DataFrame"
    steps: "pd.DataFrame"


class Outcome(StrEnum):
    DONE = "done"
    MOVED = "moved"  # somebody else changed the record since it was read: read and merge again
    REFUSED = "refused"  # the system will not have this record; `message` says why, quoting no value
    UNKNOWN = "unknown"  # no answer: probe before anything is sent again
    ABSENT = "absent"  # the write never arrived, or was never sent (`message` says why), and may be sent again


@dataclass(frozen=True)
class Window:
    """Which records a read covers: modified at or after `since` (None: all of them), deleted ones too where the system tells.

    A connector reads `since` inclusively: records that share an instant across a border must not be lost. `page_size`: as many
    records a page, where the system lets its callers choose."""

    since: datetime | None = None
    deleted: bool = True
    page_size: int | None = None


class CredentialStore(Protocol):
    """Credentials of one connector. The store keeps them encrypted; a connector never writes them anywhere else."""

    def load(self) -> Mapping[str, str]:
        """The credentials as they stand now (another process may have rotated them)."""
        ...

    def exclusive(self) -> "AbstractContextManager[RotatingCredentials]":
        """For a token refresh: one process at a time, and nobody changes the credentials but through what is given. Inside,
        re-read first: the other one may have refreshed."""
        ...


@dataclass(frozen=True)
class GrantState:
    """How a grant stands: `good`, or a person must reconnect. `expires`: when it ends by itself, where the system has told."""

    good: bool
    expires: datetime | None = None


class RotatingCredentials(Protocol):
    def load(self) -> Mapping[str, str]: ...

    def store(self, changed: Mapping[str, str | None], state: GrantState | None = None) -> None:
        """Durable when this returns: store a rotated token before using it. None takes a credential away; `state`: how the
        grant stands now (None: as before)."""
        ...


class CallBudget(Protocol):
    """Calls that this connector may spend, across all processes."""

    def spend(self, calls: int = 1) -> None:
        """Raises QuotaReached when none is left."""
        ...

    def observe(self, used: int, limit: int) -> None:
        """What the other side itself says of the day's use (Sforce-Limit-Info)."""
        ...

    def close(self) -> None:
        """Give back what was set aside and not spent."""
        ...


class Clock(Protocol):
    def __call__(self) -> datetime: ...


@dataclass(frozen=True)
class Given:
    """What a connector is built from: one row of `connectors`, and the promises that others keep for it.

    `configuration` holds nothing secret. `ca_file` is a bundle of additional roots for TLS (tests, private authorities).
    `egress`: where connections may lead; hand it on to `Http`."""

    url: str
    authentication_method: str
    credentials: CredentialStore
    now: Clock
    budget: CallBudget | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)
    ca_file: str | None = None
    egress: Egress = field(default_factory=Egress)


@dataclass(frozen=True)
class Health:
    """What a connection test found: who we are there, and what we may do."""

    account: str
    detail: Mapping[str, str] = field(default_factory=dict)


class Connector(ABC):
    """One system. Built from what it is given, used as a context manager so that connections are closed."""

    type: ClassVar[str]
    capabilities: ClassVar[Capabilities]

    def __init__(self, given: Given) -> None:
        self.given = given

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
        if self.given.budget:
            self.given.budget.close()

    def close(self) -> None:  # noqa: B027 - optional: a connector without connections has nothing to close
        """Give back connections."""

    @abstractmethod
    def test(self) -> Health:
        """Prove that the credentials work, with as few calls as possible. Raises AuthenticationError, NetworkError, …"""

    def consent(self) -> "Consent":
        """How a person lets us in. Raises ConfigurationError where credentials are all that there is."""
        raise ConfigurationError(
            f"The connector type {self.type} has no consent page (or is not signed in to with oauth2): give it credentials."
        )

    @abstractmethod
    def entities(self) -> Sequence[str]:
        """Names of the entities that these credentials may see."""

    @abstractmethod
    def describe(self, entity: str) -> Entity:
        """Types from the system's own description. Raises ConfigurationError for an unknown entity."""

    @abstractmethod
    def read(self, entity: Entity, fields: Sequence[str], window: Window) -> Iterator[Page]:
        """Every record of the window, in ascending order of modification where the system can order, each id at most once a
        page. Raises ConfigurationError naming a field that is not there."""

    def find(self, entity: Entity, fields: Sequence[str], where: Condition) -> Iterator[Page]:
        """The records whose text field holds one of these values, compared without case and outer blanks."""
        raise ConfigurationError(f"{self.type} cannot look up {len(fields)} fields of {entity.name} by {where.field}.")

    def write(self, entity: Entity, changes: Changes) -> "pd.DataFrame":
        """Outcome of each record: same index as `changes`; columns outcome (`Outcome`), id, version (token after the write,
        null when unknown) and message. Raises ConfigurationError where the system cannot be written to.

        What concerns all records (RateLimited, AuthenticationError, …) is raised only while nothing has been written: after
        that, what was not sent is ABSENT, so that no result is lost."""
        raise ConfigurationError(
            f"The connector type {self.type} only reads, so {len(changes.steps)} changes of {entity.name} cannot be written; "
            "choose the direction inbound."
        )

    def probe(self, entity: Entity, changes: Changes) -> "pd.DataFrame":
        """What became of writes that got no answer: a frame as `write` returns it, where outcome is DONE (it arrived; with
        id and version), ABSENT, or UNKNOWN where nobody can tell. Changes nothing."""
        import pandas as pd

        return pd.DataFrame(
            {
                "outcome": Outcome.UNKNOWN,
                "id": changes.steps["id"],
                "version": None,
                "message": f"{self.type} cannot tell whether this change of {entity.name} arrived; look there.",
            }
        )

    @abstractmethod
    def read_ids(self, entity: Entity, fields: Sequence[str], ids: Sequence[str]) -> Iterator[Page]:
        """These records, in no order. An id that the system does not know is simply missing from the pages."""
