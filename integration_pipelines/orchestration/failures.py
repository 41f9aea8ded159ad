"""What went wrong, turned into what Dagster does next.

Retries have one owner here: a RetryableError runs the op again after a growing delay, or after the very wait that the other
side asked for. Everything else ends the run at once. Either way Dagster's log gets our sentence and never a driver's, which
would quote values.
"""

import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.storage.tags import MAX_RUNTIME_SECONDS_TAG

from connector_resources.errors import IntegrationError, QuotaReached, RetryableError
from integration_pipelines.orchestration.launcher import WORKER_TAG
from integration_pipelines.orchestration.session import Paused, Session
from integration_pipelines.store.history import ConnectorChanged
from integration_pipelines.store.retries import AfterFailure

RETRIES = 3
LONGEST_WAIT = 3600.0
POLICY = dg.RetryPolicy(max_retries=RETRIES, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


@contextmanager
def explained(session: Session, tries_before: int, log: logging.Logger, instance: dg.DagsterInstance) -> Iterator[None]:
    """Around all that an op does. Closes the history row when nothing more is tried in this run."""
    try:
        yield
    except QuotaReached as problem:
        until = session.postpone(str(problem), problem.wait or LONGEST_WAIT)
        raise dg.Failure(f"{problem} It goes on by itself at {until:%H:%M} UTC.", allow_retries=False) from None
    except RetryableError as problem:
        if tries_before < RETRIES:
            log.warning(f"{problem} (try {tries_before + 1} of {RETRIES + 1})")
            wait = getattr(problem, "wait", None)
            if wait is not None:
                raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=min(float(wait), LONGEST_WAIT)) from None
            raise
        session.fail(problem.error_type, str(problem), AfterFailure.RETRY)
        raise dg.Failure(f"{problem} Given up after {RETRIES + 1} tries.", allow_retries=False) from None
    except IntegrationError as problem:
        session.fail(problem.error_type, str(problem), _after(problem))
        raise dg.Failure(str(problem), allow_retries=False) from None
    except (dg.Failure, dg.RetryRequested):
        raise
    except Exception as problem:  # noqa: BLE001 - whatever it is, its text may quote records
        sentence = unexpected(problem)
        session.fail("system", sentence, AfterFailure.ALERT)
        raise dg.Failure(sentence, allow_retries=False) from None
    except (KeyboardInterrupt, DagsterExecutionInterruptedError):
        if session.ids is not None:
            session.fail("system", *interrupted(instance, session.ids.run_id))
        raise Interrupted("The run was interrupted.") from None


def _after(problem: IntegrationError) -> AfterFailure:
    if isinstance(problem, Paused):
        return AfterFailure.NOTHING
    return AfterFailure.RETRY if isinstance(problem, ConnectorChanged) else AfterFailure.ALERT


class Interrupted(DagsterExecutionInterruptedError, dg.DagsterError):
    """Dagster applies an op's RetryPolicy to an interruption too, unless it is an error of its own: a run that somebody has
    cancelled would go on."""


def interrupted(instance: dg.DagsterInstance, run_id: UUID) -> tuple[str, AfterFailure]:
    """Why a run was interrupted, and what follows: its time is over, its process was asked to end (the machine goes down), or
    somebody meant this very run, through Dagster or, where it has no process of its own, with Ctrl-C."""
    record = instance.get_run_record_by_id(str(run_id))
    tags = record.dagster_run.tags if record else {}
    limit = float(tags.get(MAX_RUNTIME_SECONDS_TAG, "inf"))
    if record is not None and record.start_time is not None and time.time() - record.start_time > limit:
        return f"The run took longer than {limit:.0f} seconds, the max_runtime_seconds of its sync.", AfterFailure.RETRY
    ending = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)
    if record is not None and (record.dagster_run.status in ending or not tags.get(WORKER_TAG)):
        return "The run was cancelled.", AfterFailure.NOTHING
    return "The run's process was asked to end before it had finished.", AfterFailure.RETRY


def unexpected(problem: Exception) -> str:
    """Kind and place of a fault of our own, without its text."""
    frames = traceback.extract_tb(problem.__traceback__)
    ours = [f for f in frames if "integration_pipelines" in f.filename or "connector_resources" in f.filename] or frames
    place = f" in {ours[-1].filename.rsplit('/', 1)[-1]}, line {ours[-1].lineno}" if ours else ""
    return f"Unexpected {type(problem).__name__}{place}. This is a fault of the product; please report it with this sentence."
