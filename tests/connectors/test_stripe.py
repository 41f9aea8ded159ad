"""The worked example for Stripe, against answers as its API reference shows them."""

from typing import Any

from shopping import Visit

from connector_resources.sandbox.generic import ShopSandbox


def read_by_id(visit: Visit, shop: ShopSandbox, body: dict[str, Any]) -> Any:
    shop.faults.add("status", path="/v1/customers/cus_7", status=200, body=body)
    connector = visit("stripe")
    return list(connector.read_ids(connector.describe("customer"), ["name", "email"], ["cus_7"]))


def test_a_customer_that_was_deleted_is_told_as_deleted(visit: Visit, shop: ShopSandbox) -> None:
    (page,) = read_by_id(visit, shop, {"id": "cus_7", "object": "customer", "deleted": True})
    assert list(page.records.index) == ["cus_7"]
    assert page.marks["deleted"].tolist() == [True]
    assert page.absent.all(axis=None)


def test_a_customer_that_is_there_is_not(visit: Visit, shop: ShopSandbox) -> None:
    (page,) = read_by_id(visit, shop, {"id": "cus_7", "object": "customer", "name": "Ann", "email": None})
    assert page.marks["deleted"].tolist() == [False]


def test_lists_of_customers_are_not_said_to_tell_deletions(visit: Visit) -> None:
    assert not visit("stripe").manifest.capabilities.deletes
