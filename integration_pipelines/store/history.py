"""The history of runs: one row an attempt, opened before anything is read, closed by whoever ends it.

processed = succeeded + failed + skipped, in every state of the row: counts are added in the transaction of what they count.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa

from connector_resources.errors import ConfigurationError, IntegrationError
from integration_pipelines.events import SyncCompleted, SyncFailed, SyncStarted
from integration_pipelines.model import Side, SyncStatus
from integration_pipelines.store import alerts, audit, outbox, retries
from integration_pipelines.store.database import Database, Scope
from integration_pipelines.store.retries import AfterFailure
from integration_pipelines.store.syncs import SyncConfig

_LOG = logging.getLogger("integration.history")
_DEAD = "The process of this run died before it had finished. What it had committed stands; the next run goes on from there."

_CLOSED = (
    "This run was taken for dead and closed while its connection to the database was lost; it ends here, and is tried again."
)


class Overtaken(IntegrationError):
    """The history row was closed by somebody else: another run may be at work already, so nothing more is written."""


class ConnectorChanged(IntegrationError):
    """What was staged may come from another account than the connector has now."""

    error_type = "configuration"


@dataclass(frozen=True)
class Attempt:
    """A row of `sync_history` while its run goes on: what the run is pinned to."""

    id: int
    sync_configuration_id: int
    run_id: UUID
    attempt_number: int
    field_mapping_id: int
    config_revision: int
    connector_revision: int
    position: str | None
    erp_position: str | None
    sync_status: str


_ATTEMPT = """SELECT id, sync_configuration_id, run_id, attempt_number, field_mapping_id, config_revision, connector_revision,
              position, erp_position, sync_status FROM sync_history"""


def open_attempt(
    scope: Scope, config: SyncConfig, connector_revision: int, run_id: UUID, root_run_id: UUID | None, now: datetime
) -> Attempt:
    """This run's row: the one that stands, or a new one with SyncStarted beside it.

    A re-execution names the first attempt and keeps what that one was pinned to; of the connector it has what is there now."""
    found = scope.rows(f"{_ATTEMPT} WHERE run_id = :run", run=run_id)
    if found:
        return Attempt(**found[0])
    first = scope.rows(f"{_ATTEMPT} WHERE run_id = :run", run=root_run_id) if root_run_id else []
    pinned = Attempt(**first[0]) if first else None
    number = scope.run(
        """INSERT INTO sync_history (tenant_id, sync_configuration_id, sync_direction, sync_status, started_at, run_id,
               first_history_id, attempt_number, field_mapping_id, config_revision, connector_revision, position, erp_position)
           SELECT :tenant, :sync, :direction, 'running', :now, :run, CAST(:first AS bigint),
               1 + count(h.id), :mapping, :config, :connector, :position, :erp_position
           FROM (SELECT) one LEFT JOIN sync_history h ON h.id = :first OR h.first_history_id = :first
           RETURNING id""",
        tenant=scope.tenant,
        sync=config.id,
        direction=config.direction,
        now=now,
        run=run_id,
        first=pinned.id if pinned else None,
        mapping=pinned.field_mapping_id if pinned else config.mapping_id,
        config=pinned.config_revision if pinned else config.revision,
        connector=connector_revision,
        position=pinned.position if pinned else None,
        erp_position=pinned.erp_position if pinned else None,
    ).scalar_one()
    outbox.announce(scope, SyncStarted(_public(scope, number), config.payload(), config.direction))
    return Attempt(**scope.rows(f"{_ATTEMPT} WHERE id = :id", id=number)[0])


def require_same_connector(scope: Scope, attempt: Attempt, staged_by: UUID) -> None:
    """Raises ConnectorChanged where that run has read its records through the connector as it was before a person authorized
    or configured it anew: they may be another account's."""
    read_with = scope.run("SELECT connector_revision FROM sync_history WHERE run_id = :run", run=staged_by).scalar()
    if read_with != attempt.connector_revision:
        raise ConnectorChanged(
            "The connector was authorized or configured anew after these records had been read. They are not loaded, and the "
            "sync reads its records again."
        )


def overtaken(scope: Scope, attempt: Attempt) -> bool:
    """Whether a run of the same pair began after the first attempt of this one: the plan may be older than that run's work."""
    first = scope.run("SELECT COALESCE(first_history_id, id) FROM sync_history WHERE id = :id", id=attempt.id).scalar_one()
    found = scope.run(
        """SELECT EXISTS (
               SELECT FROM sync_history other JOIN sync_configurations theirs ON theirs.id = other.sync_configuration_id
               JOIN sync_configurations mine ON mine.connector_id = theirs.connector_id
                AND mine.source_entity = theirs.source_entity AND mine.target_entity = theirs.target_entity
               WHERE mine.id = :sync AND other.id > :first AND other.id <> :id
                 AND other.first_history_id IS DISTINCT FROM :first AND other.records_processed > 0)""",
        id=attempt.id,
        first=first,
        sync=attempt.sync_configuration_id,
    ).scalar_one()
    return bool(found)


_POSITIONS = {Side.EXTERNAL: "position", Side.ERP: "erp_position"}


def set_position(scope: Scope, attempt: Attempt, position: str | None, side: Side = Side.EXTERNAL) -> None:
    """Where the watermark of this side goes when this run ends well."""
    scope.run(f"UPDATE sync_history SET {_POSITIONS[side]} = :p WHERE id = :id", p=position, id=attempt.id)


def count(scope: Scope, attempt: Attempt, *, succeeded: int = 0, failed: int = 0, skipped: int = 0) -> None:
    """Raises Overtaken, and with it undoes the transaction, where the row was closed meanwhile."""
    counted = scope.run(
        """UPDATE sync_history SET records_processed = records_processed + :all, records_succeeded = records_succeeded + :s,
               records_failed = records_failed + :f, records_skipped = records_skipped + :k
           WHERE id = :id AND sync_status = 'running'""",
        all=succeeded + failed + skipped,
        s=succeeded,
        f=failed,
        k=skipped,
        id=attempt.id,
    )
    if not counted.rowcount:
        raise Overtaken(_CLOSED)


def position(scope: Scope, config: SyncConfig, side: Side, *, any_mapping: bool = False) -> str | None:
    """Up to where everything is loaded, set aside or parked: of the external side an instant, of the ERP a position of its
    change log. None before the first run, and (unless `any_mapping`) where a new mapping version has not seen everything yet:
    its rules hold for the records that nobody touches, too."""
    found: str | None = scope.run(
        """SELECT position FROM sync_watermarks w WHERE sync_configuration_id = :sync AND side = :side
           AND (:any OR :mapping = (SELECT field_mapping_id FROM sync_history h WHERE h.id = w.sync_history_id))""",
        sync=config.id,
        side=side,
        any=any_mapping,
        mapping=config.mapping_id,
    ).scalar()
    return found


def watermark(scope: Scope, config: SyncConfig) -> datetime | None:
    """The external side's position."""
    found = position(scope, config, Side.EXTERNAL)
    return datetime.fromisoformat(found) if found else None


def complete(scope: Scope, config: SyncConfig, attempt: Attempt, now: datetime) -> SyncStatus:
    """Close the row, move the watermark (never backwards), settle the claimed inbox rows, announce the end. Once: a row that
    ended well stays as it is."""
    row = scope.rows("SELECT * FROM sync_history WHERE id = :id FOR UPDATE", id=attempt.id)[0]
    if row["sync_status"] in (SyncStatus.COMPLETED, SyncStatus.PARTIAL):
        return SyncStatus(row["sync_status"])
    if row["sync_status"] == SyncStatus.FAILED:
        raise Overtaken(_CLOSED)
    failed, good = row["records_failed"], row["records_succeeded"] + row["records_skipped"]
    status = SyncStatus.COMPLETED if not failed else SyncStatus.PARTIAL if good else SyncStatus.FAILED
    message = (
        f"All {failed} records were set aside; sync_errors has the reason of each." if status is SyncStatus.FAILED else None
    )
    _close(scope, attempt.id, status, message, now)
    for side, column in _POSITIONS.items():
        if row[column]:
            _move(scope, config, attempt, side, row[column])
    scope.run("UPDATE connectors SET last_sync_at = :now WHERE id = :id", now=now, id=config.connector_id)
    scope.run("UPDATE inbox SET status = 'done', settled_at = now() WHERE sync_history_id = :id", id=attempt.id)
    scope.run(
        "UPDATE sync_configurations SET brake_released_at = NULL WHERE id = :id AND brake_released_at <= :started",
        id=config.id,
        started=row["started_at"],
    )
    if status is SyncStatus.FAILED:
        alerts.failed(scope, attempt.id)  # the next run reads these records again
    else:
        alerts.recovered(scope, attempt.id)
    history = _public(scope, attempt.id)
    counts = [history[f"records_{name}"] for name in ("processed", "succeeded", "failed")]
    outbox.announce(
        scope, SyncFailed(history, message, attempt.attempt_number) if message else SyncCompleted(history, *counts)
    )
    audit.record(
        scope,
        "sync",
        "sync.transfer",
        f"sync_history/{attempt.id}",
        {
            "direction": config.direction,
            "external_entity": config.external_entity,
            "erp_entity": config.erp_entity,
            "connector_id": config.connector_id,
            "succeeded": counts[1],
            "failed": counts[2],
        },
    )
    return status


def _move(scope: Scope, config: SyncConfig, attempt: Attempt, side: Side, position: str) -> None:
    """A watermark never goes back, unless the ERP's server was restored: then its numbers begin anew."""
    earlier = "EXCLUDED.position::timestamptz < w.position::timestamptz" if side is Side.EXTERNAL else "false"
    scope.run(
        f"""INSERT INTO sync_watermarks AS w (tenant_id, sync_configuration_id, side, position, sync_history_id)
            VALUES (:tenant, :sync, :side, :position, :history)
            ON CONFLICT (tenant_id, sync_configuration_id, side) DO UPDATE SET
                position = CASE WHEN {earlier} THEN w.position ELSE EXCLUDED.position END,
                sync_history_id = EXCLUDED.sync_history_id, updated_at = now()""",
        tenant=scope.tenant,
        sync=config.id,
        side=side,
        position=position,
        history=attempt.id,
    )


def fail(scope: Scope, history_id: int, message: str, now: datetime, after: AfterFailure = AfterFailure.RETRY) -> bool:
    """Close a running row as failed, with SyncFailed beside it. False when it was closed already."""
    running = scope.run(
        "SELECT attempt_number FROM sync_history WHERE id = :id AND sync_status IN ('pending', 'running') FOR UPDATE",
        id=history_id,
    ).scalar()
    if running is None:
        return False
    _close(scope, history_id, SyncStatus.FAILED, message, now)
    scope.run("UPDATE inbox SET status = 'pending', sync_history_id = NULL WHERE sync_history_id = :id", id=history_id)
    retries.plan(scope, history_id, now, after)
    outbox.announce(scope, SyncFailed(_public(scope, history_id), message, int(running)))
    return True


def postpone(scope: Scope, history_id: int, message: str, now: datetime, until: datetime) -> None:
    """Close a running row as partial: it stopped early, and is executed again from where it stopped at `until`. The watermark
    stays, and nobody is alerted."""
    running = scope.run(
        "SELECT 1 FROM sync_history WHERE id = :id AND sync_status IN ('pending', 'running') FOR UPDATE", id=history_id
    ).scalar()
    if running is None:
        return
    _close(scope, history_id, SyncStatus.PARTIAL, message, now)
    scope.run("UPDATE sync_history SET retry_at = :until WHERE id = :id", until=until, id=history_id)
    scope.run("UPDATE inbox SET status = 'pending', sync_history_id = NULL WHERE sync_history_id = :id", id=history_id)
    history = _public(scope, history_id)
    counts = [history[f"records_{name}"] for name in ("processed", "succeeded", "failed")]
    outbox.announce(scope, SyncCompleted(history, *counts))


def _close(scope: Scope, history_id: int, status: SyncStatus, message: str | None, now: datetime) -> None:
    scope.run(
        """UPDATE sync_history SET sync_status = :status, error_message = :message, completed_at = :now,
               execution_time_ms = GREATEST(0, extract(epoch FROM CAST(:now AS timestamptz) - started_at) * 1000),
               data_snapshot_before = CAST(:before AS jsonb), data_snapshot_after = CAST(:after AS jsonb) WHERE id = :id""",
        status=status,
        message=message,
        now=now,
        id=history_id,
        **_manifests(scope, history_id),
    )


def _manifests(scope: Scope, history_id: int) -> dict[str, str]:
    """What the journal holds of this run, before and after: counts by action, and a digest over the digests of its rows in
    order. Each as JSON text."""
    rows = scope.rows(
        "SELECT action, count(before) AS before, count(after) AS after FROM sync_record_changes "
        "WHERE sync_history_id = :id GROUP BY action",
        id=history_id,
    )
    told = """encode(sha256(string_agg(digest, ''::bytea ORDER BY side, record_id COLLATE "C", changed_at)
                            FILTER (WHERE {0} IS NOT NULL)), 'hex') AS {0}"""
    digests = scope.rows(
        f"SELECT {told.format('before')}, {told.format('after')} FROM sync_record_changes WHERE sync_history_id = :id",
        id=history_id,
    )[0]
    counts = {side: {row["action"]: row[side] for row in rows if row[side]} for side in ("before", "after")}
    return {side: orjson.dumps({"records": counts[side], "sha256": digests[side]}).decode() for side in counts}


def _public(scope: Scope, history_id: int) -> Mapping[str, Any]:
    row = scope.rows("SELECT * FROM sync_history WHERE id = :id", id=history_id)[0]
    return {name: value for name, value in row.items() if name != "tenant_id"} | {"tenant_id": str(row["tenant_id"])}


def latest(scope: Scope, config_id: int | None = None, limit: int = 20) -> list[dict[str, Any]]:
    """Attempts, the newest first, with how many records each created, updated and deleted in the ERP."""
    rows = scope.rows(
        """SELECT h.*, s.sync_name, c.created, c.updated, c.deleted FROM sync_history h
           JOIN sync_configurations s ON s.id = h.sync_configuration_id
           LEFT JOIN LATERAL (SELECT count(*) FILTER (WHERE action = 'create') AS created,
                   count(*) FILTER (WHERE action = 'update') AS updated, count(*) FILTER (WHERE action = 'delete') AS deleted
               FROM sync_record_changes j WHERE j.sync_history_id = h.id) c ON true
           WHERE CAST(:sync AS bigint) IS NULL OR h.sync_configuration_id = :sync ORDER BY h.id DESC LIMIT :limit""",
        sync=config_id,
        limit=limit,
    )
    return [dict(row) for row in rows]


def lock_key(history_id: int) -> int:
    """Advisory lock that a run's process holds for as long as it lives."""
    return (0x1E6A711 << 36) | history_id


def run_key(run_id: UUID) -> int:
    """The same of a run that may have no history yet, or none that goes on."""
    return (0x1E6A713 << 36) | run_id.int >> 92


def dead(database: Database, runs: Sequence[UUID]) -> set[UUID]:
    """Those of these runs whose process does not live, wherever it was."""
    with database.directory() as connection:
        free = sa.text("SELECT pg_try_advisory_xact_lock(:k)")
        return {run for run in runs if connection.execute(free, {"k": run_key(run)}).scalar()}


def sweep(database: Database, now: datetime) -> list[UUID]:
    """Close what dead processes left open; returns the run ids. A row is dead when nobody holds its lock."""
    with database.directory() as connection:
        running = connection.execute(sa.text("SELECT history_id, tenant FROM running_histories()")).all()
    closed = []
    for row in running:
        try:
            with database.tenant(row.tenant) as scope:
                free = scope.run("SELECT pg_try_advisory_xact_lock(:k)", k=lock_key(row.history_id)).scalar()
                if free and fail(scope, row.history_id, _DEAD, now):
                    found = scope.run("SELECT run_id FROM sync_history WHERE id = :id", id=row.history_id)
                    closed.append(found.scalar_one())
        except (ConfigurationError, sa.exc.DataError) as problem:  # of one tenant; it must not hold up the others
            _LOG.warning("History row %s of a dead run could not be closed: %s", row.history_id, problem)
    return closed
