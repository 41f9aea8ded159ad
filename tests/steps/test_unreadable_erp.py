"""A value in the ERP that nobody can compare: its record waits, whichever way it travels, and all others go on."""

import pytest
from notebook import World, make_world
from orders import MAPPING, OUTWARD, Orders, line

from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database


@pytest.fixture
def world(database: Database, settings: Settings) -> World:
    return make_world(database, settings)


def broken(world: World, number: str, day: str = "infinity") -> None:
    world.change(f"UPDATE erp.sales_order SET order_date = '{day}' WHERE order_number = '{number}'")


def waiting(orders: Orders) -> list[tuple[str, str]]:
    return [(row["record_id"], row["error_message"]) for row in orders.world.errors()]


IN_ERP = "In the ERP, order_date holds a value that its type cannot hold; correct it there."


def test_an_incoming_change_waits_until_its_erp_record_can_be_read(world: World) -> None:
    orders = Orders(world)
    orders.put(line(1, "a"), record="O1")
    orders.put(line(1, "a"), record="O2")
    orders.world.sync()
    broken(world, "SO-O1")
    orders.put(line(1, "b"), record="O1")
    orders.put(line(1, "b"), record="O2")
    counts = orders.world.sync()
    assert (counts[0].succeeded, counts[0].failed) == (1, 1)
    assert waiting(orders) == [("O1", IN_ERP)]
    assert (orders.lines("O1")[0][1], orders.lines("O2")[0][1]) == ("a", "b")
    broken(world, "SO-O1", day="2026-01-01")
    orders.world.sync()
    assert waiting(orders) == []
    assert orders.lines("O1")[0][1] == "b"


def test_a_deletion_over_there_waits_until_its_erp_record_can_be_read(world: World) -> None:
    orders = Orders(world, delete_policy="propagate")
    for record in ("O1", "O2"):
        orders.put(line(1, "a"), record=record)
    orders.world.sync()
    broken(world, "SO-O1")
    for record in ("O1", "O2"):
        orders.book.remove("Order", record)
    orders.world.sync()
    assert waiting(orders) == [("O1", IN_ERP)]
    assert [row["order_number"] for row in world.rows("SELECT order_number FROM erp.sales_order")] == ["SO-O1"]
    broken(world, "SO-O1", day="2026-01-01")
    orders.world.sync()
    assert waiting(orders) == []
    assert world.rows("SELECT FROM erp.sales_order") == []


@pytest.mark.parametrize("spoil", ["erp.sales_order SET order_date = 'infinity'", "erp.sales_order_line SET quantity = 'NaN'"])
def test_a_record_on_its_way_out_waits_until_it_can_be_read(world: World, spoil: str) -> None:
    mapping = "".join(rule for rule in (MAPPING + OUTWARD).splitlines(keepends=True) if "Thing" not in rule)
    orders = Orders(world, mapping, direction="bidirectional")
    for record in ("O1", "O2"):
        orders.put(line(1, "a"), record=record)
    orders.world.sync()
    (first,) = world.rows("SELECT id FROM erp.sales_order WHERE order_number = 'SO-O1'")
    key = "sales_order_id" if "line" in spoil else "id"
    world.change(f"UPDATE {spoil} WHERE {key} = '{first['id']}'")
    world.change("UPDATE erp.sales_order_line SET description = 'typed in the ERP'")
    orders.world.sync()
    assert [record for record, _ in waiting(orders)] == [str(first["id"])]
    assert "typed in the ERP" in orders.book.notes["Order"]["O2"].values["Lines"]
    assert "typed in the ERP" not in orders.book.notes["Order"]["O1"].values["Lines"]
    world.change("UPDATE erp.sales_order SET order_date = '2026-01-01'")
    world.change("UPDATE erp.sales_order_line SET quantity = 2")
    orders.world.sync()
    assert waiting(orders) == []
    assert "typed in the ERP" in orders.book.notes["Order"]["O1"].values["Lines"]
