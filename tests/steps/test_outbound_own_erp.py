"""Outbound syncs of an ERP in a database of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from notebook import World, make_world
from own_erp import CATALOGUE, installed

from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database, engine


@pytest.fixture
def both(database: Database, own: Settings) -> Iterator[World]:
    made = make_world(database, own, direction="bidirectional")
    made.book.write_note("Client", "C1", Name="Ada", Number="001", Phone="1")
    erp = made.erp
    made.sync()
    yield made
    erp.close()


def work(world: World, sql: str) -> None:
    with world.erp.place.connect() as connection:
        connection.exec_driver_sql(sql)


def test_what_changes_there_goes_out_once(both: World) -> None:
    work(both, """INSERT INTO "Verkauf"."Kunden" ("Firma", "Kunden-Nr", umsatz) VALUES ('Bela', '002', 10.50)""")
    work(both, """UPDATE "Verkauf"."Kunden" SET telefon = '99' WHERE "Kunden-Nr" = '001'""")
    counts, _ = both.sync()
    assert (counts.actions, counts.failed) == ({"create": 1, "update": 1}, 0)
    assert sorted((action, values.get("Phone")) for action, _, values in both.book.writes) == [
        ("create", None),
        ("update", "99"),
    ]
    assert both.sync()[0].actions == {}
    assert len(both.book.writes) == 2


def test_a_record_deleted_there_is_switched_off_or_left_alone(both: World) -> None:
    work(both, """DELETE FROM "Verkauf"."Kunden" WHERE "Kunden-Nr" = '001'""")
    assert both.sync()[0].failed == 0
    assert not both.book.notes["Client"]["C1"].deleted  # a client has no field that says so
    assert both.sync()[0].actions == {}


def test_what_other_tenants_do_in_a_shared_erp_is_nobodys_business(
    database: Database, settings: Settings, erp_url: str, tmp_path: Path
) -> None:
    """Its change log is one for all tenants."""
    with engine(erp_url, role=None, poolclass=sa.NullPool).begin() as connection:
        connection.exec_driver_sql('ALTER TABLE "Verkauf"."Kunden" ADD COLUMN mandant text')
    shared = installed(settings, erp_url, tmp_path, CATALOGUE.replace("tenant_column: null", "tenant_column: mandant"))
    acme, bravo = (make_world(database, shared, tenant=name, direction="outbound") for name in ("acme", "bravo"))
    acme.sync()
    insert = f"""INSERT INTO "Verkauf"."Kunden" ("Firma", "Kunden-Nr", mandant) SELECT n, n, '{bravo.tenant}'
                 FROM generate_series(1, 20) AS n"""
    work(bravo, insert)
    counts, _ = acme.sync()
    assert (counts.processed, acme.book.writes) == (0, [])
    bravo.sync()
    assert len(bravo.book.writes) == 20
    for world in (acme, bravo):
        world.erp.close()
