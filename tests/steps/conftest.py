"""An ERP in a database of its own."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from own_erp import TABLES, installed

from integration_pipelines.settings import Settings
from integration_pipelines.store.database import engine
from integration_pipelines.store.migrate import create_database


@pytest.fixture
def erp_url(server: str) -> Iterator[str]:
    name = f"erp_{secrets.token_hex(6)}"
    url = create_database(server, name)
    made = engine(url, role=None, poolclass=sa.NullPool)
    with made.begin() as connection:
        connection.exec_driver_sql(TABLES)
    yield url
    with engine(server, role=None, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def own(settings: Settings, erp_url: str, tmp_path: Path) -> Settings:
    """Settings of an installation beside that ERP, migrated."""
    return installed(settings, erp_url, tmp_path)
