from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from office import Office, furnish

from connector_resources.sandbox import Sandbox
from integration_pipelines.orchestration.launch import dagster_instance
from integration_pipelines.settings import Settings, load
from integration_pipelines.store.database import Database
from integration_pipelines.store.installation import open_installation
from integration_pipelines.store.migrate import create_database


@pytest.fixture(scope="session")
def dagster_url(server: str) -> str:
    """Dagster's own database, one for each test process."""
    return create_database(server, "dagster_runs")


@pytest.fixture
def settings(database_url: str, dagster_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As in the environment, so that runs in this process find them."""
    found = {"INTEGRATION_HOME": str(tmp_path / "home"), "DATABASE_URL": database_url, "DAGSTER_DATABASE_URL": dagster_url}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return load(found)


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with open_installation(settings) as installation, dagster_instance(installation) as opened:
        yield opened


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(accounts=60, contacts=90) as opened:
        yield opened


@pytest.fixture
def office(settings: Settings, database: Database, sandbox: Sandbox, instance: dg.DagsterInstance) -> Office:
    return furnish(settings, database, sandbox, instance)
