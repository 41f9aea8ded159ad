"""An installation with a Salesforce sandbox, a tenant, the connector and the seed syncs: what the stories play in."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg

from connector_resources.sandbox import Sandbox
from integration_pipelines.cli_connector import store_mapping
from integration_pipelines.orchestration.launch import Finished, bury_dead_runs, run_now
from integration_pipelines.settings import Settings
from integration_pipelines.store import connectors, syncs, tenants
from integration_pipelines.store.database import Database
from integration_pipelines.store.installation import open_installation
from integration_pipelines.store.syncs import SyncConfig

SEEDS = {"Account": "account-customer", "Contact": "contact-contact_person"}


@dataclass
class Office:
    settings: Settings
    database: Database
    sandbox: Sandbox
    instance: dg.DagsterInstance
    tenant: UUID
    connector_id: int
    syncs: dict[str, SyncConfig]

    def add(self, entity: str, mapping: str, direction: str = "bidirectional", **sync: Any) -> SyncConfig:
        """One more sync of the same connector."""
        with self.database.tenant(self.tenant) as scope:
            row = store_mapping(scope, mapping, "test.yaml", "test")
            self.syncs[entity] = syncs.create(
                scope,
                connector_id=self.connector_id,
                name=entity,
                mapping_id=row.id,
                actor="test",
                direction=direction,
                **sync,
            )
        return self.syncs[entity]

    def run(self, entity: str = "Account") -> Finished:
        with open_installation(self.settings) as installation:
            bury_dead_runs(installation, self.instance)
        return run_now(self.instance, self.syncs[entity].id)

    def rows(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        with self.database.tenant(self.tenant) as scope:
            return [dict(row) for row in scope.rows(sql, **values)]

    def change(self, sql: str, **values: Any) -> None:
        with self.database.tenant(self.tenant) as scope:
            scope.run(sql, **values)

    def last(self) -> dict[str, Any]:
        """The newest history row."""
        return self.rows("SELECT * FROM sync_history ORDER BY id DESC LIMIT 1")[0]

    def errors(self) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM sync_errors WHERE NOT is_resolved ORDER BY id")

    def customers(self) -> int:
        return int(self.rows("SELECT count(*) FROM erp.customer")[0]["count"])


def furnish(
    settings: Settings,
    database: Database,
    sandbox: Sandbox,
    instance: dg.DagsterInstance,
    *,
    name: str = "acme",
    credentials: dict[str, str] | None = None,
    url: str | None = None,
    mappings_: dict[str, str] | None = None,
    configuration: dict[str, Any] | None = None,
    **sync: Any,
) -> Office:
    """A tenant with the seed syncs of the sandbox's org, or with syncs by these mappings (entity → YAML)."""
    folder = resources.files("mappings") / "salesforce"
    texts = mappings_ or {entity: folder.joinpath(f"{seed}.yaml").read_text("utf-8") for entity, seed in SEEDS.items()}
    secret = credentials or {key: sandbox.credentials[key] for key in ("client_id", "client_secret")}
    tenant = tenants.create(database, name)
    made = {}
    with database.tenant(tenant) as scope:
        connector = connectors.create(
            scope,
            name="Our org",
            connector_type="salesforce",
            url=url or sandbox.url,
            authentication_method="oauth2",
            credentials=secret,
            configuration=configuration,
            user=tenants.first_user(scope),
        )
        for entity, text in texts.items():
            row = store_mapping(scope, text, "test.yaml", "test")
            made[entity] = syncs.create(scope, connector_id=connector.id, name=entity, mapping_id=row.id, actor="test", **sync)
    return Office(settings, database, sandbox, instance, tenant, connector.id, made)


def every_file(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
