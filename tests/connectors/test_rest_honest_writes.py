"""What was written counts as written, what was not does not, and what nobody knows is unknown."""

import json
from typing import Any

import pytest
from shopping import Visit, create, written

from connector_resources.contract import Outcome
from connector_resources.errors import ConfigurationError
from connector_resources.sandbox.generic import ShopSandbox

BATCH = """\
    batch:
      method: POST
      path: /rest/batch
      size: 3
      body: {items: "{items}"}
      item: {action: "{action}", values: "{record}"}
      results: results
      id: id
      ok: ok
    update:
"""
UPDATE = '      headers: {Idempotency-Key: "{intent}", If-Match: "{version}"}\n      body: "{record}"\n'
CREATE = 'headers: {Idempotency-Key: "{intent}"}\n      body: "{record}"\n      id: id\n'


@pytest.mark.parametrize(
    ("ok", "outcome"),
    [
        (True, Outcome.DONE),
        ("true", Outcome.DONE),
        (1, Outcome.DONE),
        ("1", Outcome.DONE),
        (False, Outcome.REFUSED),
        ("false", Outcome.REFUSED),
        (0, Outcome.REFUSED),
        (None, Outcome.REFUSED),
        ("success", Outcome.UNKNOWN),
        ([], Outcome.UNKNOWN),
    ],
)
def test_a_yes_is_a_yes_however_it_is_spelt(visit: Visit, shop: ShopSandbox, ok: Any, outcome: Outcome) -> None:
    shop.faults.add("status", status=200, path="/rest/batch", body=json.dumps({"results": [{"ok": ok, "id": "77"}]}))
    (result,) = written(visit("sandbox-rest", ("    update:\n", BATCH)), create(code="1"))
    assert result["outcome"] == outcome
    assert (result["id"] == "77") is (outcome is Outcome.DONE)


@pytest.mark.parametrize("values", [{"phone": "1"}, {"phone": None, "code": "7"}])
def test_a_text_that_would_be_left_out_with_one_of_its_values_is_refused(
    visit: Visit, shop: ShopSandbox, values: dict[str, Any]
) -> None:
    composed = UPDATE.replace('"{record}"', '{notes: "{record.code} / {record.phone}"}')
    connector = visit("sandbox-rest", (UPDATE, composed))
    (result,) = written(connector, {"action": "update", "id": "00000004", "version": "v4", "values": values})
    assert result["outcome"] == Outcome.REFUSED
    assert "'{record.code} / {record.phone}' is left out" in result["message"]
    assert shop.requests == []


def test_a_value_is_not_written_where_the_stamp_goes(visit: Visit) -> None:
    stamped = CREATE.replace('headers: {Idempotency-Key: "{intent}"}\n      ', "") + "      stamp: notes\n"
    probe = '    probe: {path: /rest/customers, params: {notes: "{intent}"}, records: items}\n    update:\n'
    connector = visit("sandbox-rest", (CREATE, stamped), ("    update:\n", probe))
    results = written(connector, create(notes="Deliver to the back door"), create(code="1"))
    assert [one["outcome"] for one in results] == [Outcome.REFUSED, Outcome.DONE]
    assert "stamps notes" in results[0]["message"]


def test_a_header_that_cannot_be_sent_concerns_its_record_alone(visit: Visit) -> None:
    named = CREATE.replace('"{intent}"}', '"{intent}", X-Name: "{record.name}"}')
    steps = [{"action": "create", "values": {"name": name}} for name in ("Ann", "M\u00fcller", "Bob")]
    results = written(visit("sandbox-rest", (CREATE, named)), *steps)
    assert [one["outcome"] for one in results] == [Outcome.DONE, Outcome.REFUSED, Outcome.DONE]
    assert "header X-Name" in results[1]["message"]


def test_one_record_that_is_gone_hides_no_other(visit: Visit, shop: ShopSandbox) -> None:
    """Some APIs answer 404 for all of a list when one of it is not there."""
    shop.faults.add("status", status=404, path="/rest/customers", times=2)
    connector = visit("sandbox-rest")
    entity = connector.describe("customer")
    found = [
        str(one)
        for page in connector.read_ids(entity, ["name"], ["00000001", "00000002", "00000003"])
        for one in page.records.index
    ]
    assert set(found) >= {"00000002", "00000003"}


def test_no_writable_field_stands_inside_another_one(visit: Visit) -> None:
    with pytest.raises(
        ConfigurationError, match="it is written inside the place of 'address': one of the two needs 'writable: f"
    ):
        visit("sandbox-rest", ("path: address.city, writable: false", "path: address.city"))


@pytest.mark.parametrize(
    ("place", "sentence"), [("idd", "no id at idd"), ("{header: X-Id}", "no id at X-Id")], ids=["in the body", "in a header"]
)
def test_a_create_that_tells_no_id_where_the_manifest_looks_says_so(
    visit: Visit, shop: ShopSandbox, place: str, sentence: str
) -> None:
    count = len(shop.state.records["customers"])
    wrong = ('"{record}"\n      id: id\n', f'"{{record}}"\n      id: {place}\n')
    (made,) = written(visit("sandbox-rest", wrong), create(code="8"))
    assert (made["outcome"], len(shop.state.records["customers"])) == (Outcome.UNKNOWN, count + 1)
    assert f"answered a create, and told {sentence}: check its `id` in the manifest." in made["message"]
