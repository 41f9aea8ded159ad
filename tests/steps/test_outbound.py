"""Outbound and bidirectional syncs: ERP records become, change and end external ones."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from clients import CLIENT_MAPPING
from notebook import World, fill, make_world

from connector_resources.contract import Changes, Entity
from connector_resources.errors import SystemUnavailable
from integration_pipelines.settings import Settings
from integration_pipelines.store import ledger
from integration_pipelines.store.database import Database

UNMATCHED = CLIENT_MAPPING.replace(", match: true", "")  # so that nobody is found by a match key


@pytest.fixture
def both(database: Database, settings: Settings) -> World:
    world = fill(make_world(database, settings, direction="bidirectional"))
    world.sync()
    return world


@pytest.fixture
def out(database: Database, settings: Settings) -> World:
    return make_world(database, settings, direction="outbound")


def add(world: World, number: str, **values: Any) -> None:
    world.change(
        "INSERT INTO erp.customer (name, customer_number, phone) VALUES (:name, :number, :phone)",
        **{"name": f"Customer {number}", "phone": None, "number": number, **values},
    )


def note(world: World, record: str) -> dict[str, Any]:
    return world.book.notes["Client"][record].values


def by_number(world: World, number: str) -> dict[str, Any]:
    found = [n.values for n in world.book.notes["Client"].values() if n.values.get("Number") == number and not n.deleted]
    assert len(found) == 1, f"{len(found)} records {number}"
    return found[0]


def test_a_new_erp_record_becomes_an_external_one_once(out: World) -> None:
    add(out, "A1", phone="12")
    counts, _ = out.sync()
    assert (counts.actions, counts.failed) == ({"create": 1}, 0)
    assert by_number(out, "A1") == {"Name": "Customer A1", "Number": "A1", "Phone": "12"}
    counts, _ = out.sync()
    assert (counts.actions, counts.failed) == ({}, 0)
    assert len(out.book.writes) == 1


def test_what_was_just_read_inbound_is_no_news_for_the_external_side(both: World) -> None:
    counts, _ = both.sync()
    assert (counts.actions, both.book.writes) == ({}, [])


def test_an_erp_edit_goes_out_and_does_not_come_back(both: World) -> None:
    both.change("UPDATE erp.customer SET phone = '99' WHERE customer_number = '001'")
    counts, _ = both.sync()
    assert (counts.actions, both.book.writes) == ({"update": 1}, [("update", "C1", {"Phone": "99"})])
    counts, _ = both.sync()
    assert (counts.actions, len(both.book.writes)) == ({}, 1)


def test_edits_of_different_fields_on_both_sides_survive(both: World) -> None:
    both.change("UPDATE erp.customer SET phone = '99' WHERE customer_number = '001'")
    both.book.write_note("Client", "C1", Email="new@example.org")
    both.sync()
    assert (note(both, "C1")["Phone"], note(both, "C1")["Email"]) == ("99", "new@example.org")
    (row,) = both.rows("SELECT phone, email FROM erp.customer WHERE customer_number = '001'")
    assert row == {"phone": "99", "email": "new@example.org"}
    assert both.sync()[0].actions == {}


@pytest.mark.parametrize(
    ("strategy", "phone"), [("source_wins", "external"), ("target_wins", "erp"), ("last_write_wins", "erp")]
)
def test_a_clash_goes_by_the_strategy_on_both_sides(database: Database, settings: Settings, strategy: str, phone: str) -> None:
    world = fill(make_world(database, settings, direction="bidirectional", strategy=strategy))
    world.sync()
    world.book.write_note("Client", "C1", Phone="external")  # long before the ERP's edit
    world.change("UPDATE erp.customer SET phone = 'erp' WHERE customer_number = '001'")
    world.sync()
    world.sync()
    assert note(world, "C1")["Phone"] == phone
    assert world.rows("SELECT phone FROM erp.customer WHERE customer_number = '001'") == [{"phone": phone}]
    assert world.sync()[0].actions == {}


def test_a_clash_under_manual_waits_and_nothing_is_written(database: Database, settings: Settings) -> None:
    world = fill(make_world(database, settings, direction="bidirectional", strategy="manual"))
    world.sync()
    world.book.write_note("Client", "C1", Phone="external")
    world.change("UPDATE erp.customer SET phone = 'erp' WHERE customer_number = '001'")
    world.sync()
    assert world.book.writes == []
    assert {error["error_type"] for error in world.errors()} == {"conflict"}
    assert note(world, "C1")["Phone"] == "external"
    world.change("UPDATE erp.customer SET phone = 'external' WHERE customer_number = '001'")  # somebody decides
    world.sync()
    assert world.errors() == []


def test_a_field_set_to_a_b_and_a_again_arrives_as_a(both: World) -> None:
    for value in ("A", "B", "A"):
        both.change("UPDATE erp.customer SET phone = :p WHERE customer_number = '001'", p=value)
        both.sync()
    assert [values["Phone"] for _, _, values in both.book.writes] == ["A", "B", "A"]
    assert len(both.book.intents) == 3
    assert note(both, "C1")["Phone"] == "A"


def test_an_emptied_field_is_emptied_over_there(both: World) -> None:
    both.change("UPDATE erp.customer SET phone = NULL WHERE customer_number = '001'")
    both.sync()
    assert note(both, "C1")["Phone"] is None


def test_a_lost_answer_makes_no_second_record_and_keeps_an_edit_made_meanwhile(out: World) -> None:
    add(out, "A1", phone="12")

    def lost(_: str, record: str | None) -> bool:
        out.book.answer_lost = lambda *_: False
        out.book.write_note("Client", str(record), Phone="edited over there")
        return True

    out.book.answer_lost = lost
    counts, _ = out.sync()
    assert counts.actions == {"create": 1}
    assert by_number(out, "A1")["Phone"] == "edited over there"
    out.sync()
    assert by_number(out, "A1")["Phone"] == "edited over there"
    assert [intent["state"] for intent in out.rows("SELECT state FROM write_intents")] == ["confirmed"]


def test_a_write_that_never_arrived_is_sent_again_under_its_own_key(out: World) -> None:
    add(out, "A1")
    tries = []

    def lost(action: str, _: str | None) -> bool:
        tries.append(action)
        return len(tries) == 1

    out.book.request_lost = lost
    out.sync()
    assert len(out.book.writes) == 1
    assert len(out.rows("SELECT id FROM write_intents")) == 1


def test_what_was_sent_once_keeps_its_key_when_the_system_breaks_down_meanwhile(
    database: Database, settings: Settings
) -> None:
    out = make_world(database, settings, direction="outbound", mapping=UNMATCHED)
    add(out, "A1")
    out.book.keyed = True
    out.book.answer_lost = lambda *_: True
    write = out.book.write

    def breaks_down(entity: Entity, changes: Changes) -> Any:
        if out.book.writes:
            raise SystemUnavailable("Closed for today.")
        return write(entity, changes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(out.book, "write", breaks_down)
        with pytest.raises(SystemUnavailable):
            out.sync()
    out.book.answer_lost = lambda *_: False
    out.sync()
    assert len(out.book.writes) == 1
    assert len(out.book.notes["Client"]) == 1
    assert out.rows("SELECT state FROM write_intents") == [{"state": "confirmed"}]


def test_where_nobody_can_tell_whether_a_record_was_made_it_is_not_made_again(out: World) -> None:
    add(out, "A1")
    out.book.forgetful = True
    out.book.answer_lost = lambda *_: True
    counts, _ = out.sync()
    assert (counts.failed, len(out.book.writes)) == (1, 1)
    (error,) = out.errors()
    assert (error["error_type"], error["side"]) == ("conflict", "erp")
    assert "resend" in error["error_message"]
    out.book.answer_lost = lambda *_: False
    out.sync()
    assert len(out.book.writes) == 1
    out.book.notes["Client"].clear()  # somebody has looked: it never arrived
    with out.database.tenant(out.tenant) as scope:
        assert ledger.forget_doubt(scope, out.config.id, error["record_id"]) == 1
        assert ledger.forget_doubt(scope, out.config.id, error["record_id"]) == 0
    out.sync()
    assert (len(out.book.writes), out.errors()) == (2, [])


@pytest.mark.parametrize("keyed", [False, True], ids=["asked what became of it", "known by its key alone"])
def test_a_process_that_dies_between_write_and_settlement_writes_nothing_twice(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, keyed: bool
) -> None:
    out = make_world(database, settings, direction="outbound", mapping=UNMATCHED if keyed else CLIENT_MAPPING)
    out.book.keyed = keyed
    for number in ("A1", "A2", "A3"):
        add(out, number)
    from integration_pipelines.steps import outward_settle

    def dies(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(outward_settle.OutwardSettlement, "settle", dies)
        with pytest.raises(RuntimeError):
            out.sync()
    assert {row["state"] for row in out.rows("SELECT state FROM write_intents")} == {"announced"}
    out.sync()
    assert len(out.book.writes) == 3
    assert len(out.rows("SELECT id FROM identity_links")) == 3
    assert {row["state"] for row in out.rows("SELECT state FROM write_intents")} == {"confirmed"}


def test_a_record_that_matches_is_linked_and_not_made_anew(out: World) -> None:
    out.book.write_note("Client", "C7", Name="Old name", Number="A1", Phone="7")
    add(out, "A1", phone="12")
    counts, _ = out.sync()
    assert list(out.book.notes["Client"]) == ["C7"]
    assert counts.failed == 0
    assert note(out, "C7")["Name"] == "Old name"  # the external side owns it at a first meeting
    assert out.rows("SELECT external_id FROM identity_links") == [{"external_id": "C7"}]


def test_several_candidates_wait_for_a_person(out: World) -> None:
    out.book.write_note("Client", "C7", Name="One", Number="A1")
    out.book.write_note("Client", "C8", Name="Two", Number="A1")
    add(out, "A1")
    counts, _ = out.sync()
    assert (counts.failed, out.book.writes) == (1, [])
    assert "2 external records" in out.errors()[0]["error_message"]


def test_a_record_that_is_refused_is_set_aside_and_sent_when_it_is_mended(out: World) -> None:
    add(out, "A1")
    add(out, "A2")
    out.book.refuse = lambda values: "Nobody is called that." if values.get("Name") == "Customer A1" else None
    counts, _ = out.sync()
    assert (counts.actions, counts.failed) == ({"create": 1}, 1)
    assert out.errors()[0]["error_message"] == "Nobody is called that."
    out.change("UPDATE erp.customer SET name = 'Better' WHERE customer_number = 'A1'")
    out.sync()
    assert out.errors() == []
    assert by_number(out, "A1")["Name"] == "Better"


def test_a_value_that_breaks_the_external_contract_is_set_aside(out: World) -> None:
    add(out, "A1", name="x" * 81)  # 80 at most over there
    counts, _ = out.sync()
    assert (counts.failed, out.book.writes) == (1, [])
    assert "Name is longer than 80 characters; correct the record in the ERP." in out.errors()[0]["error_message"]


def test_a_spelling_of_the_external_side_does_not_travel_back(both: World) -> None:
    both.book.respell = lambda name, value: value.upper() if name == "Name" else value
    both.change("UPDATE erp.customer SET name = 'new name' WHERE customer_number = '001'")
    both.sync()
    assert note(both, "C1")["Name"] == "NEW NAME"
    for _ in range(2):
        counts, _ = both.sync()
        assert counts.actions == {}
    assert both.rows("SELECT name FROM erp.customer WHERE customer_number = '001'") == [{"name": "new name"}]
    both.book.write_note("Client", "C1", Name="Edited over there")
    both.sync()
    assert both.rows("SELECT name FROM erp.customer WHERE customer_number = '001'") == [{"name": "Edited over there"}]


@pytest.mark.parametrize("policy", ["propagate", "deactivate", "ignore"])
def test_a_record_deleted_in_the_erp_goes_by_the_policy(database: Database, settings: Settings, policy: str) -> None:
    world = fill(make_world(database, settings, direction="bidirectional", delete_policy=policy))
    world.sync()
    world.change("DELETE FROM erp.customer WHERE customer_number = '001'")
    world.sync()
    assert world.book.notes["Client"]["C1"].deleted == (policy == "propagate")
    assert world.sync()[0].actions == {}
    assert len(world.customers()) == 1


def test_a_deletion_against_an_edit_under_manual_waits(database: Database, settings: Settings) -> None:
    world = fill(make_world(database, settings, direction="outbound", strategy="manual", delete_policy="propagate"))
    add(world, "A1", phone="1")
    world.sync()
    record = next(iter(r for r, n in world.book.notes["Client"].items() if n.values.get("Number") == "A1"))
    world.book.write_note("Client", record, Phone="edited")
    world.change("DELETE FROM erp.customer WHERE customer_number = 'A1'")
    counts, _ = world.sync()
    assert (counts.failed, world.book.notes["Client"][record].deleted) == (1, False)


def test_the_journal_tells_both_sides(both: World) -> None:
    both.change("UPDATE erp.customer SET phone = '99' WHERE customer_number = '001'")
    both.sync()
    (row,) = both.rows("SELECT id FROM erp.customer WHERE customer_number = '001'")
    with both.database.tenant(both.tenant) as scope:
        told = ledger.story(scope, "customer", str(row["id"]))
    assert [(entry["side"], entry["action"]) for entry in told] == [("erp", "create"), ("external", "update")]
    assert (told[1]["before"]["Phone"], told[1]["after"]["Phone"], told[1]["changed_fields"]) == ("1", "99", ["Phone"])


def test_money_and_leading_zeros_go_out_exactly(out: World) -> None:
    add(out, "007")
    out.change("UPDATE erp.customer SET annual_revenue = 0.10 WHERE customer_number = '007'")
    out.sync()
    assert by_number(out, "007")["Revenue"] == Decimal("0.10")


def test_a_constant_goes_out_when_a_record_is_made_and_never_again(database: Database, settings: Settings) -> None:
    mapping = CLIENT_MAPPING + "  - {source: Email, constant: made@erp.example, direction: outbound}\n"
    mapping = mapping.replace("  - {source: Email, target: email}\n", "")
    world = make_world(database, settings, mapping=mapping, direction="outbound")
    add(world, "A1")
    world.sync()
    (record,) = world.book.notes["Client"]
    assert note(world, record)["Email"] == "made@erp.example"
    world.book.write_note("Client", record, Email="corrected@example.org")
    world.change("UPDATE erp.customer SET phone = '5'")
    world.sync()
    assert (note(world, record)["Email"], note(world, record)["Phone"]) == ("corrected@example.org", "5")


def test_a_field_that_is_set_for_good_is_written_once_and_a_later_change_waits(both: World) -> None:
    fields = tuple(replace(field, fixed=field.name == "Number") for field in both.book.described["Client"].fields)
    both.book.described["Client"] = replace(both.book.described["Client"], fields=fields)
    add(both, "A1")
    both.sync()
    assert by_number(both, "A1")["Name"] == "Customer A1"
    both.change("UPDATE erp.customer SET customer_number = 'A2', phone = '5' WHERE customer_number = 'A1'")
    both.sync()
    (error,) = both.errors()
    assert error["error_type"] == "conflict"
    assert "is closed for changes, and customer_number, phone differs" in error["error_message"]
    assert by_number(both, "A1").get("Phone") is None
