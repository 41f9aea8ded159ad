"""A manifest: a connector type in one YAML file, as dataclasses. manifest_grammar.py says what may stand in the file, and
manifest_parse.py reads it. What the connector can do (`Capabilities`) follows from what the manifest describes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

from connector_resources import manifest_rules as rules
from connector_resources.contract import Capabilities, Entity, Field, FieldType

Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Header:
    """A value that stands in a header of the answer."""

    name: str


@dataclass(frozen=True)
class Call:
    """One request. REST: method, path, params, headers, body, encode. SOAP: operation, body (its arguments). GraphQL: query,
    body (its variables). All but names and the query may hold placeholders (templates.py)."""

    method: str = "GET"
    path: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    encode: Literal["json", "form"] = "json"
    operation: str = ""
    query: str = ""


@dataclass(frozen=True)
class Paging:
    by: str
    next: Path | Header | None = None
    more: Path | None = None
    total: Path | None = None
    size: int = 100
    first: int = 0
    overlap: int = 1
    then: Call | None = None


@dataclass(frozen=True)
class Since:
    format: str = "iso"
    inclusive: bool = True
    start: datetime | None = None
    zone: ZoneInfo | None = None


@dataclass(frozen=True)
class Reading:
    """A read of pages. `id` and `at` are of tombstones only."""

    call: Call
    records: Path = ()
    paging: Paging | None = None
    since: Since = Since()
    id: Path = ()
    at: Path | None = None


@dataclass(frozen=True)
class ById:
    call: Call
    records: Path = ()
    many: int = 1


@dataclass(frozen=True)
class Writing:
    call: Call
    id: Path | Header | None = None
    version: Path | Header | None = None
    refusals: Path | None = None
    stamp: Path | None = None
    any_version: str | None = None

    @property
    def keyed(self) -> bool:
        """Whether it carries the intent as an idempotency key, so that it may be sent twice."""
        return "intent" in rules.placeholders(self.call)


@dataclass(frozen=True)
class Batch:
    call: Call
    size: int
    actions: tuple[str, ...]
    item: Any
    results: Path = ()
    id: Path | None = None
    version: Path | None = None
    status: Path | None = None
    code: Path | None = None
    ok: Path | None = None

    @property
    def keyed(self) -> bool:
        return "intent" in rules.placeholders(self.call, self.item)


@dataclass(frozen=True)
class Probe:
    call: Call
    records: Path = ()
    id: Path | None = None
    version: Path | None = None


@dataclass(frozen=True)
class FieldSpec:
    """How a field stands in requests and answers."""

    field: Field
    path: Path
    write_path: Path
    format: str = "iso"
    zone: ZoneInfo | None = None
    lenient: bool = False
    send: str = "number"

    @property
    def number(self) -> bool:
        """Whether it is an integer on the other side, too."""
        return self.field.type is FieldType.INTEGER and not self.lenient and self.send == "number"


@dataclass(frozen=True)
class EntitySpec:
    entity: Entity
    fields: Mapping[str, FieldSpec]
    read: Reading
    version: Path | None = None
    deleted: Path | None = None
    deleted_values: tuple[Any, ...] = (True,)
    deleted_listed: bool = True  # whether reads bring deleted records, and not only reads by their ids
    tombstones: Reading | None = None
    by_id: ById | None = None
    writes: Mapping[str, Writing] = field(default_factory=dict)
    batch: Batch | None = None
    probe: Probe | None = None

    @property
    def key(self) -> FieldSpec:
        return self.fields[self.entity.key]

    @property
    def numbered_version(self) -> bool:
        """Whether the version token is what an integer field holds."""
        return any(one.number and one.path == self.version for one in self.fields.values())


@dataclass(frozen=True)
class Refusal:
    """One line of the error table. `status`, `code` None: any."""

    status: int | None
    code: str | None
    means: str
    says: str


@dataclass(frozen=True)
class Manifest:
    kind: str
    name: str
    title: str
    auth: Mapping[str, Mapping[str, Any]]
    test: Call
    account: Path | None
    entities: Mapping[str, EntitySpec]
    documentation: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    rates: tuple[tuple[int, float], ...] = ()
    concurrency: int = 1
    error_code: Path | None = None
    error_in_success: bool = False
    refusals: tuple[Refusal, ...] = ()
    wsdl: str = ""
    endpoint: str = ""
    service: str | None = None
    port: str | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What can be relied on for every entity of it that can be read, or that can be written."""
        return rules.capabilities(self)
