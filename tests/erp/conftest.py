"""The reference ERP of one tenant."""

from uuid import UUID

import pytest
from erp_tables import reference_erp

from connector_resources.erp import Erp
from integration_pipelines.store import tenants
from integration_pipelines.store.database import Database


@pytest.fixture
def tenant(database: Database) -> UUID:
    return tenants.create(database, "acme")


@pytest.fixture
def erp(database: Database, tenant: UUID) -> Erp:
    return reference_erp(database, tenant)
