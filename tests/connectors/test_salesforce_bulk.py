"""Bulk API 2.0 against the Salesforce stand-in: when it is used, what comes back, and what happens when it breaks."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from writing import change, write

from connector_resources.contract import Page, Window
from connector_resources.errors import NetworkError, SystemUnavailable
from connector_resources.salesforce.resource import Salesforce
from connector_resources.sandbox import Sandbox

KEYS = {"Account": "ERP_Id__c"}
FIELDS = [
    "Name",
    "AnnualRevenue",
    "NumberOfEmployees",
    "Description",
    "LastActivityDate",
    "CreatedDate",
    "Owner.Name",
    "Phone",
]
ALL = Window()


@pytest.fixture
def bulky(connect: Any) -> Salesforce:
    """A connector that finds three records many."""
    connector: Salesforce = connect(external_ids=KEYS, bulk_read_above=3, bulk_write_above=3)
    return connector


def jobs(sandbox: Sandbox, which: str) -> int:
    return sum(request.method == "POST" and request.target.endswith(f"/jobs/{which}") for request in sandbox.requests)


def collections(sandbox: Sandbox) -> int:
    return sum(request.method == "POST" and request.target.endswith("/composite") for request in sandbox.requests)


def all_of(pages: Iterable[Page]) -> tuple[pd.DataFrame, pd.DataFrame]:
    found = list(pages)
    records, marks = (pd.concat([getattr(page, name) for page in found]).sort_index() for name in ("records", "marks"))
    return records, marks


def outcomes(results: list[dict[str, Any]]) -> list[str]:
    return [result["outcome"] for result in results]


def ready(sandbox: Sandbox, count: int) -> list[str]:
    return sandbox.state.insert("Account", [{"Name": f"n{number}", "Phone": "before"} for number in range(count)])


def stored(sandbox: Sandbox, id_: str) -> dict[str, Any]:
    return dict(sandbox.state.records["Account"][id_])


# Reading


def test_a_bulk_read_is_what_page_by_page_would_have_been(sandbox: Sandbox, connect: Any) -> None:
    odd = {"Name": 'Žluť "x",\n東京', "AnnualRevenue": 99999999999.07, "NumberOfEmployees": 7, "Description": "ä\r\n" * 9_000}
    ids = sandbox.state.insert("Account", [odd, *({"Name": f"n{number}"} for number in range(12_000))])
    sandbox.state.delete("Account", ids[1:3])
    by_page, bulky = connect(), connect(bulk_read_above=12_000)
    account = by_page.describe("Account")
    records, marks = all_of(by_page.read(account, FIELDS, ALL))
    sandbox.faults.forget_requests()
    same, same_marks = all_of(bulky.read(account, FIELDS, ALL))
    pd.testing.assert_frame_equal(same, records)
    pd.testing.assert_frame_equal(same_marks, marks)
    assert same_marks["deleted"].sum() == 2
    assert jobs(sandbox, "query") == 1
    assert sum("/results" in request.target for request in sandbox.requests) == 2  # pages of 10,000
    assert sandbox.state.jobs == {}  # it is tidied away


def test_few_records_and_changes_since_are_read_page_by_page(sandbox: Sandbox, connect: Any) -> None:
    ready(sandbox, 3000)
    connector = connect(bulk_read_above=3040)
    account = connector.describe("Account")
    list(connector.read(account, ["Name"], ALL))
    list(connect(bulk_read_above=0).read(account, ["Name"], Window(since=datetime(2020, 1, 1, tzinfo=UTC))))
    assert jobs(sandbox, "query") == 0


def test_too_few_calls_left_for_page_by_page_make_it_a_bulk_read(sandbox: Sandbox, connect: Any) -> None:
    ready(sandbox, 20_000)
    connector = connect(bulk_read_above=100_000, reserve_calls=0)
    account = connector.describe("Account")
    sandbox.state.api_limit = sandbox.state.api_used + 10
    assert sum(len(page.records) for page in connector.read(account, ["Name"], ALL)) == 20_040
    assert jobs(sandbox, "query") == 1


@pytest.mark.parametrize(
    ("code", "status"), [("INVALIDENTITY", 400), ("FUNCTIONALITY_NOT_ENABLED", 400), ("API_ERROR", 400), ("NOT_FOUND", 404)]
)
def test_what_bulk_does_not_read_is_read_page_by_page(sandbox: Sandbox, bulky: Salesforce, code: str, status: int) -> None:
    ready(sandbox, 2500)
    account = bulky.describe("Account")
    body = [{"errorCode": code, "message": "Entity 'Account' is not supported by the Bulk API."}]
    sandbox.faults.add("status", method="POST", path="/jobs/query", status=status, body=body)
    assert sum(len(page.records) for page in bulky.read(account, ["Name"], ALL)) == 2540


def job_is(sandbox: Sandbox, state: str, message: str = "", times: int | None = 1) -> None:
    body = {"id": "750000000000001AAA", "state": state, "errorMessage": message}
    sandbox.faults.add("status", method="GET", path=r"/jobs/\w+/\w+$", status=200, body=body, times=times)


def test_a_failed_job_is_told_by_its_code_and_nothing_of_the_query(sandbox: Sandbox, bulky: Salesforce) -> None:
    ready(sandbox, 2500)
    account = bulky.describe("Account")
    job_is(sandbox, "Failed", "InvalidBatch : Failed to process query: S3cret")
    with pytest.raises(SystemUnavailable, match=r"ended the bulk job \w+ as Failed \(InvalidBatch\); see Bulk Data") as failed:
        list(bulky.read(account, ["Name"], ALL))
    assert "S3cret" not in str(failed.value)
    job_is(sandbox, "Aborted")
    with pytest.raises(SystemUnavailable, match=r"as Aborted; see"):
        list(bulky.read(account, ["Name"], ALL))
    job_is(sandbox, "Failed", "InvalidBatch : FUNCTIONALITY_NOT_ENABLED: Selecting compound data not supported in Bulk Query")
    assert sum(len(page.records) for page in bulky.read(account, ["Name"], ALL)) == 2540


def test_looks_at_a_job_grow_rarer_and_end(sandbox: Sandbox, connect: Any) -> None:
    ready(sandbox, 2500)
    connector = connect(bulk_read_above=3, bulk_patience=200)
    account = connector.describe("Account")
    job_is(sandbox, "InProgress", times=None)
    with pytest.raises(SystemUnavailable, match=r"not finished the bulk job .* within 200 seconds"):
        list(connector.read(account, ["Name"], ALL))
    assert connect.waits == [1, 2, 4, 8, 16, 30, 30, 30, 30, 30][: len(connect.waits)]
    assert 150 < sum(connect.waits) <= 200


@pytest.mark.parametrize(
    "fault", [{"kind": "cut"}, {"kind": "drop"}, {"kind": "status", "status": 503}], ids=["cut", "drop", "503"]
)
def test_a_page_of_results_that_does_not_come_whole_is_fetched_again(
    sandbox: Sandbox, bulky: Salesforce, fault: dict[str, Any]
) -> None:
    ready(sandbox, 2500)
    account = bulky.describe("Account")
    sandbox.faults.add(path="/results", **fault)
    sandbox.faults.add(method="GET", path=r"/jobs/query/\w+$", **fault)
    sandbox.faults.add(method="POST", path=r"/jobs/query$", **fault)
    assert sum(len(page.records) for page in bulky.read(account, ["Name"], ALL)) == 2540


# Writing


def test_many_changes_go_as_jobs_and_their_results_find_their_records(sandbox: Sandbox, bulky: Salesforce) -> None:
    account = bulky.describe("Account")
    secret = "s3cret" * 50
    made = write(
        bulky,
        account,
        *(change("create", Name=f"n{n}", AnnualRevenue=Decimal("12345678901.07"), ERP_Id__c=f"C-{n}") for n in range(5)),
        change("create", Name="intent"),
        change("create", Name=secret),
    )
    assert outcomes(made) == ["done"] * 6 + ["refused"]
    assert "STRING_TOO_LONG: Name" in made[6]["message"]
    assert "s3cret" not in made[6]["message"]
    assert [stored(sandbox, one["id"])["Name"] for one in made[:6]] == [*(f"n{number}" for number in range(5)), "intent"]
    assert stored(sandbox, made[0]["id"])["AnnualRevenue"] == 12345678901.07
    assert [one["version"] for one in made[:6]] == [stored(sandbox, one["id"])["SystemModstamp"] for one in made[:6]]
    gone, *rest = made[:6]
    sandbox.state.delete("Account", [gone["id"]])
    changed = write(bulky, account, *(change("update", one["id"], one["version"], Phone="after") for one in made[:6]))
    assert outcomes(changed) == ["moved"] + ["done"] * 5
    assert {stored(sandbox, one["id"])["Phone"] for one in rest} == {"after"}
    deleted = write(bulky, account, *(change("delete", one["id"], one["version"]) for one in changed[1:]))
    assert outcomes(deleted) == ["done"] * 5
    assert all(stored(sandbox, one["id"])["IsDeleted"] for one in rest)
    assert jobs(sandbox, "ingest") == 3
    assert collections(sandbox) == 0


def test_values_null_and_absent_arrive_in_bulk_as_they_are(sandbox: Sandbox, bulky: Salesforce) -> None:
    ids = ready(sandbox, 5)
    values: list[dict[str, Any]] = [
        {"Name": 'Žluť "x", 東京\nb', "AccountNumber": "000123", "Description": "ä" * 31_999 + "z"},
        {"Phone": None, "NumberOfEmployees": 0},
        {"Fax": "", "AnnualRevenue": Decimal("0.07")},
        {"Phone": "", "AnnualRevenue": Decimal("-1.50")},
        {"Name": "kept"},
    ]
    results = write(bulky, bulky.describe("Account"), *(change("update", i, **v) for i, v in zip(ids, values, strict=True)))
    assert outcomes(results) == ["done"] * 5
    assert jobs(sandbox, "ingest") == 1
    records = [stored(sandbox, id_) for id_ in ids]
    assert {name: records[0][name] for name in values[0]} == values[0]
    assert [record.get("Phone") for record in records] == ["before", None, "before", None, "before"]
    assert [record.get("AnnualRevenue") for record in records] == [None, None, 0.07, -1.5, None]
    assert [record["Name"] for record in records[1:]] == ["n1", "n2", "n3", "kept"]


def test_what_a_table_cannot_say_goes_one_by_one(sandbox: Sandbox, bulky: Salesforce, connect: Any) -> None:
    ids = ready(sandbox, 5)
    results = write(bulky, bulky.describe("Account"), *(change("update", id_, Site="#N/A") for id_ in ids))
    assert outcomes(results) == ["done"] * 5
    assert {stored(sandbox, id_)["Site"] for id_ in ids} == {"#N/A"}
    plain = connect(bulk_write_above=3)
    assert (
        outcomes(write(plain, plain.describe("Account"), *(change("create", Name=f"p{n}") for n in range(5)))) == ["done"] * 5
    )
    assert jobs(sandbox, "ingest") == 0


def test_too_few_calls_left_for_collections_make_it_a_job(sandbox: Sandbox, connect: Any) -> None:
    connector = connect(external_ids=KEYS, reserve_calls=0, bulk_write_above=10_000)
    account = connector.describe("Account")
    sandbox.state.api_limit = sandbox.state.api_used + 20
    connector.entities()  # the answer tells how many are left
    results = write(connector, account, *(change("create", Name=f"n{number}") for number in range(4_001)))
    assert outcomes(results) == ["done"] * 4_001
    assert (jobs(sandbox, "ingest"), collections(sandbox)) == (1, 0)


def test_an_entity_that_bulk_does_not_write_goes_one_by_one(sandbox: Sandbox, bulky: Salesforce) -> None:
    ids = ready(sandbox, 5)
    body = [{"errorCode": "INVALIDENTITY", "message": "Entity 'Account' is not supported by the Bulk API."}]
    sandbox.faults.add("status", method="POST", path="/jobs/ingest", status=400, body=body)
    results = write(bulky, bulky.describe("Account"), *(change("update", id_, Phone="after") for id_ in ids))
    assert outcomes(results) == ["done"] * 5
    assert collections(sandbox) == 1


@pytest.mark.parametrize("kind", ["lose", "drop", "cut"])
@pytest.mark.parametrize(
    "step", ["POST /jobs/ingest$", "PATCH /jobs/ingest", r"GET /jobs/ingest/\w+$", "GET successfulResults"]
)
def test_a_job_loses_no_answer(sandbox: Sandbox, bulky: Salesforce, kind: Any, step: str) -> None:
    account = bulky.describe("Account")
    method, path = step.split()
    sandbox.faults.add(kind, method=method, path=path)
    results = write(bulky, account, *(change("create", Name=f"n{number}") for number in range(5)))
    assert outcomes(results) == ["done"] * 5
    assert len(sandbox.state.records["Account"]) == 45


@pytest.mark.parametrize("kind", ["lose", "drop"])
def test_an_upload_whose_answer_is_lost_never_begins(sandbox: Sandbox, bulky: Salesforce, kind: Any) -> None:
    account = bulky.describe("Account")
    sandbox.faults.add(kind, method="PUT")
    with pytest.raises(NetworkError, match="The bulk job was not started"):
        write(bulky, account, *(change("create", Name=f"n{number}") for number in range(5)))
    assert len(sandbox.state.records["Account"]) == 40
    assert [job.state for job in sandbox.state.jobs.values()] == ["Aborted"]
