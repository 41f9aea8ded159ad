"""What a run leaves when it is not let in: one sentence, one try, and nothing of what the other side says."""

import dagster as dg
import pytest
from office import Office, furnish

from connector_resources.sandbox import Sandbox
from integration_pipelines.settings import Settings
from integration_pipelines.store import connectors
from integration_pipelines.store.database import Database

CANARY = "canary-5f2e91"
TOKEN = "/services/oauth2/token"


@pytest.fixture
def refreshing(settings: Settings, database: Database, sandbox: Sandbox, instance: dg.DagsterInstance) -> Office:
    secret = {name: sandbox.credentials[name] for name in ("client_id", "refresh_token")}
    return furnish(settings, database, sandbox, instance, credentials=secret)


def steps_tried(office: Office, run_id: str) -> int:
    logs = office.instance.all_logs(run_id)
    kinds = [record.dagster_event.event_type_value for record in logs if record.dagster_event]
    return kinds.count("STEP_START") + kinds.count("STEP_RESTARTED")


def test_a_run_that_needs_a_person_fails_once_and_heals_when_the_grant_does(refreshing: Office) -> None:
    refreshing.sandbox.faults.add("status", path=TOKEN, status=400, body={"error": "invalid_grant"}, times=None)
    finished = refreshing.run()
    assert not finished.success
    sentence = refreshing.last()["error_message"]
    assert sentence.startswith("Salesforce refuses the refresh token (invalid_grant): reconnect the connector")
    assert steps_tried(refreshing, str(finished.run_id)) == 1
    assert [error["error_type"] for error in refreshing.errors()] == ["authentication"]
    with refreshing.database.tenant(refreshing.tenant) as scope:
        standing = connectors.get(scope, refreshing.connector_id)
    assert standing.state.startswith("reconnect needed since ")
    assert (standing.revision, standing.last_used_at is None) == (1, False)
    refreshing.sandbox.faults.clear()
    assert refreshing.run().success
    with refreshing.database.tenant(refreshing.tenant) as scope:
        assert connectors.get(scope, refreshing.connector_id).state == "ok"


def test_runs_share_one_token(refreshing: Office) -> None:
    for entity in ("Account", "Contact", "Account"):
        assert refreshing.run(entity).success
    assert [request.target for request in refreshing.sandbox.requests].count(TOKEN) == 1


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("path", [TOKEN, "/query"])
def test_dagsters_event_log_quotes_neither_the_other_side_nor_a_secret(refreshing: Office, path: str, status: int) -> None:
    told = {"Set-Cookie": CANARY, "WWW-Authenticate": CANARY}
    body = [{"message": CANARY, "errorCode": CANARY, "error": CANARY}]
    refreshing.sandbox.faults.add("status", path=path, status=status, body=body, headers=told, times=None)
    finished = refreshing.run()
    assert not finished.success
    texts = [str(record) for record in refreshing.instance.all_logs(str(finished.run_id))]
    assert len(texts) > 5
    texts += [str(refreshing.errors()), str(refreshing.rows("SELECT error_message FROM sync_history"))]
    secrets = [CANARY, refreshing.sandbox.credentials["refresh_token"], *refreshing.sandbox.state._sessions]
    assert not [text for text in texts for secret in secrets if secret in text]
