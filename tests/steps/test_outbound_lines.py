"""Documents whose lines go out: made, changed, merged line by line, with what only the other side knows of a line kept."""

import json
from typing import Any

import pytest
from clients import CLIENT_MAPPING
from notebook import make_world, store_sync
from orders import MAPPING, OUTWARD, Orders, line, strategy

from connector_resources.errors import ConfigurationError
from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database

BOTH = MAPPING.replace("source: item,", "source: item.id,") + OUTWARD.lstrip("\n")


@pytest.fixture
def orders(database: Database, settings: Settings) -> Orders:
    return Orders(make_world(database, settings, mapping=CLIENT_MAPPING), BOTH, direction="bidirectional")


def write_order(orders: Orders, number: str, *lines: tuple[int, str]) -> None:
    orders.world.change(
        """INSERT INTO erp.sales_order (order_number, customer_id, order_date, status, currency_code)
           SELECT :n, id, '2026-01-01', 'draft', 'EUR' FROM erp.customer""",
        n=number,
    )
    for no, text in lines:
        orders.world.change(
            """INSERT INTO erp.sales_order_line (sales_order_id, line_number, description, quantity)
               SELECT id, :no, :text, 1 FROM erp.sales_order WHERE order_number = :n""",
            n=number, no=no, text=text,
        )  # fmt: skip


def edit(orders: Orders, no: int, **values: Any) -> None:
    sets = ", ".join(f"{name} = :{name}" for name in values)
    orders.world.change(f"UPDATE erp.sales_order_line SET {sets} WHERE line_number = :no", no=no, **values)


def sent(orders: Orders, record: str = "O1") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(orders.book.notes["Order"][record].values["Lines"])
    return found


def test_a_new_document_goes_out_with_its_lines(orders: Orders) -> None:
    orders.world.sync()
    write_order(orders, "A1", (2, "Two"), (1, "One"))
    counts, _ = orders.world.sync()
    assert counts.actions == {"create": 1}
    ((_, _, values),) = orders.book.writes
    assert (values["Number"], values["ClientId"]) == ("A1", "C1")
    assert json.loads(values["Lines"]) == [
        {"no": 1, "text": "One", "qty": "1.0000"},
        {"no": 2, "text": "Two", "qty": "1.0000"},
    ]
    assert orders.world.sync()[0].actions == {}


def test_an_edited_an_added_and_a_removed_line_go_out_and_nothing_comes_back(orders: Orders) -> None:
    orders.put(line(1, "One", tax="A"), line(2, "Two", tax="B"), line(3, "Three", tax="C"))
    orders.world.sync()
    edit(orders, 1, description="Eins")
    orders.world.change("DELETE FROM erp.sales_order_line WHERE line_number = 3")
    orders.world.change(
        """INSERT INTO erp.sales_order_line (sales_order_id, line_number, description, quantity)
           SELECT id, 4, 'Four', 4 FROM erp.sales_order"""
    )
    counts, _ = orders.world.sync()
    assert counts.actions == {"update": 1}
    assert [(one["no"], one["text"], one.get("tax")) for one in sent(orders)] == [
        (1, "Eins", "A"), (2, "Two", "B"), (4, "Four", None),
    ]  # fmt: skip
    assert orders.world.sync()[0].actions == {}


def test_a_line_that_alone_is_deleted_is_news(orders: Orders) -> None:
    orders.put(line(1, "One"), line(2, "Two"))
    orders.world.sync()
    orders.world.change("DELETE FROM erp.sales_order_line WHERE line_number = 1")
    orders.world.sync()
    assert [one["no"] for one in sent(orders)] == [2]


def test_edits_of_different_lines_on_both_sides_survive_in_both_directions(orders: Orders) -> None:
    orders.put(line(1, "One"), line(2, "Two"))
    orders.world.sync()
    edit(orders, 1, description="Eins")
    orders.put(line(1, "One"), line(2, "Zwei"))
    orders.world.sync()
    wanted = [(1, "Eins"), (2, "Zwei")]
    assert [(one["no"], one["text"]) for one in sent(orders)] == wanted
    assert [(no, text) for no, text, _ in orders.lines()] == wanted
    assert orders.world.sync()[0].actions == {}


@pytest.mark.parametrize("policy", ["source_wins", "target_wins", "last_write_wins", "manual"])
def test_an_outbound_sync_keeps_what_the_other_side_changed_in_another_line(
    database: Database, settings: Settings, policy: str
) -> None:
    orders = Orders(make_world(database, settings, mapping=CLIENT_MAPPING), BOTH, direction="bidirectional")
    strategy(orders, policy)
    orders.put(line(1, "One"), line(2, "Two"))
    orders.world.sync()
    orders.world.change("UPDATE sync_configurations SET sync_direction = 'outbound' WHERE id = :id", id=orders.world.config.id)
    edit(orders, 1, description="Eins")
    orders.put(line(1, "One"), line(2, "Zwei"))
    orders.world.sync()
    assert [(one["no"], one["text"]) for one in sent(orders)] == [(1, "Eins"), (2, "Zwei")]
    orders.world.change(
        "UPDATE sync_configurations SET sync_direction = 'bidirectional' WHERE id = :id", id=orders.world.config.id
    )
    orders.world.sync()  # what the other side changed is news for the ERP still
    assert [(no, text) for no, text, _ in orders.lines()] == [(1, "Eins"), (2, "Zwei")]


def test_a_clash_in_one_line_under_manual_waits_and_nothing_is_written(database: Database, settings: Settings) -> None:
    orders = Orders(make_world(database, settings, mapping=CLIENT_MAPPING), BOTH, direction="bidirectional")
    strategy(orders, "manual")
    orders.put(line(1, "One"))
    orders.world.sync()
    edit(orders, 1, description="Eins")
    orders.put(line(1, "Uno"))
    orders.world.sync()
    assert (orders.book.writes, sent(orders)[0]["text"], orders.lines()[0][1]) == ([], "Uno", "Eins")
    assert {error["error_type"] for error in orders.world.errors()} == {"conflict"}


def test_a_reference_in_a_line_goes_out_as_the_other_sides_id_or_waits(orders: Orders) -> None:
    orders.put(line(1, "One"))
    orders.world.sync()
    orders.world.change("INSERT INTO erp.item (item_number, name, item_type, active) VALUES ('I1', 'Item', 'goods', true)")
    orders.world.change("UPDATE erp.sales_order_line SET item_id = (SELECT id FROM erp.item)")
    orders.world.sync()
    (error,) = orders.world.errors()
    assert (error["error_type"], "The item in Lines.item.id is not linked yet" in error["error_message"]) == ("mapping", True)
    orders.world.change(
        """INSERT INTO identity_links (tenant_id, connector_id, external_entity, external_id, erp_entity, erp_id, base,
                                       field_mapping_id, state)
           SELECT :t, :c, 'Thing', 'T1', 'item', id::text, '\\x7b7d', :m, 'active' FROM erp.item""",
        t=orders.world.tenant,
        c=orders.world.connector_id,
        m=orders.world.config.mapping_id,
    )
    orders.world.sync()
    assert (sent(orders)[0]["item"], orders.world.errors()) == ({"id": "T1"}, [])
    assert orders.world.sync()[0].actions == {}


def test_lines_that_only_go_out_need_no_inbound_rule(database: Database, settings: Settings) -> None:
    mapping = MAPPING.partition("  - source: Lines")[0] + OUTWARD.lstrip("\n")
    orders = Orders(make_world(database, settings, mapping=CLIENT_MAPPING), mapping, direction="outbound")
    write_order(orders, "A1", (1, "One"))
    assert orders.world.sync()[0].actions == {"create": 1}
    (record,) = orders.book.notes["Order"]
    orders.book.write_note("Order", record, Lines=json.dumps([{**sent(orders, record)[0], "tax": "A"}]))
    edit(orders, 1, description="Eins")
    assert orders.world.sync()[0].actions == {"update": 1}
    assert (sent(orders, record)[0]["text"], sent(orders, record)[0]["tax"]) == ("Eins", "A")
    assert orders.world.sync()[0].actions == {}


def test_a_line_field_that_goes_out_and_never_comes_in_is_refused(database: Database, settings: Settings) -> None:
    mapping = BOTH + "      - {source: price, target: unit_price}\n"
    world = make_world(database, settings, mapping=CLIENT_MAPPING)
    orders = Orders(world, BOTH, direction="bidirectional")
    orders.world.config = store_sync(
        database, world.tenant, world.connector_id, mapping.replace("order-sales_order", "other"), direction="bidirectional"
    )
    with pytest.raises(ConfigurationError, match="lines 'lines' send unit_price, which no inbound rule sets"):
        orders.world.run(opened=False)
