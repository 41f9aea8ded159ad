"""Ids and versions that are integers on the other side: a GraphQL variable of type Int takes no text, nor does strict JSON."""

import json
from typing import Any

import httpx
import pytest
from shopping import Visit, rows, written

from connector_resources.contract import Outcome

KEY = "id: {type: string, personal: false, nullable: false, computed: true}"
VERSION = ("    version: etag\n", "    version: points\n")
ANSWER = {"customersByIds": [{"id": 7, "points": 3}], "updateCustomer": {"customer": {"etag": 4}, "userErrors": []}}


def said(visit: Visit, key: str) -> tuple[Any, Any]:
    """What a read by ids and an update say: their variables."""
    connector, sent = visit("sandbox-graphql", (KEY, key), VERSION), []

    def meddle(request: httpx.Request, _: Any) -> httpx.Response:
        sent.append(json.loads(request.content)["variables"])
        return httpx.Response(200, json={"data": ANSWER})

    connector.http.wire.meddle = meddle
    found = rows(connector.read_ids(connector.describe("customer"), ["points"], ["7", "12"]))
    assert found == {"7": {"points": 3}}
    (one,) = written(connector, {"action": "update", "id": "7", "version": "3", "values": {"phone": "1"}})
    assert (one["outcome"], one["id"], one["version"]) == (Outcome.DONE, "7", "4")
    read, update = sent
    return read["ids"], (update["id"], update["version"])


def test_a_key_and_a_version_that_are_integers_are_said_as_numbers(visit: Visit) -> None:
    assert said(visit, KEY.replace("string", "integer")) == ([7, 12], (7, 3))


@pytest.mark.parametrize("more", ["send: text", "lenient: true"])
def test_a_key_whose_integers_are_texts_over_there_is_said_as_text(visit: Visit, more: str) -> None:
    assert said(visit, KEY.replace("string", f"integer, {more}")) == (["7", "12"], ("7", 3))
