"""The made-up shop, by REST, GraphQL and SOAP, in both directions: connectors that consist of a manifest."""

from collections.abc import Iterator
from decimal import Decimal
from importlib import resources
from typing import Any
from uuid import UUID

import dagster as dg
import pytest

from connector_resources.sandbox.generic import ShopSandbox
from integration_pipelines.cli_connector import store_mapping
from integration_pipelines.orchestration.launch import Finished, run_now
from integration_pipelines.settings import Settings
from integration_pipelines.store import connectors, syncs, tenants
from integration_pipelines.store.database import Database

AUTH = {"rest": "api_key", "graphql": "oauth2", "soap": "basic"}


@pytest.fixture
def shop() -> Iterator[ShopSandbox]:
    with ShopSandbox(customers=40) as opened:
        yield opened


class Store:
    """A tenant with a two-way sync of the shop's customers."""

    def __init__(self, database: Database, instance: dg.DagsterInstance, shop: ShopSandbox, kind: str) -> None:
        self.database, self.instance = database, instance
        self.tenant: UUID = tenants.create(database, "acme")
        text = (resources.files("mappings") / "sandbox" / "customer-customer.yaml").read_text("utf-8")
        if kind == "soap":  # its records are flat, and know less
            kept = [line for line in text.splitlines() if "zip" not in line and "country" not in line]
            text = "\n".join(kept).replace("source: address.", "source: ")
        with database.tenant(self.tenant) as scope:
            row = connectors.create(
                scope,
                name="Shop",
                connector_type=f"sandbox-{kind}",
                url=shop.url,
                authentication_method=AUTH[kind],
                credentials=shop.credentials,
                user=tenants.first_user(scope),
            )
            self.connector_id = row.id
        self.sync = self.add(text, "Customers")

    def add(self, text: str, name: str) -> syncs.SyncConfig:
        with self.database.tenant(self.tenant) as scope:
            mapping = store_mapping(scope, text, "test.yaml", "test")
            return syncs.create(
                scope,
                connector_id=self.connector_id,
                name=name,
                mapping_id=mapping.id,
                direction="bidirectional",
                actor="test",
            )

    def run(self, sync: syncs.SyncConfig | None = None) -> Finished:
        return run_now(self.instance, (sync or self.sync).id)

    def rows(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        with self.database.tenant(self.tenant) as scope:
            return [dict(row) for row in scope.rows(sql, **values)]

    def change(self, sql: str) -> None:
        with self.database.tenant(self.tenant) as scope:
            scope.run(sql)

    def last(self) -> dict[str, Any]:
        return self.rows("SELECT * FROM sync_history ORDER BY id DESC LIMIT 1")[0]


def coded(shop: ShopSandbox, code: str) -> list[dict[str, Any]]:
    return [one for one in shop.state.records["customers"].values() if one["code"] == code]


@pytest.mark.parametrize("kind", ["rest", "graphql", "soap"])
@pytest.mark.parametrize("fault", ["lose", "drop", ""])
def test_the_shops_customers_are_kept_in_step(
    settings: Settings, database: Database, instance: dg.DagsterInstance, shop: ShopSandbox, kind: str, fault: Any
) -> None:
    assert settings.home
    store = Store(database, instance, shop, kind)
    assert store.run().success
    assert store.last()["records_failed"] == 0
    store.change(  # before the insert: an id made by chance may be the least one
        "UPDATE erp.customer SET phone = '0099' WHERE id = (SELECT min(id::text)::uuid FROM erp.customer WHERE active)"
    )
    store.change("INSERT INTO erp.customer (name, customer_number, phone) VALUES ('Made in the ERP', 'E-0007', '00420')")
    if fault:
        shop.faults.add(fault, method="POST", path="rest/customers$|graphql|soap", after=0, times=1)
    assert store.run().success, store.last()
    assert store.rows("SELECT error_message FROM sync_errors WHERE NOT is_resolved") == []
    (made,) = coded(shop, "E-0007")
    assert (made["name"], made["phone"]) == ("Made in the ERP", "00420")
    assert sum(one.get("phone") == "0099" for one in shop.state.records["customers"].values()) == 1
    assert store.run().success
    assert store.last()["records_succeeded"] == 0


def test_a_creation_that_is_still_under_way_when_it_is_sent_again_is_made_once(
    settings: Settings, database: Database, instance: dg.DagsterInstance, shop: ShopSandbox
) -> None:
    assert settings.home
    store = Store(database, instance, shop, "rest")
    assert store.run().success
    store.change("INSERT INTO erp.customer (name, customer_number) VALUES ('Made in the ERP', 'E-0007')")
    place = {"method": "POST", "path": "rest/customers$"}
    shop.faults.add("lose", **place)
    shop.faults.add("status", **place, after=1, status=409, body='{"error": {"code": "in_progress"}}', times=None)
    assert not store.run().success
    assert "takes only some of the writes for now" in store.last()["error_message"]
    shop.faults.clear()
    assert store.run().success
    assert len(coded(shop, "E-0007")) == 1
    assert store.rows("SELECT * FROM sync_errors WHERE NOT is_resolved") == []


def test_orders_travel_with_their_lines_in_both_directions(
    settings: Settings, database: Database, instance: dg.DagsterInstance, shop: ShopSandbox
) -> None:
    assert settings.home
    store = Store(database, instance, shop, "rest")
    orders = store.add((resources.files("mappings") / "sandbox" / "order-sales_order.yaml").read_text("utf-8"), "Orders")
    assert store.run().success
    assert store.run(orders).success
    assert (store.last()["sync_status"], store.last()["records_succeeded"]) == ("completed", len(shop.state.records["orders"]))
    of = "WHERE sales_order_id = (SELECT id FROM erp.sales_order WHERE order_number = '000003')"
    store.change(f"UPDATE erp.sales_order_line SET quantity = 77 {of} AND line_number = 1")
    store.change(f"DELETE FROM erp.sales_order_line {of} AND line_number = 2")
    store.change(
        """INSERT INTO erp.sales_order (order_number, customer_id, order_date, currency_code, status)
           SELECT 'E-1', customer_id, order_date, 'EUR', 'draft' FROM erp.sales_order WHERE order_number = '000003'"""
    )
    store.change(
        """INSERT INTO erp.sales_order_line (sales_order_id, line_number, quantity, unit_price)
           SELECT id, 12, 3, 9.99 FROM erp.sales_order WHERE order_number = 'E-1'"""
    )
    assert store.run(orders).success
    assert (store.last()["sync_status"], store.last()["records_succeeded"]) == ("completed", 2)
    found = {one["number"]: one for one in shop.state.records["orders"].values() if not one["deleted"]}
    assert [(line["sku"], line["quantity"]) for line in found["000003"]["lines"]][1] == ("0001", 77)
    assert len(found["000003"]["lines"]) == 2
    assert [dict(line) for line in found["E-1"]["lines"]] == [{"sku": "0012", "quantity": 3, "price": Decimal("9.99")}]
    assert store.run(orders).success
    assert store.last()["records_succeeded"] == 0
