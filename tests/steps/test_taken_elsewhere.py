"""Records that the external system will not make because it has one like them (409)."""

import pytest
from notebook import World, make_world

from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database

TAKEN = "Notebook has a record like it, or is at work on one (Duplicate, status 409)."


@pytest.fixture
def out(database: Database, settings: Settings) -> World:
    world = make_world(database, settings, direction="outbound")
    world.change("INSERT INTO erp.customer (name, customer_number) VALUES ('Customer A1', 'A1')")
    return world


def test_a_creation_that_is_refused_as_taken_says_so(out: World) -> None:
    out.book.taken = lambda values: TAKEN if values.get("Number") == "A1" else None
    counts, _ = out.sync()
    assert counts.failed == 1
    assert [error["error_message"] for error in out.errors()] == [TAKEN]


def test_a_record_that_somebody_made_meanwhile_is_met_and_not_refused(out: World) -> None:
    def taken(values: dict[str, object]) -> str | None:
        if values.get("Number") != "A1" or "theirs" in out.book.notes["Client"]:
            return None
        out.book.write_note("Client", "theirs", Name="Customer A1", Number="A1")
        return TAKEN

    out.book.taken = taken
    out.sync()
    assert out.errors() == []
    assert [id_ for id_, one in out.book.notes["Client"].items() if one.values.get("Number") == "A1"] == ["theirs"]
