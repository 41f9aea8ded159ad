"""Inbound sync by the laws of the sync semantics, against a real PostgreSQL."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from clients import CLIENT_MAPPING
from notebook import World, fill, make_world

from integration_pipelines.model import SyncStatus
from integration_pipelines.settings import Settings
from integration_pipelines.steps.load import load
from integration_pipelines.store.database import Database

CREATED = {"create": 2}


@pytest.fixture
def world(database: Database, settings: Settings) -> World:
    return fill(make_world(database, settings))


def ada(world: World) -> dict[str, Any]:
    return world.customers()[0]


def test_records_arrive_once_and_a_second_run_writes_nothing(world: World) -> None:
    counts, status = world.sync()
    assert (counts.succeeded, counts.actions, status) == (2, CREATED, SyncStatus.COMPLETED)
    assert [row["name"] for row in world.customers()] == ["Ada Ltd", "Bela GmbH"]
    assert ada(world)["annual_revenue"] == Decimal("10.50")
    assert ada(world)["customer_number"] == "001"
    again, status = world.sync()
    assert (again.skipped, again.succeeded, again.actions, status) == (2, 0, {}, SyncStatus.COMPLETED)


def test_only_the_external_side_changed(world: World) -> None:
    world.sync()
    world.book.write_note("Client", "C1", Phone="555")
    counts, _ = world.sync()
    assert counts.actions == {"update": 1}
    assert ada(world)["phone"] == "555"


def test_edits_of_different_fields_both_survive(world: World) -> None:
    world.sync()
    world.change("UPDATE erp.customer SET email = 'new@example.org' WHERE customer_number = '001'")
    world.book.write_note("Client", "C1", Phone="555")
    world.sync()
    assert (ada(world)["email"], ada(world)["phone"]) == ("new@example.org", "555")


def test_an_edit_in_the_erp_alone_is_left_alone(world: World) -> None:
    world.sync()
    world.change("UPDATE erp.customer SET email = 'new@example.org' WHERE customer_number = '001'")
    world.book.write_note("Client", "C1")
    counts, _ = world.sync()
    assert counts.actions == {}
    assert ada(world)["email"] == "new@example.org"


def clash(world: World) -> None:
    """Both sides change the same phone; the external change is dated by the notebook's clock."""
    world.sync()
    world.change("UPDATE erp.customer SET phone = 'erp' WHERE customer_number = '001'")
    world.book.write_note("Client", "C1", Phone="external")


@pytest.mark.parametrize(("strategy", "kept"), [("source_wins", "external"), ("target_wins", "erp")])
def test_a_clash_is_settled_by_the_strategy_and_never_asks_again(
    database: Database, settings: Settings, strategy: str, kept: str
) -> None:
    world = fill(make_world(database, settings, strategy=strategy))
    clash(world)
    world.sync()
    assert ada(world)["phone"] == kept
    world.book.write_note("Client", "C1")
    counts, _ = world.sync()
    assert (counts.actions, ada(world)["phone"]) == ({}, kept)


@pytest.mark.parametrize(("later", "kept"), [(timedelta(days=1), "external"), (timedelta(days=-1), "erp")])
def test_last_write_wins_by_the_instant_of_the_field(world: World, later: timedelta, kept: str) -> None:
    world.sync()
    world.change("UPDATE erp.customer SET phone = 'erp' WHERE customer_number = '001'")
    world.change("UPDATE erp.customer SET notes = 'touched later' WHERE customer_number = '001'")
    world.book.clock = datetime.now(UTC) + later
    world.book.write_note("Client", "C1", Phone="external")
    world.sync()
    assert ada(world)["phone"] == (kept if later > timedelta(0) else "erp")


def test_manual_parks_the_pair_and_writes_nothing_until_the_sides_agree(database: Database, settings: Settings) -> None:
    world = fill(make_world(database, settings, strategy="manual"))
    clash(world)
    world.book.write_note("Client", "C1", Email="also@example.org")
    counts, status = world.sync()
    assert (counts.failed, status) == (1, SyncStatus.PARTIAL)
    assert (ada(world)["phone"], ada(world)["email"]) == ("erp", "ada@example.org")
    (error,) = world.errors()
    assert (error["error_type"], error["record_id"], error["error_details"]["field"]) == ("conflict", "C1", "phone")
    with world.database.tenant(world.tenant) as scope:
        sides = scope.vault.open_json(error["record_data"], "sync_errors", str(error["id"]), "record_data")
    assert (sides["external"]["phone"], sides["erp"]["phone"], sides["base"]["phone"]) == ("external", "erp", "1")
    assert world.rows("SELECT state FROM identity_links WHERE external_id = 'C1'") == [{"state": "parked"}]
    again, _ = world.sync()
    assert again.failed == 1
    assert world.errors()[0]["retry_count"] == 1
    world.change("UPDATE erp.customer SET phone = 'external' WHERE customer_number = '001'")
    world.sync()
    assert (world.errors(), ada(world)["email"]) == ([], "also@example.org")
    assert world.rows("SELECT state FROM identity_links WHERE external_id = 'C1'") == [{"state": "active"}]


def test_a_field_s_own_policy_goes_before_the_strategy(database: Database, settings: Settings) -> None:
    mapping = CLIENT_MAPPING.replace("target: phone}", "target: phone, conflict: target_wins}")
    world = fill(make_world(database, settings, mapping=mapping, strategy="source_wins"))
    clash(world)
    world.sync()
    assert ada(world)["phone"] == "erp"


def test_null_clears_and_absent_leaves_alone(world: World) -> None:
    world.sync()
    world.book.write_note("Client", "C1", Email=None)
    del world.book.notes["Client"]["C1"].values["Phone"]
    world.sync()
    assert (ada(world)["email"], ada(world)["phone"]) == (None, "1")


def test_null_keeps_where_the_rule_says_so(database: Database, settings: Settings) -> None:
    world = fill(
        make_world(database, settings, mapping=CLIENT_MAPPING.replace("target: email}", "target: email, on_null: keep}"))
    )
    world.sync()
    world.book.write_note("Client", "C1", Email=None)
    world.sync()
    assert ada(world)["email"] == "ada@example.org"


def test_a_first_meeting_links_by_the_match_key_and_fills_what_the_owner_says(world: World) -> None:
    world.change(
        """INSERT INTO erp.customer (name, customer_number, phone, email, active)
           VALUES ('Ada', '001', '9', 'erp@example.org', true)"""
    )
    world.book.write_note("Client", "C1", Email=None)
    counts, _ = world.sync()
    assert counts.actions == {"create": 1, "update": 1}
    assert [row["name"] for row in world.customers()] == ["Ada Ltd", "Bela GmbH"]
    assert (ada(world)["phone"], ada(world)["email"]) == (
        "1",
        "erp@example.org",
    )  # a null overwrites nothing at a first meeting


def test_a_first_meeting_leaves_fields_that_the_erp_owns(database: Database, settings: Settings) -> None:
    world = fill(
        make_world(database, settings, mapping=CLIENT_MAPPING.replace("target: phone}", "target: phone, owner: erp}"))
    )
    world.change("INSERT INTO erp.customer (name, customer_number, phone, active) VALUES ('Ada', '001', '9', true)")
    world.sync()
    assert (ada(world)["name"], ada(world)["phone"]) == ("Ada Ltd", "9")


def test_two_records_that_claim_one_match_key_do_not_merge(world: World) -> None:
    world.book.write_note("Client", "C3", Name="Copy of Ada", Number="001")
    counts, status = world.sync()
    assert (counts.actions, counts.failed, status) == (CREATED, 1, SyncStatus.PARTIAL)
    (error,) = world.errors()
    assert (error["record_id"], error["error_type"]) == ("C3", "conflict")
    world.book.write_note("Client", "C4", Name="Another copy", Number="001")
    world.sync()
    assert [row["record_id"] for row in world.errors()] == ["C3", "C4"]
    assert len(world.customers()) == 2


def test_two_new_records_with_one_match_key_in_two_batches_do_not_both_become_records(
    database: Database, settings: Settings
) -> None:
    mapping = CLIENT_MAPPING.replace("target: customer_number, match: true", "target: customer_number").replace(
        "target: name}", "target: name, match: true}"
    )
    world = make_world(database, settings, mapping=mapping)
    world.book.page_size = 1
    for number in range(6):
        world.book.write_note("Client", f"C{number}", Name=f"Client {number % 3}", Number=str(number))
    run = world.run()
    batches = world.planned(run)
    assert len(batches) == 6
    counts, _ = load(run, batches)
    assert (counts.actions, counts.failed, len(world.customers())) == ({"create": 3}, 3, 3)


def test_several_candidates_park(world: World) -> None:
    mapping = CLIENT_MAPPING.replace("target: customer_number, match: true", "target: customer_number").replace(
        "target: name}", "target: name, match: true}"
    )
    other = world.second_sync(mapping.replace("client-customer", "by-name"))
    for number in ("a", "b"):
        world.change("INSERT INTO erp.customer (name, customer_number, active) VALUES ('Ada Ltd', :n, true)", n=number)
    counts, _ = other.sync()
    assert (counts.actions, counts.failed) == ({"create": 1}, 1)


def test_a_record_that_breaks_the_contract_is_set_aside_and_heals(world: World) -> None:
    world.book.write_note("Client", "C3", Name="x" * 81)
    counts, status = world.sync()
    assert (counts.processed, counts.failed, status) == (3, 1, SyncStatus.PARTIAL)
    (error,) = world.errors()
    assert (error["error_type"], error["error_message"].split(";")[0]) == ("validation", "Name is longer than 80 characters")
    world.book.write_note("Client", "C3", Name="Short")
    world.sync()
    assert world.errors() == []
    assert len(world.customers()) == 3


def test_a_record_that_the_erp_would_not_hold_is_set_aside(world: World) -> None:
    world.book.write_note("Client", "C3", Name="Long phone", Phone="0" * 41)
    counts, _ = world.sync()
    assert (counts.actions, counts.failed) == (CREATED, 1)
    assert world.errors()[0]["error_message"].startswith("phone is longer than 40 characters")


def test_a_record_comes_back_although_the_watermark_has_passed_it(world: World) -> None:
    world.book.write_note("Client", "C0", Name="x" * 81)
    world.book.clock += timedelta(days=9)
    world.book.write_note("Client", "C9", Name="Late")
    world.sync()
    world.book.notes["Client"]["C0"].values["Name"] = "Fixed without a new date"
    world.sync()
    assert world.book.reads[-1] == ["C0"]
    assert "Fixed without a new date" in [row["name"] for row in world.customers()]


def test_nothing_but_rejects_fails_the_run(database: Database, settings: Settings) -> None:
    world = make_world(database, settings)
    world.book.write_note("Client", "C1", Name="x" * 81)
    counts, status = world.sync()
    assert (counts.failed, status) == (1, SyncStatus.FAILED)
    row = world.rows("SELECT sync_status, error_message FROM sync_history")[0]
    assert row["error_message"] == "All 1 records were set aside; sync_errors has the reason of each."


def test_an_empty_source_completes(database: Database, settings: Settings) -> None:
    counts, status = make_world(database, settings).sync()
    assert (counts.processed, status) == (0, SyncStatus.COMPLETED)


def test_the_watermark_moves_with_overlap_and_never_backwards(world: World) -> None:
    world.sync()
    first = world.rows("SELECT position FROM sync_watermarks")[0]["position"]
    assert datetime.fromisoformat(first) == world.book.notes["Client"]["C2"].changed
    world.sync()
    window = world.book.reads[-1]
    assert getattr(window, "since", None) == datetime.fromisoformat(first) - timedelta(seconds=300)
    for note in world.book.notes["Client"].values():
        note.changed -= timedelta(seconds=200)
    world.sync()
    assert world.rows("SELECT position FROM sync_watermarks")[0]["position"] == first


def test_records_of_one_instant_arrive_once_across_pages_and_runs(database: Database, settings: Settings) -> None:
    world = make_world(database, settings)
    for number in range(30):
        world.book.write_note("Client", f"C{number:02}", Name=f"Client {number}")
    for note in world.book.notes["Client"].values():
        note.changed = world.book.clock
    world.book.page_size = 7
    world.sync()
    world.book.write_note("Client", "C99", Name="Same instant, later")
    world.book.notes["Client"]["C99"].changed = world.book.notes["Client"]["C00"].changed
    world.sync()
    assert len(world.customers()) == 31


def test_the_same_record_in_two_pages_of_one_run_is_created_once(world: World) -> None:
    run = world.run()
    batches = world.planned(run)
    counts, _ = load(run, [*batches, *batches])
    assert (counts.actions, counts.skipped, len(world.customers())) == (CREATED, 2, 2)


def test_a_stale_plan_cannot_bring_old_values_back(world: World) -> None:
    world.sync()
    world.book.write_note("Client", "C1", Phone="old")
    stale = world.run()
    batches = world.planned(stale)
    world.book.write_note("Client", "C1", Phone="new")
    world.sync()
    load(stale, batches)
    assert ada(world)["phone"] == "new"


def test_an_edit_between_resolve_and_load_is_merged_and_not_overwritten(world: World) -> None:
    world.sync()
    world.book.write_note("Client", "C1", Phone="555")
    run = world.run()
    batches = world.planned(run)
    world.change("UPDATE erp.customer SET email = 'new@example.org' WHERE customer_number = '001'")
    counts, _ = load(run, batches)
    assert counts.actions == {"update": 1}
    assert (ada(world)["email"], ada(world)["phone"]) == ("new@example.org", "555")


def test_a_number_that_the_erp_has_already_sets_the_record_aside_and_loads_the_rest(world: World) -> None:
    world.sync()
    world.change("INSERT INTO erp.customer (name, customer_number, active) VALUES ('Old', '003', true)")
    world.book.write_note("Client", "C1", Number="003")
    world.book.write_note("Client", "C2", Phone="7")
    counts, status = world.sync()
    assert (counts.actions, counts.failed, status) == ({"update": 1}, 1, SyncStatus.PARTIAL)
    assert "another record of the ERP has the same value" in world.errors()[0]["error_message"]
