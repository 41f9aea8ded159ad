"""A write that is answered with a redirect: never sent twice, told for what it is, and the others go on."""

import json
from typing import Any

import pytest
from shopping import Visit, create, written
from writing import change, write

from connector_resources.contract import Outcome
from connector_resources.errors import ConfigurationError
from connector_resources.salesforce.resource import Salesforce
from connector_resources.sandbox import Sandbox
from connector_resources.sandbox.generic import ShopSandbox

CREATE = '      body: "{record}"\n      id: id\n      version: etag\n'
STRANGE = "https://elsewhere.example/rest/customers/00000003"


def redirected(shop: ShopSandbox, status: int, place: str | None, method: str = "POST") -> None:
    headers = {"Location": place} if place is not None else {}
    shop.faults.add("status", method=method, path="/rest/customers", status=status, headers=headers)


def asked(shop: ShopSandbox) -> list[str]:
    return [f"{request.method} {request.target}" for request in shop.requests]


def test_what_stands_behind_see_other_is_the_result(visit: Visit, shop: ShopSandbox) -> None:
    redirected(shop, 303, "/rest/customers/00000003")
    (made,) = written(visit(), create(code="1"))
    assert (made["outcome"], made["id"], made["version"]) == (Outcome.DONE, "00000003", "v3")
    assert asked(shop) == ["POST /rest/customers", "GET /rest/customers/00000003"]


def test_an_id_in_the_location_of_see_other_is_found(visit: Visit, shop: ShopSandbox) -> None:
    redirected(shop, 303, "/rest/customers/00000003")
    (made,) = written(visit("sandbox-rest", (CREATE, CREATE.replace("id: id", "id: {header: Location}"))), create(code="1"))
    assert (made["outcome"], made["id"]) == (Outcome.DONE, "00000003")


def test_the_conditions_of_a_write_are_none_of_reading_its_result(visit: Visit, shop: ShopSandbox) -> None:
    connector, seen = visit(), []

    def meddle(request: Any, through: Any) -> Any:
        seen.append({name for name in request.headers if name in ("if-match", "idempotency-key", "content-type", "x-api-key")})
        return through(request)

    connector.http.wire.meddle = meddle
    redirected(shop, 303, "/rest/customers/00000003", "PATCH")
    (done,) = written(connector, {"action": "update", "id": "00000004", "version": "v4", "values": {"phone": "1"}})
    assert (done["outcome"], done["version"]) == (Outcome.DONE, "v3")
    assert seen == [{"if-match", "idempotency-key", "content-type", "x-api-key"}, {"x-api-key"}]


@pytest.mark.parametrize(
    ("status", "place", "outcome"),
    [
        (303, "/rest/customers/nobody", Outcome.UNKNOWN),
        (303, "/rest/nothing", Outcome.UNKNOWN),
        (303, STRANGE, Outcome.UNKNOWN),
        (303, None, Outcome.UNKNOWN),
        (304, None, Outcome.UNKNOWN),
        (301, "/rest/customers/00000003", Outcome.UNKNOWN),
        (302, "/rest/customers/00000003", Outcome.UNKNOWN),
        (302, STRANGE, Outcome.UNKNOWN),
        (302, "https://[", Outcome.UNKNOWN),
        (307, "/rest/customers/00000003", Outcome.REFUSED),
        (308, STRANGE, Outcome.REFUSED),
    ],
)
def test_another_redirect_is_not_followed_and_stops_no_other_write(
    visit: Visit, shop: ShopSandbox, status: int, place: str | None, outcome: Outcome
) -> None:
    no_key = ('      headers: {Idempotency-Key: "{intent}"}\n' + CREATE, CREATE)
    redirected(shop, status, place)
    results = written(visit("sandbox-rest", no_key), create(code="1"), create(code="2"))
    assert [one["outcome"] for one in results] == [outcome, Outcome.DONE]
    assert sum(one.startswith("POST") for one in asked(shop)) == 2
    assert STRANGE not in str(results)


def test_a_write_whose_result_cannot_be_read_is_not_sent_again_with_its_key(visit: Visit, shop: ShopSandbox) -> None:
    redirected(shop, 303, "/rest/customers/00000003")
    shop.faults.add("drop", method="GET", times=None)
    (made,) = written(visit(), create(code="1"))
    assert made["outcome"] == Outcome.UNKNOWN
    assert asked(shop) == ["POST /rest/customers", "GET /rest/customers/00000003"]


@pytest.mark.parametrize(("status", "outcome"), [(302, Outcome.UNKNOWN), (308, Outcome.REFUSED)])
def test_a_batch_is_redirected_as_a_whole(visit: Visit, shop: ShopSandbox, status: int, outcome: Outcome) -> None:
    batch = """\
    batch: {method: POST, path: /rest/batch, size: 2, body: {items: "{items}"}, item: {values: "{record}"}, results: results}
    update:
"""
    shop.faults.add("status", path="/rest/batch", status=status, headers={"Location": "/rest/customers"})
    shop.faults.add("status", path="/rest/batch", after=1, status=200, body=json.dumps({"results": [{"id": "7"}]}))
    results = written(visit("sandbox-rest", ("    update:\n", batch)), create(code="1"), create(code="2"), create(code="3"))
    assert [one["outcome"] for one in results] == [outcome, outcome, Outcome.DONE]


def test_a_read_that_is_a_post_is_a_matter_of_the_connectors_url(visit: Visit, shop: ShopSandbox) -> None:
    shop.faults.add("status", path="/graphql", status=302, headers={"Location": STRANGE}, times=None)
    with pytest.raises(ConfigurationError, match=r"redirects a POST from 127\.0\.0\.1 to elsewhere\.example"):
        visit("sandbox-graphql").test()


def test_so_is_a_token_request(visit: Visit, shop: ShopSandbox) -> None:
    shop.faults.add("status", path="/oauth/token", status=303, headers={"Location": "/rest/me"}, times=None)
    with pytest.raises(ConfigurationError, match="redirects a POST"):
        visit(method="oauth2").test()
    assert asked(shop) == ["POST /oauth/token"]


def test_a_redirected_call_of_salesforce_leaves_its_records_unknown(sandbox: Sandbox, keyed: Salesforce) -> None:
    entity = keyed.describe("Account")
    sandbox.faults.add("status", path="/composite", status=303, headers={"Location": "/services/data/"})
    (found,) = write(keyed, entity, change("create", Name="Acme", ERP_Id__c="1"))
    assert found["outcome"] == Outcome.UNKNOWN
