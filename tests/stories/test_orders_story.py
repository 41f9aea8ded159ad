"""Salesforce's documents with their lines: orders and opportunities become sales orders, through real runs over real HTTP."""

from collections.abc import Iterator
from decimal import Decimal
from importlib import resources
from typing import Any

import dagster as dg
import pytest
from administrator import Org
from office import Office, furnish

from connector_resources.sandbox import Sandbox
from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database

SEEDS = {
    "Account": "account-customer",
    "Product2": "product2-item",
    "Order": "order-sales_order",
    "Opportunity": "opportunity-sales_order",
}


@pytest.fixture
def office(settings: Settings, database: Database, sandbox: Sandbox, instance: dg.DagsterInstance) -> Office:
    """Accounts and products are there already."""
    folder = resources.files("mappings") / "salesforce"
    texts = {entity: folder.joinpath(f"{seed}.yaml").read_text("utf-8") for entity, seed in SEEDS.items()}
    made = furnish(settings, database, sandbox, instance, mappings_=texts)
    assert made.run("Account").success
    assert made.run("Product2").success
    return made


@pytest.fixture
def org(sandbox: Sandbox) -> Iterator[Org]:
    opened = Org(sandbox)
    with opened.client:
        yield opened


def done(office: Office, entity: str = "Order") -> tuple[str, int]:
    """How the run ended, and how many records it changed."""
    assert office.run(entity).success
    return office.last()["sync_status"], office.last()["records_succeeded"]


def lines(office: Office, number: str = "00000101") -> list[dict[str, Any]]:
    return office.rows(
        """SELECT l.line_number, l.description, l.quantity, l.unit_price, i.item_number FROM erp.sales_order_line l
           JOIN erp.sales_order o ON o.id = l.sales_order_id LEFT JOIN erp.item i ON i.id = l.item_id
           WHERE o.order_number = :n ORDER BY l.line_number""",
        n=number,
    )


def of(org: Org, number: str = "00000101") -> list[dict[str, Any]]:
    return org.find(
        "SELECT Id, OrderId, OrderItemNumber, PricebookEntryId, Quantity, UnitPrice, Product2.ProductCode FROM OrderItem "
        f"WHERE Order.OrderNumber = '{number}' ORDER BY OrderItemNumber"
    )


def change(org: Org, line: str, **values: Any) -> None:
    assert org.client.patch(f"/sobjects/OrderItem/{line}", json=values).status_code == 204


def test_orders_arrive_with_their_lines_and_their_items(office: Office, org: Org) -> None:
    assert done(office) == ("completed", 20)
    there = of(org)
    found = [(f"{one['line_number']:010d}", one["quantity"], one["unit_price"], one["item_number"]) for one in lines(office)]
    assert found == [
        (one["OrderItemNumber"], one["Quantity"], one["UnitPrice"], one["Product2"]["ProductCode"]) for one in there
    ]
    assert len(found) == 2
    assert done(office) == ("completed", 0)


def test_won_opportunities_arrive_with_lines_that_have_no_number_over_there(office: Office) -> None:
    won = sum(one["IsWon"] for one in office.sandbox.state.records["Opportunity"].values())
    assert 0 < won < 20
    assert done(office, "Opportunity") == ("completed", won)
    (count,) = office.rows("SELECT count(*), count(DISTINCT (sales_order_id, line_number)) AS apart FROM erp.sales_order_line")
    assert dict(count) == {"count": 2 * won, "apart": 2 * won}
    assert done(office, "Opportunity") == ("completed", 0)


def test_a_change_of_a_line_is_news_even_where_its_order_shows_no_trace(office: Office, org: Org) -> None:
    done(office)
    first, second = of(org)
    stamp = org.find(f"SELECT SystemModstamp FROM Order WHERE Id = '{first['OrderId']}'")
    change(org, first["Id"], Description="By Friday")
    assert org.find(f"SELECT SystemModstamp FROM Order WHERE Id = '{first['OrderId']}'") == stamp
    assert done(office) == ("completed", 1)
    assert [one["description"] for one in lines(office)] == ["By Friday", None]
    assert done(office) == ("completed", 0)
    assert org.client.delete(f"/sobjects/OrderItem/{second['Id']}").status_code == 204
    new = {"OrderId": first["OrderId"], "PricebookEntryId": second["PricebookEntryId"], "Quantity": 3, "UnitPrice": 9.99}
    assert org.client.post("/sobjects/OrderItem", json=new).status_code == 201
    assert done(office) == ("completed", 1)
    assert [(one["quantity"], one["unit_price"]) for one in lines(office)][1:] == [(Decimal(3), Decimal("9.99"))]
    (order,) = office.rows("SELECT total_amount FROM erp.sales_order WHERE order_number = '00000101'")
    assert order["total_amount"] == round(sum(one["quantity"] * one["unit_price"] for one in lines(office)), 2)


def test_a_line_that_alone_is_deleted_is_news(office: Office, org: Org) -> None:
    done(office)
    _, second = of(org)
    office.sandbox.state.delete("OrderItem", [second["Id"]])  # as a user does where no total is rolled up
    assert done(office) == ("completed", 1)
    assert len(lines(office)) == 1
    assert len(of(org)) == 1


def test_an_orders_own_fields_go_out_although_a_line_changed_later(office: Office, org: Org) -> None:
    done(office)
    first, _ = of(org)
    change(org, first["Id"], Description="By Friday")
    office.change(
        "UPDATE sync_configurations SET sync_direction = 'bidirectional' WHERE id = :id", id=office.syncs["Order"].id
    )
    office.change("UPDATE erp.sales_order SET customer_reference = 'Our 7' WHERE order_number = '00000101'")
    assert done(office)[0] == "completed"
    assert [one["PoNumber"] for one in org.find(f"SELECT PoNumber FROM Order WHERE Id = '{first['OrderId']}'")] == ["Our 7"]
    assert lines(office)[0]["description"] == "By Friday"


def test_edits_of_two_lines_on_two_sides_both_survive(office: Office, org: Org) -> None:
    done(office)
    first, _ = of(org)
    office.change(
        "UPDATE erp.sales_order_line SET description = 'From stock' WHERE line_number = :n", n=lines(office)[1]["line_number"]
    )
    change(org, first["Id"], Quantity=77)
    assert done(office) == ("completed", 1)
    assert [(one["quantity"] == 77, one["description"]) for one in lines(office)] == [(True, None), (False, "From stock")]
    assert done(office) == ("completed", 0)


def test_an_order_with_more_lines_than_fit_into_one_answer_arrives_whole(office: Office) -> None:
    state = office.sandbox.state
    (line,) = [one for one in state.records["OrderItem"].values() if one["OrderItemNumber"] == "0000000001"]
    known = {name: value for name, value in line.items() if name not in ("Id", "OrderItemNumber")}
    state.insert("OrderItem", [{**known, "OrderItemNumber": f"{at:010d}", "Quantity": float(at)} for at in range(1001, 1601)])
    assert done(office) == ("completed", 20)
    assert len(lines(office)) == 602
    assert lines(office)[-1]["quantity"] == Decimal(1600)


def test_a_relationship_that_is_not_there_is_refused_by_name(office: Office) -> None:
    mapping = """
mapping_name: wrong
source_entity: Order
target_entity: sales_order
mappings:
  - {source: OrderNumber, target: order_number, match: true}
  - {source: AccountId, target: customer_id, reference: {entity: customer, external: Account}}
  - {constant: draft, target: status}
  - {source: EffectiveDate, target: order_date}
  - {constant: USD, target: currency_code}
  - source: OrderLines
    target: lines
    lines:
      - {source: OrderItemNumber, target: line_number, transforms: [to_integer]}
      - {source: Quantity, target: quantity}
"""
    wrong = furnish(
        office.settings, office.database, office.sandbox, office.instance, name="other", mappings_={"Order": mapping}
    )
    assert not wrong.run("Order").success
    assert "Order has no field 'OrderLines'" in wrong.last()["error_message"]


def test_the_standard_price_of_an_item_goes_both_ways(office: Office, org: Org) -> None:
    mapping = resources.files("mappings").joinpath("salesforce", "pricebookentry-item.yaml").read_text("utf-8")
    (book,) = org.find("SELECT Id FROM Pricebook2 WHERE IsStandard = TRUE")
    office.add("PricebookEntry", mapping.replace("01s000000000000AAA", book["Id"]), delete_policy="ignore")
    products = office.syncs["Product2"]
    assert done(office, "PricebookEntry") == ("completed", 10)
    assert office.last()["records_skipped"] >= 10  # those of the partners' price book

    def price(number: str) -> Any:
        return office.rows("SELECT sales_price FROM erp.item WHERE item_number = :n", n=number)[0]["sales_price"]

    def entries(number: str) -> list[Any]:
        query = f"SELECT Id, UnitPrice FROM PricebookEntry WHERE ProductCode = '{number}' AND Pricebook2.IsStandard = TRUE"
        return org.find(query)

    assert price("P00001") == Decimal("1249.50") == entries("P00001")[0]["UnitPrice"]
    org.client.patch(f"/sobjects/PricebookEntry/{entries('P00001')[0]['Id']}", json={"UnitPrice": 1300})
    office.change("UPDATE erp.item SET sales_price = 95.5 WHERE item_number = 'P00009'")
    assert done(office, "PricebookEntry") == ("completed", 2)
    assert (price("P00001"), entries("P00009")[0]["UnitPrice"]) == (Decimal(1300), Decimal("95.5"))
    assert done(office, "PricebookEntry") == ("completed", 0)
    office.change(
        "INSERT INTO erp.item (item_number, name, item_type, sales_price, active) VALUES ('N1', 'New', 'goods', 4.2, true)"
    )
    assert done(office, "PricebookEntry")[0] == "partial"  # its product is not there yet
    office.change("INSERT INTO erp.item (item_number, name, item_type, active) VALUES ('N2', 'No price yet', 'goods', true)")
    office.change("UPDATE sync_configurations SET sync_direction = 'bidirectional' WHERE id = :id", id=products.id)
    assert done(office, "Product2") == ("completed", 2)
    assert done(office, "PricebookEntry") == ("completed", 1)
    assert ([one["UnitPrice"] for one in entries("N1")], entries("N2")) == ([Decimal("4.2")], [])
    office.change("UPDATE erp.item SET sales_price = 7 WHERE item_number = 'N2'")
    assert done(office, "PricebookEntry") == ("completed", 1)
    assert [one["UnitPrice"] for one in entries("N2")] == [Decimal(7)]
    assert done(office, "PricebookEntry") == ("completed", 0)
