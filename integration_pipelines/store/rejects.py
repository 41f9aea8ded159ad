"""sync_errors: the records that were set aside. One open row a record; a success, or a newer failure, closes it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from connector_resources.sql import text_array
from integration_pipelines.model import Side
from integration_pipelines.store.database import Scope
from integration_pipelines.store.history import Attempt
from integration_pipelines.store.syncs import SyncConfig

if TYPE_CHECKING:
    import pandas as pd


# Of this sync: from the few errors that are open to their runs. Of a join a planner whose statistics are old may go through
# all runs that the sync has behind it, and through the tenant's errors for each.
_OURS = "(SELECT h.sync_configuration_id FROM sync_history h WHERE h.id = e.sync_history_id) = :sync"


def settle(
    scope: Scope,
    config: SyncConfig,
    attempt: Attempt,
    seen: Sequence[str],
    rejected: "pd.DataFrame",
    side: Side = Side.EXTERNAL,
) -> None:
    """Close the open errors of every record seen on that side, and open one for each that was rejected (model.REJECTED has the
    columns).

    retry_count tells how often that record had failed before."""
    scope.run(
        """CREATE TEMP TABLE IF NOT EXISTS failed_before (record_id text PRIMARY KEY, times int) ON COMMIT DROP""",
    )
    scope.run(
        f"""WITH closed AS (
               UPDATE sync_errors e SET is_resolved = true, resolved_at = now() WHERE {_OURS} AND NOT e.is_resolved
                 AND e.side = :side AND e.record_id = ANY(CAST(:seen AS text[])) RETURNING e.record_id, e.retry_count)
           INSERT INTO failed_before SELECT record_id, max(retry_count) + 1 FROM closed GROUP BY 1
           ON CONFLICT (record_id) DO UPDATE SET times = EXCLUDED.times""",
        sync=config.id,
        side=side,
        seen=text_array([record[:255] for record in seen]),
    )
    if rejected.empty:
        return
    ids = scope.run(
        "SELECT nextval(pg_get_serial_sequence('sync_errors', 'id')) FROM generate_series(1, :n)", n=len(rejected)
    ).scalars()
    rows = rejected.assign(id=list(ids))
    rows["record_data"] = [
        orjson.dumps(scope.vault.seal_json(orjson.loads(content), "sync_errors", str(number), "record_data")).decode()
        for number, content in zip(rows["id"], rows["data"].astype(object), strict=True)
    ]
    rows["error_details"] = [
        orjson.dumps({"field": field or None, "rule": rule or None, **orjson.loads(details)}).decode()
        for field, rule, details in zip(rows["field"], rows["rule"], rows["details"], strict=True)
    ]
    columns = {"id": "bigint", "record_id": "text", "error_type": "text", "message": "text"}
    scope.stage("rejects", {**columns, "error_details": "jsonb", "record_data": "jsonb"}, rows)
    scope.run(
        """INSERT INTO sync_errors (id, tenant_id, sync_history_id, side, record_id, error_type, error_message, error_details,
                                    record_data, retry_count, is_resolved)
           SELECT r.id, :tenant, :history, :side, left(r.record_id, 255), r.error_type, r.message, r.error_details,
                  r.record_data, COALESCE(f.times, 0), false
           FROM rejects r LEFT JOIN failed_before f ON f.record_id = left(r.record_id, 255)""",
        tenant=scope.tenant,
        history=attempt.id,
        side=side,
    )


def record_failure(scope: Scope, attempt: Attempt, error_type: str, message: str) -> None:
    """The error of a whole run: record_id is empty."""
    scope.run(
        """INSERT INTO sync_errors (tenant_id, sync_history_id, record_id, error_type, error_message)
           VALUES (:tenant, :history, '', :type, :message)""",
        tenant=scope.tenant,
        history=attempt.id,
        type=error_type,
        message=message,
    )


def clear_failures(scope: Scope, config: SyncConfig) -> None:
    """A run that ended closes the errors of whole runs before it."""
    scope.run(
        f"""UPDATE sync_errors e SET is_resolved = true, resolved_at = now()
            WHERE {_OURS} AND NOT e.is_resolved AND e.record_id = ''""",
        sync=config.id,
    )


def to_read_again(scope: Scope, config: SyncConfig, side: Side = Side.EXTERNAL) -> list[str]:
    """Ids with an open error. One that waits for its parent is left out until that parent is linked. So is one that is kept
    cut, or with escapes: that is nobody's id, or another record's."""
    return list(
        scope.run(
            f"""SELECT DISTINCT e.record_id FROM sync_errors e
               WHERE {_OURS} AND NOT e.is_resolved AND e.record_id <> '' AND e.side = :side
                 AND e.error_details->>'rule' IS DISTINCT FROM 'id'
                 AND (e.error_details->'waits_for' IS NULL OR EXISTS (
                     SELECT FROM identity_links l WHERE l.connector_id = :connector
                       AND l.erp_entity = e.error_details->'waits_for'->>'erp_entity'
                       AND l.external_entity = COALESCE(e.error_details->'waits_for'->>'external_entity', l.external_entity)
                       AND l.external_id = e.error_details->'waits_for'->>'external_id')
                   OR EXISTS (SELECT FROM identity_links l WHERE l.connector_id + 0 = :connector
                       AND l.erp_entity = e.error_details->'waits_for'->>'erp_entity'
                       AND l.external_entity = COALESCE(e.error_details->'waits_for'->>'external_entity', l.external_entity)
                       AND l.erp_id = e.error_details->'waits_for'->>'erp_id'))""",
            side=side,
            sync=config.id,
            connector=config.connector_id,
        ).scalars()
    )


def tombstones(scope: Scope, config: SyncConfig, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Those of these external records whose deletion was set aside: id → modified (ISO text) and merged_into, which may be
    None."""
    rows = scope.rows(
        f"""SELECT DISTINCT ON (e.record_id) e.record_id, e.error_details->'deleted' AS ended
           FROM sync_errors e WHERE {_OURS} AND NOT e.is_resolved AND e.side = 'external'
             AND e.record_id = ANY(:ids) AND e.error_details->'deleted' IS NOT NULL ORDER BY e.record_id, e.id DESC""",
        sync=config.id,
        ids=list(ids),
    )
    return {row["record_id"]: dict(row["ended"]) for row in rows}


def close_gone(scope: Scope, config: SyncConfig, ids: Sequence[str]) -> None:
    """Records that the external system no longer knows at all: nothing is left to be done for them, unless their pair is
    parked. A person still has to decide about that one."""
    scope.run(
        f"""UPDATE sync_errors e SET is_resolved = true, resolved_at = now(),
               error_details = COALESCE(e.error_details, '{{}}') || '{{"gone": true}}'
           WHERE {_OURS} AND NOT e.is_resolved AND e.side = 'external' AND e.record_id = ANY(:ids) AND NOT EXISTS (
                 SELECT FROM identity_links l WHERE l.connector_id = :connector AND l.external_entity = :external
                   AND l.erp_entity = :erp AND l.external_id = e.record_id AND l.state = 'parked')""",
        sync=config.id,
        ids=list(ids),
        connector=config.connector_id,
        external=config.external_entity,
        erp=config.erp_entity,
    )


def latest(scope: Scope, config_id: int, *, history_id: int | None = None, limit: int = 50) -> list[Mapping[str, Any]]:
    """Errors for people, the newest first; the open ones unless a run is named. Records stay sealed."""
    rows = scope.rows(
        """SELECT e.id, e.sync_history_id, e.side, e.record_id, e.error_type, e.error_message, e.error_details, e.retry_count,
                  e.is_resolved, e.created_at
           FROM sync_errors e JOIN sync_history h ON h.id = e.sync_history_id
           WHERE h.sync_configuration_id = :sync
             AND CASE WHEN CAST(:history AS bigint) IS NULL THEN NOT e.is_resolved ELSE h.id = :history END
           ORDER BY e.id DESC LIMIT :limit""",
        sync=config_id,
        history=history_id,
        limit=limit,
    )
    return [dict(row) for row in rows]
