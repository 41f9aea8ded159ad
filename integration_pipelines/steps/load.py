"""load: the plan is carried out, batch by batch.

With the ERP in our own database each batch is one transaction: records, links, base, journal, errors, intents and counts, or
nothing of them. With the ERP in a database of its own, intents are committed first, the records with their applied_intents
next, and the rest last; after a crash in between the next run probes the intents that were never settled (`recover`).

A record whose link or ERP record has moved since resolve is read and resolved again.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.contract import Changes, Outcome
from connector_resources.frames import uuids
from integration_pipelines.canonical import aligned, array, extension
from integration_pipelines.model import Batch, Change, Side, SyncStatus, bools
from integration_pipelines.steps import resolve, send, sides
from integration_pipelines.steps.base import Bools
from integration_pipelines.steps.map import apply
from integration_pipelines.steps.references import resolve_references
from integration_pipelines.steps.run import Counts, Run
from integration_pipelines.steps.settle import Settlement, recover, settle
from integration_pipelines.steps.validate import checked, schema_of, validate
from integration_pipelines.store import history, links, rejects
from integration_pipelines.store.database import Scope

__all__ = ["Counts", "load"]

LANES = 3  # batches under way at once: while the database works on some, another is prepared
ROUNDS = 5  # how often a row may move under our hands before it is set aside for now
_RESTLESS = "It keeps changing while it is written; the next run tries again."


def load(run: Run, batches: Iterable[Batch]) -> tuple[Counts, SyncStatus]:
    """Write every batch, then close the history row and move the watermark. Tried again in the same run it leaves out the
    batches that are committed."""
    if run.erp.place.apart:
        run.counts.succeeded += recover(run)
    recovered: list[Batch] = []
    if run.outward is not None and (ids := send.recover(run)):
        run.counts.succeeded += len(ids)
        recovered = send.afresh(run, ids)  # the plan was made before anybody knew that they have a partner
    with run.database.tenant(run.tenant) as scope:
        overtaken = history.overtaken(scope, run.opened)
    for batch in recovered:
        _load_batch(run, batch, -1, overtaken=overtaken)
    _load_all(run, batches, overtaken=overtaken)
    with run.database.tenant(run.tenant) as scope:
        rejects.clear_failures(scope, run.config)
        status = history.complete(scope, run.config, run.opened, run.now())
    return run.counts, status


def _load_all(run: Run, batches: Iterable[Batch], *, overtaken: bool) -> None:
    """In order, and side by side where that changes nothing: batches that only create records, each in one of them."""
    under_way: dict[Future[None], set[object] | None] = {}
    with ThreadPoolExecutor(LANES) as lanes:
        for place, batch in enumerate(batches):
            if place in run.loaded:
                continue
            records = _creating(batch)
            while under_way and (
                len(under_way) == LANES
                or records is None
                or any(others is None or not records.isdisjoint(others) for others in under_way.values())
            ):
                _ended(under_way)
            under_way[lanes.submit(_load_batch, run, batch, place, overtaken=overtaken)] = records
        while under_way:
            _ended(under_way)


def _ended(under_way: "dict[Future[None], set[object] | None]") -> None:
    """Wait for one of them. Raises what has ended it."""
    done, _ = wait(under_way, return_when=FIRST_COMPLETED)
    for future in done:
        del under_way[future]
        future.result()


def _creating(batch: Batch) -> set[object] | None:
    """What the records of a batch are told apart by; None where any of them is changed, deleted or sent out: another one may
    want what it gives up, such as a number."""
    plan = _plan(batch)
    calm = pc.is_in(array(plan["action"]), value_set=pa.array([Change.CREATE.value, Change.SKIP.value]))
    if batch.side is Side.ERP or not pc.all(calm).as_py():
        return None
    told = (array(batch.records.index), array(plan["erp_id"]), array(plan["match_digest"]), array(batch.rejected["record_id"]))
    return {value for column in told for value in column.to_pylist()} - {None}


def _load_batch(run: Run, batch: Batch, place: int, *, overtaken: bool) -> None:
    """One batch to its end. What has moved under our hands is read and resolved again, each time in a transaction of its own;
    a record that moves each time is set aside. Where another run has overtaken this one, nothing is written that was not read
    again: that run may have found a record back at its old values, and then its link has not moved."""
    one_round, planned_afresh = (
        (_load_round, _planned_afresh) if batch.side is Side.EXTERNAL else (send.load_round, send.planned_afresh)
    )
    waiting = [batch]
    if overtaken:
        quiet, rejected = ~_touched(batch), batch.rejected
        nameless = bools(pc.equal(array(rejected["rule"]), "id"))  # nobody can be asked for them
        waiting = [replace(batch.take(quiet), rejected=rejected[nameless])]
        waiting += planned_afresh(run, batch.take(~quiet).alone(), array(rejected["record_id"][~nameless]).to_pylist())
    for rounds_left in reversed(range(ROUNDS)):
        if not rounds_left and batch.side is Side.ERP:
            one_round = send.last_round
        moved = [part for part in (one_round(run, part) for part in waiting) if len(part)]
        if not moved:
            break
        if rounds_left:
            waiting = [fresh for part in moved for fresh in planned_afresh(run, part)]
    for part in moved:
        one_round(run, part.reject(np.ones(len(part), dtype=bool), error_type="system", message=_RESTLESS, rule="load"))
    run.loaded.add(place)


def _load_round(run: Run, batch: Batch) -> Batch:
    """Carry out what stands as planned, in one transaction; returns the records that have moved."""
    with run.database.tenant(run.tenant) as scope:
        ready, moved = _still_as_planned(run, scope, batch)
        ready = _contract_holds(run, ready)
        plan = _plan(ready)
        skips, settles = np.asarray(pc.equal(array(plan["action"]), Change.SKIP)), np.asarray(array(plan["settle"]))
        written, again, refused = _write(run, scope, ready.take(~skips).alone())
        quiet = skips & settles
        done = written.plus(Settlement.of(run, ready.take(quiet))) if quiet.any() else written
        settle(run, scope, done)
        failures = pd.concat([ready.rejected, refused], ignore_index=True)
        _park(run, scope, failures)
        moved += again
        seen = {*array(ready.records.index).to_pylist(), *array(failures["record_id"]).to_pylist()} - set(moved)
        rejects.settle(scope, run.config, run.opened, sorted(seen), failures)
        actions = done.rows["action"][done.changed]
        found = Counts(len(actions), len(failures), int(skips.sum()), _numbers(actions))
        history.count(scope, run.opened, succeeded=found.succeeded, failed=found.failed, skipped=found.skipped)
    run.counts.add(found)
    return batch.take(np.asarray(batch.records.index.isin(moved), dtype=bool)).alone()


def _touched(batch: Batch) -> Bools:
    """Records that are written, or whose link is."""
    plan = _plan(batch)
    return np.asarray(pc.or_(array(plan["settle"]), pc.not_equal(array(plan["action"]), Change.SKIP)), dtype=bool)


def _planned_afresh(run: Run, moved: Batch, others: Sequence[str] = ()) -> list[Batch]:
    """These records (and `others`, by their ids), read again: a plan that was made before its link moved may hold values that
    are no longer true.

    A tombstone stands until its record is back: not every system knows the deleted by their ids. Any other record that is
    missing is unknown over there meanwhile, and nothing is left to be done for it."""
    ids = [str(record) for record in moved.records.index]
    wanted = list(dict.fromkeys([*ids, *others]))
    read = [Batch.of(page) for page in run.external.read_ids(run.source, run.mapping.source_fields, wanted)]
    there = {str(record) for batch in read for record in batch.records.index}
    mapped = [apply(run.mapping, batch) for batch in validate(read, run.source.fields)]
    tombstones = moved.take(moved.deleted & np.array([record not in there for record in ids], dtype=bool))
    gone = sum(record not in there for record in wanted) - len(tombstones)
    with run.database.tenant(run.tenant) as scope:
        fresh = [resolve.plan(run, scope, resolve_references(run, scope, batch)) for batch in mapped]
        if len(tombstones):
            fresh.append(resolve.plan(run, scope, replace(tombstones, plan=None, written=None)))
        if gone:
            history.count(scope, run.opened, skipped=gone)
    run.counts.add(Counts(skipped=gone))
    return fresh


def _numbers(actions: "pd.Series[str]") -> dict[str, int]:
    return {str(action): int(number) for action, number in actions.value_counts().items()}


def _plan(batch: Batch) -> pd.DataFrame:
    assert batch.plan is not None  # noqa: S101 - resolve has made it
    return batch.plan


def _still_as_planned(run: Run, scope: Scope, batch: Batch) -> tuple[Batch, list[str]]:
    """Lock the links that will be written: what stands as planned, and the ids of the records whose link has moved since.

    Where the link has moved to the very external values that the plan is made of, an earlier try of this run has done it, or
    another page had the same record: nothing is left to be done, and nothing needs to be read again."""
    plan, touched = _plan(batch), _touched(batch)
    ids = array(batch.records.index)
    if not touched.any():
        return batch, []
    found = links.find(scope, run.pair, ids.filter(pa.array(touched)).to_pylist(), lock=True)
    now = {str(name): array(column) for name, column in aligned(found, batch.records.index).items()}
    same = bools(pc.equal(pc.coalesce(now["revision"], -1), pc.coalesce(array(plan["revision"]), -1)))
    digests = array(plan["match_digest"])
    new = bools(pc.and_(pc.is_null(array(plan["link_id"])), pc.is_valid(digests)))
    claims = digests.filter(pa.array(new & touched)).to_pylist()
    claimed = links.claimed(scope, run.pair, claims) if claims else {}
    claimed_now = bools(pc.is_in(digests, value_set=pa.array(list(claimed), pa.binary()))) & new
    live = bools(pc.is_in(now["state"], value_set=pa.array(["active", "deleted"])))
    seen = live & bools(pc.equal(now["external_fingerprint"], array(plan["fingerprint"])))
    buried = bools(pc.equal(now["state"], "deleted")) & batch.deleted
    done = touched & ~same & (seen | buried)
    moved = touched & ~done & (~same | claimed_now)
    action = pc.if_else(pa.array(done), Change.SKIP.value, array(plan["action"]))
    settle_now = pc.and_(array(plan["settle"]), pa.array(~done))
    planned = plan.assign(action=extension(action), settle=extension(settle_now))
    return replace(batch, plan=planned).take(~moved), ids.filter(pa.array(moved)).to_pylist()


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
        return Settlement.of(run, batch), [], batch.rejected
    erp = sides.erp_in(run, scope)
    plan = _plan(batch)
    action = array(plan["action"])
    creates = pc.equal(action, Change.CREATE)
    fresh = pa.array(erp.new_ids(run.target, pc.sum(creates).as_py() or 0), pa.string())
    ids, intents = pc.replace_with_mask(array(plan["erp_id"]), creates, fresh), uuids(len(batch))
    version = pc.if_else(creates, pa.scalar(None, pa.string()), array(plan["erp_version"]))
    columns = {"action": action, "id": ids, "version": version, "intent": intents}
    steps = pd.DataFrame(
        {name: values.to_pylist() for name, values in columns.items()}, index=batch.records.index, dtype=object
    )
    announced = Settlement.of(run, batch, ids, intents)
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
    moved = array(batch.records.index).filter(pa.array(~arrived & ~refused)).to_pylist()
    return announced.arrived(run, scope, arrived, list(outcomes["version"])), moved, rows


def _park(run: Run, scope: Scope, failures: pd.DataFrame) -> None:
    """Linked pairs that wait for a person are marked so."""
    waiting = failures[np.asarray(failures["error_type"] == "conflict", dtype=bool)]
    merged = {
        str(record): orjson.loads(details).get("merged_into")
        for record, details in zip(waiting["record_id"], waiting["details"], strict=True)
    }
    if merged:
        links.park(scope, run.pair, merged)
