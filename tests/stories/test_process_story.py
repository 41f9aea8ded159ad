"""Real processes, really killed; Dagster's own server; and what lies on disk afterwards."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg
import httpx
import pytest
import sqlalchemy as sa
from office import Office, every_file, furnish

from connector_resources.sandbox import Sandbox
from integration_pipelines.orchestration.launch import dagster_instance
from integration_pipelines.settings import Settings, load
from integration_pipelines.store.database import Database, engine
from integration_pipelines.store.embedded import Embedded, _programs
from integration_pipelines.store.installation import migrate_all, open_installation
from integration_pipelines.store.migrate import create_database

ROOT = Path(__file__).parents[2]


def until(condition: Any, seconds: float = 60) -> None:
    """Wait for a condition of another process."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def sleeper(office: Office, after: int) -> sa.Engine:
    """Somebody makes the journal's inserts hang once so many rows are there."""
    owner = engine(office.database.url, role=None, poolclass=sa.NullPool)
    with owner.begin() as connection:
        connection.exec_driver_sql(
            f"""CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
                IF (SELECT count(*) FROM sync_record_changes) >= {after} THEN PERFORM pg_sleep(600); END IF;
                RETURN NULL; END $$"""
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER hang BEFORE INSERT ON sync_record_changes FOR EACH STATEMENT EXECUTE FUNCTION hang()"
        )
    return owner


def test_kill_9_in_load_then_running_again_loses_and_doubles_nothing(office: Office) -> None:
    office.sandbox.state.insert("Account", [{"Name": f"More {number}"} for number in range(6000)])
    owner = sleeper(office, after=1)
    command = [sys.executable, "-m", "integration_pipelines", "sync", "run", str(office.syncs["Account"].id)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:

        def hangs() -> bool:
            with owner.connect() as connection:
                found = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
                return bool(connection.exec_driver_sql(found).scalar())

        until(hangs)
        process.send_signal(signal.SIGKILL)
    committed = office.customers()
    assert 0 < committed < 6060
    row = office.last()
    assert (row["sync_status"], row["records_succeeded"]) == ("running", committed)
    with owner.begin() as connection:
        until(lambda: not hangs(), 30)  # the server notices that its client is gone
        connection.exec_driver_sql("DROP TRIGGER hang ON sync_record_changes")
    assert office.run().success
    dead, alive = office.rows("SELECT * FROM sync_history ORDER BY id")
    assert (dead["sync_status"], dead["records_succeeded"]) == ("failed", committed)
    assert "died" in dead["error_message"]
    assert dead["data_snapshot_after"]["records"] == {"create": committed}
    assert (alive["sync_status"], alive["records_succeeded"]) == ("completed", 6060 - committed)
    assert (office.customers(), len(office.rows("SELECT 1 FROM identity_links"))) == (6060, 6060)
    events = [event["event_name"] for event in office.rows("SELECT event_name FROM outbox ORDER BY id")]
    assert events == ["SyncStartedEvent", "SyncFailedEvent", "SyncStartedEvent", "SyncCompletedEvent"]
    dagster_run = office.instance.get_run_by_id(str(dead["run_id"]))
    assert dagster_run is not None
    assert dagster_run.status == dg.DagsterRunStatus.FAILURE


def test_a_second_run_of_the_same_pair_waits_its_turn_and_says_so(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", lambda _self, _attempt: 0.01)
    config = office.syncs["Account"]
    with office.database.connection() as connection:
        pair = f"{office.tenant}/{config.connector_id}/{config.external_entity}/{config.erp_entity}"
        connection.execute(sa.text("SELECT pg_advisory_lock(hashtextextended(:pair, 0))"), {"pair": pair})
        finished = office.run()
        connection.invalidate()
    assert not finished.success
    assert "Another run is syncing Account with customer" in office.last()["error_message"]
    assert office.run().success


CANARY_SECRET, CANARY_EMAIL = "canary-secret-93b1c7", "canary.person@canary-mail.example"


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> Iterator[Office]:
    """A whole installation with an embedded database of its own, and the ERP on another server: whatever lies under the
    installation's home is ours, not the ERP's."""
    with tempfile.TemporaryDirectory(prefix="integration-") as folder, Embedded(Path(folder) / "erp") as erp:
        home = Path(folder) / "home"
        url = create_database(erp.url, "erp")
        owner = engine(url, role=None, poolclass=sa.NullPool)
        with owner.begin() as connection:
            connection.exec_driver_sql("CREATE SCHEMA crm")
            connection.exec_driver_sql(
                """CREATE TABLE crm.client (no int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL, mail text,
                       tel text, live boolean NOT NULL DEFAULT true)"""
            )
        catalogue = Path(folder) / "catalogue.yaml"
        catalogue.write_text(CATALOGUE)
        found = {"INTEGRATION_HOME": str(home), "ERP_DATABASE_URL": url, "ERP_CATALOGUE": str(catalogue)}
        for name, value in found.items():
            monkeypatch.setenv(name, value)
        with open_installation(load(found)) as installation:
            migrate_all(installation)
            database = installation.database()
            with dagster_instance(installation) as instance:
                yield _small_office(installation.settings, database, sandbox, instance)
            database.close()


CATALOGUE = """
module: crm
schema: crm
tenant_column: null
entities:
  customer:
    table: client
    key: {name: id, column: "no"}
    modified: null
    active: active
    fields:
      name: {type: string, column: title, nullable: false, personal: true}
      email: {type: string, column: mail, personal: true}
      phone: {type: string, column: tel, personal: true}
      active: {type: boolean, column: live, nullable: false, personal: false}
"""
SMALL = """
mapping_name: small
source_entity: Contact
target_entity: customer
mappings:
  - {source: LastName, target: name}
  - {source: Email, target: email, match: true}
  - {source: Phone, target: phone}
  - {constant: true, target: active}
"""


def _small_office(settings: Settings, database: Database, sandbox: Sandbox, instance: dg.DagsterInstance) -> Office:
    secret = {key: sandbox.credentials[key] for key in ("client_id", "client_secret")} | {"note": CANARY_SECRET}
    return furnish(settings, database, sandbox, instance, credentials=secret, mappings_={"Contact": SMALL})


def found_in(folder: Path, *words: str) -> list[str]:
    """Files that hold one of the words, as plain text, hexadecimal or UTF-16."""
    hits = []
    spelled = [
        spelling for word in words for spelling in (word.encode(), word.encode().hex().encode(), word.encode("utf-16-le"))
    ]
    for path in every_file(folder):
        content = path.read_bytes()
        hits += [f"{path}: {word!r}" for word in spelled if word in content]
    return hits


def test_no_secret_and_no_personal_value_lies_in_clear_anywhere(apart: Office) -> None:
    office = apart
    state = office.sandbox.state
    canaries = [{"LastName": "Canary", "Email": CANARY_EMAIL}, {"LastName": "Long", "Email": f"x{CANARY_EMAIL}"}]
    good, long_ = state.insert("Contact", canaries)
    assert office.run("Contact").success
    state.update("Contact", {good: {"Phone": "555"}})
    office.sandbox.faults.add("status", path="/query", status=401, times=None, body=f'[{{"message": "{CANARY_EMAIL}"}}]')
    assert not office.run("Contact").success
    office.sandbox.faults.clear()
    state.update("Contact", {long_: {"LastName": "y" * 80 + CANARY_EMAIL}})
    assert office.run("Contact").success
    assert office.rows("SELECT count(*) FROM sync_record_changes")[0]["count"] > 90
    owner = engine(office.database.url, role=None, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with owner.connect() as connection:
        connection.exec_driver_sql("CHECKPOINT")
    secret = office.sandbox.credentials["client_secret"]
    assert found_in(office.settings.home.parent / "erp", CANARY_EMAIL)  # the ERP itself has it: the search can find
    assert found_in(office.settings.home, CANARY_SECRET, CANARY_EMAIL, secret) == []
    for name in ("integration", "dagster"):
        url = office.database.url.replace("/integration?", f"/{name}?")
        address = url.replace("postgresql://postgres@/", "postgresql:///").replace("?", "?user=postgres&")
        dumped = subprocess.run([str(_programs() / "pg_dump"), address], capture_output=True, check=True).stdout
        assert len(dumped) > 10_000
        assert not [word for word in (CANARY_SECRET, CANARY_EMAIL, secret) if word.encode() in dumped]


@pytest.fixture
def served(office: Office) -> Iterator[str]:
    """`dagster dev -w workspace.yaml`, as a user starts it; its GraphQL address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dagster = shutil.which("dagster", path=str(Path(sys.executable).parent))
    assert dagster is not None
    command = [dagster, "dev", "-w", str(ROOT / "workspace.yaml"), "-p", str(port)]
    log = office.settings.home / "dev.log"
    with log.open("w") as out, subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, start_new_session=True) as process:
        try:
            until(lambda: _answers(f"http://127.0.0.1:{port}/server_info"), 120)
            yield f"http://127.0.0.1:{port}/graphql"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


LAUNCH = """mutation($job: String!, $config: RunConfigData) { launchRun(executionParams: {
    selector: {repositoryLocationName: "integration", repositoryName: "__repository__", jobName: $job},
    runConfigData: $config})
  { __typename ... on LaunchRunSuccess { run { runId } } ... on RunConfigValidationInvalid { errors { message } } } }"""
STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


def ask(url: str, query: str, **variables: Any) -> dict[str, Any]:
    answer = httpx.post(url, json={"query": query, "variables": variables}, timeout=60).raise_for_status().json()
    found: dict[str, Any] = answer["data"]
    return found


def test_dagster_s_own_server_launches_a_sync_and_no_config_reaches_another_tenant(office: Office, served: str) -> None:
    job = f"sync_{office.syncs['Account'].id}"
    for override in (
        {"ops": {"extract": {"config": {"tenant": "other"}}}},
        {"resources": {"sync": {"config": {"sync_id": 99}}}},
        {"resources": {"connector": {"config": {"id": 99}}}},
        {"resources": {"erp": {"config": {"tenant": "other"}}}},
    ):
        assert ask(served, LAUNCH, job=job, config=override)["launchRun"]["__typename"] == "RunConfigValidationInvalid"
    launched = ask(served, LAUNCH, job=job, config={})["launchRun"]
    run_id = launched["run"]["runId"]
    until(lambda: ask(served, STATUS, id=run_id)["runOrError"]["status"] in ("SUCCESS", "FAILURE", "CANCELED"), 120)
    assert ask(served, STATUS, id=run_id)["runOrError"]["status"] == "SUCCESS"
    assert (office.last()["run_id"], office.last()["records_succeeded"]) == (UUID(run_id), 60)
    run = office.instance.get_run_by_id(run_id)
    assert run is not None
    assert run.tags["integration/tenant"] == str(office.tenant)
    assert {"integration/connector", "integration/sync"} <= set(run.tags)
