"""Where a record without a counterpart becomes a new one: `create` of a mapping."""

import pytest
from clients import CLIENT_MAPPING
from notebook import World, make_world

from connector_resources.errors import ConfigurationError
from integration_pipelines.settings import Settings
from integration_pipelines.steps.mapping import parse_yaml
from integration_pipelines.store.database import Database


def spelled(create: str) -> str:
    return CLIENT_MAPPING.replace("mappings:", f"transformation_functions: {{create: {create}}}\nmappings:")


def lonely(database: Database, settings: Settings, create: str) -> World:
    """One client and one customer, with different numbers."""
    world = make_world(database, settings, mapping=spelled(create), direction="bidirectional")
    world.book.write_note("Client", "C1", Name="Theirs", Number="1")
    world.change("INSERT INTO erp.customer (name, customer_number) VALUES ('Ours', '2')")
    return world


@pytest.mark.parametrize(
    ("create", "customers", "clients"),
    [("both", 2, 2), ("inbound", 2, 1), ("outbound", 1, 2), ("none", 1, 1)],
)
def test_new_records_are_made_where_the_mapping_says(
    database: Database, settings: Settings, create: str, customers: int, clients: int
) -> None:
    world = lonely(database, settings, create)
    counts, _ = world.sync()
    assert (len(world.customers()), len(world.book.notes["Client"])) == (customers, clients)
    waiting = [row["error_message"] for row in world.errors()]
    assert counts.failed == len(waiting) == 2 - customers
    assert all("this mapping makes none: make it there." in message for message in waiting)


def test_what_waits_is_linked_once_its_counterpart_is_there(database: Database, settings: Settings) -> None:
    world = lonely(database, settings, "none")
    world.sync()
    world.change("INSERT INTO erp.customer (name, customer_number, phone) VALUES ('Theirs', '1', '5')")
    world.book.write_note("Client", "C2", Name="Ours too", Number="2")
    world.sync()
    world.sync()
    assert world.errors() == []
    world.change("UPDATE erp.customer SET phone = '6'")
    assert world.sync()[0].actions == {"update": 2}
    assert {note.values["Phone"] for note in world.book.notes["Client"].values()} == {"6"}
    assert len(world.customers()) == 2


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'create' cannot be 'sometimes'; there is both, inbound, none, outbound"):
        parse_yaml(spelled("sometimes"), "test.yaml")
    with pytest.raises(ConfigurationError, match="create: without a rule with 'match: true' no record"):
        parse_yaml(spelled("none").replace(", match: true", ""), "test.yaml")
