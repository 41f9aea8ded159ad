"""Systems whose answers to writes tell no version: nothing is lost, and nothing goes to and fro."""

from typing import Any

import pytest
from notebook import World, fill, make_world

from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database


@pytest.fixture
def silent(database: Database, settings: Settings) -> World:
    world = fill(make_world(database, settings, direction="bidirectional"))
    world.sync()
    world.book.tells_versions = False
    return world


def phones(world: World, number: str) -> tuple[Any, Any]:
    """In the ERP, and over there."""
    (erp,) = world.rows("SELECT phone FROM erp.customer WHERE customer_number = :number", number=number)
    (note,) = [one.values for one in world.book.notes["Client"].values() if one.values.get("Number") == number]
    return erp["phone"], note.get("Phone")


def test_what_is_made_and_changed_arrives_and_does_not_come_back(silent: World) -> None:
    silent.change("UPDATE erp.customer SET phone = '99' WHERE customer_number = '001'")
    silent.change("INSERT INTO erp.customer (name, customer_number, phone) VALUES ('New', '900', '1')")
    counts, _ = silent.sync()
    assert counts.actions == {"create": 1, "update": 1}
    counts, _ = silent.sync()
    assert (counts.actions, len(silent.book.writes)) == ({}, 2)
    assert (phones(silent, "001"), phones(silent, "900")) == (("99", "99"), ("1", "1"))


def test_an_edit_over_there_right_after_the_write_is_no_echo(silent: World) -> None:
    silent.change("UPDATE erp.customer SET phone = '99' WHERE customer_number = '001'")
    edits = [lambda: silent.book.write_note("Client", "C1", Phone="theirs")]
    read_ids = silent.book.read_ids

    def edited(*asked: Any) -> Any:
        if silent.book.writes and edits:
            edits.pop()()
        return read_ids(*asked)

    silent.book.read_ids = edited  # type: ignore[assignment, method-assign]  # somebody else, before we look again
    silent.sync()
    silent.sync()
    assert phones(silent, "001") == ("theirs", "theirs")
