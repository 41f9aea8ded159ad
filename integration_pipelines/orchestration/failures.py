"""What went wrong, turned into what Dagster does next.

Retries have one owner here: a RetryableError runs the op again after a growing delay, or after the very wait that the other
side asked for. Everything else ends the run at once. Either way Dagster's log gets our sentence and never a driver's, which
would quote values.
"""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import dagster as dg

from connector_resources.errors import IntegrationError, RetryableError
from integration_pipelines.orchestration.launcher import WORKER_TAG
from integration_pipelines.orchestration.session import Session
from integration_pipelines.store.retries import AfterFailure

RETRIES = 3
LONGEST_WAIT = 3600.0
POLICY = dg.RetryPolicy(max_retries=RETRIES, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


@contextmanager
def explained(session: Session, tries_before: int, log: logging.Logger, instance: dg.DagsterInstance) -> Iterator[None]:
    """Around all that an op does. Closes the history row when nothing more is tried in this run."""
    try:
        yield
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
        session.fail(problem.error_type, str(problem), AfterFailure.ALERT)
        raise dg.Failure(str(problem), allow_retries=False) from None
    except (dg.Failure, dg.RetryRequested):
        raise
    except Exception as problem:  # noqa: BLE001 - whatever it is, its text may quote records
        sentence = unexpected(problem)
        session.fail("system", sentence, AfterFailure.ALERT)
        raise dg.Failure(sentence, allow_retries=False) from None
    except BaseException:
        if session.ids is not None and cancelled(instance, session.ids.run_id):
            session.fail("system", "The run was cancelled.", AfterFailure.NOTHING)
        else:
            session.fail("system", "The run's process was asked to end before it had finished.", AfterFailure.RETRY)
        raise


def cancelled(instance: dg.DagsterInstance, run_id: UUID) -> bool:
    """Whether somebody meant this very run: through Dagster, or, where it has no process of its own, with Ctrl-C."""
    run = instance.get_run_by_id(str(run_id))
    ending = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)
    return run is not None and (run.status in ending or not run.tags.get(WORKER_TAG))


def unexpected(problem: Exception) -> str:
    """Kind and place of a fault of our own, without its text."""
    frames = traceback.extract_tb(problem.__traceback__)
    ours = [f for f in frames if "integration_pipelines" in f.filename or "connector_resources" in f.filename] or frames
    place = f" in {ours[-1].filename.rsplit('/', 1)[-1]}, line {ours[-1].lineno}" if ours else ""
    return f"Unexpected {type(problem).__name__}{place}. This is a fault of the product; please report it with this sentence."
