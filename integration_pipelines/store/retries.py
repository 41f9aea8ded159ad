"""Retries of whole runs: a failed attempt is executed again from the op that failed, up to three times, ever later.

The plan is a column of the failed attempt's history row, written when the row is closed; who carries it out
(orchestration/upkeep.py) takes it exactly once.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa

from integration_pipelines.store import alerts
from integration_pipelines.store.database import Database, Scope
from integration_pipelines.store.syncs import OPTIONS

RETRIES = 3


class AfterFailure(StrEnum):
    """What a failed run leads to."""

    RETRY = "retry"  # the same may succeed later
    ALERT = "alert"  # a person must act first
    NOTHING = "nothing"  # a person has ended it


def plan(scope: Scope, history_id: int, now: datetime, after: AfterFailure) -> None:
    """Three retries, each after four times the delay of the one before, give or take a fifth; an attempt that was postponed is
    none. When nothing more is tried, or the sync has failed four times in a row whoever started it, the administrators are
    told."""
    if after is AfterFailure.NOTHING:
        return
    row = scope.rows(
        """UPDATE sync_history h SET retry_at = CASE WHEN :retry AND failed.times <= :most THEN
                  CAST(:now AS timestamptz) + make_interval(secs => power(4, failed.times - 1) * (0.8 + 0.4 * random())
                  * COALESCE((s.transformation_rules->>'retry_delay_seconds')::float, :delay)) END
           FROM sync_configurations s, (SELECT count(*) AS times FROM sync_history me JOIN sync_history f
                   ON COALESCE(f.first_history_id, f.id) = COALESCE(me.first_history_id, me.id)
                   WHERE me.id = :id AND f.sync_status = 'failed') failed
           WHERE h.id = :id AND s.id = h.sync_configuration_id
           RETURNING h.retry_at, (SELECT count(*) FROM sync_history f WHERE f.sync_configuration_id = h.sync_configuration_id
               AND f.sync_status = 'failed' AND f.id > COALESCE((SELECT max(id) FROM sync_history g
                   WHERE g.sync_configuration_id = h.sync_configuration_id AND g.sync_status IN ('completed', 'partial')), 0)
               ) AS in_a_row""",
        id=history_id,
        now=now,
        retry=after is AfterFailure.RETRY,
        most=RETRIES,
        delay=OPTIONS["retry_delay_seconds"][0],
    )[0]
    if row["retry_at"] is None or row["in_a_row"] > RETRIES:
        alerts.failed(scope, history_id)


def due(database: Database, now: datetime) -> list[tuple[UUID, int]]:
    """Attempts that are to be tried again by now: (tenant, history id). So is one whose end lies ahead: the clock that planned
    its retry was wrong."""
    with database.directory() as connection:
        return [
            (row.tenant, row.history_id)
            for row in connection.execute(sa.text("SELECT * FROM due_retries(:now)"), {"now": now})
        ]


def look(scope: Scope, history_id: int) -> UUID | None:
    """The run that is to be tried again; None when the sync has run since, or is not active any more. The row is locked."""
    row = scope.rows(
        """SELECT h.run_id, s.is_active AND s.deleted_at IS NULL AND NOT EXISTS (
                      SELECT FROM sync_history later WHERE later.sync_configuration_id = h.sync_configuration_id
                        AND later.id > h.id) AS wanted
           FROM sync_history h JOIN sync_configurations s ON s.id = h.sync_configuration_id
           WHERE h.id = :id AND h.retry_at IS NOT NULL FOR UPDATE OF h""",
        id=history_id,
    )
    return row[0]["run_id"] if row and row[0]["wanted"] else None


def afresh(scope: Scope, history_id: int) -> bool:
    """Whether a person has authorized or configured the connector anew since an attempt of this chain was opened: then nothing
    that the chain has staged is loaded any more."""
    return bool(
        scope.run(
            """SELECT EXISTS (SELECT FROM sync_history me JOIN sync_history o
                   ON COALESCE(o.first_history_id, o.id) = COALESCE(me.first_history_id, me.id)
                   JOIN sync_configurations s ON s.id = me.sync_configuration_id JOIN connectors c ON c.id = s.connector_id
                   WHERE me.id = :id AND o.connector_revision <> c.revision)""",
            id=history_id,
        ).scalar_one()
    )


def taken(scope: Scope, history_id: int) -> None:
    """It is tried again by now, or never will be. What its chain has staged counts as fresh: the new run may wait its turn."""
    scope.run("UPDATE sync_history SET retry_at = NULL WHERE id = :id", id=history_id)
    scope.run(
        """UPDATE staged_batches SET created_at = now() WHERE run_id IN (
               SELECT o.run_id FROM sync_history h JOIN sync_history o
                 ON COALESCE(o.first_history_id, o.id) = COALESCE(h.first_history_id, h.id) WHERE h.id = :id)""",
        id=history_id,
    )


def without_history(database: Database, runs: Sequence[UUID]) -> set[UUID]:
    """Those of these runs whose process died before it had opened a history row."""
    with database.directory() as connection:
        return set(connection.execute(sa.text("SELECT runs_without_history(:runs)"), {"runs": list(runs)}).scalars())
