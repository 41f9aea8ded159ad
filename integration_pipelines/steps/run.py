"""One run as the steps see it: which sync, which mapping version, which two sides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from threading import Lock
from uuid import UUID

import pyarrow as pa

from connector_resources.contract import Connector, Entity, Field, FieldType, Lines
from connector_resources.erp import Erp
from connector_resources.errors import ConfigurationError
from integration_pipelines.model import ConflictStrategy, Side
from integration_pipelines.steps.mapping import CompiledRule
from integration_pipelines.steps.mapping import Mapping as FieldMapping
from integration_pipelines.steps.merge import FieldPolicy
from integration_pipelines.store.database import Database
from integration_pipelines.store.history import Attempt
from integration_pipelines.store.links import Pair
from integration_pipelines.store.syncs import SyncConfig

BATCH = 5_000


@dataclass
class Counts:
    """What a load did: records by outcome, and changes by action."""

    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    actions: dict[str, int] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)  # batches are loaded side by side

    @property
    def processed(self) -> int:
        return self.succeeded + self.failed + self.skipped

    def add(self, other: "Counts") -> None:
        with self._lock:
            self.succeeded += other.succeeded
            self.failed += other.failed
            self.skipped += other.skipped
            for action, number in other.actions.items():
                self.actions[action] = self.actions.get(action, 0) + number


@dataclass
class Run:
    """`attempt` is None in a plan that is only looked at.

    outward     the outbound rules, turned round; None in an inbound sync
    matches     match keys of the ERP's records, once they have been read: columns digest, erp_id
    matching    held while they are read, for batches are resolved side by side
    external_matches    those of the external records: columns digest, external_id
    loaded      places of the batches that are committed: a load that is tried again leaves them out
    batch_size  records of a batch, at least: pages of the external system are joined until there are so many
    counts      what these batches came to
    """

    database: Database
    tenant: UUID
    config: SyncConfig
    mapping: FieldMapping
    external: Connector
    source: Entity
    erp: Erp
    target: Entity
    now: Callable[[], datetime]
    attempt: Attempt | None = None
    outward: FieldMapping | None = None
    matches: pa.Table | None = field(default=None, repr=False)
    matching: Lock = field(default_factory=Lock, repr=False)
    external_matches: pa.Table | None = field(default=None, repr=False)
    loaded: set[int] = field(default_factory=set)
    batch_size: int = BATCH
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        """Raises ConfigurationError for what this connector cannot do, and for a run that is pinned to an old mapping."""
        if self.config.direction.outward and not self.external.capabilities.write:
            raise ConfigurationError(
                f"Sync config {self.config.id} is {self.config.direction.value}, and connectors of the type "
                f"{self.external.type} only read. Make an inbound sync of it."
            )
        for rule in self.outward.rules if self.outward else ():
            known = self.lines.get(str(rule.rule.source))
            unknown = {n for one in rule.lines for n in one.rule.sources} - {one.name for one in known[1]} if known else set()
            if unknown:
                raise ConfigurationError(
                    f"The mapping's lines '{rule.rule.source}' send {', '.join(sorted(unknown))}, which no inbound rule sets: "
                    "both sides' lines are compared by the fields that come in. Add an inbound rule for it."
                )
        for name, (lines, fields) in self.lines.items():
            if lines.key and lines.key not in {one.name for one in fields}:
                raise ConfigurationError(
                    f"The mapping's lines '{name}' have no rule for {lines.key}, the key by which lines of {self.target.name} "
                    "are told apart. Add one."
                )
        if self.attempt is not None and self.attempt.field_mapping_id != self.config.mapping_id:
            raise ConfigurationError(
                f"This run is pinned to an earlier mapping version, and sync config {self.config.id} has a newer one by now: "
                "going on would bring back what the old rules made. Start the sync anew instead of re-executing this run."
            )

    @property
    def pair(self) -> Pair:
        return Pair(self.config.connector_id, self.config.external_entity, self.config.erp_entity)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The ERP fields that take part: the mapping's targets, the flag that deactivation clears even where no rule names it,
        and what only outbound rules read."""
        names = [field.name for field in self.mapping.fields]
        names += [self.target.active] if self.target.active else []
        names += self.outward.source_fields if self.outward else ()
        lines = {field.name: field for field in self.mapping.fields}
        lines |= {name: Field(name, FieldType.JSON) for name in self.lines if name not in lines}
        return tuple(field for name in dict.fromkeys(names) if (field := lines.get(name) or self.target.field(name)))

    @cached_property
    def watched(self) -> tuple[str, ...]:
        """What is read of an external record where the ERP's is to be written to it: what the mapping reads and writes."""
        written = [field.name for field in self.outward.fields] if self.outward else []
        flag = [self.source.active] if self.source.active else []
        condition = [self.source.immutable_when.field] if self.source.immutable_when else []
        return tuple(dict.fromkeys([*self.mapping.source_fields, *written, *flag, *condition]))

    def fields_of(self, side: Side) -> Sequence[Field]:
        """What records that were read from that side may have."""
        return self.source.fields if side is Side.EXTERNAL else self.target.fields

    @cached_property
    def lines(self) -> Mapping[str, tuple[Lines, tuple[Field, ...]]]:
        """The target's child lines that rules set or send: name → (description, the lines' fields that they set or read)."""
        described = {lines.name: lines for lines in self.target.lines}
        sent = {
            name: (described[name], self._read_of(rule, described[name].key))
            for rule in (self.outward.rules if self.outward else ())
            if (name := str(rule.rule.source)) in described and rule.line
        }
        return sent | {
            rule.rule.target: (described[rule.rule.target], tuple(one.field for one in rule.lines if one.field))
            for rule in self.mapping.rules
            if rule.rule.target in described
        }

    @staticmethod
    def _read_of(rule: CompiledRule, key: str | None) -> tuple[Field, ...]:
        """The fields of the ERP's lines that an outbound rule reads, and their key."""
        names = dict.fromkeys([*([key] if key else []), *(name for one in rule.lines for name in one.rule.sources)])
        return tuple(field for name in names if rule.line and (field := rule.line.field(name)))

    @property
    def asked(self) -> Sequence[str]:
        """What is read of an ERP record: the fields, child lines as the paths of their fields."""
        inside = [f"{name}.{one.name}" for name, (_, fields) in self.lines.items() for one in fields]
        return [*(f.name for f in self.fields if f.name not in self.lines), *inside]

    @cached_property
    def policies(self) -> Sequence[FieldPolicy]:
        named = {f.name for f in self.mapping.fields}
        sent = set(self.outward.source_fields if self.outward else ())
        unnamed = FieldPolicy(ConflictStrategy.SOURCE_WINS)
        return [self._policy(f.name) if f.name in named | sent else unnamed for f in self.fields]

    def _policy(self, name: str) -> FieldPolicy:
        return FieldPolicy(
            ConflictStrategy(self.mapping.strategy(name) or self.config.strategy),
            external_owns=self.mapping.owner(name) == "external",
            null_clears=self.mapping.null_policy(name) == "clear",
        )

    @property
    def opened(self) -> Attempt:
        if self.attempt is None:
            raise ConfigurationError("A plan writes nothing; run the sync instead.")
        return self.attempt
