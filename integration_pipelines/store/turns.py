"""Whose turn it is: syncs of one connector run parents first, so that children find the records that they refer to."""

from collections.abc import Collection
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter

from integration_pipelines.model import SyncMode
from integration_pipelines.store.database import Scope
from integration_pipelines.store.syncs import SyncConfig

DUE_WITHIN = timedelta(minutes=10)  # a schedule that has not begun by then is not about to


def ahead(
    scope: Scope, config: SyncConfig, parents: Collection[str], now: datetime, *, me: int, due_too: bool = True
) -> list[str]:
    """Names of the connector's syncs into these ERP entities that are running; `due_too`: or whose schedule is due and has
    not begun. Of two that refer to each other the one that began first goes first: `me` is our own history row."""
    rows = scope.rows(
        """SELECT s.sync_name, s.sync_mode, s.schedule_cron, s.time_zone, s.created_at, h.started_at, h.sync_status
           FROM sync_configurations s
           LEFT JOIN field_mappings m ON m.id = (s.field_mappings->>'mapping_id')::bigint
           LEFT JOIN LATERAL (SELECT id, started_at, sync_status FROM sync_history
               WHERE sync_configuration_id = s.id ORDER BY id DESC LIMIT 1) h ON true
           WHERE s.connector_id = :connector AND s.id <> :sync AND s.target_entity = ANY(:parents)
             AND s.is_active AND s.deleted_at IS NULL
             AND NOT (COALESCE(h.id, :me) >= :me AND COALESCE(jsonb_path_exists(CAST(m.mappings AS jsonb),
                 '$.** ? (@.reference == $e || @.reference.entity == $e)',
                 jsonb_build_object('e', CAST(:entity AS text))), false))""",
        me=me,
        entity=config.erp_entity,
        connector=config.connector_id,
        sync=config.id,
        parents=list(parents),
    )
    waiting = []
    for row in rows:
        due = False
        if due_too and row["sync_mode"] == SyncMode.SCHEDULED and row["schedule_cron"]:
            tick = croniter(row["schedule_cron"], now.astimezone(ZoneInfo(row["time_zone"]))).get_prev(datetime)
            begun = row["started_at"] is not None and row["started_at"] >= tick
            due = row["created_at"] < tick and now - tick < DUE_WITHIN and not begun
        if row["sync_status"] == "running" or due:
            waiting.append(str(row["sync_name"]))
    return waiting
