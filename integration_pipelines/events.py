"""What happened, for whoever wants to know: the events that leave through the outbox.

Names and fields are the requirement's (EV-IC-001 to EV-IC-003): a sync configuration and a history row travel as mappings of
their columns, without credentials and without records.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Event:
    name: ClassVar[str]
    history: Mapping[str, Any]

    def payload(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class SyncStarted(Event):
    name = "SyncStartedEvent"
    config: Mapping[str, Any]
    direction: str


@dataclass(frozen=True)
class SyncCompleted(Event):
    name = "SyncCompletedEvent"
    records_processed: int
    records_succeeded: int
    records_failed: int


@dataclass(frozen=True)
class SyncFailed(Event):
    name = "SyncFailedEvent"
    error_message: str
    attempt_number: int
