"""Outbound syncs of an ERP in a database of its own."""

from collections.abc import Iterator

import pytest
from notebook import World, make_world

from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database


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
