"""Documents with child lines: they arrive, change, merge line by line, and never lose an edit."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from clients import CLIENT_MAPPING
from notebook import make_world
from orders import Orders, line, strategy

from connector_resources.errors import ConfigurationError
from integration_pipelines.model import SyncStatus
from integration_pipelines.settings import Settings
from integration_pipelines.steps.load import load
from integration_pipelines.store.database import Database


@pytest.fixture
def orders(database: Database, settings: Settings) -> Orders:
    return Orders(make_world(database, settings, mapping=CLIENT_MAPPING))


def test_a_document_arrives_with_its_lines_and_a_second_run_writes_nothing(orders: Orders) -> None:
    orders.put(line(2, "Two", "2.5"), line(1, "One"), line(10, "Ten"))
    orders.put(record="O2")
    counts, status = orders.world.sync()
    assert (counts.actions, status) == ({"create": 2}, SyncStatus.COMPLETED)
    assert orders.lines() == [(1, "One", Decimal("1.0000")), (2, "Two", Decimal("2.5000")), (10, "Ten", Decimal("1.0000"))]
    assert orders.lines("O2") == []
    orders.put(line(1, "One", "1.00"), line(2, "Two", "2.50"), line(10, "Ten"))  # the same in another order and spelling
    again, _ = orders.world.sync()
    assert (again.actions, again.skipped) == ({}, 2)


def test_lines_are_added_changed_and_removed_by_their_key(orders: Orders) -> None:
    orders.put(line(1, "One"), line(2, "Two"), line(3, "Three"))
    orders.world.sync()
    kept = orders.world.rows("SELECT id FROM erp.sales_order_line WHERE line_number = 1")
    orders.put(line(1, "One"), line(2, "Zwei"), line(4, "Four"))
    counts, _ = orders.world.sync()
    assert counts.actions == {"update": 1}
    assert [(number, text) for number, text, _ in orders.lines()] == [(1, "One"), (2, "Zwei"), (4, "Four")]
    assert orders.world.rows("SELECT id FROM erp.sales_order_line WHERE line_number = 1") == kept
    changed = orders.world.rows("SELECT changed_fields FROM sync_record_changes ORDER BY changed_at DESC LIMIT 1")
    assert changed == [{"changed_fields": ["lines"]}]


def test_edits_of_different_lines_and_fields_all_survive(orders: Orders) -> None:
    orders.put(line(1, "One"), line(2, "Two"))
    orders.world.sync()
    orders.world.change("UPDATE erp.sales_order_line SET quantity = 9 WHERE line_number = 1")
    orders.put(line(1, "Eins"), line(2, "Two"), line(3, "Three"))
    counts, _ = orders.world.sync()
    wanted = [(1, "Eins", Decimal(9)), (2, "Two", Decimal(1)), (3, "Three", Decimal(1))]
    assert (counts.actions, orders.lines()) == ({"update": 1}, wanted)
    orders.put(line(1, "Eins"), line(2, "Two"), line(3, "Three"), Number="SO-O1")
    again, _ = orders.world.sync()
    assert (again.actions, orders.lines()) == ({}, wanted)  # the ERP's own edit is never taken back


def test_an_edit_of_a_line_in_the_erp_alone_is_left_alone(orders: Orders) -> None:
    orders.put(line(1, "One"))
    orders.world.sync()
    orders.world.change("UPDATE erp.sales_order_line SET quantity = 9")
    orders.put(line(1, "One"))
    orders.world.sync()
    assert orders.lines() == [(1, "One", Decimal(9))]


@pytest.mark.parametrize(("name", "kept"), [("source_wins", "external"), ("target_wins", "erp")])
def test_a_clash_inside_a_line_goes_by_the_strategy(orders: Orders, name: str, kept: str) -> None:
    strategy(orders, name)
    orders.put(line(1, "One"), line(2, "Two"))
    orders.world.sync()
    orders.world.change("UPDATE erp.sales_order_line SET description = 'erp', quantity = 9 WHERE line_number = 1")
    orders.put(line(1, "external"), line(2, "Zwei"))
    orders.world.sync()
    assert orders.lines() == [(1, kept, Decimal(9)), (2, "Zwei", Decimal(1))]


@pytest.mark.parametrize(("name", "count"), [("source_wins", 1), ("target_wins", 2)])
def test_a_line_removed_over_there_and_edited_here_goes_by_the_strategy(orders: Orders, name: str, count: int) -> None:
    strategy(orders, name)
    orders.put(line(1, "One"), line(2, "Two"))
    orders.world.sync()
    orders.world.change("UPDATE erp.sales_order_line SET quantity = 9 WHERE line_number = 2")
    orders.put(line(1, "One"))
    orders.world.sync()
    assert len(orders.lines()) == count


@pytest.mark.parametrize(("later", "kept"), [(timedelta(days=1), "external"), (timedelta(days=-1), "erp")])
def test_the_later_edit_of_a_line_wins_by_the_change_log(orders: Orders, later: timedelta, kept: str) -> None:
    orders.put(line(1, "One"))
    orders.world.sync()
    orders.world.change("UPDATE erp.sales_order_line SET description = 'erp'")
    orders.book.clock = datetime.now(UTC) + later
    orders.put(line(1, "external"))
    orders.world.sync()
    assert orders.lines()[0][1] == kept


def test_a_clash_inside_a_line_waits_for_a_person_under_manual(orders: Orders) -> None:
    strategy(orders, "manual")
    orders.put(line(1, "One"))
    orders.world.sync()
    orders.world.change("UPDATE erp.sales_order_line SET description = 'erp'")
    orders.put(line(1, "external"))
    counts, _ = orders.world.sync()
    assert (counts.failed, orders.lines()[0][1]) == (1, "erp")
    assert orders.world.errors()[0]["error_details"]["field"] == "lines"


def test_an_edit_of_a_line_between_resolve_and_load_is_merged_and_not_overwritten(orders: Orders) -> None:
    orders.put(line(1, "One"), line(2, "Two"))
    orders.world.sync()
    orders.put(line(1, "Eins"), line(2, "Two"))
    run = orders.world.run()
    batches = orders.world.planned(run)
    orders.world.change("UPDATE erp.sales_order_line SET quantity = 9 WHERE line_number = 2")
    load(run, batches)
    assert orders.lines() == [(1, "Eins", Decimal(1)), (2, "Two", Decimal(9))]


def test_a_line_waits_for_what_it_refers_to(orders: Orders) -> None:
    orders.put(line(1, "One", item="T1"))
    counts, _ = orders.world.sync()
    assert counts.failed == 1
    assert orders.world.errors()[0]["error_details"]["field"] == "lines.item_id"
    orders.world.change("INSERT INTO erp.item (item_number, name, item_type, active) VALUES ('T', 'Thing', 'goods', true)")
    orders.world.change(
        """INSERT INTO identity_links (tenant_id, connector_id, external_entity, external_id, erp_entity, erp_id, base,
               field_mapping_id) SELECT app_tenant(), :c, 'Thing', 'T1', 'item', id, '', 1 FROM erp.item""",
        c=orders.world.connector_id,
    )
    orders.world.sync()
    assert orders.world.errors() == []
    assert orders.world.rows("SELECT count(item_id) FROM erp.sales_order_line") == [{"count": 1}]


@pytest.mark.parametrize(
    "lines",
    [[line(1, "One"), line(1, "Again")], [{"text": "no key"}], [line(1, "One", "many")]],
    ids=["one key twice", "no key", "no number"],
)
def test_lines_that_do_not_fit_set_their_document_aside(orders: Orders, lines: list[dict[str, Any]]) -> None:
    orders.put(*lines)
    orders.put(line(1, "Good"), record="O2")
    counts, _ = orders.world.sync()
    assert (counts.actions, counts.failed) == ({"create": 1}, 1)
    assert orders.world.errors()[0]["error_type"] == "mapping"


def test_a_line_that_the_erp_refuses_sets_its_document_aside_whole(orders: Orders) -> None:
    orders.put(line(1, "One"), line(2, "x" * 1001))
    orders.put(line(1, "Good"), record="O2")
    counts, _ = orders.world.sync()
    assert (counts.actions, counts.failed) == ({"create": 1}, 1)
    assert orders.world.rows("SELECT order_number FROM erp.sales_order") == [{"order_number": "SO-O2"}]


def test_a_deleted_document_takes_its_lines_along(database: Database, settings: Settings) -> None:
    orders = Orders(make_world(database, settings, mapping=CLIENT_MAPPING))
    orders.world.change("UPDATE sync_configurations SET delete_policy = 'propagate' WHERE id = :id", id=orders.world.config.id)
    orders.put(line(1, "One"), line(2, "Two"))
    orders.world.sync()
    orders.book.remove("Order", "O1")
    counts, _ = orders.world.sync()
    assert counts.actions == {"delete": 1}
    assert orders.world.rows("SELECT count(*) FROM erp.sales_order_line") == [{"count": 0}]


def test_lines_without_a_rule_for_their_key_are_refused(orders: Orders) -> None:
    orders.put(line(1, "One"))
    run = orders.world.run(opened=False)
    rules = [
        replace(rule, lines=tuple(one for one in rule.lines if one.rule.target != "line_number")) for rule in run.mapping.rules
    ]
    with pytest.raises(ConfigurationError, match="have no rule for line_number"):
        replace(run, mapping=replace(run.mapping, rules=tuple(rules)))
