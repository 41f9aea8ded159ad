"""A record's key that stands in a path, or that the other side repeats in a code, is shown by no error and no log."""

import json
import logging
from typing import Any

import pytest
from orgs import KEYS
from shopping import Visit, create, written
from writing import change, write

from connector_resources.contract import Outcome
from connector_resources.errors import IntegrationError
from connector_resources.sandbox import Sandbox
from connector_resources.sandbox.generic import ShopSandbox

KEY = "kay@example.org"
BATCH = """\
    batch:
      method: POST
      path: /rest/batch
      size: 3
      body: {items: "{items}"}
      item: {action: "{action}", values: "{record}"}
      results: results
      ok: ok
      code: code
    update:
"""
FAILURES: dict[str, dict[str, Any]] = {
    **{f"{status}": {"kind": "status", "status": status} for status in (304, 400, 401, 403, 404, 405, 409, 422, 429, 500)},
    "html": {"kind": "status", "status": 200, "body": "<p>Sign in</p>"},
    "redirects": {"kind": "status", "status": 302, "headers": {"Location": "/rest/orders/kay%40example.org"}},
    "drop": {"kind": "drop"},
    "cut": {"kind": "cut"},
}


def shown(act: Any) -> str:
    """What is told of a failure: as an error, or as the message of a record."""
    try:
        found = act()
    except IntegrationError as problem:
        return str(problem)
    return " ".join(str(one["message"]) for one in found if isinstance(one, dict))


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("act", ["read", "update", "delete"])
def test_a_key_in_a_path_shows_nowhere(
    visit: Visit, shop: ShopSandbox, caplog: pytest.LogCaptureFixture, act: str, failure: str
) -> None:
    caplog.set_level(logging.DEBUG)
    shop.faults.add(times=None, **FAILURES[failure])
    connector = visit()
    orders, values = connector.describe("order"), {"name": "Ann"}
    text = shown(
        (lambda: list(connector.read_ids(orders, ["number"], [KEY])))
        if act == "read"
        else (lambda: written(connector, {"action": act, "id": KEY, "values": values if act == "update" else {}}))
    )
    assert "kay" not in text + caplog.text
    if act == "read" and failure != "404":
        assert "/rest/orders/{id}" in text


@pytest.mark.parametrize(
    ("code", "told"), [("customer 10042 not found", "(customer … not found, "), ("E10042", "(E10042, "), ("ann.lee", "(…, ")]
)
def test_a_code_is_shown_without_the_values_that_it_repeats(visit: Visit, shop: ShopSandbox, code: str, told: str) -> None:
    shop.faults.add("status", status=422, body=json.dumps({"error": {"code": code}}))
    (refused,) = written(visit(), {"action": "update", "id": "10042", "values": {"name": "Ann.Lee"}})
    assert refused["outcome"] == Outcome.REFUSED
    assert told in refused["message"]


def test_neither_do_the_results_of_batches_and_mutations(visit: Visit, shop: ShopSandbox) -> None:
    result = {"ok": False, "code": "no customer 10042"}
    shop.faults.add("status", path="/rest/batch", status=200, body=json.dumps({"results": [result]}))
    known = ("  table:\n", '  table:\n    - {code: "no customer 10042", means: record}\n')
    (refused,) = written(visit("sandbox-rest", ("    update:\n", BATCH), known), create(code="10042"))
    assert "no customer …" in refused["message"]
    wrong = {"code": "taken 10042", "field": ["input", "code of 10042"]}
    answer = {"data": {"createCustomer": {"customer": None, "userErrors": [wrong]}}}
    shop.faults.add("status", status=200, body=json.dumps(answer))
    (refused,) = written(visit("sandbox-graphql"), create(code="10042"))
    assert "(taken …, input.code of …)" in refused["message"]


@pytest.mark.parametrize("failure", [name for name in FAILURES if name != "html"])
def test_an_external_id_shows_nowhere(sandbox: Sandbox, connect: Any, caplog: Any, failure: str) -> None:
    caplog.set_level(logging.DEBUG)
    connector = connect(external_ids=KEYS)
    entity = connector.describe("Account")
    sandbox.faults.add(times=None, path="composite", **FAILURES[failure])
    text = shown(lambda: write(connector, entity, change("create", Name="Ann", ERP_Id__c=KEY)))
    assert "kay" not in text + caplog.text
