"""Sync configurations: what is kept in step with what, which way, when, and by which mapping version."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson
import sqlalchemy as sa
from croniter import CroniterError, croniter

from connector_resources.errors import ConfigurationError
from integration_pipelines.model import ConflictStrategy, DeletePolicy, Direction, SyncMode
from integration_pipelines.store import audit, connectors, mappings
from integration_pipelines.store.database import Database, Scope


@dataclass(frozen=True)
class SyncConfig:
    """A row of `sync_configurations`. `options` (its column transformation_rules) holds what OPTIONS lists."""

    id: int
    connector_id: int
    name: str
    external_entity: str
    erp_entity: str
    direction: Direction
    mode: SyncMode
    cron: str | None
    time_zone: str
    mapping_id: int
    mapping_version: int
    options: Mapping[str, Any]
    strategy: ConflictStrategy
    delete_policy: DeletePolicy
    is_active: bool
    revision: int
    brake_released_at: datetime | None

    def payload(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class BrokenConfig:
    """An active row that cannot be loaded (somebody wrote to the table by hand), and why."""

    id: int
    connector_id: int
    name: str
    problem: str


OPTIONS: Mapping[str, tuple[float, float, float]] = {  # name → default, least, most
    "overlap_seconds": (300, 0, 86_400),
    "brake_changes": (0.5, 0, 1),
    "brake_deletes": (0.2, 0, 1),
    "retry_delay_seconds": (60, 1, 86_400),
    "max_runtime_seconds": (6 * 3600, 10, 30 * 86_400),
}

_SELECT = """SELECT id, connector_id, sync_name AS name, source_entity AS external_entity, target_entity AS erp_entity,
    sync_direction AS direction, sync_mode AS mode, schedule_cron AS cron, time_zone,
    (field_mappings->>'mapping_id')::bigint AS mapping_id, (field_mappings->>'version')::int AS mapping_version,
    COALESCE(transformation_rules, '{}') AS options, COALESCE(conflict_resolution_strategy, 'last_write_wins') AS strategy,
    delete_policy, is_active, revision, brake_released_at
    FROM sync_configurations WHERE deleted_at IS NULL"""


def _row(row: sa.RowMapping) -> SyncConfig:
    kinds: dict[str, Any] = {
        "direction": Direction,
        "mode": SyncMode,
        "strategy": ConflictStrategy,
        "delete_policy": DeletePolicy,
    }
    for name, kind in kinds.items():
        if row[name] not in list(kind):
            raise ConfigurationError(
                f"Sync config {row['id']} cannot be loaded: its {name.replace('_', ' ')} is '{row[name][:40]}', and must be "
                f"one of {', '.join(kind)}."
            )
    try:
        _check_options(row["options"])
    except ConfigurationError as problem:
        raise ConfigurationError(f"Sync config {row['id']} cannot be loaded: {problem}") from None
    return SyncConfig(**{name: kinds[name](value) if name in kinds else value for name, value in row.items()})


def create(
    scope: Scope,
    *,
    connector_id: int,
    name: str,
    mapping_id: int,
    direction: str = "inbound",
    mode: str = "manual",
    cron: str | None = None,
    time_zone: str = "UTC",
    strategy: str = "last_write_wins",
    delete_policy: str = "deactivate",
    options: Mapping[str, float] | None = None,
    actor: str,
) -> SyncConfig:
    """The entities are the mapping's. Raises ConfigurationError naming what is wrong: cron, zone, direction, …"""
    for value, kind, what in (
        (direction, Direction, "direction"),
        (mode, SyncMode, "mode"),
        (strategy, ConflictStrategy, "conflict strategy"),
        (delete_policy, DeletePolicy, "delete policy"),
    ):
        if value not in list(kind):
            raise ConfigurationError(f"'{value}' is no {what}; choose {', '.join(kind)}.")
    if not name.strip() or len(name) > 255:
        raise ConfigurationError("A sync's name has 1 to 255 characters.")
    check_schedule(mode, cron, time_zone)
    _check_options(options or {})
    mapping = mappings.get(scope, mapping_id)
    connectors.get(scope, connector_id)
    number = scope.run(
        """INSERT INTO sync_configurations (tenant_id, connector_id, sync_name, source_entity, target_entity, sync_direction,
               sync_mode, schedule_cron, field_mappings, transformation_rules, conflict_resolution_strategy, is_active,
               time_zone, delete_policy)
           VALUES (:tenant, :connector, :name, :source, :target, :direction, :mode, :cron,
               jsonb_build_object('mapping_id', :mapping, 'version', :version), CAST(:options AS jsonb), :strategy, true,
               :zone, :policy) RETURNING id""",
        tenant=scope.tenant,
        connector=connector_id,
        name=name,
        source=mapping.source_entity,
        target=mapping.target_entity,
        direction=direction,
        mode=mode,
        cron=cron,
        mapping=mapping.id,
        version=mapping.version,
        options=orjson.dumps(dict(options or {})).decode(),
        strategy=strategy,
        zone=time_zone,
        policy=delete_policy,
    ).scalar_one()
    audit.record(scope, actor, "sync.create", f"sync_configurations/{number}", {"mapping_id": mapping.id})
    return get(scope, int(number))


def shares_pair(scope: Scope, config: SyncConfig) -> bool:
    """Whether another sync keeps the same pair of entities in step, with a mapping of its own."""
    found = scope.run(
        """SELECT EXISTS (SELECT FROM sync_configurations WHERE deleted_at IS NULL AND id <> :id AND connector_id = :connector
               AND source_entity = :external AND target_entity = :erp)""",
        id=config.id,
        connector=config.connector_id,
        external=config.external_entity,
        erp=config.erp_entity,
    ).scalar_one()
    return bool(found)


def check_schedule(mode: str, cron: str | None, time_zone: str) -> None:
    """Raises ConfigurationError for a cron expression without five fields or a zone that does not exist."""
    if mode == SyncMode.SCHEDULED and not cron:
        raise ConfigurationError("A scheduled sync needs a cron expression, for example '*/15 * * * *' for every 15 minutes.")
    if cron is not None and not _ever_fires(cron):
        raise ConfigurationError(
            f"'{cron[:100]}' is no cron expression that ever fires: it has five fields (minute hour day month weekday), like "
            "'0 6 * * 1-5'."
        )
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigurationError(f"There is no time zone '{time_zone[:64]}'; name one like Europe/Berlin.") from None


def _ever_fires(cron: str) -> bool:
    """By cron's own grammar: what others have added to it (1W) Dagster does not know, and the last days of February
    never come, or only on weekdays by the way."""
    fields = cron.split()
    if len(fields) != 5 or not re.fullmatch(r"[0-9lL?*,/-]+", fields[2]):
        return False
    if fields[3].lower() in ("2", "02", "feb") and fields[2] in ("30", "31"):
        return False
    try:
        return croniter.is_valid(cron) and bool(croniter(cron, 0).get_next())
    except CroniterError:
        return False


def _check_options(options: Mapping[str, Any]) -> None:
    if not isinstance(options, Mapping):
        raise ConfigurationError("A sync's options are a mapping of names to numbers.")
    for name, value in options.items():
        if name not in OPTIONS:
            raise ConfigurationError(f"A sync has no option '{name}'; there is {', '.join(OPTIONS)}.")
        _, least, most = OPTIONS[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise ConfigurationError(f"The option {name} goes from {least} to {most}.")


def option(config: SyncConfig, name: str) -> float:
    return float(config.options.get(name, OPTIONS[name][0]))


def get(scope: Scope, number: int) -> SyncConfig:
    row = scope.rows(f"{_SELECT} AND id = :id", id=number)
    if not row:
        raise ConfigurationError(f"There is no sync config {number} in this tenant; `integration sync list` shows them.")
    return _row(row[0])


def for_job(scope: Scope, number: int) -> SyncConfig | BrokenConfig:
    """The same for what only needs a job: one that cannot be loaded has one that says so."""
    row = scope.rows(f"{_SELECT} AND id = :id", id=number)
    return _loaded(row[0]) if row else get(scope, number)


def every(scope: Scope) -> list[SyncConfig]:
    return [_row(row) for row in scope.rows(f"{_SELECT} ORDER BY id")]


def release_brake(scope: Scope, number: int, actor: str) -> None:
    """The next run may change as much as it wants; the one after that is watched again."""
    get(scope, number)
    scope.run("UPDATE sync_configurations SET brake_released_at = now() WHERE id = :id", id=number)
    audit.record(scope, actor, "sync.release_brake", f"sync_configurations/{number}")


def remove(scope: Scope, number: int, actor: str) -> None:
    """It runs no more and is listed no more; its history, links and journal stay."""
    _change(scope, number, actor, "sync.remove", "deleted_at = now()")


def pause(scope: Scope, number: int, actor: str) -> None:
    """Until `resume` it is neither loaded nor scheduled. A run that is under way goes on; one in the queue ends."""
    _change(scope, number, actor, "sync.pause", "is_active = false")


def resume(scope: Scope, number: int, actor: str) -> None:
    _change(scope, number, actor, "sync.resume", "is_active = true")


def reschedule(scope: Scope, number: int, cron: str | None, time_zone: str | None, actor: str) -> SyncConfig:
    """Without `cron` it runs by hand only. Raises ConfigurationError as `create` does."""
    zone = time_zone or get(scope, number).time_zone
    mode = SyncMode.SCHEDULED if cron else SyncMode.MANUAL
    check_schedule(mode, cron, zone)
    changed = "sync_mode = :mode, schedule_cron = :cron, time_zone = :zone"
    _change(scope, number, actor, "sync.schedule", changed, mode=mode.value, cron=cron, zone=zone)
    return get(scope, number)


def _change(scope: Scope, number: int, actor: str, action: str, change: str, **values: Any) -> None:
    get(scope, number)
    scope.run(
        f"UPDATE sync_configurations SET {change}, revision = revision + 1, updated_at = now() WHERE id = :id",
        id=number,
        **values,
    )
    audit.record(scope, actor, action, f"sync_configurations/{number}")


def active(database: Database) -> list[tuple[UUID, SyncConfig | BrokenConfig]]:
    """Every tenant's active sync configs, for the definitions."""
    with database.directory() as connection:
        found = connection.execute(sa.text("SELECT sync_id, tenant FROM active_syncs()")).all()
    configs: list[tuple[UUID, SyncConfig | BrokenConfig]] = []
    for tenant in dict.fromkeys(row.tenant for row in found):
        wanted = [row.sync_id for row in found if row.tenant == tenant]
        with database.tenant(tenant) as scope:
            rows = scope.rows(f"{_SELECT} AND id = ANY(:ids) ORDER BY id", ids=wanted)
        configs += [(tenant, _loaded(row)) for row in rows]
    return configs


def _loaded(row: sa.RowMapping) -> SyncConfig | BrokenConfig:
    try:
        config = _row(row)
        check_schedule(config.mode, config.cron, config.time_zone)
    except ConfigurationError as problem:
        return BrokenConfig(row["id"], row["connector_id"], row["name"], str(problem))
    return config


def digest(database: Database) -> str:
    """A text that changes whenever what `active` returns does."""
    with database.directory() as connection:
        return str(connection.execute(sa.text("SELECT syncs_digest()")).scalar_one())


def tenant_of(database: Database, number: int) -> UUID:
    with database.directory() as connection:
        found = connection.execute(sa.text("SELECT tenant_of_sync(:id)"), {"id": number}).scalar()
    if found is None:
        raise ConfigurationError(f"There is no sync config {number}; `integration sync list` shows them.")
    tenant: UUID = found
    return tenant
