"""What became of writes whose answer was lost."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from writing import change, changes, told, write

from connector_resources.salesforce.resource import Salesforce
from connector_resources.sandbox import Sandbox

COMPOSITE = r"/composite$"
KEYS = {"Account": "ERP_Id__c", "Contact": "ERP_Id__c"}


@pytest.fixture
def keyed(connect: Any) -> Salesforce:
    connector: Salesforce = connect(external_ids=KEYS)
    return connector


def probe(connector: Salesforce, sobject: str, *wanted: dict[str, Any]) -> list[dict[str, Any]]:
    entity = connector.describe(sobject)
    return told(connector.probe(entity, changes(entity, *wanted)))


def stored(sandbox: Sandbox, id_: str) -> dict[str, Any]:
    return dict(sandbox.state.records["Account"][id_])


def unanswered(sandbox: Sandbox, connector: Salesforce, kind: Any, *wanted: dict[str, Any]) -> None:
    sandbox.faults.add(kind, path=COMPOSITE)
    assert {result["outcome"] for result in write(connector, connector.describe("Account"), *wanted)} == {"unknown"}


def test_a_create_that_arrived_is_found_by_its_key_and_one_that_did_not_is_absent(sandbox: Sandbox, keyed: Salesforce) -> None:
    rows = [change("create", Name="x", Phone=None), change("create", Name="y", ERP_Id__c="C'1 \\ ä")]
    unanswered(sandbox, keyed, "lose", *rows)
    found = probe(keyed, "Account", *rows, change("create", Name="z"))
    assert [result["outcome"] for result in found] == ["done", "done", "absent"]
    assert [stored(sandbox, result["id"])["Name"] for result in found[:2]] == ["x", "y"]
    assert [result["version"] for result in found[:2]] == [stored(sandbox, r["id"])["SystemModstamp"] for r in found[:2]]
    assert len(sandbox.state.records["Account"]) == 42


def test_losing_the_answer_after_a_create_makes_no_duplicate_and_keeps_an_edit(sandbox: Sandbox, keyed: Salesforce) -> None:
    row = change("create", Name="x", Phone="ours")
    unanswered(sandbox, keyed, "lose", row)
    [id_] = [i for i, record in sandbox.state.records["Account"].items() if record.get("ERP_Id__c") == row["intent"]]
    sandbox.state.update("Account", {id_: {"Phone": "theirs"}})
    [found] = probe(keyed, "Account", row)
    assert (found["outcome"], found["id"]) == ("done", id_)
    assert found["version"] is None  # their edit is no echo of ours: it must be noticed when the record is read
    assert stored(sandbox, id_)["Phone"] == "theirs"


def test_a_create_that_was_deleted_since_is_not_made_again(sandbox: Sandbox, keyed: Salesforce) -> None:
    row = change("create", Name="x")
    unanswered(sandbox, keyed, "lose", row)
    [id_] = [i for i, record in sandbox.state.records["Account"].items() if record.get("ERP_Id__c") == row["intent"]]
    sandbox.state.delete("Account", [id_])
    [found] = probe(keyed, "Account", row)
    assert (found["outcome"], found["id"]) == ("done", id_)


def test_without_a_key_nobody_can_tell_whether_a_create_arrived(sandbox: Sandbox, salesforce: Salesforce) -> None:
    row = change("create", Name="x")
    unanswered(sandbox, salesforce, "lose", row)
    [found] = probe(salesforce, "Account", row)
    assert found["outcome"] == "unknown"
    assert "external_ids" in found["message"]


def test_an_update_is_recognised_by_its_values(sandbox: Sandbox, keyed: Salesforce) -> None:
    ids = sandbox.state.insert("Account", [{"Name": name, "Phone": "before"} for name in "abcd"])
    seen = stored(sandbox, ids[0])["SystemModstamp"]
    arrived = change(
        "update", ids[0], seen, Phone=" after ", AnnualRevenue=Decimal("1.50"), NumberOfEmployees=7, Fax=None, ParentId=ids[1]
    )
    unanswered(sandbox, keyed, "lose", arrived)
    dropped, edited, gone = (change("update", id_, seen, Phone="after") for id_ in ids[1:])
    sandbox.state.update("Account", {ids[2]: {"Phone": "theirs"}})
    sandbox.state.delete("Account", [ids[3]])
    found = probe(keyed, "Account", arrived, dropped, edited, gone)
    assert [result["outcome"] for result in found] == ["done", "absent", "unknown", "absent"]
    assert found[0]["version"] == stored(sandbox, ids[0])["SystemModstamp"] != seen
    assert "look there" in found[2]["message"]
    assert stored(sandbox, ids[2])["Phone"] == "theirs"
    [moved] = write(keyed, keyed.describe("Account"), gone)  # sent again, it finds out
    assert moved["outcome"] == "moved"


def test_dates_and_instants_are_compared_as_salesforce_keeps_them(sandbox: Sandbox, keyed: Salesforce) -> None:
    [id_] = sandbox.state.insert("Contact", [{"LastName": "x"}])
    moment = datetime(2026, 1, 31, 12, 0, 0, 654_321, tzinfo=UTC)
    row = change("update", id_, "old", Birthdate=date(1990, 2, 28), EmailBouncedDate=moment)
    [written] = write(keyed, keyed.describe("Contact"), {**row, "version": None})
    assert written["outcome"] == "done"
    [found] = probe(keyed, "Contact", row)
    assert (found["outcome"], found["version"]) == ("done", written["version"])


def test_a_delete_is_done_when_the_record_is_gone(sandbox: Sandbox, keyed: Salesforce) -> None:
    here, bin_, purged = sandbox.state.insert("Account", [{"Name": name} for name in "abc"])
    rows = [change("delete", id_, stored(sandbox, id_)["SystemModstamp"]) for id_ in (here, bin_, purged)]
    sandbox.state.delete("Account", [bin_])
    del sandbox.state.records["Account"][purged]
    assert [result["outcome"] for result in probe(keyed, "Account", *rows)] == ["absent", "done", "done"]


def test_a_probe_of_many_costs_few_calls_and_writes_nothing(sandbox: Sandbox, keyed: Salesforce) -> None:
    rows = [change("create", Name=f"n{number}") for number in range(400)]
    unanswered(sandbox, keyed, "drop", *rows[:1])
    before = sandbox.state.copied()
    sandbox.faults.forget_requests()
    found = probe(keyed, "Account", *rows)
    assert {result["outcome"] for result in found} == {"absent"}
    assert {request.method for request in sandbox.requests} == {"GET"}
    assert len(sandbox.requests) <= 4
    assert sandbox.state.copied() == before
