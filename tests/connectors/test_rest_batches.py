"""Batch endpoints of a REST manifest: several records in one call, with an answer for each of them."""

import pytest
from shopping import Visit, create, written

from connector_resources.contract import Outcome
from connector_resources.errors import AuthenticationError, ContractError
from connector_resources.sandbox.generic import ShopSandbox

BATCH = """\
    batch:
      method: POST
      path: /rest/batch
      size: 3
      body: {items: "{items}"}
      item: {action: "{action}", id: "{id}", version: "{version}", key: "{intent}", values: "{record}"}
      results: results
      id: id
      version: etag
      status: status
      code: error.code
    update:
"""


def test_a_batch_answers_for_each_record(visit: Visit, shop: ShopSandbox) -> None:
    connector = visit("sandbox-rest", ("    update:\n", BATCH))
    assert type(connector).capabilities.batch_size == 3
    results = written(
        connector,
        create(code="1"),
        create(email="nobody"),
        {"action": "update", "id": "00000004", "version": "v0", "values": {"phone": "1"}},
        {"action": "delete", "id": "77777777"},
        {"action": "update", "id": "00000006", "version": "v6", "values": {"phone": "1"}},
    )
    assert [one["outcome"] for one in results] == [
        Outcome.DONE, Outcome.REFUSED, Outcome.MOVED, Outcome.DONE, Outcome.DONE,
    ]  # fmt: skip
    assert "(invalid_email, status 422)" in results[1]["message"]
    assert [request.target for request in shop.requests] == ["/rest/batch"] * 2


def test_a_field_that_an_item_leaves_out_does_not_count_as_written(visit: Visit, shop: ShopSandbox) -> None:
    connector = visit("sandbox-rest", ("    update:\n", BATCH.replace('"{record}"', '{name: "{record.name}"}')))
    results = written(connector, create(code="1"), {"action": "create", "values": {"name": "Ann"}})
    assert [one["outcome"] for one in results] == [Outcome.REFUSED, Outcome.DONE]
    assert "create of customer does not say {record.code}" in results[0]["message"]
    assert len(shop.requests) == 1


@pytest.mark.parametrize(("status", "kind"), [(400, ContractError), (403, AuthenticationError), (413, ContractError)])
def test_a_batch_that_is_refused_as_a_whole_is_an_error_and_not_a_riddle(
    visit: Visit, shop: ShopSandbox, status: int, kind: type[Exception]
) -> None:
    shop.faults.add("status", status=status, path="/rest/batch")
    with pytest.raises(kind):
        written(visit("sandbox-rest", ("    update:\n", BATCH)), create(code="1"))


@pytest.mark.parametrize("body", ["<html/>", '{"results": []}', "{}"])
def test_a_batch_whose_answer_is_nonsense_may_have_been_carried_out(visit: Visit, shop: ShopSandbox, body: str) -> None:
    shop.faults.add("status", status=200, body=body, path="/rest/batch")
    results = written(visit("sandbox-rest", ("    update:\n", BATCH)), create(code="1"), create(code="2"))
    assert [one["outcome"] for one in results] == [Outcome.UNKNOWN] * 2


def test_a_batch_whose_answer_is_lost_is_carried_out_once(visit: Visit, shop: ShopSandbox) -> None:
    count = len(shop.state.records["customers"])
    shop.faults.add("lose", path="/rest/batch")
    results = written(visit("sandbox-rest", ("    update:\n", BATCH)), create(code="1"), create(code="2"))
    assert [one["outcome"] for one in results] == [Outcome.DONE] * 2
    assert len(shop.state.records["customers"]) == count + 2
