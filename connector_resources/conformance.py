"""The conformance suite: what every connector must do, tried on a real endpoint.

Reading is tried on any entity. Writing makes records, so it is tried only where a sample of values is given. Faults are made
on our own side of the wire (wire.py): a request really goes out, and its answer is thrown away. Nothing here knows a vendor.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from connector_resources.conformance_read import READING
from connector_resources.conformance_trial import Check, Fails, Held, NotApplicable, Trial, sample_of
from connector_resources.conformance_write import WRITING, cleared
from connector_resources.errors import IntegrationError

__all__ = ["Finding", "Held", "Trial", "Verdict", "conform", "sample_of"]


class Verdict(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Finding:
    """What one check found. `sentence`: what was seen, or what is missing and where to put it right."""

    name: str
    verdict: Verdict
    sentence: str


def conform(trial: Trial) -> Iterator[Finding]:
    """Each check's finding, one after the other. Without a sample nothing is written: the checks that write are left out."""
    for name, check in READING.items():
        yield _found(name, check, trial)
    for name, check in WRITING.items() if trial.sample is not None else ():
        yield _found(name, check, trial)
    if trial.made:
        yield _found("what was made is deleted again", cleared, trial)


def _found(name: str, check: Check, trial: Trial) -> Finding:
    try:
        return Finding(name, Verdict.PASSED, check(trial))
    except NotApplicable as reason:
        return Finding(name, Verdict.NOT_APPLICABLE, str(reason))
    except (Fails, IntegrationError) as problem:
        return Finding(name, Verdict.FAILED, str(problem))
