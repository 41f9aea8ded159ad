"""References where records of several external entities are linked with one ERP entity: the right parent is taken, or none."""

import json
from dataclasses import replace
from typing import Any

import pytest
from clients import CLIENT_MAPPING
from notebook import World, make_world, new_mapping
from orders import MAPPING, ORDER, OUTWARD, Orders, line

from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database

PEOPLE = """
mapping_name: person-customer
source_entity: Person
target_entity: customer
mappings:
  - {source: Surname, target: name, match: true}
  - {constant: true, target: active}
"""
UNNAMED = MAPPING.replace("{entity: customer, external: Client}", "customer").replace(
    "{entity: item, external: Thing}", "item"
)
BOTH = UNNAMED.replace("source: item,", "source: item.id,") + OUTWARD.replace("{entity: item, external: Thing}", "item")
NAME_IT = "`reference: {entity: %s, external: NAME}`"


@pytest.fixture
def world(database: Database, settings: Settings) -> World:
    return make_world(database, settings, mapping=CLIENT_MAPPING)


def with_orders(world: World, mapping: str = UNNAMED, *, refers_to: tuple[str, ...] = (), **sync: Any) -> Orders:
    """Client C1 is linked with a customer; the description of an order's ClientId says that it holds ids of `refers_to`."""
    orders = Orders(world, mapping, **sync)
    fields = [replace(field, references=refers_to) if field.name == "ClientId" else field for field in ORDER.fields]
    orders.book.described["Order"] = replace(ORDER, fields=tuple(fields))
    return orders


def link_person(world: World, record: str, name: str) -> None:
    """A person that is a customer of that name, too."""
    world.book.write_note("Person", record, Surname=name)
    people = world.second_sync(PEOPLE)
    people.sync()
    assert people.errors() == []


def new_item(orders: Orders, item: str, **records: str) -> None:
    """An item that these records are linked with: external entity → id."""
    orders.world.change(
        "INSERT INTO erp.item (item_number, name, item_type, active) VALUES (:i, 'Item', 'goods', true)", i=item
    )
    for entity, record in records.items():
        orders.world.change(
            """INSERT INTO identity_links (tenant_id, connector_id, external_entity, external_id, erp_entity, erp_id, base,
                                           field_mapping_id)
               SELECT app_tenant(), :c, :entity, :record, 'item', id, '', 1 FROM erp.item WHERE item_number = :i""",
            c=orders.world.connector_id, entity=entity, record=record, i=item,
        )  # fmt: skip


def order_in_the_erp(orders: Orders, customer: str = "Ada Ltd") -> None:
    orders.world.change(
        """INSERT INTO erp.sales_order (order_number, customer_id, order_date, status, currency_code)
           SELECT 'A1', id, '2026-01-01', 'draft', 'EUR' FROM erp.customer WHERE name = :name""",
        name=customer,
    )


def customers_of_orders(orders: Orders) -> list[str]:
    rows = orders.world.rows("SELECT c.name FROM erp.sales_order o JOIN erp.customer c ON c.id = o.customer_id")
    return [row["name"] for row in rows]


def told(orders: Orders) -> list[tuple[str, str, str]]:
    return [(row["error_type"], row["error_details"]["field"], row["error_message"]) for row in orders.world.errors()]


class TestInbound:
    def test_the_parent_is_of_the_entity_that_the_field_refers_to(self, world: World) -> None:
        orders = with_orders(world, refers_to=("Client",))
        link_person(world, "C1", "A person of the same id")
        orders.put(line(1, "One"))
        orders.world.sync()
        assert customers_of_orders(orders) == ["Ada Ltd"]

    def test_it_waits_for_that_parent_and_is_not_read_while_only_another_one_has_the_id(self, world: World) -> None:
        orders = with_orders(world, refers_to=("Client",))
        orders.put(line(1, "One"), ClientId="C9")
        link_person(world, "C9", "A person of the same id")
        orders.world.sync()
        ((_, _, message),) = told(orders)
        assert "The customer in customer_id is not linked yet" in message
        orders.book.write_note("Client", "C9", Name="Bela GmbH", Number="009")
        orders.put(line(1, "One"), record="O2")
        reads = len(orders.book.reads)
        orders.world.sync()
        assert [read for read in orders.book.reads[reads:] if isinstance(read, list)] == []
        world.sync()
        orders.world.sync()
        assert (sorted(customers_of_orders(orders)), told(orders)) == (["Ada Ltd", "Bela GmbH"], [])

    @pytest.mark.parametrize("refers_to", [(), ("Client", "Person")], ids=["nothing said", "either"])
    def test_of_two_parents_none_is_chosen_until_the_mapping_names_one(self, world: World, refers_to: tuple[str, ...]) -> None:
        orders = with_orders(world, refers_to=refers_to)
        link_person(world, "C1", "A person of the same id")
        orders.put(line(1, "One"))
        orders.world.sync()
        ((kind, field, message),) = told(orders)
        assert (kind, field, customers_of_orders(orders)) == ("mapping", "customer_id", [])
        assert "records of several external entities" in message and NAME_IT % "customer" in message
        new_mapping(orders.world, UNNAMED.replace("reference: customer", "reference: {entity: customer, external: Person}"))
        orders.world.sync()
        assert (customers_of_orders(orders), told(orders)) == (["A person of the same id"], [])

    def test_where_one_parent_alone_has_the_id_it_is_taken(self, world: World) -> None:
        orders = with_orders(world)
        link_person(world, "P7", "Lovelace")
        orders.put(line(1, "One"))
        orders.put(line(1, "One"), record="O2", ClientId="P7")
        orders.world.sync()
        assert sorted(customers_of_orders(orders)) == ["Ada Ltd", "Lovelace"]

    def test_a_transform_may_make_another_entitys_id_of_it(self, world: World) -> None:
        mapping = UNNAMED.replace("source: ClientId,", "source: ClientId, transforms: [{pad_left: {width: 3, by: P}}],")
        orders = with_orders(world, mapping, refers_to=("Client",))
        link_person(world, "PC1", "Lovelace")
        orders.put(line(1, "One"))
        orders.world.sync()
        assert customers_of_orders(orders) == ["Lovelace"]

    def test_in_lines_of_two_parents_none_is_chosen_unless_both_are_the_same(self, world: World) -> None:
        orders = with_orders(world)
        new_item(orders, "One", Thing="T1")
        new_item(orders, "Other", Part="T1")
        new_item(orders, "Same", Thing="T2", Part="T2")
        orders.put(line(1, "One", item="T1"), record="O1")
        orders.put(line(1, "One", item="T2"), record="O2")
        orders.world.sync()
        ((kind, field, message),) = told(orders)
        assert (kind, field, len(orders.lines("O1")), len(orders.lines("O2"))) == ("mapping", "lines.item_id", 0, 1)
        assert "several external entities" in message and NAME_IT % "item" in message


class TestOutbound:
    def test_the_id_that_goes_out_is_of_the_entity_that_the_field_refers_to(self, world: World) -> None:
        orders = with_orders(world, BOTH, refers_to=("Client",), direction="bidirectional")
        link_person(world, "P7", "Ada Ltd")
        order_in_the_erp(orders)
        orders.world.sync()
        assert [values["ClientId"] for _, _, values in orders.book.writes] == ["C1"]

    def test_it_waits_where_only_a_record_of_another_entity_is_linked(self, world: World) -> None:
        orders = with_orders(world, BOTH, refers_to=("Client",), direction="bidirectional")
        link_person(world, "P7", "Lovelace")
        order_in_the_erp(orders, "Lovelace")
        orders.world.sync()
        ((_, _, message),) = told(orders)
        assert ("is not linked yet" in message, orders.book.writes) == (True, [])

    def test_of_two_ids_none_goes_out_until_the_mapping_names_one(self, world: World) -> None:
        orders = with_orders(world, BOTH, direction="bidirectional")
        link_person(world, "P7", "Ada Ltd")
        order_in_the_erp(orders)
        orders.world.sync()
        ((kind, field, message),) = told(orders)
        assert (kind, field, orders.book.writes) == ("mapping", "ClientId", [])
        assert "several external entities" in message and NAME_IT % "customer" in message
        new_mapping(orders.world, BOTH.replace("reference: customer", "reference: {entity: customer, external: Client}"))
        orders.world.sync()
        assert [values["ClientId"] for _, _, values in orders.book.writes] == ["C1"]
        assert told(orders) == []

    def test_in_lines_of_two_ids_none_goes_out(self, world: World) -> None:
        orders = with_orders(world, BOTH, refers_to=("Client",), direction="bidirectional")
        new_item(orders, "Item", Thing="T1", Part="X1")
        order_in_the_erp(orders)
        orders.world.change(
            """INSERT INTO erp.sales_order_line (sales_order_id, line_number, quantity, item_id)
               SELECT o.id, 1, 1, i.id FROM erp.sales_order o, erp.item i"""
        )
        orders.world.sync()
        ((kind, field, message),) = told(orders)
        assert (kind, field, orders.book.writes) == ("mapping", "Lines.item.id", [])
        assert "several external entities" in message and NAME_IT % "item" in message
        orders.world.change("DELETE FROM identity_links WHERE external_entity = 'Part'")
        orders.world.sync()
        ((_, _, values),) = orders.book.writes
        assert json.loads(values["Lines"])[0]["item"] == {"id": "T1"}
