"""Writing through a REST manifest: results record by record, keys, versions, batches, lost answers and what a probe finds."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pandas as pd
import pytest
from shopping import Visit, changes, create, read, written

from connector_resources.contract import Changes, Outcome
from connector_resources.errors import ConfigurationError, NetworkError, RateLimited
from connector_resources.sandbox.generic import ShopSandbox

CREATE_KEY = '      headers: {Idempotency-Key: "{intent}"}\n      body: "{record}"\n      id: id\n'
NO_KEY = CREATE_KEY.replace('      headers: {Idempotency-Key: "{intent}"}\n', "")
STAMP = (CREATE_KEY, f"{NO_KEY}      stamp: stamp\n")
PROBE = ("    update:\n", '    probe: {path: /rest/customers, params: {stamp: "{intent}"}, records: items}\n    update:\n')
UPDATE_KEY = 'headers: {Idempotency-Key: "{intent}", If-Match: "{version}"}\n      body'
UPDATE_PLAIN = (UPDATE_KEY, 'headers: {If-Match: "{version}"}\n      body')
ORDER_WRITES = """\
    create: {method: POST, path: /rest/orders, headers: {Idempotency-Key: "{intent}"}, body: "{record}", id: id, version: etag}
    update:  # the lines of an order as a whole
      {method: PATCH, path: "/rest/orders/{id}", headers: {Idempotency-Key: "{intent}", If-Match: "{version}"},
      body: "{record}", version: etag}
"""
UPSERT_CALL = '{method: PUT, path: "/rest/customers/by-reference/{key}", body: "{record}", id: id, version: etag}'
UPSERT = ("    update:\n", f"    upsert: {UPSERT_CALL}\n    update:\n")
DELETE_KEY = (
    'path: /rest/customers/{id}\n      headers: {Idempotency-Key: "{intent}", If-Match: "{version}"}\n  order',
    "path: /rest/customers/{id}\n  order",
)
FORM = ("      path: /rest/customers\n      headers", "      path: /rest/customers\n      encode: form\n      headers")
VALUES = {
    "code": "00077",
    "name": "Ünï GmbH 🎈",
    "balance": Decimal("90071992547409.93"),
    "points": 2**62,
    "active": True,
    "born": date(1999, 12, 31),
    "opened": datetime(2024, 2, 29, 23, 59, 59, 123000, tzinfo=UTC),
    "address": '{"city":"Köln","zip":"05067"}',
    "phone": None,
}


def listened(connector: Any) -> list[bytes]:
    """The bodies that it will send."""
    bodies: list[bytes] = []
    whole = connector.http.send

    def send(*given: Any, **named: Any) -> Any:
        bodies.append(named["content"])
        return whole(*given, **named)

    connector.http.send = send
    return bodies


def test_what_is_written_is_what_is_read_back(visit: Visit) -> None:
    connector = visit()
    (made,) = written(connector, {"action": "create", "values": VALUES})
    assert made["outcome"] == Outcome.DONE
    found = read(connector)[made["id"]]
    assert {name: found[name] for name in VALUES} == VALUES
    entity = connector.describe("customer")
    (page,) = connector.read_ids(entity, ["name"], [made["id"]])
    assert page.marks["version"].iloc[0] == made["version"]


def test_only_the_fields_that_are_written_change(visit: Visit, shop: ShopSandbox) -> None:
    before = dict(shop.state.records["customers"]["00000003"])
    (done,) = written(visit(), {"action": "update", "id": "00000003", "version": "v3", "values": {"phone": None}})
    after = shop.state.records["customers"]["00000003"]
    assert (done["outcome"], done["version"], after["phone"]) == (Outcome.DONE, after["etag"], None)
    assert {n: v for n, v in after.items() if v != before[n]}.keys() <= {"phone", "etag", "updated_at"}


def test_one_refused_record_does_not_stop_the_others(visit: Visit, shop: ShopSandbox) -> None:
    results = written(
        visit(),
        create(code="1"),
        create(email="nobody"),
        {"action": "update", "id": "00000004", "version": "v0", "values": {"phone": "1"}},
        {"action": "update", "id": "77777777", "values": {"phone": "1"}},
        {"action": "delete", "id": "77777777"},
        {"action": "delete", "id": "00000005", "version": "v5"},
        create(code="2"),
    )
    assert [one["outcome"] for one in results] == [
        Outcome.DONE, Outcome.REFUSED, Outcome.MOVED, Outcome.REFUSED, Outcome.DONE, Outcome.DONE, Outcome.DONE,
    ]  # fmt: skip
    assert results[1]["message"] == (
        "Sandbox shop does not take this record; correct it where it comes from (invalid_email, status 422, /rest/customers)."
    )
    assert "has changed since it was read" in results[2]["message"]
    assert shop.state.records["customers"]["00000005"]["deleted"]


@pytest.mark.parametrize("fault", ["lose", "cut", "drop"])
@pytest.mark.parametrize("action", ["create", "update", "delete"])
def test_a_write_with_a_key_is_made_once_however_its_answer_is_lost(
    visit: Visit, shop: ShopSandbox, fault: Any, action: str
) -> None:
    shop.faults.add(fault, method="POST|PATCH|DELETE", times=2)
    count = len(shop.state.records["customers"])
    step = create(code="9") if action == "create" else {"action": action, "id": "00000003", "version": "v3", "values": {}}
    if action == "update":
        step["values"] = {"phone": "9"}
    (done,) = written(visit(), step)
    assert done["outcome"] == Outcome.DONE
    assert len(shop.state.records["customers"]) - count == (action == "create")


def test_an_edit_between_the_lost_answer_and_the_second_try_is_kept(visit: Visit, shop: ShopSandbox) -> None:
    connector = visit()
    step = {"action": "update", "id": "00000003", "version": "v3", "values": {"phone": "ours"}, "intent": str(uuid4())}
    shop.faults.add("lose", method="PATCH", times=None)
    assert written(connector, step)[0]["outcome"] == Outcome.UNKNOWN
    shop.faults.clear()
    shop.state.update("customers", "00000003", {"phone": "theirs"})
    assert written(connector, step, probe=True)[0]["outcome"] == Outcome.ABSENT  # the key makes it safe to send again
    assert written(connector, step)[0]["outcome"] == Outcome.DONE
    assert shop.state.records["customers"]["00000003"]["phone"] == "theirs"


def test_a_refusal_of_the_second_time_alone_tells_nothing_about_the_first(visit: Visit, shop: ShopSandbox) -> None:
    connector, count = visit(), len(shop.state.records["customers"])
    step = create(code="9") | {"intent": str(uuid4())}
    shop.faults.add("lose", method="POST")
    shop.faults.add("status", method="POST", after=1, status=409, body='{"error": {"code": "in_progress"}}')
    assert written(connector, step)[0]["outcome"] == Outcome.UNKNOWN
    assert written(connector, step, probe=True)[0]["outcome"] == Outcome.ABSENT  # the key makes it safe to send again
    assert written(connector, step)[0]["outcome"] == Outcome.DONE
    assert len(shop.state.records["customers"]) == count + 1


def test_a_create_that_is_refused_as_taken_has_not_changed_since_it_was_read(visit: Visit, shop: ShopSandbox) -> None:
    taken = {"method": "POST", "status": 409, "body": '{"error": {"code": "duplicate"}}'}
    shop.faults.add("status", **taken)
    (one,) = written(visit(), create(code="9"))
    told = "Sandbox shop has a record like it already, or is at work on one (duplicate, status 409, /rest/customers)."
    assert (one["outcome"], one["message"]) == (Outcome.MOVED, told)


def test_a_phone_that_is_set_to_a_then_b_then_a_arrives_as_a(visit: Visit, shop: ShopSandbox) -> None:
    for phone in ("A", "B", "A"):
        assert (
            written(visit(), {"action": "update", "id": "00000003", "values": {"phone": phone}})[0]["outcome"] == Outcome.DONE
        )
    assert shop.state.records["customers"]["00000003"]["phone"] == "A"


def test_a_field_that_the_request_leaves_out_does_not_count_as_written(visit: Visit, shop: ShopSandbox) -> None:
    update = ('"{version}"}\n      body: "{record}"', '"{version}"}\n      body: {phone: "{record.phone}"}')
    both, phone = ({"action": "update", "id": f"0000000{at}", "values": {"phone": "A"}} for at in (3, 4))
    both["values"] = {"phone": "A", "code": "7"}
    results = written(visit("sandbox-rest", update), both, phone)
    assert [one["outcome"] for one in results] == [Outcome.REFUSED, Outcome.DONE]
    assert "update of customer does not say {record.code}: add it there, or map code inbound only" in results[0]["message"]
    told = shop.state.records["customers"]
    assert (told["00000003"]["phone"] == "A", told["00000004"]["phone"] == "A") == (False, True)


def test_without_a_key_a_lost_create_is_sent_once_and_found_by_its_stamp(visit: Visit, shop: ShopSandbox) -> None:
    connector, count = visit("sandbox-rest", STAMP, PROBE, (ORDER_WRITES, "")), len(shop.state.records["customers"])
    assert type(connector).capabilities.idempotency == "probe_field"
    arrived, lost = create(code="8"), create(code="9")
    shop.faults.add("lose", method="POST")
    assert written(connector, arrived)[0]["outcome"] == Outcome.UNKNOWN
    shop.faults.add("drop", method="POST")
    assert written(connector, lost)[0]["outcome"] == Outcome.UNKNOWN
    found = written(connector, arrived, lost, probe=True)
    assert [one["outcome"] for one in found] == [Outcome.DONE, Outcome.ABSENT]
    assert shop.state.records["customers"][found[0]["id"]]["code"] == "8"
    assert found[0]["version"] == shop.state.records["customers"][found[0]["id"]]["etag"]
    assert len(shop.state.records["customers"]) == count + 1


def test_a_natural_key_finds_a_lost_create_again(visit: Visit, shop: ShopSandbox) -> None:
    probe = '    probe: {path: /rest/customers, params: {reference: "{record.reference}"}, records: items}\n    update:\n'
    connector = visit("sandbox-rest", (CREATE_KEY, NO_KEY), ("    update:\n", probe))
    arrived, lost, twin = create(reference="ours-1"), create(reference="ours-2"), create(reference="REF-9")
    shop.faults.add("lose", method="POST")
    shop.faults.add("drop", method="POST", after=1, times=2)
    assert {one["outcome"] for one in written(connector, arrived, lost, twin)} == {Outcome.UNKNOWN}
    found = written(connector, arrived, lost, twin, probe=True)
    assert [one["outcome"] for one in found] == [Outcome.DONE, Outcome.ABSENT, Outcome.DONE]
    assert found[2]["id"] == "00000009"


def test_a_search_that_looks_in_the_wrong_place_does_not_call_a_record_absent(visit: Visit, shop: ShopSandbox) -> None:
    wrong = (PROBE[0], PROBE[1].replace("records: items", "records: itmes"))
    connector = visit("sandbox-rest", STAMP, wrong, (ORDER_WRITES, ""))
    step = create(code="8")
    shop.faults.add("lose", method="POST")
    assert written(connector, step)[0]["outcome"] == Outcome.UNKNOWN
    (found,) = written(connector, step, probe=True)
    assert found["outcome"] == Outcome.UNKNOWN
    assert "the answer to its `probe` has no list of records at itmes: check the manifest" in found["message"]


@pytest.mark.parametrize(
    "search",
    [
        'path: /rest/customers, params: {reference: "{record.reference}", limit: 1}',
        'path: "/rest/customers/{record.reference}"',
    ],
    ids=["in a parameter", "in the path"],
)
def test_a_search_for_nothing_finds_no_other_record(visit: Visit, shop: ShopSandbox, search: str) -> None:
    probe = f"    probe: {{{search}, records: items}}\n    update:\n"
    connector = visit("sandbox-rest", (CREATE_KEY, NO_KEY), ("    update:\n", probe))
    step = create(code="8")  # it has no reference
    shop.faults.add("lose", method="POST")
    assert written(connector, step)[0]["outcome"] == Outcome.UNKNOWN
    assert written(connector, step, probe=True)[0]["outcome"] == Outcome.UNKNOWN


def test_an_upsert_that_is_sent_twice_makes_one_record(visit: Visit, shop: ShopSandbox) -> None:
    connector, count = visit("sandbox-rest", UPSERT), len(shop.state.records["customers"])
    step = create(reference="ours-1")
    shop.faults.add("lose", method="PUT", times=2)
    assert written(connector, step)[0]["outcome"] == Outcome.DONE
    assert written(connector, step)[0]["outcome"] == Outcome.DONE
    assert len(shop.state.records["customers"]) == count + 1
    assert written(connector, create())[0]["message"] == "It has no reference, by which it is recognised."


@pytest.mark.parametrize(
    ("fault", "edit", "expected"),
    [
        ("lose", None, Outcome.DONE),
        ("drop", None, Outcome.ABSENT),
        ("lose", {"name": "Other"}, Outcome.DONE),
        ("drop", {"phone": "theirs"}, Outcome.UNKNOWN),
    ],
    ids=["arrived", "never arrived", "arrived, then edited elsewhere", "edited instead"],
)
def test_a_probe_of_an_update_without_a_key_looks_at_the_record(
    visit: Visit, shop: ShopSandbox, fault: Any, edit: dict[str, Any] | None, expected: Outcome
) -> None:
    connector = visit("sandbox-rest", UPDATE_PLAIN)
    step = {"action": "update", "id": "00000003", "version": "v3", "values": {"phone": "ours"}}
    shop.faults.add(fault, method="PATCH")
    assert written(connector, step)[0]["outcome"] == Outcome.UNKNOWN
    if edit:
        shop.state.update("customers", "00000003", edit)
    (found,) = written(connector, step, probe=True)
    assert found["outcome"] == expected


@pytest.mark.parametrize(("fault", "expected"), [("lose", Outcome.DONE), ("drop", Outcome.ABSENT)])
def test_a_probe_of_a_delete_looks_whether_the_record_is_gone(
    visit: Visit, shop: ShopSandbox, fault: Any, expected: Outcome
) -> None:
    connector = visit("sandbox-rest", DELETE_KEY)
    shop.faults.add(fault, method="DELETE")
    step = {"action": "delete", "id": "00000003"}
    assert written(connector, step)[0]["outcome"] == Outcome.UNKNOWN
    assert written(connector, step, probe=True)[0]["outcome"] == expected


def test_what_was_not_sent_is_known_to_be_absent(visit: Visit, shop: ShopSandbox) -> None:
    shop.faults.add("status", status=429, headers={"Retry-After": "99"}, method="POST", after=1, times=None)
    results = written(visit(), create(code="1"), create(code="2"), create(code="3"))
    assert [one["outcome"] for one in results] == [Outcome.DONE, Outcome.ABSENT, Outcome.ABSENT]
    assert "was not sent" in results[2]["message"]
    with pytest.raises(RateLimited):
        written(visit(), create(code="4"))


def test_what_may_have_arrived_before_the_refusal_is_looked_up(visit: Visit, shop: ShopSandbox) -> None:
    shop.faults.add("lose", method="POST", after=1, times=1)
    shop.faults.add("status", status=429, headers={"Retry-After": "99"}, method="POST", after=1, times=None)
    results = written(visit(), create(code="1"), create(code="2"), create(code="3"))
    assert [one["outcome"] for one in results] == [Outcome.DONE, Outcome.UNKNOWN, Outcome.ABSENT]


def test_nothing_is_sent_where_nobody_can_be_reached(visit: Visit) -> None:
    with ShopSandbox(customers=0, orders=0) as gone:
        url = gone.url
    with pytest.raises(NetworkError):
        written(visit(url=url), create())


def test_an_answer_that_is_nonsense_may_belong_to_a_write_that_was_made(visit: Visit, shop: ShopSandbox) -> None:
    shop.faults.add("status", status=200, body="<html>Sign in</html>", method="POST")
    assert written(visit(), create())[0]["outcome"] == Outcome.UNKNOWN
    shop.faults.add("status", status=200, body="{}", method="POST")
    assert written(visit(), create())[0]["outcome"] == Outcome.UNKNOWN


def test_what_cannot_be_written_at_all_is_said_before_anything_is_sent(visit: Visit, shop: ShopSandbox) -> None:
    connector = visit()
    with pytest.raises(ConfigurationError, match=r"does not let customer\.city be written"):
        written(connector, create(code="1"), create(city="Ulm"))
    orders = connector.describe("order")
    with pytest.raises(ConfigurationError, match="describes no delete of order"):
        connector.write(orders, changes(orders, {"action": "delete", "id": "1", "values": {}}))
    assert shop.requests == []


def test_nothing_to_write_is_written_as_nothing(visit: Visit) -> None:
    connector = visit()
    entity = connector.describe("customer")
    empty = changes(entity)
    assert isinstance(empty, Changes)
    assert isinstance(connector.write(entity, empty), pd.DataFrame)
    assert len(connector.write(entity, empty)) == 0


@pytest.mark.parametrize(
    ("declared", "value", "sent"),
    [
        ("balance: {type: decimal, scale: 2, send: text, personal: false}", Decimal("1.50"), '"balance":"1.50"'),
        ("balance: {type: decimal, scale: 2, personal: false}", Decimal("1.50"), '"balance":1.50'),
        ("balance: {type: instant, format: seconds}", datetime(2024, 5, 6, 7, 8, 8, tzinfo=UTC), '"balance":1714979288'),
        ("balance: {type: instant, format: millis}", datetime(2024, 5, 6, 7, 8, 8, tzinfo=UTC), '"balance":1714979288000'),
        ('balance: {type: date, format: "%d.%m.%Y"}', date(2024, 5, 6), '"balance":"06.05.2024"'),
        ("balance: {type: decimal, scale: 2, write_path: money.amount}", Decimal("1.50"), '"money":{"amount":1.50}'),
    ],
    ids=["text", "number", "seconds", "millis", "pattern", "elsewhere"],
)
def test_values_are_written_as_the_manifest_says(
    visit: Visit, shop: ShopSandbox, declared: str, value: Any, sent: str
) -> None:
    connector = visit("sandbox-rest", ("balance: {type: decimal, scale: 2, personal: false}", declared))
    bodies = listened(connector)
    written(connector, create(balance=value))
    assert sent in bodies[0].decode()
    assert shop.requests


def test_a_form_is_written_with_brackets(visit: Visit) -> None:
    connector = visit("sandbox-rest", FORM)
    bodies = listened(connector)
    written(connector, create(address='{"city":"Ulm","lines":["a","b"]}', active=True, phone=None))
    assert bodies == [
        b"name=Acme&address%5Bcity%5D=Ulm&address%5Blines%5D%5B0%5D=a&address%5Blines%5D%5B1%5D=b&active=true&phone="
    ]
