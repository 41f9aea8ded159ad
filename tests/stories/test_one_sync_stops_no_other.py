"""What is wrong with one tenant or one sync is its own trouble."""

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import FuturesAwareThreadPoolExecutor
from office import Office
from running import until

from connector_resources.errors import ConfigurationError, NetworkError
from integration_pipelines.definitions import defs
from integration_pipelines.orchestration import code_server
from integration_pipelines.store import history, syncs, tenants
from integration_pipelines.store.database import Database, engine


def made(office: Office, **values: Any) -> syncs.SyncConfig:
    with office.database.tenant(office.tenant) as scope:
        mapping = office.syncs["Account"].mapping_id
        return syncs.create(scope, connector_id=office.connector_id, mapping_id=mapping, actor="t", name="another", **values)


@pytest.mark.parametrize("cron", ["0 0 1W * *", "0 0 31 2 1", "0 0 30 feb 1", "@daily"])
def test_a_schedule_that_dagster_does_not_know_is_refused(office: Office, cron: str) -> None:
    with pytest.raises(ConfigurationError, match="is no cron expression that ever fires"):
        made(office, mode="scheduled", cron=cron)


@pytest.mark.parametrize(
    "change",
    [
        "sync_mode = 'scheduled', schedule_cron = '0 0 31 2 1'",
        """transformation_rules = '{"max_runtime_seconds": "6h"}'""",
        "transformation_rules = '[1]'",
    ],
)
def test_a_row_that_somebody_has_spoilt_has_a_job_that_says_so_and_stops_no_other(office: Office, change: str) -> None:
    office.change(f"UPDATE sync_configurations SET {change} WHERE id = :id", id=office.syncs["Contact"].id)
    jobs = {job.name: job for job in defs().get_repository_def().get_all_jobs()}
    assert "cannot run" in (jobs[f"sync_{office.syncs['Contact'].id}"].description or "")
    assert "cannot run" not in (jobs[f"sync_{office.syncs['Account'].id}"].description or "")
    assert office.run().success


def test_a_schedule_that_only_dagster_refuses_has_a_job_that_says_so(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.change(
        "UPDATE sync_configurations SET sync_mode = 'scheduled', schedule_cron = '0 0 31 2 1' WHERE id = :id",
        id=office.syncs["Contact"].id,
    )
    monkeypatch.setattr(syncs, "check_schedule", lambda *_: None)
    jobs = {job.name: job for job in defs().get_repository_def().get_all_jobs()}
    assert "cannot run" in (jobs[f"sync_{office.syncs['Contact'].id}"].description or "")


def test_a_tenant_whose_key_does_not_open_stops_no_other(office: Office) -> None:
    broken = tenants.create(office.database, "broken")
    owner = engine(office.database.url, role=None, poolclass=sa.NullPool)
    with owner.begin() as connection:  # what a dead process of that tenant has left
        connection.exec_driver_sql("SET session_replication_role = replica")
        for table in ("connectors", "field_mappings", "sync_configurations"):
            copy = f"""INSERT INTO {table} SELECT (jsonb_populate_record(NULL::{table}, to_jsonb(s) || jsonb_build_object(
                'id', 999, 'tenant_id', CAST(:t AS text), 'connector_id', 999))).* FROM {table} s LIMIT 1"""
            connection.execute(sa.text(copy), {"t": str(broken)})
        left = """INSERT INTO sync_history (tenant_id, sync_configuration_id, sync_direction, sync_status, started_at, run_id,
                      attempt_number, field_mapping_id, config_revision, connector_revision)
                  VALUES (:t, 999, 'inbound', 'running', now(), :r, 1, 999, 1, 1)"""
        connection.execute(sa.text(left), {"t": broken, "r": uuid4()})
        connection.execute(sa.text("UPDATE tenant_keys SET wrapped = '\\x00' WHERE tenant_id = :t"), {"t": broken})
    defs().get_repository_def()
    with closing(Database(office.database.url, office.database.master)) as fresh:
        history.sweep(fresh, datetime.now(UTC))
    assert office.run().success


@pytest.fixture
def following(office: Office) -> Iterator[code_server.CodeServer]:
    stop, before = threading.Event(), syncs.digest(office.database)
    found = code_server.CodeServer(
        server_termination_event=stop,
        logger=code_server._LOG,
        server_threadpool_executor=FuturesAwareThreadPoolExecutor(max_workers=4),
        loadable_target_origin=LoadableTargetOrigin(executable_path="python", module_name=code_server.MODULE),
        lazy_load_user_code=True,
        location_name=code_server.LOCATION,
    )
    follower = threading.Thread(target=code_server.follow, args=(found, office.database, before, stop))
    follower.start()
    yield found
    stop.set()
    follower.join(30)


@pytest.mark.parametrize("place", ["active", "digest"])
@pytest.mark.parametrize("problem", [NetworkError("The database restarts."), sa.exc.TimeoutError("no connection is free")])
def test_definitions_that_could_not_be_loaded_are_loaded_a_moment_later(
    office: Office, following: code_server.CodeServer, monkeypatch: pytest.MonkeyPatch, place: str, problem: Exception
) -> None:
    monkeypatch.setattr(code_server, "AGAIN", 0.1)
    real, calls = getattr(syncs, place), []

    def flaky(database: Database) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise problem
        return real(database)

    monkeypatch.setattr(syncs, place, flaky)
    name = f"sync_{made(office).id}"

    def there() -> bool:
        loaded = following._loaded_repositories
        return loaded is not None and any(name in one.job_names for one in loaded.definitions_by_name.values())

    until(there, 60)
    assert len(calls) > 1
