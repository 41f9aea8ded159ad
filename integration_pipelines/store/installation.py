"""One installation: its databases, its master key, and the folder under INTEGRATION_HOME."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import sqlalchemy as sa

from connector_resources.catalogue import CatalogueEntity, load_catalogue
from connector_resources.erp_schema import (
    applied_intents,
    fitting,
    is_partitioned,
    log_tables,
    log_triggers,
    parents_of,
    reference_schema,
)
from connector_resources.errors import ConfigurationError
from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database, engine, explained
from integration_pipelines.store.embedded import Embedded
from integration_pipelines.store.master_key import MasterKey
from integration_pipelines.store.migrate import create_database, migrate, require_migrated, require_version

_STORE, _DAGSTER, APART = "integration", "dagster", "integration"


@dataclass
class Installation:
    """Open: `database_url` can be connected to. With the embedded PostgreSQL this holds a handle on it."""

    settings: Settings
    database_url: str
    server_url: str
    master: MasterKey
    embedded: Embedded | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self, *, stop_staying: bool = False) -> bool:
        """True when the embedded PostgreSQL was stopped with it."""
        return self.embedded.close(stop_staying=stop_staying) if self.embedded else False

    def database(self) -> Database:
        """The store, checked: reachable, migrated, and encrypted with our master key."""
        database = Database(self.database_url, self.master)
        try:
            with explained(self.database_url), database.engine.connect() as connection:
                require_version(connection, self.database_url)
                require_migrated(connection, self.database_url)
            database.check_master_key()
        except Exception:
            database.close()
            raise
        return database

    @cached_property
    def dagster_url(self) -> str:
        """Dagster's own database, made beside ours if need be."""
        return self.settings.dagster_database_url or create_database(self.server_url, _DAGSTER)

    @property
    def dagster_home(self) -> Path:
        return self.settings.home / "dagster"

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to work in this installation."""
        return {
            "INTEGRATION_HOME": str(self.settings.home),
            "DATABASE_URL": self.database_url,
            "DAGSTER_HOME": str(self.dagster_home),
            "DAGSTER_DATABASE_URL": self.dagster_url.replace("postgresql://", "postgresql+psycopg2://"),
        }


def open_installation(settings: Settings, *, stay: bool = False) -> Installation:
    """Start the embedded PostgreSQL if there is no DATABASE_URL. `stay`: it runs on afterwards."""
    master = MasterKey(settings.master_key, settings.home / "master.key")
    if settings.database_url:
        return Installation(settings, settings.database_url, settings.database_url, master)
    embedded = Embedded(settings.home, stay=stay)
    try:
        return Installation(settings, create_database(embedded.url, _STORE), embedded.url, master, embedded)
    except Exception:
        embedded.close()
        raise


def migrate_all(installation: Installation) -> str | None:
    """Tables, reference ERP and change log; returns the store's revision if it is a new one. Safe to call again."""
    settings = installation.settings
    revision = migrate(installation.database_url)
    catalogue = load_catalogue(settings.erp_catalogue)
    url = settings.erp_database_url or installation.database_url
    owner = engine(url, role=None, name="integration migrate", poolclass=sa.NullPool)
    with explained(url), owner.begin() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:k)"), {"k": 0x1E6A712})
        own = settings.erp_database_url is not None
        for statement in _user_erp(catalogue, connection) if own else reference_schema(catalogue, "integration_app"):
            try:
                connection.execute(sa.text(statement))
            except (sa.exc.ProgrammingError, sa.exc.NotSupportedError, sa.exc.IntegrityError) as failure:
                reason = str(failure.orig).strip().splitlines()[0]
                raise ConfigurationError(
                    f"The ERP's tables and the catalogue do not fit: {reason}. Correct the catalogue in ERP_CATALOGUE."
                ) from None
    return revision


def _user_erp(catalogue: Mapping[str, CatalogueEntity], connection: sa.Connection) -> Iterator[str]:
    yield from log_tables(APART, tenants=False)
    yield from applied_intents(APART)
    for entity in catalogue.values():
        yield from fitting(entity)  # a trigger that names a column which is not there would stop the user's own writes
        parents, partitioned = parents_of(entity, catalogue), is_partitioned(connection, entity)
        yield from log_triggers(entity, APART, tenants=False, parents=parents, partitioned=partitioned)


def prepare_dagster_home(installation: Installation) -> Path:
    """The folder that DAGSTER_HOME names, with an instance config that holds no address and no secret."""
    home = installation.dagster_home
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings = installation.settings
    limits = {"runs": settings.max_runs, "connector": settings.max_runs_per_connector, "tenant": settings.max_runs_per_tenant}
    (home / "dagster.yaml").write_text(DAGSTER_YAML.format(**limits))
    return home


DAGSTER_YAML = """\
# Written by `integration`; changes are overwritten.
storage:
  postgres:
    postgres_url: {{env: DAGSTER_DATABASE_URL}}
run_launcher:
  module: integration_pipelines.orchestration.launcher
  class: WarmRunLauncher
run_coordinator:
  module: integration_pipelines.orchestration.run_queue
  class: RunQueue
concurrency:
  runs:
    max_concurrent_runs: {runs}
    tag_concurrency_limits:
      - {{key: integration/sync, limit: 1, value: {{applyLimitPerUniqueValue: true}}}}
      - {{key: integration/connector, limit: {connector}, value: {{applyLimitPerUniqueValue: true}}}}
      - {{key: integration/tenant, limit: {tenant}, value: {{applyLimitPerUniqueValue: true}}}}
run_monitoring:
  enabled: true
  poll_interval_seconds: 5
  start_timeout_seconds: 120
  cancel_timeout_seconds: 15
  max_resume_run_attempts: 0
python_logs: {{python_log_level: WARNING}}
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
retention:
  schedule: {{purge_after_days: 90}}
  sensor: {{purge_after_days: {{skipped: 1, failure: 30, success: 30}}}}
telemetry: {{enabled: false}}
nux: {{enabled: false}}
"""
