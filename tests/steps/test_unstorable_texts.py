"""Texts that PostgreSQL cannot hold: with a NUL, or with half of a surrogate pair, which Python and JSON can spell."""

import json

import pytest
from notebook import World, fill, make_world
from orders import MAPPING, OUTWARD, Orders, line

from integration_pipelines.settings import Settings
from integration_pipelines.steps.load import load
from integration_pipelines.store.database import Database

SIGNS = pytest.mark.parametrize("sign", ["\0", "\ud800"], ids=["NUL", "half a pair"])
NAMES = ["Ada Ltd", "Bela GmbH"]


@pytest.fixture
def world(database: Database, settings: Settings) -> World:
    return fill(make_world(database, settings))


def names(world: World) -> list[str]:
    return [row["name"] for row in world.customers()]


def asked(world: World) -> list[str]:
    """Records that were asked for by their ids."""
    return [record for read in world.book.reads if isinstance(read, list) for record in read]


def escape(sign: str) -> str:
    return f"\\u{ord(sign):04x}"


@SIGNS
def test_a_record_with_such_an_id_is_set_aside_alone(world: World, sign: str) -> None:
    world.book.write_note("Client", f"C{sign}x", Name="Cleo", Number="003")
    counts, _ = world.sync()
    assert (counts.processed, counts.succeeded, counts.failed, names(world)) == (3, 2, 1, NAMES)
    [error] = world.errors()
    assert (error["record_id"], error["error_type"]) == (f"C{escape(sign)}x", "validation")
    assert error["error_message"].startswith("Its id has a character that cannot be stored (NUL, or half of a surrogate pair)")


@SIGNS
def test_nobody_is_asked_for_an_id_as_it_is_shown(world: World, sign: str) -> None:
    world.book.write_note("Client", f"C{sign}x", Name="Cleo", Number="003")
    world.sync()
    world.sync()
    assert (asked(world), [error["record_id"] for error in world.errors()]) == ([], [f"C{escape(sign)}x"])


def test_nobody_is_asked_for_an_id_that_was_cut(world: World) -> None:
    world.book.write_note("Client", "C" * 300, Name="Long", Number="300")
    world.sync()
    world.sync()
    assert (asked(world), len(world.errors())) == ([], 1)


def test_a_run_that_was_overtaken_still_counts_a_record_with_such_an_id(world: World) -> None:
    world.book.write_note("Client", "C\0x", Name="Cleo", Number="003")
    stale = world.run()
    planned = world.planned(stale)
    world.sync()
    counts, _ = load(stale, planned)
    assert (counts.processed, counts.failed) == (3, 1)
    assert sorted(asked(world)) == ["C1", "C2"]


@SIGNS
def test_a_record_with_such_a_text_is_set_aside_alone_until_it_is_corrected(world: World, sign: str) -> None:
    world.book.write_note("Client", "C3", Name=f"C{sign}leo", Number="003")
    counts, _ = world.sync()
    assert (counts.processed, counts.failed, names(world)) == (3, 1, NAMES)
    [error] = world.errors()
    assert (error["record_id"], error["error_type"], error["error_details"]["field"]) == ("C3", "validation", "Name")
    assert error["error_message"].startswith("Name has a character that cannot be stored")
    world.book.write_note("Client", "C3", Name="Cleo")
    world.sync()
    assert (world.errors(), names(world)) == ([], [*NAMES, "Cleo"])


@SIGNS
def test_a_deletion_counts_whatever_the_record_held(world: World, sign: str) -> None:
    world.sync()
    world.book.write_note("Client", "C1", Name=sign)
    world.book.remove("Client", "C1")
    counts, _ = world.sync()
    assert (counts.failed, [row["active"] for row in world.customers()]) == (0, [False, True])


@SIGNS
def test_a_deletion_with_such_an_id_in_it_is_set_aside_alone(world: World, sign: str) -> None:
    world.sync()
    world.book.remove("Client", "C1", merged_into=sign)
    world.book.write_note("Client", "C2", Phone="3")
    counts, _ = world.sync()
    assert (counts.actions, counts.failed) == ({"update": 1}, 1)
    assert world.errors()[0]["error_details"]["field"] == "merged_into"


@SIGNS
def test_a_record_whose_parent_has_such_an_id_is_set_aside_alone(database: Database, settings: Settings, sign: str) -> None:
    orders = Orders(make_world(database, settings))
    orders.put(line(1, "a"), record="O1")
    orders.put(line(1, "a"), record="O2", ClientId=f"C1{sign}")
    counts, _ = orders.world.sync()
    assert (counts.succeeded, counts.failed) == (1, 1)
    [error] = orders.world.errors()
    assert (error["record_id"], error["error_type"], error["error_details"]["field"]) == ("O2", "validation", "ClientId")


@SIGNS
@pytest.mark.parametrize(("field", "target"), [("text", "lines.description"), ("item", "lines.item_id")])
def test_a_document_with_such_a_text_in_a_line_is_set_aside_alone(
    database: Database, settings: Settings, sign: str, field: str, target: str
) -> None:
    orders = Orders(make_world(database, settings))
    orders.put(line(1, "a"), record="O1")
    orders.put(line(1, "a"), line(2, "b") | {field: f"x{sign}"}, record="O2")
    counts, _ = orders.world.sync()
    assert (counts.succeeded, counts.failed, orders.lines("O2")) == (1, 1, [])
    [error] = orders.world.errors()
    assert (error["record_id"], error["error_details"]["field"]) == ("O2", target)
    assert error["error_message"].startswith(f"What {field} holds has a character that cannot be stored")


@SIGNS
def test_such_a_text_in_a_part_of_a_line_that_no_rule_reads_does_no_harm(
    database: Database, settings: Settings, sign: str
) -> None:
    orders = Orders(make_world(database, settings), MAPPING + OUTWARD, direction="bidirectional")
    orders.put(line(1, "a", note=sign))
    orders.world.sync()
    orders.world.change("UPDATE erp.sales_order_line SET description = 'b'")
    counts, _ = orders.world.sync()
    assert (counts.failed, orders.world.errors()) == (0, [])
    [sent] = json.loads(orders.book.notes["Order"]["O1"].values["Lines"])
    assert (sent["text"], sent["note"]) == ("b", sign)


@SIGNS
def test_a_line_with_such_a_text_is_not_written_over_from_the_erp(database: Database, settings: Settings, sign: str) -> None:
    orders = Orders(make_world(database, settings), MAPPING + OUTWARD, direction="bidirectional")
    orders.put(line(1, "a"), record="O1")
    orders.put(line(1, "a"), record="O2")
    orders.world.sync()
    orders.put(line(1, f"a{sign}"), record="O1")
    orders.world.change("UPDATE erp.sales_order_line SET quantity = 7")
    orders.world.sync()
    assert {(error["side"], error["record_id"] == "O1") for error in orders.world.errors()} == {
        ("external", True),
        ("erp", False),
    }
    [kept], [sent] = (json.loads(orders.book.notes["Order"][record].values["Lines"]) for record in ("O1", "O2"))
    assert (kept["text"], kept["qty"], sent["qty"]) == (f"a{sign}", "1", "7.0000")


@SIGNS
def test_a_partner_with_such_an_id_is_not_made_a_second_time(database: Database, settings: Settings, sign: str) -> None:
    world = make_world(database, settings, direction="outbound")
    world.book.write_note("Client", f"C{sign}x", Name="Cleo", Number="003")
    world.change("INSERT INTO erp.customer (name, customer_number) VALUES ('Cleo', '003'), ('Dora', '004')")
    counts, _ = world.sync()
    assert (counts.actions, counts.failed, [error["error_type"] for error in world.errors()]) == (
        {"create": 1},
        1,
        ["conflict"],
    )
    assert [values["Name"] for _, _, values in world.book.writes] == ["Dora"]


@SIGNS
def test_a_refusal_is_shown_whatever_it_says(database: Database, settings: Settings, sign: str) -> None:
    world = make_world(database, settings, direction="outbound")
    world.change("INSERT INTO erp.customer (name, customer_number) VALUES ('Cleo', '003'), ('Dora', '004')")
    world.book.refuse = lambda values: f"No {sign}." if values["Name"] == "Cleo" else None
    counts, _ = world.sync()
    assert (counts.actions, [error["error_message"] for error in world.errors()]) == ({"create": 1}, [f"No {escape(sign)}."])
