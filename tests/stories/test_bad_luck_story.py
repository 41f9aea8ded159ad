"""What a run says and leaves when the other side misbehaves: one clear sentence, the right kind of error, nothing lost."""

import socket
from functools import partial
from typing import Any

import dagster as dg
import pytest
from office import Office, furnish

from connector_resources import http
from connector_resources.sandbox import Sandbox
from integration_pipelines.orchestration import failures
from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database

QUERY = "/query"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same tries, with waits of milliseconds."""
    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", lambda _self, _attempt: 0.01)
    monkeypatch.setattr(failures, "LONGEST_WAIT", 0.01)
    monkeypatch.setattr(http, "Patience", partial(http.Patience, first=0.001, longest=0.01))


def failed(office: Office, entity: str = "Account") -> dict[str, Any]:
    finished = office.run(entity)
    assert not finished.success
    row = office.last()
    assert row["sync_status"] == "failed"
    assert row["records_processed"] == row["records_succeeded"] + row["records_failed"] + row["records_skipped"]
    assert office.rows("SELECT event_name FROM outbox ORDER BY id DESC LIMIT 1") == [{"event_name": "SyncFailedEvent"}]
    return row


def test_wrong_credentials(settings: Settings, database: Database, sandbox: Sandbox, instance: dg.DagsterInstance) -> None:
    wrong = {"client_id": sandbox.credentials["client_id"], "client_secret": "canary-wrong-secret"}
    office = furnish(settings, database, sandbox, instance, credentials=wrong)
    row = failed(office)
    assert "credentials" in row["error_message"] or "client" in row["error_message"]
    assert "canary" not in row["error_message"]
    assert [error["error_type"] for error in office.errors()] == ["authentication"]


def test_nobody_listens(settings: Settings, database: Database, sandbox: Sandbox, instance: dg.DagsterInstance) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    office = furnish(settings, database, sandbox, instance, url=url)
    row = failed(office)
    assert url.removeprefix("http://").split(":")[0] in row["error_message"]
    assert office.errors()[0]["error_type"] == "network"


def test_a_token_that_expires_in_the_middle_is_renewed(office: Office) -> None:
    office.sandbox.state.insert("Account", [{"Name": f"More {number}"} for number in range(3000)])
    office.sandbox.faults.add("revoke", path=QUERY, after=1)
    assert office.run().success
    assert office.customers() == 3060


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 429},
        {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}},
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 503},
        {"kind": "drop"},
        {"kind": "cut"},
    ],
    ids=["429", "429-retry-after", "500", "503", "dropped", "cut"],
)
def test_passing_faults_are_survived_and_nothing_is_lost_or_doubled(office: Office, fault: dict[str, Any]) -> None:
    office.sandbox.state.insert("Account", [{"Name": f"More {number}"} for number in range(3000)])
    settings = dict(fault)
    office.sandbox.faults.add(settings.pop("kind"), path=QUERY, after=1, times=1, **settings)
    assert office.run().success
    assert (office.customers(), office.last()["records_succeeded"]) == (3060, 3060)


@pytest.mark.parametrize(("status", "kind"), [(429, "network"), (500, "network"), (503, "network")], ids=["429", "500", "503"])
def test_lasting_faults_end_the_run_after_its_retries_and_the_next_run_heals(office: Office, status: int, kind: str) -> None:
    fault = office.sandbox.faults.add("status", path=QUERY, status=status, times=None)
    row = failed(office)
    assert "Given up" not in row["error_message"]
    assert [error["error_type"] for error in office.errors()] == [kind]
    office.sandbox.faults.remove(fault)
    assert office.run().success
    assert (office.customers(), office.errors()) == (60, [])


def test_an_error_page_that_is_no_json(office: Office) -> None:
    office.sandbox.faults.add(
        "status", path=QUERY, status=200, times=None, headers={"Content-Type": "text/html"}, body="<html>canary-page</html>"
    )
    row = failed(office)
    assert "canary-page" not in row["error_message"]
    assert office.errors()[0]["error_type"] == "contract"


def test_the_day_s_limit_is_spent(office: Office) -> None:
    office.sandbox.state.api_limit = office.sandbox.state.api_used
    assert not office.run("Account").success
    row = office.last()
    assert (row["sync_status"], office.errors()) == ("partial", [])
    assert row["retry_at"] > row["completed_at"]


def test_a_field_that_is_gone_is_named(office: Office) -> None:
    office.run()
    office.sandbox.faults.add("hide", sobject="Account", field="Industry", times=None)
    row = failed(office)
    assert "Industry" in row["error_message"]
    assert office.errors()[0]["error_type"] == "mapping"


def test_each_try_is_one_of_dagster_s_own(office: Office) -> None:
    office.sandbox.faults.add("status", path=QUERY, status=503, times=None)
    finished = office.run()
    kinds = [
        record.dagster_event.event_type
        for record in office.instance.all_logs(str(finished.run_id))
        if record.dagster_event is not None
    ]
    assert kinds.count(dg.DagsterEventType.STEP_UP_FOR_RETRY) == failures.RETRIES
