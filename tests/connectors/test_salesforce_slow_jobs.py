"""Bulk jobs that take too long, cannot be followed, or are refused half-way."""

from typing import Any

import pytest
from orgs import KEYS, add, outcomes, stored, version
from writing import change, changes, told, write

from connector_resources.errors import ContractError, SystemUnavailable
from connector_resources.salesforce import ingest
from connector_resources.salesforce.resource import Salesforce
from connector_resources.sandbox import Sandbox


@pytest.fixture
def bulky(connect: Any) -> Salesforce:
    """A connector that finds three records many, and a minute long."""
    connector: Salesforce = connect(external_ids=KEYS, bulk_read_above=3, bulk_write_above=3, bulk_patience=60)
    return connector


def updates(sandbox: Sandbox, *phones: str) -> list[dict[str, Any]]:
    ids = add(sandbox, *({"Name": f"n{number}", "Phone": "before"} for number in range(len(phones))))
    return [change("update", id_, version(sandbox, id_), Phone=phone) for id_, phone in zip(ids, phones, strict=True)]


def phones(sandbox: Sandbox, rows: list[dict[str, Any]]) -> list[str]:
    return [stored(sandbox, row["id"])["Phone"] for row in rows]


def jobs(sandbox: Sandbox, which: str) -> int:
    return sum(request.method == "POST" and request.target.endswith(f"/jobs/{which}") for request in sandbox.requests)


def test_a_job_that_takes_too_long_is_aborted_and_writes_nothing_later(sandbox: Sandbox, bulky: Salesforce) -> None:
    account, rows = bulky.describe("Account"), updates(sandbox, *["new"] * 5)
    sandbox.state.bulk_queue = 1_000
    results = write(bulky, account, *rows)
    assert outcomes(results) == ["absent"] * 5
    assert "as Aborted before" in results[0]["message"]
    assert [job.state for job in sandbox.state.jobs.values()] == ["Aborted"]
    sandbox.state.bulk_queue = 0
    assert outcomes(told(bulky.probe(account, changes(account, *rows)))) == ["absent"] * 5
    assert phones(sandbox, rows) == ["before"] * 5


def test_nothing_is_known_while_a_job_may_still_write(sandbox: Sandbox, bulky: Salesforce) -> None:
    """Else it would be sent a second time, and the first job would overwrite later edits when its turn comes."""
    account, rows = bulky.describe("Account"), updates(sandbox, *["new"] * 5)
    sandbox.state.bulk_queue = 30
    sandbox.faults.add("status", method="PATCH", path=r"/jobs/ingest/\w+$", after=1, status=503, times=None)
    assert outcomes(write(bulky, account, *rows)) == ["unknown"] * 5
    [job] = sandbox.state.jobs
    with pytest.raises(SystemUnavailable, match=f"not finished the bulk job {job} yet"):
        bulky.probe(account, changes(account, *rows))
    contact = bulky.describe("Contact")
    assert told(bulky.probe(contact, changes(contact, change("create", LastName="x"))))[0]["outcome"] == "absent"
    sandbox.state.bulk_queue = 0
    with pytest.raises(SystemUnavailable):  # this look sees it begin
        bulky.probe(account, changes(account, *rows))
    assert outcomes(told(bulky.probe(account, changes(account, *rows)))) == ["done"] * 5


def test_where_there_is_no_bulk_api_no_job_is_waited_for(sandbox: Sandbox, bulky: Salesforce) -> None:
    account, [row] = bulky.describe("Account"), updates(sandbox, "new")
    body = [{"errorCode": "FUNCTIONALITY_NOT_ENABLED", "message": "x"}]
    sandbox.faults.add("status", method="GET", path="/jobs/ingest$", status=403, body=body, times=None)
    assert outcomes(told(bulky.probe(account, changes(account, row)))) == ["absent"]


def test_what_somebody_changes_during_an_earlier_job_is_seen(
    sandbox: Sandbox, bulky: Salesforce, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, rows = bulky.describe("Account"), updates(sandbox, *["new"] * 6)
    monkeypatch.setattr(ingest, "_LARGEST", 3 * 60)
    start, started = ingest.start, []

    def edited_during_the_first(*given: Any) -> str:
        started.append(given)
        if len(started) == 1:
            sandbox.state.update("Account", {rows[5]["id"]: {"Phone": "theirs"}})
        return start(*given)

    monkeypatch.setattr(ingest, "start", edited_during_the_first)
    assert outcomes(write(bulky, account, *rows)) == ["done"] * 5 + ["moved"]
    assert phones(sandbox, rows) == ["new"] * 5 + ["theirs"]
    assert len(started) > 1


def test_what_was_locked_is_sent_once_where_the_next_job_is_refused(
    sandbox: Sandbox, bulky: Salesforce, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, rows = bulky.describe("Account"), updates(sandbox, "busy", *["new"] * 5)
    monkeypatch.setattr(ingest, "_LARGEST", 3 * 60)
    sandbox.faults.add("refuse", sobject="Account", field="Phone", value="busy", code="UNABLE_TO_LOCK_ROW")
    body = [{"errorCode": "LIMIT_EXCEEDED", "message": "x"}]
    sandbox.faults.add("status", method="POST", path="/jobs/ingest$", after=1, times=None, status=400, body=body)
    assert outcomes(write(bulky, account, *rows)) == ["done"] * 6
    assert phones(sandbox, rows) == ["busy"] + ["new"] * 5


def test_pages_of_results_that_are_too_large_are_asked_for_in_smaller_pieces(sandbox: Sandbox, bulky: Salesforce) -> None:
    ids = add(sandbox, *({"Name": f"n{number}", "Description": "x" * 30_000} for number in range(100)))
    bulky._http.largest = 2**20
    pages = [page.decode() for page in bulky._jobs.query("SELECT Id, Description FROM Account", False)]
    assert [sum(id_ in page for page in pages) for id_ in ids] == [1] * 100
    assert len(pages) > 2
    assert sandbox.state.jobs == {}


def test_a_record_that_is_too_large_ends_the_read_and_leaves_no_job(sandbox: Sandbox, bulky: Salesforce) -> None:
    add(sandbox, {"Name": "x", "Description": "x" * 30_000})
    bulky._http.largest = 20_000
    with pytest.raises(ContractError, match="read fewer fields"):
        list(bulky._jobs.query("SELECT Id, Description FROM Account", False))
    assert sandbox.state.jobs == {}


def test_a_job_that_cannot_be_followed_is_unknown(sandbox: Sandbox, bulky: Salesforce) -> None:
    account = bulky.describe("Account")
    sandbox.faults.add("status", method="GET", path="/jobs/ingest", status=503, times=None)
    rows = [change("create", Name=f"n{number}") for number in range(5)]
    assert outcomes(write(bulky, account, *rows)) == ["unknown"] * 5


def test_what_a_failed_job_left_was_not_written(sandbox: Sandbox, bulky: Salesforce) -> None:
    account = bulky.describe("Account")
    sandbox.faults.add("hide", sobject="Account", field="Phone")  # the field went after it was described
    results = write(bulky, account, *(change("create", Name=f"n{number}", Phone="1") for number in range(5)))
    assert outcomes(results) == ["absent"] * 5
    assert "Failed (InvalidBatch)" in results[0]["message"]
    assert len(sandbox.state.records["Account"]) == 40


def test_what_was_locked_in_a_job_is_tried_again_by_itself(sandbox: Sandbox, connect: Any) -> None:
    connector = connect(external_ids=KEYS, bulk_write_above=3)
    sandbox.faults.add("refuse", sobject="Account", field="Name", value="n3", code="UNABLE_TO_LOCK_ROW", times=2)
    results = write(connector, connector.describe("Account"), *(change("create", Name=f"n{number}") for number in range(5)))
    assert outcomes(results) == ["done"] * 5
    assert jobs(sandbox, "ingest") == 1
    assert sum(request.target.endswith("/composite") for request in sandbox.requests) == 2
