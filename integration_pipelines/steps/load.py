"""load: the plan is carried out, batch by batch.

With the ERP in our own database each batch is one transaction: records, links, base, journal, errors, intents and counts, or
nothing of them. With the ERP in a database of its own, intents are committed first, the records with their applied_intents
next, and the rest last; after a crash in between the next run probes the intents that were never settled (`recover`).

A record whose link or ERP record has moved since resolve is read and resolved again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from uuid import uuid4

import numpy as np
import orjson
import pandas as pd
import pyarrow.compute as pc

from connector_resources.contract import Changes, Outcome
from connector_resources.errors import SystemUnavailable
from integration_pipelines.canonical import array
from integration_pipelines.model import Batch, Change, SyncStatus, missing
from integration_pipelines.steps import resolve, sides
from integration_pipelines.steps.map import apply
from integration_pipelines.steps.merge import Bools
from integration_pipelines.steps.references import resolve_references
from integration_pipelines.steps.run import Run
from integration_pipelines.steps.settle import Settlement, recover, settle
from integration_pipelines.steps.validate import checked, schema_of, validate
from integration_pipelines.store import history, links, rejects
from integration_pipelines.store.database import Scope

ROUNDS = 5  # how often a row may move under our hands before the run gives up for now


@dataclass
class Counts:
    """What a load did: records by outcome, and changes by action."""

    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    actions: dict[str, int] = field(default_factory=dict)

    @property
    def processed(self) -> int:
        return self.succeeded + self.failed + self.skipped

    def add(self, other: "Counts") -> None:
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.skipped += other.skipped
        for action, number in other.actions.items():
            self.actions[action] = self.actions.get(action, 0) + number


def load(run: Run, batches: Iterable[Batch]) -> tuple[Counts, SyncStatus]:
    """Write every batch, then close the history row and move the watermark."""
    counts = Counts()
    if run.erp.place.apart:
        counts.succeeded += recover(run)
    for batch in batches:
        _load_batch(run, batch, counts)
    with run.database.tenant(run.tenant) as scope:
        rejects.clear_failures(scope, run.config)
        status = history.complete(scope, run.config, run.opened, run.now())
    return counts, status


def _load_batch(run: Run, batch: Batch, counts: Counts) -> None:
    """One batch to its end. What has moved under our hands is read and resolved again, each time in a transaction of its own;
    `counts` grows by what was committed."""
    waiting = [batch]
    for _ in range(ROUNDS):
        moved = [record for part in waiting for record in _load_round(run, part, counts)]
        if not moved:
            return
        waiting = _planned_afresh(run, moved)
        gone = len(moved) - sum(len(part) + len(part.rejected) for part in waiting)
        if gone > 0:  # meanwhile unknown over there: nothing is left to be done for them
            with run.database.tenant(run.tenant) as scope:
                history.count(scope, run.opened, skipped=gone)
            counts.skipped += gone
    raise SystemUnavailable("Records keep changing while they are written; the run tries again later.")


def _load_round(run: Run, batch: Batch, counts: Counts) -> list[str]:
    """Carry out what stands as planned, in one transaction; returns the ids of the records that have moved."""
    with run.database.tenant(run.tenant) as scope:
        ready, moved = _still_as_planned(run, scope, batch)
        ready = _contract_holds(run, ready)
        plan = _plan(ready)
        skips, settles = np.asarray(pc.equal(array(plan["action"]), Change.SKIP)), np.asarray(array(plan["settle"]))
        written, again, refused = _write(run, scope, _alone(ready.take(~skips)))
        done = written.plus(Settlement.of(run, scope, ready.take(skips & settles), {}))
        settle(run, scope, done)
        failures = pd.concat([ready.rejected, refused], ignore_index=True)
        _park(run, scope, failures)
        moved += again
        seen = {*map(str, ready.records.index), *array(failures["record_id"]).to_pylist()} - set(moved)
        rejects.settle(scope, run.config, run.opened, sorted(seen), failures)
        found = Counts(len(done.changes), len(failures), int(skips.sum()), _numbers(done.changes["action"]))
        history.count(scope, run.opened, succeeded=found.succeeded, failed=found.failed, skipped=found.skipped)
    counts.add(found)
    return moved


def _planned_afresh(run: Run, ids: list[str]) -> list[Batch]:
    """These records, read again: a plan that was made before its link moved may hold values that are no longer true."""
    pages = run.external.read_ids(run.source, run.mapping.source_fields, ids)
    mapped = [apply(run.mapping, batch) for batch in validate(map(Batch.of, pages), run.source.fields)]
    with run.database.tenant(run.tenant) as scope:
        return [resolve.plan(run, scope, resolve_references(run, scope, batch)) for batch in mapped]


def _numbers(actions: "pd.Series[str]") -> dict[str, int]:
    return {str(action): int(number) for action, number in actions.value_counts().items()}


def _alone(batch: Batch) -> Batch:
    return replace(batch, rejected=batch.rejected.iloc[:0])


def _plan(batch: Batch) -> pd.DataFrame:
    assert batch.plan is not None  # noqa: S101 - resolve has made it
    return batch.plan


def _still_as_planned(run: Run, scope: Scope, batch: Batch) -> tuple[Batch, list[str]]:
    """Lock the links that will be written: what stands as planned, and the ids of the records whose link has moved since."""
    plan = _plan(batch)
    touched = np.asarray(pc.or_(array(plan["settle"]), pc.not_equal(array(plan["action"]), Change.SKIP)))
    names = [str(record) for record in batch.records.index[touched]]
    if not names:
        return batch, []
    now = links.find(scope, run.pair, names, lock=True)["revision"].to_dict()
    new = [bytes(d) for d, link in zip(plan["match_digest"], plan["link_id"], strict=True) if missing(link) and not missing(d)]
    claimed = links.claimed(scope, run.pair, new) if new else {}
    moved = np.zeros(len(batch), dtype=bool)
    rows = zip(map(str, batch.records.index), plan["revision"], plan["match_digest"], plan["link_id"], touched, strict=True)
    for at, (record, revision, digest, link, writes) in enumerate(rows):
        expected = None if missing(revision) else int(revision)
        taken = missing(link) and not missing(digest) and bytes(digest) in claimed
        moved[at] = writes and (now.get(record) != expected or taken)
    return batch.take(~moved), [str(record) for record in batch.records.index[moved]]


def _contract_holds(run: Run, batch: Batch) -> Batch:
    """Without the records whose written values would break the ERP entity's contract."""
    written = _written(batch)
    if not written.any():
        return batch
    return checked(batch, schema_of(run.fields), only=written)


def _written(batch: Batch) -> Bools:
    if batch.written is None:
        return np.zeros(batch.records.shape, dtype=bool)
    return batch.written.to_numpy(dtype=bool)


def _write(run: Run, scope: Scope, batch: Batch) -> tuple[Settlement, list[str], pd.DataFrame]:
    """Write to the ERP: what is to be settled, the ids of records that had moved, and the rows that the ERP refuses."""
    if not len(batch):
        return Settlement.nothing(), [], batch.rejected
    erp = sides.erp_in(run, scope)
    plan = _plan(batch)
    ids = [None if missing(erp_id) else str(erp_id) for erp_id in plan["erp_id"]]
    creates = np.asarray(pc.equal(array(plan["action"]), Change.CREATE))
    fresh = iter(erp.new_ids(run.target, int(creates.sum())))
    ids = [next(fresh) if new else old for new, old in zip(creates, ids, strict=True)]
    steps = pd.DataFrame(
        {
            "action": plan["action"].astype(object),
            "id": ids,
            "version": [None if missing(v) else v for v in plan["erp_version"]],
            "intent": [str(uuid4()) for _ in ids],
        },
        index=batch.records.index,
        dtype=object,
    )
    steps.loc[creates, "version"] = None
    announced = Settlement.of(run, scope, batch, {"erp_id": ids, "intent": list(steps["intent"])})
    if run.erp.place.apart:
        announced.announce(run)
    written = batch.written if batch.written is not None else batch.records.notna()
    outcomes = erp.write(run.target, Changes(batch.records, written, steps))
    arrived = np.asarray(outcomes["outcome"] == Outcome.DONE, dtype=bool)
    refused = np.asarray(outcomes["outcome"] == Outcome.REFUSED, dtype=bool)
    if run.erp.place.apart:
        announced.abandon(scope, ~arrived)
    reasons = list(outcomes["message"][refused])
    rows = batch.reject(refused, error_type="validation", message=reasons, rule="erp").rejected
    moved = [str(record) for record in batch.records.index[~arrived & ~refused]]
    return announced.arrived(arrived, list(outcomes["version"])), moved, rows


def _park(run: Run, scope: Scope, failures: pd.DataFrame) -> None:
    """Linked pairs that wait for a person are marked so."""
    waiting = failures[np.asarray(failures["error_type"] == "conflict", dtype=bool)]
    merged = {
        str(record): orjson.loads(details).get("merged_into")
        for record, details in zip(waiting["record_id"], waiting["details"], strict=True)
    }
    if merged:
        links.park(scope, run.pair, merged)
