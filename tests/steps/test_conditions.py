"""A mapping's conditions: which records are synced at all; and how a constant that goes out is spelled."""

from dataclasses import replace
from typing import Any

import pytest
from clients import CLIENT_MAPPING
from notebook import World, make_world

from connector_resources.errors import ConfigurationError
from integration_pipelines.model import SyncStatus
from integration_pipelines.settings import Settings
from integration_pipelines.steps.mapping import parse_yaml
from integration_pipelines.store.database import Database

FILTERED = CLIENT_MAPPING.replace(
    "mappings:",
    'transformation_functions: {when: [{source: Email, in: ["a", "b"]}, {source: Phone, is_null: false}]}\nmappings:',
)


@pytest.fixture
def world(database: Database, settings: Settings) -> World:
    made = make_world(database, settings, mapping=FILTERED, direction="bidirectional")
    for number, (email, phone) in enumerate([("a", "1"), ("b", "2"), ("c", "3"), ("a", None)]):
        made.book.write_note("Client", f"C{number}", Name=f"Client {number}", Number=str(number), Email=email, Phone=phone)
    return made


def names(world: World) -> list[Any]:
    return [row["name"] for row in world.customers()]


def test_records_for_which_a_condition_does_not_hold_are_skipped(world: World) -> None:
    counts, status = world.sync()
    assert (counts.actions, counts.skipped, counts.failed, status) == ({"create": 2}, 2, 0, SyncStatus.COMPLETED)
    assert names(world) == ["Client 0", "Client 1"]
    assert len(world.sync()[0].actions) == 0


def test_a_linked_record_that_leaves_stays_as_it_is_and_is_taken_up_when_it_returns(world: World) -> None:
    world.sync()
    world.book.write_note("Client", "C0", Email="z", Name="Away")
    world.sync()
    world.change("UPDATE erp.customer SET phone = '77' WHERE customer_number = '0'")
    world.sync()
    assert (names(world)[0], world.book.notes["Client"]["C0"].values["Phone"], world.book.writes) == ("Client 0", "1", [])
    world.book.write_note("Client", "C0", Email="b", Name="Back")
    world.sync()  # in
    world.sync()  # and out
    assert "Back" in names(world)
    assert world.book.notes["Client"]["C0"].values["Phone"] == "77"
    assert world.sync()[0].actions == {}


def test_a_deletion_counts_whatever_the_conditions_say(world: World) -> None:
    world.sync()
    world.book.write_note("Client", "C0", Email="z")
    world.book.remove("Client", "C0")
    assert world.sync()[0].actions == {"delete": 1}


def test_a_new_erp_record_goes_out_once_the_conditions_hold_for_what_is_sent(world: World) -> None:
    world.change("INSERT INTO erp.customer (name, customer_number, phone, email) VALUES ('New', '9', NULL, 'a')")
    counts, _ = world.sync()
    assert (world.book.writes, counts.actions, counts.failed) == ([], {"create": 2}, 0)
    world.change("UPDATE erp.customer SET phone = '3' WHERE customer_number = '9'")
    assert world.sync()[0].actions == {"create": 1}
    assert [action for action, _, _ in world.book.writes] == ["create"]


@pytest.mark.parametrize("looked_up", [False, True])
def test_an_erp_record_whose_counterpart_is_outside_gets_no_second_one(
    world: World, monkeypatch: pytest.MonkeyPatch, looked_up: bool
) -> None:
    monkeypatch.setattr(world.book, "capabilities", replace(world.book.capabilities, find=looked_up))
    world.change("INSERT INTO erp.customer (name, customer_number, phone, email) VALUES ('New', '2', '3', 'a')")
    counts, _ = world.sync()
    assert (world.book.writes, counts.failed) == ([], 0)
    world.book.write_note("Client", "C2", Email="a")
    world.sync()
    assert world.sync()[0].actions == {}
    assert [action for action, _, _ in world.book.writes if action == "create"] == []
    assert len(names(world)) == 3


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        ("{source: Nowhere, equals: x}", "transformation_functions, when: Client has no field 'Nowhere'"),
        ("[{equals: x}]", "transformation_functions, when: 'when' needs the 'source' whose value decides"),
        ("[x]", "transformation_functions, when: a condition is a mapping such as"),
    ],
)
def test_a_wrong_condition_is_refused_by_its_place(
    database: Database, settings: Settings, condition: str, sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        mapping = CLIENT_MAPPING.replace("mappings:", f"transformation_functions: {{when: {condition}}}\nmappings:")
        parse_yaml(mapping, "test.yaml")
        make_world(database, settings, mapping=mapping).run()


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("{source: Email, target: email, constant: x, direction: outbound}", "has a 'source' and no 'target'"),
        ("{constant: x, direction: outbound}", "either a 'source', a 'constant'"),
        ("{constant: x}", "'target' is missing"),
        ("{source: Email, constant: x, target: email}", "either a 'source', a 'constant'"),
    ],
)
def test_a_constant_that_goes_out_has_one_spelling(rule: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        parse_yaml(CLIENT_MAPPING.replace("  - {source: Email, target: email}\n", f"  - {rule}\n"), "test.yaml")


def test_an_erp_record_whose_counterpart_cannot_be_mapped_gets_no_second_one(database: Database, settings: Settings) -> None:
    strict = CLIENT_MAPPING.replace("{source: Email, target: email}", "{source: Email, target: email, required: true}")
    world = make_world(database, settings, mapping=strict, direction="bidirectional")
    world.book.write_note("Client", "C1", Name="Client 1", Number="1", Email=None)
    world.sync()
    world.change("INSERT INTO erp.customer (name, customer_number, email) VALUES ('One', '1', 'a')")
    world.sync()
    assert world.book.writes == []
    assert any("cannot be compared" in row["error_message"] for row in world.errors())
