"""Writing to the Salesforce stand-in over real HTTP."""

from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from orgs import KEYS, add, calls, outcomes, stored, version
from writing import change, write

from connector_resources.errors import ConfigurationError
from connector_resources.salesforce.api import Api
from connector_resources.salesforce.resource import Salesforce
from connector_resources.salesforce.values import json
from connector_resources.sandbox import Sandbox

COMPOSITE = r"/composite$"


def test_creates_updates_and_deletes_tell_ids_and_versions(sandbox: Sandbox, salesforce: Salesforce) -> None:
    changed, gone = add(sandbox, {"Name": "a", "Phone": "1"}, {"Name": "b"})
    account = salesforce.describe("Account")
    made, updated, deleted = write(
        salesforce,
        account,
        change("create", Name="new"),
        change("update", changed, version(sandbox, changed), Phone="2"),
        change("delete", gone, version(sandbox, gone)),
    )
    assert [made["outcome"], updated["outcome"], deleted["outcome"]] == ["done"] * 3
    assert stored(sandbox, made["id"])["Name"] == "new"
    assert (made["version"], updated["version"]) == (version(sandbox, made["id"]), version(sandbox, changed))
    assert (stored(sandbox, changed)["Phone"], stored(sandbox, gone)["IsDeleted"]) == ("2", True)
    assert (updated["id"], deleted["id"]) == (changed, gone)
    assert {made["message"], updated["message"], deleted["message"]} == {""}


def test_a_write_says_whose_it_is(sandbox: Sandbox, salesforce: Salesforce) -> None:
    write(salesforce, salesforce.describe("Account"), change("create", Name="x"))
    assert [request.client for request in sandbox.requests if request.target.endswith("/composite")] == ["erp-integration"]


def test_values_arrive_as_they_are(sandbox: Sandbox, salesforce: Salesforce) -> None:
    values: dict[str, Any] = {
        "Name": 'Žluťoučký 東京 “&” O\'Brien \\ "x"',
        "AccountNumber": "000123",
        "AnnualRevenue": Decimal("9999999999999.99"),
        "NumberOfEmployees": 99_999_999,
        "Description": "ä" * 31_999 + "z",
    }
    contact: dict[str, Any] = {
        "LastName": "x",
        "Birthdate": date(1990, 2, 28),
        "EmailBouncedDate": datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC),
    }
    [account] = write(salesforce, salesforce.describe("Account"), change("create", **values))
    [person] = write(salesforce, salesforce.describe("Contact"), change("create", **contact))
    kept = stored(sandbox, account["id"])
    assert {name: kept[name] for name in values} == {**values, "AnnualRevenue": 9999999999999.99}
    kept = stored(sandbox, person["id"], "Contact")
    assert (kept["Birthdate"], kept["EmailBouncedDate"]) == ("1990-02-28", "2026-01-31T12:00:00.123+0000")


def test_numbers_dates_and_instants_are_sent_with_every_digit() -> None:
    columns = {
        "money": (pa.decimal128(38, 2), Decimal("123456789012345678901234567890.10"), "123456789012345678901234567890.10"),
        "number": (pa.int64(), 2**53 + 1, "9007199254740993"),
        "code": (pa.string(), "00123", '"00123"'),
        "day": (pa.date32(), date(2026, 2, 28), '"2026-02-28"'),
        "moment": (
            pa.timestamp("us", "UTC"),
            datetime(2026, 1, 31, 12, 0, 0, 7_999, tzinfo=UTC),
            '"2026-01-31T12:00:00.007Z"',
        ),
        "flag": (pa.bool_(), False, "false"),
    }
    for name, (kind, value, sent) in columns.items():
        column = pd.Series(pd.arrays.ArrowExtensionArray(pa.array([value, None], kind)))
        assert json(column).to_pylist() == [sent, "null"], name


def test_null_clears_a_field_and_absent_leaves_it_alone(sandbox: Sandbox, salesforce: Salesforce) -> None:
    one, two = add(sandbox, *({"Name": name, "Phone": "1", "Fax": "2"} for name in "ab"))
    account = salesforce.describe("Account")
    results = write(salesforce, account, change("update", one, Phone=None), change("update", two, Fax=None, Name="c"))
    assert outcomes(results) == ["done", "done"]
    assert ["Phone" in stored(sandbox, id_) for id_ in (one, two)] == [False, True]
    assert ["Fax" in stored(sandbox, id_) for id_ in (one, two)] == [True, False]


def test_what_somebody_else_changed_or_deleted_since_is_not_overwritten(sandbox: Sandbox, salesforce: Salesforce) -> None:
    edited, deleted, purged, kept = add(sandbox, *({"Name": name} for name in "abcd"))
    account = salesforce.describe("Account")
    seen = {id_: version(sandbox, id_) for id_ in (edited, deleted, purged, kept)}
    sandbox.state.update("Account", {edited: {"Phone": "theirs"}})
    sandbox.state.delete("Account", [deleted])
    del sandbox.state.records["Account"][purged]
    results = write(salesforce, account, *(change("update", id_, seen[id_], Phone="ours") for id_ in seen))
    assert outcomes(results) == ["moved", "moved", "moved", "done"]
    assert stored(sandbox, edited)["Phone"] == "theirs"
    assert outcomes(write(salesforce, account, change("delete", edited, seen[edited]))) == ["moved"]
    assert "IsDeleted" not in stored(sandbox, edited)


def test_one_bad_record_spoils_no_other_and_its_values_are_not_told(sandbox: Sandbox, salesforce: Salesforce) -> None:
    account = salesforce.describe("Account")
    secret = "s3cret" * 50
    results = write(
        salesforce,
        account,
        change("create", Name="good"),
        change("create", Name=secret),
        change("create", Phone="1"),
        change("create", Name="pick", BillingGeocodeAccuracy="s3cret"),
    )
    assert outcomes(results) == ["done", "refused", "refused", "refused"]
    assert "Name" in results[1]["message"]
    assert "STRING_TOO_LONG" in results[1]["message"]
    assert "REQUIRED_FIELD_MISSING" in results[2]["message"]
    assert not any("s3cret" in result["message"] for result in results)
    assert len(sandbox.state.records["Account"]) == 41


@pytest.mark.parametrize(
    ("code", "way_out"),
    [
        ("DUPLICATES_DETECTED", "link that one, or merge"),
        ("FIELD_CUSTOM_VALIDATION_EXCEPTION", "validation rule"),
        ("DUPLICATE_VALUE", "another record has already"),
        ("SOMETHING_NEW", "SOMETHING_NEW"),
    ],
)
def test_a_refused_record_says_why_and_what_to_do(sandbox: Sandbox, salesforce: Salesforce, code: str, way_out: str) -> None:
    sandbox.faults.add("refuse", sobject="Account", field="Name", value="Marked", code=code, body="Marked is wrong")
    bad, good = write(
        salesforce, salesforce.describe("Account"), change("create", Name="Marked"), change("create", Name="good")
    )
    assert (bad["outcome"], good["outcome"]) == ("refused", "done")
    assert way_out in bad["message"]
    assert "Marked" not in bad["message"]


def test_a_create_with_a_key_that_is_sent_twice_makes_one_record(sandbox: Sandbox, keyed: Salesforce) -> None:
    account = keyed.describe("Account")
    assert account.upsert_key == "ERP_Id__c"
    one = change("create", Name="x", intent="11111111-1111-4111-8111-111111111111")
    [first] = write(keyed, account, one)
    [again] = write(keyed, account, one)
    assert first["id"] == again["id"]
    assert stored(sandbox, first["id"])["ERP_Id__c"] == one["intent"]
    [mapped] = write(keyed, account, change("create", Name="y", ERP_Id__c="C-7"))
    assert stored(sandbox, mapped["id"])["ERP_Id__c"] == "C-7"
    assert mapped["version"] == version(sandbox, mapped["id"])


def test_two_new_records_with_one_key_do_not_become_one(sandbox: Sandbox, keyed: Salesforce) -> None:
    rows = [change("create", Name=name, ERP_Id__c=key) for name, key in (("a", "C-1"), ("b", "c-1"), ("c", "C-2"))]
    results = write(keyed, keyed.describe("Account"), *rows)
    assert outcomes(results) == ["refused", "refused", "done"]
    assert len(sandbox.state.records["Account"]) == 41


def test_a_key_that_several_records_have_is_a_refusal_of_the_record(sandbox: Sandbox, connect: Any) -> None:
    with pytest.raises(ConfigurationError, match="tick External ID and Unique"):
        connect(external_ids={"Account": "Legacy_Id__c"}).describe("Account")
    with pytest.raises(ConfigurationError, match=r"is not there, or hidden .* there is ERP_Id__c"):
        connect(external_ids={"Account": "Nope__c"}).describe("Account")
    connector = connect(external_ids=KEYS)
    twin = {"Name": "x", "ERP_Id__c": "C-1"}
    add(sandbox, twin, twin)  # as an import behind the API's back might
    [result] = write(connector, connector.describe("Account"), change("create", Name="y", ERP_Id__c="C-1"))
    assert result["outcome"] == "refused"
    assert "DUPLICATE_EXTERNAL_ID" in result["message"]


def test_a_parent_that_is_named_by_its_key_is_written_before_its_children(sandbox: Sandbox, keyed: Salesforce) -> None:
    rows = [
        change("create", Name="grandchild", ERP_Id__c="C-3", **{"Parent.ERP_Id__c": "C-2"}),
        change("create", Name="child", ERP_Id__c="C-2", **{"Parent.ERP_Id__c": "C-1"}),
        change("create", Name="parent", ERP_Id__c="C-1"),
    ]
    results = write(keyed, keyed.describe("Account"), *rows)
    assert outcomes(results) == ["done"] * 3
    grandchild, child, parent = (stored(sandbox, result["id"]) for result in results)
    assert (grandchild["ParentId"], child["ParentId"]) == (child["Id"], parent["Id"])


def test_a_batch_of_200_costs_one_call_and_updates_one_look_more(sandbox: Sandbox, keyed: Salesforce) -> None:
    account = keyed.describe("Account")
    sandbox.faults.forget_requests()
    results = write(keyed, account, *(change("create", Name=f"n{number}") for number in range(600)))
    assert outcomes(results) == ["done"] * 600
    assert calls(sandbox) == 3
    assert all(result["version"] == version(sandbox, result["id"]) for result in results)
    sandbox.faults.forget_requests()
    rows = [change("update", result["id"], result["version"], Phone="1") for result in results]
    assert outcomes(write(keyed, account, *rows)) == ["done"] * 600
    assert calls(sandbox) == 4


def test_records_are_read_again_directly_before_they_are_written(sandbox: Sandbox, connect: Any) -> None:
    """One lane, three calls: what changes during the first call is found before the third."""
    connector = connect(concurrency=1)
    ids = add(sandbox, *({"Name": f"n{number}"} for number in range(600)))
    account, seen = connector.describe("Account"), version(sandbox, ids[0])
    rows = [change("update", id_, seen, Phone="ours") for id_ in ids]
    sandbox.faults.add("hold", path=COMPOSITE, seconds=1)
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(write, connector, account, *rows)
        while not any(request.target.endswith("/composite") for request in sandbox.requests):
            wait([writing], 0.01)
        sandbox.state.update("Account", {ids[599]: {"Phone": "theirs"}})
        results = writing.result()
    assert outcomes(results) == ["done"] * 599 + ["moved"]
    assert stored(sandbox, ids[599])["Phone"] == "theirs"


def test_no_changes_cost_no_call(sandbox: Sandbox, salesforce: Salesforce) -> None:
    account = salesforce.describe("Account")
    sandbox.faults.forget_requests()
    assert write(salesforce, account) == []
    assert sandbox.requests == []


def test_what_has_nothing_to_write_costs_no_write(sandbox: Sandbox, salesforce: Salesforce) -> None:
    [id_] = add(sandbox, {"Name": "a"})
    before = version(sandbox, id_)
    [result] = write(salesforce, salesforce.describe("Account"), change("update", id_, before))
    assert (result["outcome"], result["version"], version(sandbox, id_)) == ("done", before, before)


def test_what_somebody_changes_while_others_are_created_is_seen(
    sandbox: Sandbox, salesforce: Salesforce, monkeypatch: pytest.MonkeyPatch
) -> None:
    [id_] = add(sandbox, {"Name": "a", "Phone": "before"})
    account, send = salesforce.describe("Account"), Api.send
    sent: list[str] = []

    def edited_meanwhile(self: Api, method: str, path: str, *rest: Any, **named: Any) -> Any:
        answer = send(self, method, path, *rest, **named)
        if path == "composite" and not sent:
            sent.append(path)
            sandbox.state.update("Account", {id_: {"Phone": "theirs"}})
        return answer

    monkeypatch.setattr(Api, "send", edited_meanwhile)
    new = [change("create", Name=f"n{number}") for number in range(300)]
    results = write(salesforce, account, *new, change("update", id_, version(sandbox, id_), Phone="ours"))
    assert outcomes(results) == ["done"] * 300 + ["moved"]
    assert stored(sandbox, id_)["Phone"] == "theirs"
