"""Pairs that two syncs share, or whose sync changes: no edit is lost, no record is doubled, and what ended stays ended."""

from typing import Any

import pytest
from clients import CLIENT_MAPPING
from notebook import World, fill, make_world, phone

from integration_pipelines.settings import Settings
from integration_pipelines.store import syncs
from integration_pipelines.store.database import Database

BY_EMAIL = CLIENT_MAPPING.replace("customer_number, match: true", "customer_number").replace(
    "target: email}", "target: email, match: true}"
)
MAILS = """
mapping_name: client-mails
source_entity: Client
target_entity: customer
mappings:
  - {source: Number, target: customer_number, match: true}
  - {source: Email, target: email}
"""
PHONES = """
mapping_name: client-phones
source_entity: Client
target_entity: customer
mappings:
  - {source: Number, target: customer_number, match: true}
  - {source: Name, target: name}
  - {source: Phone, target: phone}
"""


def add(world: World, number: str, **values: Any) -> None:
    world.change(
        "INSERT INTO erp.customer (name, customer_number, email, phone) VALUES (:name, :number, :email, :phone)",
        **{"name": f"Customer {number}", "email": None, "phone": None, "number": number, **values},
    )


def note(world: World, record: str) -> dict[str, Any]:
    return world.book.notes["Client"][record].values


def settled(world: World, runs: int = 3) -> None:
    for _ in range(runs):
        world.sync()


def links(world: World) -> dict[str, str]:
    return {row["external_id"]: row["state"] for row in world.rows("SELECT external_id, state FROM identity_links")}


def interrupted(world: World, *, after: bool = False) -> None:
    """A run whose process dies at its first write, or when that has arrived."""
    write = world.book.write

    def die(*given: Any) -> Any:
        if after:
            write(*given)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(world.book, "write", die)
        with pytest.raises(KeyboardInterrupt):
            world.sync()
    world.change("UPDATE sync_history SET sync_status = 'failed' WHERE sync_status = 'running'")


# Match keys


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ERP record comes in a batch of its own."""
    monkeypatch.setattr("connector_resources.erp.PAGE", 1)


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("there", [True, False], ids=["it is there", "it is not there"])
def test_two_erp_records_with_one_match_key_in_different_batches(database: Database, settings: Settings, there: bool) -> None:
    world = make_world(database, settings, direction="outbound", mapping=BY_EMAIL)
    if there:
        world.book.write_note("Client", "X1", Name="Ada", Number="0", Email="a@example.org", Phone="0")
    for number in "12":
        add(world, number, email="a@example.org", phone=number)
    world.book.page_size = 1
    settled(world)
    assert len(world.book.notes["Client"]) == 1
    assert [error["error_type"] for error in world.errors()] == ["conflict"]
    assert "already claims the same match key" in world.errors()[0]["error_message"]
    assert len(links(world)) == 1


@pytest.mark.parametrize(
    ("rule", "theirs", "ours"),
    [
        ("transforms: [{strip_prefix: C-}]", "C-12", "12"),
        ("transforms: [{pad_left: {width: 6, by: '0'}}]", "12", "000012"),
    ],
)
def test_a_partner_is_found_by_a_key_that_a_rule_transforms(
    database: Database, settings: Settings, rule: str, theirs: str, ours: str
) -> None:
    mapping = CLIENT_MAPPING.replace("customer_number, match: true", f"customer_number, match: true, {rule}")
    world = make_world(database, settings, direction="outbound", mapping=mapping)
    world.book.write_note("Client", "X1", Name="Ada", Number=theirs)
    add(world, ours, name="Ada")
    world.sync()
    assert list(world.book.notes["Client"]) == ["X1"]
    assert links(world) == {"X1": "active"}


def test_a_partner_is_found_however_its_key_is_spaced(database: Database, settings: Settings) -> None:
    mapping = (
        CLIENT_MAPPING.replace(
            "target_entity: customer\n",
            "target_entity: customer\ntransformation_functions:\n  match: [collapse_spaces, upper]\n",
        )
        .replace("target: name}", "target: name, match: true}")
        .replace("customer_number, match: true", "customer_number")
    )
    world = make_world(database, settings, direction="outbound", mapping=mapping)
    world.book.write_note("Client", "X1", Name="Ada  Ltd", Number="1")
    add(world, "7", name="ADA Ltd")
    world.sync()
    assert list(world.book.notes["Client"]) == ["X1"]


def test_a_partner_is_found_by_what_comes_in_whatever_would_go_out(database: Database, settings: Settings) -> None:
    rules = (
        "  - {source: Number, target: customer_number, match: true, direction: inbound}\n"
        "  - {source: Number, target: customer_number, direction: outbound, transforms: [{truncate: 1}]}\n"
    )
    mapping = CLIENT_MAPPING.replace("  - {source: Number, target: customer_number, match: true}\n", rules)
    world = make_world(database, settings, direction="outbound", mapping=mapping)
    world.book.write_note("Client", "X1", Name="Ada", Number="12")
    add(world, "12", name="Ada")
    world.sync()
    assert list(world.book.notes["Client"]) == ["X1"]


def test_a_plain_key_is_looked_up_whatever_its_case_and_nothing_else_is_read(database: Database, settings: Settings) -> None:
    mapping = CLIENT_MAPPING.replace(
        "target_entity: customer\n", "target_entity: customer\ntransformation_functions:\n  match: [trim, upper]\n"
    ).replace("customer_number, match: true", "customer_number, transforms: [trim, empty_to_null], match: true")
    world = make_world(database, settings, direction="outbound", mapping=mapping)
    world.book.write_note("Client", "X1", Name="Ada", Number="ab-7")
    add(world, " AB-7 ", name="Ada")
    world.sync()
    assert list(world.book.notes["Client"]) == ["X1"]
    assert world.book.reads[0] == ["Number=AB-7"]


# Two syncs of one pair


@pytest.mark.parametrize("strategy", ["last_write_wins", "target_wins"])
def test_an_inbound_run_does_not_take_an_unsent_edit_for_sent(database: Database, settings: Settings, strategy: str) -> None:
    inbound = fill(make_world(database, settings, strategy=strategy))
    inbound.sync()
    outbound = inbound.second_sync(CLIENT_MAPPING, direction="outbound", strategy=strategy)
    settled(outbound, 2)
    inbound.change("UPDATE erp.customer SET phone = '99' WHERE customer_number = '001'")
    inbound.book.write_note("Client", "C1", Email="new@example.org")
    inbound.sync()
    outbound.sync()
    assert (note(inbound, "C1")["Phone"], phone(inbound)) == ("99", "99")
    writes = len(inbound.book.writes)
    for _ in range(2):
        inbound.sync()
        outbound.sync()
    assert len(inbound.book.writes) == writes


def test_what_the_erp_has_won_under_its_strategy_goes_out_by_the_other_sync(database: Database, settings: Settings) -> None:
    inbound = fill(make_world(database, settings, strategy="target_wins"))
    inbound.sync()
    outbound = inbound.second_sync(CLIENT_MAPPING, direction="outbound", strategy="target_wins")
    outbound.sync()
    inbound.change("UPDATE erp.customer SET phone = 'erp' WHERE customer_number = '001'")
    inbound.book.write_note("Client", "C1", Phone="theirs")
    inbound.sync()
    outbound.sync()
    assert (note(inbound, "C1")["Phone"], phone(inbound)) == ("erp", "erp")


@pytest.mark.parametrize("direction", ["outbound", "inbound"])
def test_two_mappings_of_a_pair_leave_each_other_what_they_know(
    database: Database, settings: Settings, direction: str
) -> None:
    phones = fill(make_world(database, settings, mapping=PHONES))
    phones.sync()
    phones.change("UPDATE erp.customer SET email = 'ada@example.org' WHERE customer_number = '001'")
    mails = phones.second_sync(MAILS, direction=direction)
    settled(mails, 2)
    phones.sync()
    phones.change("UPDATE erp.customer SET phone = '99' WHERE customer_number = '001'")
    phones.sync()
    if direction == "outbound":
        phones.change("UPDATE erp.customer SET email = 'erp@example.org' WHERE customer_number = '001'")
    else:
        phones.book.write_note("Client", "C1", Email="new@example.org")
    mails.sync()
    assert note(phones, "C1")["Email"] == ("erp@example.org" if direction == "outbound" else "new@example.org")
    phones.book.write_note("Client", "C1", Name="Ada AG")
    phones.sync()
    assert phone(phones) == "99"


# A sync that changes


def test_an_edit_made_before_a_sync_went_both_ways_goes_out(database: Database, settings: Settings) -> None:
    world = fill(make_world(database, settings))
    world.sync()
    world.change("UPDATE erp.customer SET phone = '99' WHERE customer_number = '001'")
    world.book.write_note("Client", "C1", Email="new@example.org")
    world.sync()
    world.change("UPDATE sync_configurations SET sync_direction = 'bidirectional'")
    settled(world, 2)
    assert note(world, "C1")["Phone"] == "99"


@pytest.mark.parametrize("begun", ["by the same sync", "by a new one"])
def test_a_deletion_made_before_a_sync_went_outward_goes_out(database: Database, settings: Settings, begun: str) -> None:
    world = fill(make_world(database, settings, delete_policy="propagate"))
    world.sync()
    if begun == "by a new one":
        with world.database.tenant(world.tenant) as scope:
            syncs.remove(scope, world.config.id, "test")
        world = world.second_sync(CLIENT_MAPPING, direction="bidirectional", delete_policy="propagate")
    world.change("DELETE FROM erp.customer WHERE customer_number = '001'")
    world.change("UPDATE sync_configurations SET sync_direction = 'bidirectional'")
    settled(world)
    assert world.book.notes["Client"]["C1"].deleted
    assert links(world) == {"C1": "deleted", "C2": "active"}
    assert world.errors() == []


@pytest.mark.parametrize("strategy", ["last_write_wins", "target_wins"])
def test_a_deletion_in_the_erp_that_wins_against_an_edit_reaches_the_other_side(
    database: Database, settings: Settings, strategy: str
) -> None:
    world = fill(make_world(database, settings, direction="bidirectional", delete_policy="propagate", strategy=strategy))
    settled(world, 2)
    world.book.write_note("Client", "C1", Phone="edited")  # long before
    world.change("DELETE FROM erp.customer WHERE customer_number = '001'")
    settled(world)
    assert world.book.notes["Client"]["C1"].deleted
    assert links(world)["C1"] == "deleted"
    assert len(world.customers()) == 1


# A process that died


def test_a_creation_is_not_sent_again_for_a_record_that_is_gone_meanwhile(database: Database, settings: Settings) -> None:
    world = fill(make_world(database, settings, direction="bidirectional"))
    world.sync()
    add(world, "A1")
    interrupted(world)
    world.change("DELETE FROM erp.customer WHERE customer_number = 'A1'")
    settled(world)
    assert list(world.book.notes["Client"]) == ["C1", "C2"]


def test_a_record_that_arrived_for_one_that_is_gone_meanwhile_is_removed(database: Database, settings: Settings) -> None:
    world = fill(make_world(database, settings, direction="bidirectional", delete_policy="propagate"))
    world.sync()
    add(world, "A1")
    interrupted(world, after=True)
    world.change("DELETE FROM erp.customer WHERE customer_number = 'A1'")
    settled(world)
    made = [one for one in world.book.notes["Client"].values() if one.values.get("Number") == "A1"]
    assert [one.deleted for one in made] == [True]
    assert "active" not in {state for id_, state in links(world).items() if id_ not in ("C1", "C2")}


def test_a_record_that_somebody_has_made_by_hand_meanwhile_is_not_made_a_second_time(
    database: Database, settings: Settings
) -> None:
    world = fill(make_world(database, settings, direction="bidirectional"))
    world.sync()
    add(world, "A1")
    interrupted(world)
    world.book.write_note("Client", "HAND", Name="Customer A1", Number="A1")
    settled(world)
    assert list(world.book.notes["Client"]) == ["C1", "C2", "HAND"]
    assert links(world)["HAND"] == "active"
    assert world.errors() == []


def test_what_arrived_and_was_linked_with_another_record_since_does_not_hold_the_sync_up(
    database: Database, settings: Settings
) -> None:
    world = make_world(database, settings, direction="outbound")
    add(world, "A1")
    interrupted(world, after=True)
    world.change("UPDATE erp.customer SET customer_number = 'A9'")
    add(world, "A1")
    world.second_sync(CLIENT_MAPPING, direction="inbound").sync()  # links what arrived with the new one
    settled(world, 2)
    made = {id_: one.values["Number"] for id_, one in world.book.notes["Client"].items()}
    assert made == {"N1": "A1", "N2": "A9"}
    assert links(world) == {"N1": "active", "N2": "active"}
    assert world.errors() == []


def test_a_record_is_not_made_anew_beside_one_that_somebody_has_made(database: Database, settings: Settings) -> None:
    world = fill(make_world(database, settings, direction="bidirectional", delete_policy="propagate", strategy="target_wins"))
    settled(world, 2)
    world.book.remove("Client", "C1")
    world.change("UPDATE erp.customer SET phone = '99' WHERE customer_number = '001'")  # wins against the deletion
    world.book.write_note("Client", "HAND", Name="Ada Ltd", Number="001")
    settled(world)
    alive = [id_ for id_, one in world.book.notes["Client"].items() if one.values["Number"] == "001" and not one.deleted]
    assert alive == ["HAND"]
    assert any("another one with its match key is there" in error["error_message"] for error in world.errors())
