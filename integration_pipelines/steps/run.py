"""One run as the steps see it: which sync, which mapping version, which two sides."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from uuid import UUID

from connector_resources.contract import Connector, Entity, Field
from connector_resources.erp import Erp
from connector_resources.errors import ConfigurationError
from integration_pipelines.model import ConflictStrategy, Direction
from integration_pipelines.steps.mapping import Mapping
from integration_pipelines.steps.merge import FieldPolicy
from integration_pipelines.store.database import Database
from integration_pipelines.store.history import Attempt
from integration_pipelines.store.links import Pair
from integration_pipelines.store.syncs import SyncConfig


@dataclass
class Run:
    """`attempt` is None in a plan that is only looked at; `since`: read from there instead of from the watermark."""

    database: Database
    tenant: UUID
    config: SyncConfig
    mapping: Mapping
    external: Connector
    source: Entity
    erp: Erp
    target: Entity
    now: Callable[[], datetime]
    attempt: Attempt | None = None
    matches: dict[bytes, list[str]] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.config.direction is not Direction.INBOUND:
            raise ConfigurationError(
                f"Sync config {self.config.id} has the direction {self.config.direction.value}, and so far only inbound syncs "
                "run. Make it inbound, or wait for the release that writes to external systems."
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


def drained(batches: Iterator[object]) -> int:
    """How many there were."""
    return sum(1 for _ in batches)
