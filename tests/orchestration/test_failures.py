"""What an op's failure becomes: a retry after the right wait, or the end with one sentence."""

import logging
from uuid import UUID

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from connector_resources.errors import ConfigurationError, NetworkError, RateLimited
from integration_pipelines.orchestration.failures import POLICY, RETRIES, Interrupted, explained, unexpected
from integration_pipelines.orchestration.session import RunIds
from integration_pipelines.store.retries import AfterFailure

LOG = logging.getLogger("test")


class Desk:
    """Hears how a run was closed."""

    def __init__(self) -> None:
        self.closed: list[tuple[str, str, str]] = []
        self.ids = RunIds(UUID(int=1))

    def fail(self, error_type: str, message: str, after: AfterFailure) -> None:
        self.closed.append((error_type, message, after.value))


def raised(problem: BaseException, tries_before: int = 0) -> tuple[BaseException, Desk]:
    desk = Desk()
    with (
        dg.DagsterInstance.ephemeral() as instance,
        pytest.raises(BaseException) as caught,
        explained(desk, tries_before, LOG, instance),  # type: ignore[arg-type]
    ):
        raise problem
    return caught.value, desk


def test_a_wait_that_the_other_side_asks_for_is_what_dagster_waits() -> None:
    request, desk = raised(RateLimited("Wait.", wait=120))
    assert isinstance(request, dg.RetryRequested)
    assert (request.seconds_to_wait, request.max_retries, desk.closed) == (120, RETRIES, [])


def test_an_endless_wait_is_capped_at_an_hour() -> None:
    request, _ = raised(RateLimited("Wait.", wait=10**9))
    assert isinstance(request, dg.RetryRequested)
    assert request.seconds_to_wait == 3600


def test_without_a_wait_the_policy_decides_exponentially_with_jitter() -> None:
    problem, desk = raised(NetworkError("Gone."))
    assert isinstance(problem, NetworkError)
    assert desk.closed == []
    delays = [[POLICY.calculate_delay(attempt) for _ in range(50)] for attempt in (1, 2, 3)]
    for attempt, found in enumerate(delays):
        assert all(0 <= delay <= 2 * 2 ** (attempt + 1) for delay in found)
        assert len(set(found)) > 1
    assert sum(delays[2]) > sum(delays[0])


def test_the_last_try_closes_the_history_once() -> None:
    problem, desk = raised(NetworkError("Gone."), tries_before=RETRIES)
    assert isinstance(problem, dg.Failure)
    assert not problem.allow_retries
    assert desk.closed == [("network", "Gone.", "retry")]


def test_what_a_person_must_repair_is_not_tried_again() -> None:
    problem, desk = raised(ConfigurationError("Repair it."))
    assert isinstance(problem, dg.Failure)
    assert (problem.description, problem.allow_retries) == ("Repair it.", False)
    assert desk.closed == [("configuration", "Repair it.", "alert")]


def test_a_process_that_is_asked_to_end_leaves_a_run_that_is_tried_again() -> None:
    problem, desk = raised(KeyboardInterrupt())
    assert isinstance(problem, Interrupted)
    assert isinstance(problem, DagsterExecutionInterruptedError)
    assert isinstance(problem, dg.DagsterError)  # which no RetryPolicy is applied to
    assert [(kind, after) for kind, _, after in desk.closed] == [("system", "retry")]


def test_a_fault_of_our_own_quotes_nothing() -> None:
    problem, desk = raised(ValueError("canary-value"))
    assert "canary-value" not in f"{problem} {desk.closed} {problem.__cause__}"
    assert desk.closed[0][0] == "system"
    assert unexpected(ValueError("canary-value")).startswith("Unexpected ValueError.")
