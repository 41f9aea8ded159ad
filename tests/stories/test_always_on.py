"""`integration up`, and all that may happen to it: real processes, really killed, while runs are under way."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from running import GraphQL, Running, furnish, operator_key, until

from connector_resources.sandbox import Sandbox
from integration_pipelines.store import history, syncs
from integration_pipelines.store.database import Database, engine


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(accounts=150, contacts=300) as served:
        yield served


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="integration-") as folder, Running(Path(folder) / "home") as installation:
        yield installation


@pytest.fixture
def database(running: Running) -> Iterator[Database]:
    with running.database() as opened:
        yield opened


@pytest.fixture
def graphql(running: Running, database: Database) -> Iterator[GraphQL]:
    made = GraphQL(running.port, operator_key(database))
    with made.client:
        yield made


def scalar(running: Running, database: Database, statement: str) -> int:
    try:
        with running.owner(database).connect() as connection:
            return int(connection.exec_driver_sql(statement).scalar() or 0)
    except sa.exc.OperationalError:  # the database is down at the moment
        return -1


@contextmanager
def told(running: Running, database: Database, first: int) -> Iterator[None]:
    """Where it fails: how the runs of the syncs from that one on stand, and what the server has said."""
    try:
        yield
    except AssertionError as failure:
        with running.owner(database).connect() as connection:
            statement = (
                "SELECT run_id, sync_configuration_id, attempt_number, sync_status, retry_at, left(error_message, 60)"
                f" FROM sync_history WHERE sync_configuration_id >= {first} ORDER BY 2, 3"
            )
            rows: list[object] = list(connection.exec_driver_sql(statement))
        runs = engine(database.url, role=None, poolclass=sa.NullPool).url.set(database="dagster")
        with sa.create_engine(runs, poolclass=sa.NullPool).connect() as connection:
            asked = "SELECT run_id, status, update_timestamp, start_time, end_time FROM runs ORDER BY id DESC LIMIT 4"
            rows += list(connection.exec_driver_sql(asked))
            rows += list(connection.exec_driver_sql("SELECT 'runs', count(*), max(id), pg_postmaster_start_time() FROM runs"))
        rows.append((running.home / "postgres" / "data" / "server.log").read_text()[-2500:])
        raise AssertionError("\n".join(map(str, [failure, *rows])) + "\n" + running.said()[-6000:]) from None


def test_a_sync_can_be_launched_as_soon_as_it_is_made_and_its_schedule_begins(
    database: Database, graphql: GraphQL, sandbox: Sandbox
) -> None:
    tenant, (accounts, _) = furnish(database, sandbox, "prompt")
    assert graphql.finished(graphql.launch(accounts)) == "SUCCESS"
    with database.tenant(tenant) as scope:
        assert scope.run("SELECT count(*) FROM erp.customer").scalar() == 150
        syncs.reschedule(scope, accounts, "*/5 * * * *", "UTC", "test")
    asked = """query ($name: String!) { scheduleOrError(scheduleSelector: {
        repositoryLocationName: "integration_pipelines.definitions", repositoryName: "__repository__", scheduleName: $name})
        { ... on Schedule { scheduleState { status nextTick { timestamp } } } } }"""
    found = until(lambda: graphql.ask(asked, name=f"schedule_sync_{accounts}")["scheduleOrError"].get("scheduleState"), 30)
    assert found["status"] == "RUNNING"
    with database.tenant(tenant) as scope:
        syncs.remove(scope, accounts, "test")
    jobs = """{ repositoryOrError(repositorySelector: {repositoryLocationName: "integration_pipelines.definitions",
        repositoryName: "__repository__"}) { ... on Repository { jobs { name } } } }"""
    until(lambda: f"sync_{accounts}" not in str(graphql.ask(jobs)), 30, "the removal")


def test_a_broken_sync_config_shows_its_sentence_and_leaves_the_others_alone(
    database: Database, graphql: GraphQL, sandbox: Sandbox
) -> None:
    tenant, (accounts, contacts) = furnish(database, sandbox, "broken")
    with database.tenant(tenant) as scope:
        scope.run("UPDATE sync_configurations SET sync_direction = 'sideways' WHERE id = :id", id=contacts)
    assert graphql.finished(graphql.launch(accounts)) == "SUCCESS"
    asked = """query ($name: String!) { pipelineOrError(params: {repositoryLocationName: "integration_pipelines.definitions",
        repositoryName: "__repository__", pipelineName: $name}) { ... on Pipeline { description } } }"""

    def description() -> str:
        return str(graphql.ask(asked, name=f"sync_{contacts}")["pipelineOrError"].get("description"))

    until(lambda: "its direction is 'sideways'" in description(), 30)
    assert graphql.finished(graphql.launch(contacts)) == "FAILURE"


def test_a_run_that_is_cancelled_ends_at_once_and_is_not_tried_again(
    running: Running, database: Database, graphql: GraphQL, sandbox: Sandbox
) -> None:
    _, (accounts, _) = furnish(database, sandbox, "cancelled", retry_delay_seconds=1)
    sandbox.faults.add("delay", path="/query", seconds=60, times=1)
    run = graphql.launch(accounts)
    row = "FROM sync_history WHERE sync_configuration_id = " + str(accounts)
    until(lambda: scalar(running, database, f"SELECT count(*) {row} AND sync_status = 'running'") == 1)
    graphql.ask("mutation ($id: String!) { terminateRun(runId: $id) { __typename } }", id=run)
    assert graphql.finished(run) == "CANCELED"
    closed = f"SELECT count(*) {row} AND sync_status = 'failed' AND retry_at IS NULL"
    until(lambda: scalar(running, database, closed) == 1)
    until(lambda: not running.pids("forkserver")[1:], 20, "the end of its process")
    assert scalar(running, database, closed) == 1
    assert scalar(running, database, "SELECT count(*) FROM alerts") == 0


def test_a_run_that_hangs_is_ended_when_its_time_is_over_and_tried_again(
    database: Database, graphql: GraphQL, sandbox: Sandbox
) -> None:
    tenant, (accounts, _) = furnish(database, sandbox, "hanging", retry_delay_seconds=1, max_runtime_seconds=10)
    sandbox.faults.add("delay", path="/query", seconds=120, times=1)
    graphql.launch(accounts)

    def told() -> list[tuple[str, str]]:
        with database.tenant(tenant) as scope:
            return [(r["sync_status"], r["error_message"]) for r in history.latest(scope, accounts)]

    until(lambda: told()[:1] and told()[0][0] == "completed", 90, "the retry's success")
    assert [status for status, _ in told()] == ["completed", "failed"]
    assert "took longer than 10 seconds" in told()[1][1]


def test_a_run_whose_daemon_dies_before_it_has_begun_is_tried_again_soon(
    running: Running, database: Database, graphql: GraphQL, sandbox: Sandbox
) -> None:
    _, (accounts, _) = furnish(database, sandbox, "unborn", retry_delay_seconds=1)
    for pid in running.pids("forkserver"):
        os.kill(pid, signal.SIGSTOP)
    run = graphql.launch(accounts)
    until(lambda: graphql.status(run) == "STARTING", 20, "the launch")
    assert running.kill("daemon") > 0
    assert running.kill("forkserver") > 0
    found = f"FROM sync_history WHERE sync_configuration_id = {accounts} AND sync_status = "
    until(lambda: scalar(running, database, f"SELECT count(*) {found} 'completed'") == 1, 75, "the retry's success")
    assert graphql.status(run) == "FAILURE"
    assert scalar(running, database, f"SELECT count(*) {found} 'failed'") == 1


def test_everything_is_killed_during_twenty_runs_and_every_run_comes_to_its_end(
    running: Running, database: Database, graphql: GraphQL, sandbox: Sandbox
) -> None:
    numbers = [number for at in range(10) for number in furnish(database, sandbox, f"t{at}", retry_delay_seconds=1)[1]]
    for number in numbers:
        graphql.launch(number)

    good = f"WHERE sync_status IN ('completed', 'partial') AND sync_configuration_id >= {numbers[0]}"

    def ended(at_least: int) -> bool:
        return scalar(running, database, f"SELECT count(*) FROM sync_history {good}") >= at_least

    for victim, so_many in (("forkserver", 2), ("daemon", 4), ("web", 6), ("code-server", 8)):
        until(partial(ended, so_many), 120, f"{so_many} runs")
        assert running.kill(victim) > 0
    until(partial(ended, 10), 120)
    postmaster = int((running.home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)
    distinct = f"SELECT count(DISTINCT sync_configuration_id) FROM sync_history {good}"
    with told(running, database, numbers[0]):
        until(lambda: scalar(running, database, distinct) == 20, 300, "twenty ends")
    until(lambda: scalar(running, database, "SELECT count(*) FROM sync_history WHERE sync_status = 'running'") == 0, 60)
    until(running.answers, 60, "readiness")
    for number in numbers[1::2]:  # children whose parents' run was killed were set aside, and heal
        graphql.launch(number)
    people = "SELECT count(*) FROM erp.contact_person"
    until(lambda: scalar(running, database, people) == 3000, 120, "all contacts")
    for tenant in ("t0", "t9"):
        found = f"FROM erp.customer WHERE tenant_id = (SELECT id FROM tenants WHERE name = '{tenant}')"
        assert scalar(running, database, f"SELECT count(*) {found}") == 150
    assert scalar(running, database, "SELECT count(*) FROM erp.customer") % 150 == 0
    open_ = "{ runsOrError(filter: {statuses: [QUEUED, STARTING, STARTED, CANCELING]}) { ... on Runs { results { runId } } } }"
    until(lambda: graphql.ask(open_)["runsOrError"]["results"] == [], 60, "the end of every Dagster run")


def test_the_supervisor_killed_in_the_middle_of_runs_is_started_again_and_leaves_nothing_behind(
    running: Running, database: Database, graphql: GraphQL, sandbox: Sandbox
) -> None:
    numbers = furnish(database, sandbox, "again", retry_delay_seconds=1)[1]
    for number in numbers:
        graphql.launch(number)
    running.process.kill()
    running.process.wait()
    until(lambda: not running.pids("supervised"), 20, "the end of the children")
    running.start()
    ended = f"""SELECT count(DISTINCT sync_configuration_id) FROM sync_history
                WHERE sync_status IN ('completed', 'partial') AND sync_configuration_id = ANY(ARRAY{numbers})"""
    with told(running, database, numbers[0]):
        until(lambda: scalar(running, database, ended) == 2, 240, "both ends")
    graphql.launch(numbers[1])  # contacts whose account's run was killed were set aside, and heal
    people = "SELECT count(*) FROM erp.contact_person WHERE tenant_id = (SELECT id FROM tenants WHERE name = 'again')"
    until(lambda: scalar(running, database, people) == 300, 60, "all contacts")
    began = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(15) == 0
    assert time.monotonic() - began < 15
    assert running.pids() == []


def test_a_load_balancer_may_ask_by_head(running: Running) -> None:
    if running.process.poll() is not None:
        running.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{running.port}") as balancer:
        for path, status in {"/healthz": 200, "/readyz": 200, "/sign-in": 200, "/": 307}.items():
            assert (balancer.head(path).status_code, path) == (status, path)


def test_a_second_server_on_the_same_home_or_port_is_refused(running: Running, tmp_path: Path) -> None:
    if running.process.poll() is not None:
        running.start()
    assert "Another `integration up` runs with the home" in refused("--port", "0", home=running.home)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"Port {port} on 127.0.0.1 cannot be used" in refused("--port", port, home=tmp_path / "home")


def refused(*options: str, home: Path) -> str:
    command = [sys.executable, "-m", "integration_pipelines", "up", *options]
    given = {**os.environ, "INTEGRATION_HOME": str(home)}
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr
