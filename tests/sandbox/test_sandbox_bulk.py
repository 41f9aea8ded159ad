"""Bulk API 2.0: the life of a job, and what it refuses."""

import csv
import io
from typing import Any

import httpx
import pytest

from connector_resources.sandbox import Sandbox

CSV = {"Content-Type": "text/csv; charset=UTF-8"}


def create(api: httpx.Client, which: str = "ingest", **settings: Any) -> str:
    answer = api.post(f"jobs/{which}", json=settings)
    assert answer.status_code == 200, answer.text
    id_: str = answer.json()["id"]
    return id_


def refused(answer: httpx.Response, status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    [error] = answer.json()
    code: str = error["errorCode"]
    return code


def state(api: httpx.Client, place: str) -> str:
    told: str = api.get(place).json()["state"]
    return told


def run(api: httpx.Client, content: str, **settings: Any) -> str:
    """The place of a job that has ended."""
    place = f"jobs/ingest/{create(api, **settings)}"
    assert api.put(f"{place}/batches", content=content.encode(), headers=CSV).status_code == 201
    assert api.patch(place, json={"state": "UploadComplete"}).json()["state"] == "UploadComplete"
    assert state(api, place) == "InProgress"
    assert state(api, place) in ("JobComplete", "Failed")
    return place


def rows(api: httpx.Client, place: str, which: str) -> list[dict[str, str]]:
    answer = api.get(f"{place}/{which}")
    assert answer.headers["Content-Type"] == "text/csv"
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_a_job_goes_from_open_over_upload_to_its_three_files(sandbox: Sandbox, api: httpx.Client) -> None:
    table = "Name,AnnualRevenue,Phone\nA,1.5,\nB,many,1\n,,2\n"
    place = run(api, table, object="Account", operation="insert")
    told = api.get(place).json()
    assert (told["state"], told["numberRecordsProcessed"], told["numberRecordsFailed"]) == ("JobComplete", 3, 2)
    [good] = rows(api, place, "successfulResults")
    assert (good["sf__Created"], good["Name"]) == ("true", "A")
    assert sandbox.state.records["Account"][good["sf__Id"]]["AnnualRevenue"] == 1.5
    assert [row["sf__Error"].split(":")[0] for row in rows(api, place, "failedResults")] == [
        "REQUIRED_FIELD_MISSING",
        "INVALID_TYPE_ON_FIELD_IN_RECORD",
    ]  # not in the order of the upload: no order is promised
    assert rows(api, place, "unprocessedrecords") == []


def test_an_empty_value_is_left_alone_and_only_the_mark_clears(sandbox: Sandbox, api: httpx.Client) -> None:
    one, two = sandbox.state.insert("Account", [{"Name": "a", "Phone": "1"}, {"Name": "b", "Phone": "2"}])
    run(
        api,
        f"Id;Phone\r\n{one};\r\n{two};#N/A\r\n",
        object="Account",
        operation="update",
        columnDelimiter="SEMICOLON",
        lineEnding="CRLF",
    )
    records = sandbox.state.records["Account"]
    assert (records[one]["Phone"], records[two].get("Phone")) == ("1", None)


def test_a_parent_is_named_by_its_external_id(sandbox: Sandbox, api: httpx.Client) -> None:
    [parent] = sandbox.state.insert("Account", [{"Name": "a", "ERP_Id__c": "C-1"}])
    place = run(api, "LastName,Account.ERP_Id__c\nx,C-1\ny,C-2\n", object="Contact", operation="insert")
    [good] = rows(api, place, "successfulResults")
    assert sandbox.state.records["Contact"][good["sf__Id"]]["AccountId"] == parent
    [bad] = rows(api, place, "failedResults")
    assert bad["sf__Error"].startswith("INVALID_FIELD:Foreign key external ID")


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("Nope\n1\n", {"operation": "insert"}, "Field name not found : Nope"),
        ("Name\r\nx\r\n", {"operation": "insert"}, "LineEnding is invalid"),
        ("Name,Phone\nx\n", {"operation": "insert"}, "number of columns"),
        ("Phone\n1\n", {"operation": "update"}, "Field name not found : Id"),
        ("Name\nx\n", {"operation": "upsert", "externalIdFieldName": "ERP_Id__c"}, "Field name not found : ERP_Id__c"),
        ("Id,Name\n1,x\n", {"operation": "delete"}, "only Id is allowed"),
        (f"Description,Name\n{'x' * 32_001},x\n", {"operation": "insert"}, "32,000 characters"),
    ],
    ids=["field", "line ending", "columns", "no id", "no key", "delete", "too long"],
)
def test_a_table_that_cannot_be_read_fails_the_job_and_is_left_unprocessed(
    sandbox: Sandbox, api: httpx.Client, content: str, settings: dict[str, str], message: str
) -> None:
    place = run(api, content, object="Account", **settings)
    told = api.get(place).json()
    assert told["state"] == "Failed"
    assert message in told["errorMessage"]
    assert len(sandbox.state.records["Account"]) == 30
    assert rows(api, place, "successfulResults") == []


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"object": "Account", "operation": "hardDelete"}, "FEATURENOTENABLED"),
        ({"object": "Account", "operation": "merge"}, "INVALIDJOB"),
        ({"object": "User", "operation": "insert"}, "INVALIDENTITY"),
        ({"object": "Account", "operation": "upsert"}, "INVALIDJOB"),
        ({"object": "Account", "operation": "insert", "lineEnding": "CR"}, "INVALIDJOB"),
    ],
    ids=["hard delete", "operation", "entity", "no key", "line ending"],
)
def test_a_job_that_cannot_be_is_refused(api: httpx.Client, settings: dict[str, str], code: str) -> None:
    assert refused(api.post("jobs/ingest", json=settings)) == code


def test_a_job_refuses_what_its_state_does_not_allow(api: httpx.Client) -> None:
    place = f"jobs/ingest/{create(api, object='Account', operation='insert')}"
    assert refused(api.get(f"{place}/successfulResults")) == "INVALIDJOBSTATE"
    assert refused(api.delete(place)) == "INVALIDJOBSTATE"
    assert refused(api.put(f"{place}/batches", content=b"{}", headers={"Content-Type": "application/json"})) == "INVALIDJOB"
    assert api.put(f"{place}/batches", content=b"Name\nx\n", headers=CSV).status_code == 201
    assert refused(api.put(f"{place}/batches", content=b"Name\nx\n", headers=CSV)) == "INVALIDJOBSTATE"
    assert refused(api.patch(place, json={"state": "JobComplete"})) == "INVALIDJOBSTATE"
    assert api.patch(place, json={"state": "Aborted"}).json()["state"] == "Aborted"
    assert refused(api.patch(place, json={"state": "UploadComplete"})) == "INVALIDJOBSTATE"
    assert api.delete(place).status_code == 204
    assert refused(api.get(place), 404) == "NOT_FOUND"


def test_results_of_a_query_come_in_pages(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.state.insert("Account", [{"Name": "Žluť\n“x”", "AnnualRevenue": 12345678901.07, "NumberOfEmployees": 7}])
    text = "SELECT Id, Name, AnnualRevenue, NumberOfEmployees, IsDeleted, SystemModstamp, Owner.Name, Phone FROM Account"
    place = f"jobs/query/{create(api, 'query', operation='queryAll', query=text)}"
    assert refused(api.get(f"{place}/results")) == "INVALIDJOBSTATE"
    assert [state(api, place), state(api, place)] == ["InProgress", "JobComplete"]
    found: list[dict[str, str]] = []
    locator = ""
    while locator != "null":
        answer = api.get(f"{place}/results", params={"maxRecords": "20", **({"locator": locator} if locator else {})})
        page = list(csv.DictReader(io.StringIO(answer.text)))
        assert len(page) == int(answer.headers["Sforce-NumberOfRecords"])
        found += page
        locator = answer.headers["Sforce-Locator"]
    assert len({row["Id"] for row in found}) == 31
    last = found[-1]
    assert (last["Name"], last["AnnualRevenue"], last["NumberOfEmployees"]) == ("Žluť\n“x”", "1.234567890107E10", "7")
    assert (last["IsDeleted"], last["Phone"], last["Owner.Name"]) == ("false", "", "Integration User")
    assert last["SystemModstamp"].endswith("Z")
    assert refused(api.get(f"{place}/results", params={"locator": "99"})) == "INVALID_QUERY_LOCATOR"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("SELECT Nope FROM Account", "INVALID_FIELD"),
        ("SELECT BillingAddress FROM Account", "FUNCTIONALITY_NOT_ENABLED"),
        ("SELECT count() FROM Account", "FUNCTIONALITY_NOT_ENABLED"),
    ],
)
def test_a_query_that_bulk_cannot_run_is_refused(api: httpx.Client, text: str, code: str) -> None:
    assert refused(api.post("jobs/query", json={"operation": "query", "query": text})) == code
