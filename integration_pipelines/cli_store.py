"""What every command needs: the opened store, and the options that most of them share."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import click

from integration_pipelines.settings import load

if TYPE_CHECKING:
    from integration_pipelines.store.database import Database
    from integration_pipelines.store.installation import Installation

TENANT = click.option("--tenant", "tenant_name", help="Whose; needed when there are several tenants.")
JSON = click.option("--json", "json", is_flag=True, help="For programs.")


@dataclass
class Store:
    installation: "Installation"
    database: "Database"

    def tenant(self, name: str | None) -> UUID:
        from integration_pipelines.store import tenants

        found = tenants.find(self.database, name)
        assert found is not None  # noqa: S101 - required is the default
        return found

    def tenant_of_sync(self, number: int) -> UUID:
        from integration_pipelines.store import syncs

        return syncs.tenant_of(self.database, number)


@contextmanager
def opened_store() -> Iterator[Store]:
    """The installation and its store; an embedded database that is new gets its tables first."""
    from integration_pipelines.store.installation import migrate_all, open_installation

    with open_installation(load()) as installation:
        if installation.embedded is not None:
            migrate_all(installation)
        database = installation.database()
        try:
            yield Store(installation, database)
        finally:
            database.close()
