"""A failed run's connector is authorized to another account: what the old account's run had staged is never loaded."""

import sys
from datetime import timedelta
from uuid import UUID

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import build_reconstructable_job  # the way back to a job with an argument
from dagster._core.execution.plan.resume_retry import ReexecutionStrategy
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from office import Office

from connector_resources.contract import GrantState
from connector_resources.errors import NetworkError
from integration_pipelines.orchestration import upkeep
from integration_pipelines.orchestration.code_server import LOCATION, MODULE
from integration_pipelines.orchestration.session import utc_now
from integration_pipelines.store import connectors, history, retries, tenants


@pytest.fixture
def failed(office: Office, monkeypatch: pytest.MonkeyPatch) -> UUID:
    """A run that has read and staged 60 accounts, and could not load them."""

    def cut(*_: object) -> None:
        raise NetworkError("The ERP is away.")

    with monkeypatch.context() as patched:
        patched.setattr("integration_pipelines.steps.load.load", cut)
        patched.setattr("integration_pipelines.orchestration.failures.RETRIES", 0)
        assert not office.run().success
    row = office.last()
    assert (row["error_message"], row["retry_at"] is None) == ("The ERP is away.", False)
    return UUID(str(row["run_id"]))


def authorize(office: Office) -> None:
    with office.database.tenant(office.tenant) as scope:
        connectors.reconnect(scope, office.connector_id, {}, GrantState(good=True), user=tenants.first_user(scope))


def reads(office: Office) -> int:
    return len([request for request in office.sandbox.requests if "SystemModstamp" in str(request)])


def execute(office: Office, parent: UUID, strategy: ReexecutionStrategy) -> bool:
    """As somebody who presses the button in Dagster's UI."""
    number = office.syncs["Account"].id
    job = build_reconstructable_job("integration_pipelines.orchestration.jobs", "job_of", reconstructable_args=(number,))
    again = dg.ReexecutionOptions(parent_run_id=str(parent))
    if strategy is ReexecutionStrategy.FROM_FAILURE:
        again = dg.ReexecutionOptions.from_failure(str(parent), office.instance)
    with dg.execute_job(job, office.instance, reexecution_options=again) as result:
        return result.success


def tried_again(office: Office) -> dg.DagsterRun:
    """The run that the daemon puts into the queue when the retry is due."""
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name=MODULE)
    load = InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(target, location_name=LOCATION))
    with WorkspaceProcessContext(office.instance, load) as workspace:
        context = workspace.create_request_context()
        keeper = upkeep.Upkeep(office.settings, office.database, workspace)
        for tenant, number in retries.due(office.database, utc_now() + timedelta(hours=1)):
            keeper.retry(context, context.get_code_location(LOCATION), tenant, number)
    (run,) = office.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]), limit=1)
    return run


def test_the_retry_reads_again_when_the_connector_was_authorized_anew(office: Office, failed: UUID) -> None:
    authorize(office)
    run = tried_again(office)
    assert run.parent_run_id == str(failed)
    assert run.step_keys_to_execute is None
    before = reads(office)
    assert execute(office, failed, ReexecutionStrategy.ALL_STEPS)
    assert reads(office) > before
    assert (office.last()["connector_revision"], office.last()["attempt_number"], office.customers()) == (2, 2, 60)
    assert office.rows("SELECT FROM staged_batches") == []


def test_the_retry_goes_on_from_where_it_failed_when_only_a_token_or_a_limit_has_changed(office: Office, failed: UUID) -> None:
    stored = connectors.StoredCredentials(office.database, office.tenant, office.connector_id)
    with stored.exclusive() as rotating:
        rotating.store({"access_token": "another"}, GrantState(good=True))
    with office.database.tenant(office.tenant) as scope:
        connectors.configure(scope, office.connector_id, {"calls_per_day": 5000}, user=tenants.first_user(scope))
    run = tried_again(office)
    assert (run.parent_run_id, run.step_keys_to_execute) == (str(failed), ["load"])


def test_a_person_who_re_executes_from_the_failure_loads_nothing_of_the_old_account(office: Office, failed: UUID) -> None:
    authorize(office)
    assert not execute(office, failed, ReexecutionStrategy.FROM_FAILURE)
    row = office.last()
    assert row["error_message"].startswith(
        "The connector was authorized or configured anew after these records had been read."
    )
    assert office.customers() == 0
    assert row["retry_at"] is not None
    with office.database.tenant(office.tenant) as scope:
        assert retries.afresh(scope, row["id"])
    assert tried_again(office).step_keys_to_execute is None


def test_what_was_read_through_the_new_account_is_loaded_from_where_it_failed(
    office: Office, failed: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    authorize(office)

    def cut(*_: object) -> None:
        raise history.Overtaken("Closed.")

    with monkeypatch.context() as patched:
        patched.setattr("integration_pipelines.steps.load.load", cut)
        assert not execute(office, failed, ReexecutionStrategy.ALL_STEPS)
    before = reads(office)
    assert execute(office, UUID(str(office.last()["run_id"])), ReexecutionStrategy.FROM_FAILURE)
    assert (reads(office), office.customers()) == (before, 60)
