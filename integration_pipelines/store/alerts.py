"""Alerts: what a tenant's administrators are told of, once when a sync has failed for good and once when it works again.

A row is written in the transaction of what it tells of. Who sends it (operations/alerts.py) counts a try, then sends, then
notes who has heard of it: a crash in between may send a message twice, and loses none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from integration_pipelines.store.database import Database, Scope

FAILED, RECOVERED = "failed", "recovered"


@dataclass(frozen=True)
class Alert:
    """An alert that is due, with what there is to tell. The outage is the failed attempts in a row: `failures` of them, the
    first of which began at `since`. `ended_at`: of the attempt that the alert is about. `retry_at`, `cron`: what comes next.
    `done`: ids of the channels that have heard of it."""

    id: int
    kind: str
    tries: int
    done: Sequence[int]
    sync_id: int
    sync_name: str
    connector_name: str
    external_entity: str
    erp_entity: str
    direction: str
    cron: str | None
    time_zone: str
    message: str | None
    retry_at: datetime | None
    ended_at: datetime
    since: datetime
    failures: int


def failed(scope: Scope, history_id: int) -> None:
    """Nothing more is tried by itself. Of one outage there is one alert that somebody hears."""
    _record(scope, history_id, FAILED)


def recovered(scope: Scope, history_id: int) -> None:
    """The sync has ended well; told only where its failure was."""
    _record(scope, history_id, RECOVERED)


def _record(scope: Scope, history_id: int, kind: str) -> None:
    scope.run(
        """INSERT INTO alerts (tenant_id, sync_configuration_id, sync_history_id, kind)
           SELECT h.tenant_id, h.sync_configuration_id, h.id, CAST(:kind AS text) FROM sync_history h
           WHERE h.id = :id AND COALESCE((SELECT kind FROM alerts a WHERE a.sync_configuration_id = h.sync_configuration_id
                                            AND (a.sent_at IS NOT NULL OR a.due_at IS NOT NULL OR a.done_channels <> '{}')
                                          ORDER BY a.id DESC LIMIT 1), 'recovered') <> CAST(:kind AS text)""",
        id=history_id,
        kind=kind,
    )


def due(database: Database, now: datetime) -> list[tuple[UUID, int]]:
    """Alerts that are to be sent, or tried again: (tenant, alert id), at most a hundred. One that would wait for longer than
    any does was planned by a clock that ran ahead."""
    with database.directory() as connection:
        return [
            (row.tenant, row.alert_id) for row in connection.execute(sa.text("SELECT * FROM due_alerts(:now)"), {"now": now})
        ]


def take(scope: Scope, alert_id: int, now: datetime) -> Alert | None:
    """Count a try, and plan the next one in case that this one fails: in 1, 2, 4, … minutes, at most in an hour. None when
    somebody else has taken it, or when a later alert of the same sync says the contrary: then it is not sent any more."""
    taken = scope.run(
        """UPDATE alerts SET tries = tries + 1,
                  due_at = CAST(:now AS timestamptz) + make_interval(secs => LEAST(3600, 60 * power(2, LEAST(tries, 10))))
           WHERE id = :id AND (due_at <= :now OR due_at > CAST(:now AS timestamptz) + interval '61 minutes') RETURNING id""",
        id=alert_id,
        now=now,
    ).scalar()
    if taken is None or _overtaken(scope, alert_id):
        return None
    row = scope.rows(
        """SELECT a.id, a.kind, a.tries, a.done_channels AS done, s.id AS sync_id, s.sync_name, c.connector_name,
                  s.source_entity AS external_entity, s.target_entity AS erp_entity, h.sync_direction AS direction,
                  s.schedule_cron AS cron, s.time_zone, h.error_message AS message, h.retry_at, h.completed_at AS ended_at,
                  outage.since, outage.failures
           FROM alerts a JOIN sync_history h ON h.id = a.sync_history_id
           JOIN sync_configurations s ON s.id = a.sync_configuration_id JOIN connectors c ON c.id = s.connector_id,
           LATERAL (SELECT COALESCE(min(f.started_at), h.started_at) AS since, count(*) AS failures FROM sync_history f
               WHERE f.sync_configuration_id = s.id AND f.id <= h.id AND f.sync_status = 'failed'
                 AND f.id > COALESCE((SELECT max(g.id) FROM sync_history g WHERE g.sync_configuration_id = s.id
                     AND g.id < h.id AND g.sync_status IN ('completed', 'partial')), 0)) outage
           WHERE a.id = :id""",
        id=alert_id,
    )[0]
    return Alert(**row)


def _overtaken(scope: Scope, alert_id: int) -> bool:
    return bool(
        scope.run(
            """UPDATE alerts a SET due_at = NULL, tries = tries - 1, problem = CASE a.kind
                   WHEN 'failed' THEN 'The sync works again; this is not sent any more.'
                   ELSE 'The sync has failed again; this is not sent any more.' END
               WHERE a.id = :id AND EXISTS (SELECT FROM alerts later
                   WHERE later.sync_configuration_id = a.sync_configuration_id AND later.id > a.id)""",
            id=alert_id,
        ).rowcount
    )


def settle(scope: Scope, alert_id: int, heard: Sequence[int], problem: str | None, now: datetime) -> None:
    """Note the channels that have heard of it. With a problem it stays due, for a day of tries; without one it is sent."""
    scope.run(
        """UPDATE alerts SET done_channels = done_channels || CAST(:heard AS bigint[]), problem = :problem,
                  sent_at = CASE WHEN CAST(:problem AS text) IS NULL THEN CAST(:now AS timestamptz) END,
                  due_at = CASE WHEN :problem IS NOT NULL AND tries < 29 THEN due_at END
           WHERE id = :id""",
        id=alert_id,
        heard=list(heard),
        problem=problem,
        now=now,
    )


def drop(scope: Scope, alert_id: int, problem: str) -> None:
    """It is sent to nobody, and this is why."""
    scope.run("UPDATE alerts SET due_at = NULL, problem = :problem WHERE id = :id", id=alert_id, problem=problem)


def latest(scope: Scope, limit: int = 50) -> list[dict[str, Any]]:
    """The newest first: id, sync_id, sync_name, kind, created_at, state (sent, waiting, not sent), sent_at, tries, problem."""
    rows = scope.rows(
        """SELECT a.id, s.id AS sync_id, s.sync_name, a.kind, a.created_at, a.sent_at, a.tries, a.problem,
                  CASE WHEN a.sent_at IS NOT NULL THEN 'sent' WHEN a.due_at IS NOT NULL THEN 'waiting'
                       ELSE 'not sent' END AS state
           FROM alerts a JOIN sync_configurations s ON s.id = a.sync_configuration_id ORDER BY a.id DESC LIMIT :limit""",
        limit=limit,
    )
    return [dict(row) for row in rows]
