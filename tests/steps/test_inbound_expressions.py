"""A whole sync whose mapping holds expressions."""

from decimal import Decimal

from clients import CLIENT_MAPPING
from notebook import fill, make_world

from integration_pipelines.model import SyncStatus
from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database

MAPPING = CLIENT_MAPPING.replace(
    "{source: Name, target: name}", "{expression: \"upper(Name) || coalesce(' / ' || Email, '')\", target: name}"
).replace(
    "{source: Revenue, target: annual_revenue}", '{expression: "cast(Phone as INTEGER) * Revenue", target: annual_revenue}'
)


def test_a_sync_sets_what_expressions_give_and_what_fails_heals_when_it_is_corrected(
    database: Database, settings: Settings
) -> None:
    world = fill(make_world(database, settings, mapping=MAPPING))
    world.book.write_note("Client", "C3", Name="Cy", Number="003", Email=None, Phone="open sesame", Revenue=Decimal(1))
    counts, status = world.sync()
    assert (counts.succeeded, counts.failed, status) == (2, 1, SyncStatus.PARTIAL)
    named = {row["customer_number"]: (row["name"], row["annual_revenue"]) for row in world.customers()}
    assert named == {"001": ("ADA LTD / ada@example.org", Decimal("10.50")), "002": ("BELA GMBH", None)}
    (error,) = world.errors()
    assert error["error_type"] == "mapping"
    assert "sesame" not in error["error_message"]
    world.book.write_note("Client", "C3", Phone="3")
    counts, status = world.sync()
    assert (counts.failed, status) == (0, SyncStatus.COMPLETED)
    assert world.errors() == []
    assert {row["annual_revenue"] for row in world.customers()} == {Decimal("10.50"), None, Decimal(3)}
