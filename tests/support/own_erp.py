"""An ERP of somebody's own: other names, numbers as keys, no tenant column."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from erp_tables import given, own_catalogue

from connector_resources.erp import Erp, ErpPlace
from integration_pipelines.settings import Settings, load
from integration_pipelines.store.database import Database, engine
from integration_pipelines.store.installation import APART, migrate_all, open_installation

TABLES = """
CREATE SCHEMA "Verkauf";
CREATE TABLE "Verkauf"."Kunden" (
    "Nr" integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "Firma" text NOT NULL, "Kunden-Nr" text UNIQUE, mail text,
    telefon varchar(40), umsatz numeric(12, 2), aktiv boolean NOT NULL DEFAULT true,
    geaendert timestamptz NOT NULL DEFAULT clock_timestamp());
"""
CATALOGUE = """
module: verkauf
schema: Verkauf
tenant_column: null
entities:
  customer:
    table: Kunden
    key: {name: id, column: "Nr"}
    modified: changed
    active: active
    fields:
      name: {type: string, column: Firma, nullable: false, personal: true}
      customer_number: {type: string, column: "Kunden-Nr", unique: true}
      email: {type: string, column: mail, personal: true}
      phone: {type: string, column: telefon, max_length: 40, personal: true}
      annual_revenue: {type: decimal, column: umsatz, scale: 2}
      active: {type: boolean, column: aktiv, nullable: false}
      changed: {type: instant, column: geaendert, computed: true}
"""


def installed(settings: Settings, erp_url: str, folder: Path, catalogue: str = CATALOGUE) -> Settings:
    """Settings of an installation beside that ERP, migrated."""
    described = folder / "catalogue.yaml"
    described.write_text(catalogue)
    made = load(
        {
            "INTEGRATION_HOME": str(settings.home),
            "DATABASE_URL": settings.database_url or "",
            "ERP_DATABASE_URL": erp_url,
            "ERP_CATALOGUE": str(described),
        }
    )
    with open_installation(made) as installation:
        migrate_all(installation)
    return made


@dataclass
class Own:
    url: str
    engine: sa.Engine
    erp: Erp

    def sql(self, statement: str) -> list[Any]:
        with self.engine.begin() as connection:
            found = connection.execute(sa.text(statement))
            return list(found) if found.returns_rows else []


def opened(url: str, home: Path, text: str, tenant: UUID | None = None) -> Own:
    """The user's database as the product opens it, migrated."""
    catalogue = own_catalogue(home, text)
    theirs = engine(url, role=None, poolclass=sa.NullPool)

    @contextmanager
    def apart() -> Iterator[sa.Connection]:
        with theirs.begin() as connection:
            connection.execute(sa.text("SELECT set_config('app.actor', 'integration', true)"))
            yield connection

    place = ErpPlace(apart, schema=APART, tenant=str(tenant) if tenant else None, apart=True)
    return Own(url, theirs, Erp(given(), catalogue, place))


def migrated(database: Database, url: str, home: Path) -> None:
    environ = {"DATABASE_URL": database.url, "ERP_DATABASE_URL": url, "ERP_CATALOGUE": str(home / "own.yaml")}
    with open_installation(load(environ)) as installation:
        migrate_all(installation)
        migrate_all(installation)
