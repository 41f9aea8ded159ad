"""The calls that a connector may make on a day (UTC), across all processes.

Calls are taken in blocks, so that counting costs no statement a call; what was taken and not spent is given back at the end. A
process that is killed keeps its block: the count may be too high by a few calls, and never too low.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from threading import Lock
from typing import Any
from uuid import UUID

from connector_resources.contract import Clock
from connector_resources.errors import ConfigurationError, NetworkError, QuotaReached
from integration_pipelines.store.database import Database, Scope

BLOCK = 25
SETTING = "calls_per_day"


def limit_of(configuration: Mapping[str, Any]) -> int | None:
    """The connector's own limit. Raises ConfigurationError for one that is no number."""
    given = configuration.get(SETTING)
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ConfigurationError(f"{SETTING} of a connector must be a whole number of at least 1.")
    return given


class CallBudget:
    """Of one connector, in one process. What connectors are given as `contract.CallBudget`."""

    def __init__(
        self, database: Database, tenant: UUID, connector_id: int, configuration: Mapping[str, Any], now: Clock
    ) -> None:
        self.database = database
        self.tenant = tenant
        self.connector_id = connector_id
        self.limit = limit_of(configuration)
        self.now = now
        self._lock = Lock()
        self._day: date | None = None
        self._left = 0
        self._told: tuple[int, int] | None = None

    def spend(self, calls: int = 1) -> None:
        """Raises QuotaReached when the day's calls are used up."""
        with self._lock:
            today = self.now().astimezone(UTC).date()
            if self._day != today:
                self._give_back()
                self._day = today
            while self._left < calls:
                taken = self._take(today, max(BLOCK, calls - self._left))
                if not taken:
                    raise QuotaReached(
                        f"The connector has made the {self.limit:,} calls that its {SETTING} allows on {today}: the sync goes "
                        "on after midnight UTC, or raise the limit.",
                        self._until_midnight(),
                    )
                self._left += taken
            self._left -= calls

    def observe(self, used: int, limit: int) -> None:
        self._told = used, limit

    def close(self) -> None:
        """Give back what was not spent, and keep what the other side has told. A database that is gone does not keep anything
        else from being closed: the count is then too high by a few calls."""
        with self._lock, suppress(NetworkError):
            self._give_back()

    def _take(self, day: date, wanted: int) -> int:
        """So many calls of the day, or what is left of them."""
        with self.database.tenant(self.tenant) as scope:
            used = self._used(scope, day)
            granted = wanted if self.limit is None else max(0, min(wanted, self.limit - used))
            self._add(scope, day, granted)
        return granted

    def _used(self, scope: Scope, day: date) -> int:
        key = {"tenant": self.tenant, "connector": self.connector_id, "day": day}
        scope.run(
            """INSERT INTO connector_calls (tenant_id, connector_id, day) VALUES (:tenant, :connector, :day)
               ON CONFLICT DO NOTHING""",
            **key,
        )
        found = "SELECT calls FROM connector_calls WHERE connector_id = :connector AND day = :day FOR UPDATE"
        return int(scope.run(found, connector=self.connector_id, day=day).scalar_one())

    def _add(self, scope: Scope, day: date, calls: int) -> None:
        used, limit = self._told or (None, None)
        scope.run(
            """UPDATE connector_calls SET calls = calls + :calls, told_used = COALESCE(CAST(:used AS int), told_used),
                   told_limit = COALESCE(CAST(:limit AS int), told_limit) WHERE connector_id = :connector AND day = :day""",
            calls=calls,
            used=used,
            limit=limit,
            connector=self.connector_id,
            day=day,
        )

    def _give_back(self) -> None:
        if self._day is not None and (self._left or self._told):
            with self.database.tenant(self.tenant) as scope:
                self._add(scope, self._day, -self._left)
        self._left, self._told = 0, None

    def _until_midnight(self) -> float:
        now = self.now().astimezone(UTC)
        midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
        return (midnight - now).total_seconds() + 1


def made_on(scope: Scope, day: date) -> dict[int, tuple[int, int | None, int | None]]:
    """Connector → calls that it has made on a day, and how many of how many the other side has told of."""
    rows = scope.rows("SELECT connector_id, calls, told_used, told_limit FROM connector_calls WHERE day = :day", day=day)
    return {row["connector_id"]: (row["calls"], row["told_used"], row["told_limit"]) for row in rows}
