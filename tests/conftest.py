"""Real PostgreSQL for every test: one server a test process, one migrated template, one clone a test."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck
from hypothesis import settings as property_settings

from integration_pipelines.settings import VARIABLES, Settings
from integration_pipelines.settings import load as load_settings
from integration_pipelines.store import embedded as embedded_server
from integration_pipelines.store.database import Database, engine
from integration_pipelines.store.embedded import Embedded
from integration_pipelines.store.installation import migrate_all, open_installation
from integration_pipelines.store.master_key import MasterKey
from integration_pipelines.store.migrate import create_database

# Nothing of a test depends on how fast a machine is, or how busy.
property_settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
property_settings.load_profile("ours")


@pytest.fixture(autouse=True)
def _clean_environment() -> Iterator[None]:
    """None of our variables at the beginning, and as it was at the end: commands that run in this process set some."""
    before = dict(os.environ)
    for name in [*VARIABLES, "DAGSTER_HOME"]:
        os.environ.pop(name, None)
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Not under pytest's own folder: another pytest that starts takes away the right to pass through it, which a server that
    runs as an account of its own needs."""
    with tempfile.TemporaryDirectory(prefix="integration-test-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """URL of a PostgreSQL of this test process's own, with a migrated database `template_store`. It is of the version whose
    programs are in the folder POSTGRES_BIN, where that is set."""
    programs = os.environ.get("POSTGRES_BIN")
    chosen = mock.patch.object(embedded_server, "_programs", lambda: Path(str(programs))) if programs else nullcontext()
    with chosen, tempfile.TemporaryDirectory(prefix="integration-") as folder, Embedded(Path(folder) / "home") as embedded:
        home = Path(folder) / "home"
        url = create_database(embedded.url, "template_store")
        with open_installation(load_settings({"INTEGRATION_HOME": str(home), "DATABASE_URL": url})) as installation:
            migrate_all(installation)
        admin = engine(embedded.url, role=None, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with admin.connect() as connection:  # a killed server loses nothing by it, only a machine without power would
            for setting in ("fsync", "full_page_writes"):
                connection.exec_driver_sql(f"ALTER SYSTEM SET {setting} = off")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        yield embedded.url


@pytest.fixture
def database_url(server: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    name = f"test_{secrets.token_hex(6)}"
    admin = engine(server, role=None, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        copied = "STRATEGY FILE_COPY" if (connection.dialect.server_version_info or ()) > (15,) else ""  # 14 knows no other
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template_store {copied}")
    yield server.replace("/postgres?", f"/{name}?")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return load_settings({"INTEGRATION_HOME": str(tmp_path / "home"), "DATABASE_URL": database_url})


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    assert settings.database_url is not None
    found = Database(settings.database_url, MasterKey(None, settings.home / "master.key"))
    yield found
    found.close()


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The same settings for code that reads them from the environment."""
    monkeypatch.setenv("INTEGRATION_HOME", str(settings.home))
    monkeypatch.setenv("DATABASE_URL", settings.database_url or "")
    return settings


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Real schemas and payloads that are no part of the project; tests of them skip where they are not."""
    folder = Path(os.environ.get("INTEGRATION_ARTEFACTS", Path(__file__).parents[2] / "shared" / "artefacts"))
    if not folder.is_dir():
        pytest.skip(f"the artefacts are not at {folder}; name their folder in INTEGRATION_ARTEFACTS")
    return folder
