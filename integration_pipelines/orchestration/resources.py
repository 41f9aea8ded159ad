"""The two sides of a sync as Dagster resources: the configured connector, and the ERP.

A resource holds settings only, and takes no config: what it connects to is a row of the store, never a field of the launchpad.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from connector_resources.catalogue import load_catalogue
from connector_resources.contract import Clock, Connector, CredentialStore, Given
from connector_resources.egress import Egress
from connector_resources.erp import Erp, ErpPlace
from connector_resources.errors import ConfigurationError
from connector_resources.registry import connector_class
from integration_pipelines.settings import Settings
from integration_pipelines.store.call_budget import CallBudget
from integration_pipelines.store.connectors import ConnectorRow, StoredCredentials
from integration_pipelines.store.database import Database, engine, explained
from integration_pipelines.store.installation import APART


@dataclass(frozen=True)
class ConnectorResource:
    """A row of `connectors`, as a resource."""

    settings: Settings
    now: Clock

    def open(
        self, database: Database, tenant: UUID, row: ConnectorRow, credentials: CredentialStore | None = None
    ) -> Connector:
        """The connector, not connected yet; with its stored credentials, unless others are given. Raises ConfigurationError
        for an unknown type."""
        return connector_class(row.type, self.settings.manifests)(
            Given(
                url=row.url,
                authentication_method=row.authentication_method,
                credentials=credentials or StoredCredentials(database, tenant, row.id),
                now=self.now,
                budget=CallBudget(database, tenant, row.id, row.configuration, self.now),
                configuration=row.configuration,
                ca_file=self.settings.ca_file,
                egress=Egress(self.settings.production, self.settings.allowed_hosts),
            )
        )


class _NoCredentials(StoredCredentials):
    def load(self) -> dict[str, str]:
        return {}


@dataclass(frozen=True)
class ErpResource:
    """The ERP: schema `erp` of our own database, or the user's database at ERP_DATABASE_URL."""

    settings: Settings
    now: Clock

    def open(self, database: Database, tenant: UUID) -> Erp:
        """Raises ConfigurationError when several tenants would share tables that have no tenant column."""
        catalogue = load_catalogue(self.settings.erp_catalogue)
        url = self.settings.erp_database_url
        given = Given(url or database.url, "basic", _NoCredentials(database, tenant, 0), self.now)
        if url is None:

            @contextmanager
            def ours() -> Iterator[sa.Connection]:
                with database.tenant(tenant) as scope:
                    yield scope.connection

            return Erp(given, catalogue, ErpPlace(ours))
        if any(entity.tenant_column is None for entity in catalogue.values()):
            with database.directory() as connection:
                count = len(list(connection.execute(sa.text("SELECT tenant_ids()"))))
            if count > 1:
                raise ConfigurationError(
                    f"ERP_DATABASE_URL is shared by {count} tenants, and the catalogue names no tenant_column: their records "
                    "could not be told apart. Name the column in ERP_CATALOGUE, or run an installation for each tenant."
                )
        theirs = engine(url, role=None, name="integration erp", pool_size=2)

        @contextmanager
        def apart() -> Iterator[sa.Connection]:
            with explained(url), theirs.begin() as connection:
                connection.execute(sa.text("SELECT set_config('app.actor', 'integration', true)"))
                yield connection

        return Erp(given, catalogue, ErpPlace(apart, schema=APART, tenant=str(tenant), apart=True, close=theirs.dispose))
