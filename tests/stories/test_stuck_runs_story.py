"""Runs whose process is gone, wherever it was, keep no place in the queue; and a paused sync runs no more."""

import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import dagster as dg
import pytest
import sqlalchemy as sa
from office import Office
from running import until

from integration_pipelines.orchestration import upkeep
from integration_pipelines.orchestration.jobs import job_named, job_of
from integration_pipelines.orchestration.launcher import WORKER_TAG
from integration_pipelines.store import syncs


@pytest.fixture
def keeper(office: Office, monkeypatch: pytest.MonkeyPatch) -> upkeep.Upkeep:
    """Some minutes later."""
    monkeypatch.setattr(upkeep, "utc_now", lambda: datetime.now(UTC) + timedelta(minutes=5))
    return upkeep.Upkeep(office.settings, office.database, None)  # type: ignore[arg-type] # it looks at no definitions here


def status(office: Office, run_id: str) -> dg.DagsterRunStatus:
    run = office.instance.get_run_by_id(run_id)
    assert run is not None, run_id
    return run.status


def look(keeper: upkeep.Upkeep, office: Office) -> None:
    keeper.bury(office.instance)
    keeper.bury_unborn(office.instance)
    keeper.look_at_ended_runs(office.instance)


def test_a_run_by_hand_that_is_killed_before_it_has_a_history_is_closed_and_tried_again(
    office: Office, keeper: upkeep.Upkeep
) -> None:
    config = office.syncs["Account"]
    pair = f"{office.tenant}/{config.connector_id}/{config.external_entity}/{config.erp_entity}"
    with office.database.connection() as connection:
        connection.execute(sa.text("SELECT pg_advisory_lock(hashtextextended(:pair, 0))"), {"pair": pair})
        connection.commit()
        command = [sys.executable, "-m", "integration_pipelines", "sync", "run", str(config.id)]
        process = subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
        (run,) = until(lambda: office.instance.get_runs(started), 90)

        def holds_its_lock() -> bool:
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            return bool(connection.execute(sa.text(waiting)).scalar_one() > 1)

        until(holds_its_lock, 60)
        look(keeper, office)
        assert status(office, run.run_id) is dg.DagsterRunStatus.STARTED
        process.send_signal(signal.SIGKILL)
        process.wait()
        connection.invalidate()
    look(keeper, office)
    assert status(office, run.run_id) is dg.DagsterRunStatus.FAILURE
    row = office.last()
    assert (row["run_id"], row["sync_status"]) == (UUID(run.run_id), "failed")
    assert row["retry_at"] is not None


def test_a_run_that_died_between_its_last_commit_and_its_end_is_closed(office: Office, keeper: upkeep.Upkeep) -> None:
    assert office.run().success
    run_id, job = str(uuid4()), job_of(office.syncs["Account"].id)
    tags = {WORKER_TAG: "a-container-that-is-gone/17/12345"}
    run = office.instance.create_run_for_job(job, run_id=run_id, tags=tags, status=dg.DagsterRunStatus.STARTING)
    office.instance.report_dagster_event(dg.DagsterEvent(event_type_value="PIPELINE_START", job_name=job.name), run_id=run_id)
    office.change("UPDATE sync_history SET run_id = :r", r=run_id)
    look(keeper, office)
    assert status(office, run.run_id) is dg.DagsterRunStatus.FAILURE
    found = office.rows("SELECT sync_status FROM sync_history WHERE run_id = CAST(:r AS uuid)", r=run_id)
    assert [row["sync_status"] for row in found] == ["completed"]


def test_a_run_of_a_paused_sync_that_was_in_the_queue_does_nothing(office: Office) -> None:
    config = office.syncs["Account"]
    with office.database.tenant(office.tenant) as scope:
        syncs.pause(scope, config.id, "t")
    result = job_named(f"sync_{config.id}").execute_in_process(instance=office.instance, raise_on_error=False)
    assert not result.success
    assert office.customers() == 0
    row = office.last()
    assert (row["sync_status"], row["retry_at"]) == ("failed", None)
    assert f"`integration sync resume {config.id}`" in row["error_message"]
    assert office.rows("SELECT FROM alerts") == []


def test_a_re_execution_is_not_taken_for_dead_by_the_process_of_the_run_before(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, process = job_of(office.syncs["Account"].id), subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    tags = {WORKER_TAG: f"{socket.gethostname()}/{process.pid}/1"}
    child = office.instance.create_run_for_job(job, tags=tags)
    starting = dg.DagsterEvent(event_type_value="PIPELINE_STARTING", job_name=job.name)
    office.instance.report_dagster_event(starting, run_id=child.run_id)
    keeper = upkeep.Upkeep(office.settings, office.database, None)  # type: ignore[arg-type] # it looks at no definitions here
    keeper.bury_unborn(office.instance)
    assert status(office, child.run_id) is dg.DagsterRunStatus.STARTING
    monkeypatch.setattr(upkeep, "utc_now", lambda: datetime.now(UTC) + timedelta(minutes=1))
    keeper.bury_unborn(office.instance)
    assert status(office, child.run_id) is dg.DagsterRunStatus.FAILURE


def test_every_run_that_died_while_there_was_no_daemon_is_noted_once(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def daemon(later: timedelta) -> None:
        monkeypatch.setattr(upkeep, "utc_now", lambda: datetime.now(UTC) + later)
        keeper = upkeep.Upkeep(office.settings, office.database, None)  # type: ignore[arg-type] # it looks at no definitions here
        keeper.look_at_ended_runs(office.instance)

    monkeypatch.setattr(upkeep, "PAGE", 2)
    daemon(timedelta(0))
    job = job_of(office.syncs["Account"].id)
    died = [office.instance.create_run_for_job(job) for _ in range(5)]
    for run in died:
        office.instance.report_run_failed(run)
    for hours in (3, 3, 6):
        daemon(timedelta(hours=hours))
    noted = office.rows("SELECT run_id, sync_status FROM sync_history ORDER BY id")
    found = [row["run_id"] for row in noted if str(row["run_id"]) in {run.run_id for run in died}]
    assert sorted(found) == sorted(UUID(run.run_id) for run in died)
    assert {row["sync_status"] for row in noted} == {"failed"}
