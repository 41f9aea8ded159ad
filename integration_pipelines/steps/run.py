"""One run as the steps see it: which sync, which mapping version, which two sides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from uuid import UUID

import pyarrow as pa

from connector_resources.contract import Connector, Entity, Field, Lines
from connector_resources.erp import Erp
from connector_resources.errors import ConfigurationError
from integration_pipelines.model import ConflictStrategy, Direction
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

    @property
    def processed(self) -> int:
        return self.succeeded + self.failed + self.skipped

    def add(self, other: "Counts") -> None:
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.skipped += other.skipped
        for action, number in other.actions.items():
            self.actions[action] = self.actions.get(action, 0) + number


@dataclass
class Run:
    """`attempt` is None in a plan that is only looked at.

    matches     match keys of the ERP's records, once they have been read: columns digest, erp_id
    loaded      how many batches are committed: where a load that is tried again goes on
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
    matches: pa.Table | None = field(default=None, repr=False)
    loaded: int = 0
    batch_size: int = BATCH
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        """Raises ConfigurationError for what this release cannot sync, and for a run that is pinned to an old mapping."""
        if self.config.direction is not Direction.INBOUND:
            raise ConfigurationError(
                f"Sync config {self.config.id} has the direction {self.config.direction.value}, and so far only inbound syncs "
                "run. Make it inbound, or wait for the release that writes to external systems."
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
        """The mapping's target fields, and the flag that deactivation clears even where no rule names it."""
        mapped = tuple(self.mapping.fields)
        flag = self.target.field(self.target.active) if self.target.active else None
        return mapped if flag is None or flag in mapped else (*mapped, flag)

    @cached_property
    def lines(self) -> Mapping[str, tuple[Lines, tuple[Field, ...]]]:
        """The target's child lines that the mapping fills: name → (description, the lines' fields that rules set)."""
        described = {lines.name: lines for lines in self.target.lines}
        return {
            rule.rule.target: (described[rule.rule.target], tuple(one.field for one in rule.lines if one.field))
            for rule in self.mapping.rules
            if rule.rule.target in described
        }

    @property
    def asked(self) -> Sequence[str]:
        """What is read of an ERP record: the fields, child lines as the paths of their fields."""
        inside = [f"{name}.{one.name}" for name, (_, fields) in self.lines.items() for one in fields]
        return [*(f.name for f in self.fields if f.name not in self.lines), *inside]

    @cached_property
    def policies(self) -> Sequence[FieldPolicy]:
        named = {f.name for f in self.mapping.fields}
        return [self._policy(f.name) if f.name in named else FieldPolicy(ConflictStrategy.SOURCE_WINS) for f in self.fields]

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
