"""A new mapping version adds a field of child lines: its owner decides it, and nothing counts as edited that nobody edited."""

import json
from typing import Any

import pytest
from clients import CLIENT_MAPPING
from notebook import make_world, new_mapping
from orders import MAPPING, OUTWARD, Orders, line, strategy

from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database

STRATEGIES = pytest.mark.parametrize("policy", ["manual", "source_wins", "target_wins", "last_write_wins"])
BOTH = MAPPING.replace("source: item,", "source: item.id,") + OUTWARD.lstrip("\n")


def before(mapping: str) -> str:
    """Without the lines' text."""
    return mapping.replace("      - {source: text, target: description}\n", "")


def owned(mapping: str, owner: str) -> str:
    return mapping.replace("    target: lines\n", f"    target: lines\n    owner: {owner}\n")


def described(orders: Orders) -> list[tuple[int, str | None]]:
    return [(number, text) for number, text, _ in orders.lines()]


def sent(orders: Orders) -> list[tuple[int, str | None]]:
    return [(one["no"], one.get("text")) for one in json.loads(orders.book.notes["Order"]["O1"].values["Lines"])]


def only_outward(orders: Orders) -> None:
    orders.world.change("UPDATE sync_configurations SET sync_direction = 'outbound' WHERE id = :id", id=orders.world.config.id)


def propagate_deletions(orders: Orders) -> None:
    orders.world.change("UPDATE sync_configurations SET delete_policy = 'propagate' WHERE id = :id", id=orders.world.config.id)


def edit(orders: Orders, number: int, **values: Any) -> None:
    sets = ", ".join(f"{name} = :{name}" for name in values)
    orders.world.change(f"UPDATE erp.sales_order_line SET {sets} WHERE line_number = :n", n=number, **values)


@pytest.fixture
def orders(database: Database, settings: Settings, policy: str) -> Orders:
    made = Orders(make_world(database, settings, mapping=CLIENT_MAPPING), before(MAPPING))
    strategy(made, policy)
    return made


@pytest.fixture
def both(database: Database, settings: Settings, policy: str) -> Orders:
    made = Orders(make_world(database, settings, mapping=CLIENT_MAPPING), before(BOTH), direction="bidirectional")
    strategy(made, policy)
    return made


@STRATEGIES
class TestInbound:
    @pytest.mark.parametrize(
        ("owner", "outside", "typed", "kept"),
        [
            ("external", "outside", "typed", "outside"),
            ("erp", "outside", "typed", "typed"),
            ("external", None, "typed", "typed"),
            ("erp", "outside", None, None),
        ],
        ids=["external", "erp", "a null of the external side", "a null of the ERP"],
    )
    def test_its_owner_decides_and_a_null_overwrites_nothing(
        self, orders: Orders, owner: str, outside: Any, typed: Any, kept: Any
    ) -> None:
        orders.put(line(1, outside))
        orders.world.sync()
        edit(orders, 1, description=typed)
        new_mapping(orders.world, owned(MAPPING, owner))
        orders.world.sync()
        assert (described(orders), orders.world.errors()) == ([(1, kept)], [])
        orders.put(line(1, outside), Number="SO-O1")
        assert orders.world.sync()[0].actions == {}

    def test_edits_of_other_fields_of_the_line_survive(self, orders: Orders) -> None:
        orders.put(line(1, "One"), line(2, "Two"))
        orders.world.sync()
        edit(orders, 1, quantity=9)
        new_mapping(orders.world, MAPPING)
        orders.put(line(1, "One"), line(2, "Two", "7"))
        orders.world.sync()
        assert [(number, text, int(quantity)) for number, text, quantity in orders.lines()] == [(1, "One", 9), (2, "Two", 7)]
        assert orders.world.errors() == []

    def test_a_line_that_the_erp_has_deleted_does_not_come_back(self, orders: Orders) -> None:
        orders.put(line(1, "One"), line(2, "Two"))
        orders.world.sync()
        orders.world.change("DELETE FROM erp.sales_order_line WHERE line_number = 2")
        new_mapping(orders.world, MAPPING)
        orders.world.sync()
        assert (described(orders), orders.world.errors()) == ([(1, "One")], [])

    def test_a_line_that_was_deleted_over_there_goes(self, orders: Orders) -> None:
        orders.put(line(1, "One"), line(2, "Two"))
        orders.world.sync()
        orders.put(line(1, "One"))
        new_mapping(orders.world, MAPPING)
        orders.world.sync()
        assert (described(orders), orders.world.errors()) == ([(1, "One")], [])

    def test_a_document_that_was_deleted_over_there_goes(self, orders: Orders) -> None:
        propagate_deletions(orders)
        orders.put(line(1, "One"))
        orders.world.sync()
        orders.book.remove("Order", "O1")
        new_mapping(orders.world, MAPPING)
        counts, _ = orders.world.sync()
        assert (counts.actions, orders.world.errors()) == ({"delete": 1}, [])


@STRATEGIES
class TestOutbound:
    @pytest.mark.parametrize(("owner", "kept"), [("external", "outside"), ("erp", "typed")])
    def test_its_owner_decides_on_both_sides(self, both: Orders, owner: str, kept: str) -> None:
        both.put(line(1, "outside"))
        both.world.sync()
        edit(both, 1, description="typed")
        new_mapping(both.world, owned(BOTH, owner))
        both.world.sync()
        both.world.sync()
        assert (described(both), sent(both), both.world.errors()) == ([(1, kept)], [(1, kept)], [])
        assert both.world.sync()[0].actions == {}

    def test_a_null_of_the_erp_overwrites_nothing(self, both: Orders) -> None:
        both.put(line(1, "outside"))
        both.world.sync()
        only_outward(both)
        edit(both, 1, quantity=9)
        new_mapping(both.world, owned(BOTH, "erp"))
        assert both.world.sync()[0].actions == {"update": 1}
        assert (sent(both), both.world.errors()) == ([(1, "outside")], [])

    def test_what_went_out_is_agreed_on(self, both: Orders) -> None:
        """An edit over there stays, although an outbound sync reads no edits."""
        both.put(line(1, "outside"), line(2, "Two"))
        both.world.sync()
        only_outward(both)
        edit(both, 1, description="typed")
        both.put(line(1, "outside"), line(2, "Two", "7"))
        new_mapping(both.world, owned(BOTH, "erp"))
        both.world.sync()
        assert sent(both)[0] == (1, "typed")
        both.put(line(1, "edited"), line(2, "Two", "7"))
        edit(both, 1, quantity=9)
        both.world.sync()
        assert (sent(both)[0], both.world.errors()) == ((1, "edited"), [])

    def test_a_document_that_the_erp_has_deleted_goes(self, both: Orders) -> None:
        propagate_deletions(both)
        both.put(line(1, "One"))
        both.world.sync()
        only_outward(both)
        new_mapping(both.world, BOTH)
        both.world.change("DELETE FROM erp.sales_order_line")
        both.world.change("DELETE FROM erp.sales_order")
        both.world.sync()
        assert (both.book.notes["Order"]["O1"].deleted, both.world.errors()) == (True, [])


@pytest.mark.parametrize(("policy", "comes_back"), [("source_wins", True), ("target_wins", False)])
def test_a_deleted_line_that_was_edited_on_the_other_side_still_goes_by_the_strategy(orders: Orders, comes_back: bool) -> None:
    orders.put(line(1, "One"), line(2, "Two"))
    orders.world.sync()
    orders.world.change("DELETE FROM erp.sales_order_line WHERE line_number = 2")
    orders.put(line(1, "One"), line(2, "Two", "7"))
    new_mapping(orders.world, MAPPING)
    orders.world.sync()
    assert len(orders.lines()) == 1 + comes_back


@STRATEGIES
def test_a_field_that_a_new_version_takes_away_brings_no_deleted_line_back(orders: Orders) -> None:
    new_mapping(orders.world, MAPPING)
    orders.put(line(1, "One"), line(2, "Two"))
    orders.world.sync()
    orders.world.change("DELETE FROM erp.sales_order_line WHERE line_number = 2")
    new_mapping(orders.world, before(MAPPING))
    orders.world.sync()
    assert (described(orders), orders.world.errors()) == ([(1, "One")], [])


@STRATEGIES
def test_two_mappings_of_a_pair_leave_each_other_what_they_know_of_lines(orders: Orders, policy: str) -> None:
    whole = orders.world.second_sync(MAPPING, strategy=policy)
    orders.put(line(1, "outside"), line(2, "outside"))
    whole.sync()
    edit(orders, 1, description="typed")
    orders.put(line(1, "outside", qty="5"), line(2, "outside"))
    orders.world.sync()
    whole.sync()
    assert (described(orders), whole.errors()) == ([(1, "typed"), (2, "outside")], [])
    orders.put(line(1, "outside", qty="5"), line(2, "edited"))
    whole.sync()
    assert described(orders) == [(1, "typed"), (2, "edited")]
