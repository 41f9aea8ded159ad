"""Headers of writes that strict services (OData, JSON:API) ask for, and how it is told that they are missing."""

from typing import Any

import httpx
import pytest
from shopping import Visit, create, written

from connector_resources.contract import Outcome
from connector_resources.errors import ContractError
from connector_resources.sandbox.generic import ShopSandbox

CHANGE = {"action": "update", "id": "00000004", "values": {"phone": "1"}}
UPDATE = """\
      method: PATCH
      path: /rest/customers/{id}
      headers: {Idempotency-Key: "{intent}","""


def sent(visit: Visit, step: dict[str, Any], *changes: tuple[str, str]) -> httpx.Headers:
    connector, found = visit("sandbox-rest", *changes), []

    def meddle(request: httpx.Request, _: Any) -> httpx.Response:
        found.append(request.headers)
        return httpx.Response(204)

    connector.http.wire.meddle = meddle
    assert written(connector, step)[0]["outcome"] == Outcome.DONE
    return found[0]


@pytest.mark.parametrize(("version", "said"), [(None, "*"), ("v4", "v4")])
def test_a_write_whatever_the_version_can_say_so(visit: Visit, version: str | None, said: str) -> None:
    """RFC 9110, 13.1.1; OData services answer 428 to a change without it."""
    headers = sent(visit, CHANGE | {"version": version}, (UPDATE, f'      any_version: "*"\n{UPDATE}'))
    assert headers["if-match"] == said
    assert "if-match" not in sent(visit, CHANGE)


def test_a_content_type_of_the_manifest_takes_the_place_of_ours_however_it_is_spelled(visit: Visit) -> None:
    headers = sent(visit, CHANGE, (UPDATE, f"{UPDATE} content-type: application/vnd.api+json,"))
    assert headers.get_list("content-type") == ["application/vnd.api+json"]


@pytest.mark.parametrize(("status", "header"), [(406, "Accept"), (415, "Content-Type"), (428, "If-Match")])
def test_a_header_that_is_missed_is_named(visit: Visit, shop: ShopSandbox, status: int, header: str) -> None:
    shop.faults.add("status", method="PATCH", status=status)
    with pytest.raises(ContractError, match=f"in the header {header} "):
        written(visit(), CHANGE)


@pytest.mark.parametrize(
    ("path", "location", "id_"),
    [
        ("/rest/customers/{id}", "http://x.example/rest/customers/7", "7"),
        ("/rest/customers/{id}", "/rest/customers/a%20b/", "a b"),
        ("/rest/customers/{id}", "/rest/customers/b(7)", "b(7)"),
        ("/rest/customers/{id}", "7%20", "7%20"),  # no URL
        ("/rest/Customers({id})", "http://x.example/rest/Customers(7)", "7"),
        ("/rest/Customers('{id}')", "http://x.example/rest/Customers(%27A-7%27)", "A-7"),
    ],
)
def test_the_id_in_a_header_stands_where_the_paths_have_it(visit: Visit, path: str, location: str, id_: str) -> None:
    """OData's OData-EntityId and Location (Protocol, 8.3.3 and 8.3.4) name a place like Customers(7)."""
    changed = UPDATE.replace("/rest/customers/{id}", path)
    connector = visit("sandbox-rest", (UPDATE, changed), ("      id: id\n", "      id: {header: Location}\n"))
    connector.http.wire.meddle = lambda *_: httpx.Response(204, headers={"Location": location})
    (made,) = written(connector, create())
    assert (made["outcome"], made["id"]) == (Outcome.DONE, id_)
