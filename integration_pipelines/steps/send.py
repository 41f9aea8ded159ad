"""load, for what goes out: intents first, then the writes, then what follows from them.

    1. one transaction   what still stands as planned; an intent for each write, with what settles it
    2. no transaction    the connector writes; what got no answer is probed, and sent again where it never arrived
    3. no transaction    the records are read back: what the other system made of the values
    4. one transaction   links, base, journal, errors, intents and counts

After a crash in between, the next try asks the connector what became of the intents that were never settled (`recover`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.contract import Changes, Outcome
from connector_resources.errors import IntegrationError, SystemUnavailable
from connector_resources.frames import uuids
from integration_pipelines.canonical import TEXT, aligned, array, canonical, extension
from integration_pipelines.model import Batch, Change, Side, bools
from integration_pipelines.steps import outward, outward_settle, sides
from integration_pipelines.steps.base import Bools
from integration_pipelines.steps.extract import erp_again
from integration_pipelines.steps.outgoing import mapped
from integration_pipelines.steps.outward_meeting import DOUBT
from integration_pipelines.steps.outward_settle import OutwardSettlement
from integration_pipelines.steps.run import Counts, Run
from integration_pipelines.steps.validate import checked, schema_of, validate
from integration_pipelines.store import history, ledger, links, rejects
from integration_pipelines.store.database import Scope

TRIES = 2  # how often what never arrived is sent again at once
UNDER_WAY = timedelta(hours=1)  # how long a creation may be at work over there


@dataclass(frozen=True)
class Written:
    """What became of the writes of a batch: `outcomes` as Connector.write returns them, UNKNOWN only where it stays so, and
    ABSENT only where `problem` kept the connector from sending."""

    settlement: OutwardSettlement
    outcomes: pd.DataFrame
    problem: IntegrationError | None = None

    def where(self, outcome: Outcome) -> Bools:
        return _are(self.outcomes, outcome)


def last_round(run: Run, batch: Batch) -> Batch:
    """As `load_round`. A creation that is moved even now was not found when it was met again, so it stays refused."""
    return load_round(run, batch, last=True)


def load_round(run: Run, batch: Batch, *, last: bool = False) -> Batch:
    """Carry out what stands as planned; returns the records that have moved. Raises what kept the connector from sending the
    rest, when all that was sent is settled."""
    with run.database.tenant(run.tenant) as scope:
        ready, moved = _still_as_planned(run, scope, batch)
        ready = _contract_holds(run, _without_doubt(run, scope, ready))
        action = array(_plan(ready)["action"])
        skips, settles = bools(pc.equal(action, Change.SKIP)), bools(array(_plan(ready)["settle"]))
        going = ready.take(~skips).alone()
        intents = uuids(len(going))
        announced = outward_settle.expected(run, scope, going, intents)
        announced.announce(run, scope)
    written = _written(run, going, announced)
    if last:
        created = bools(pc.equal(array(_plan(going)["action"]), Change.CREATE))
        written.outcomes.loc[written.where(Outcome.MOVED) & created, "outcome"] = Outcome.REFUSED
    done = announced.arrived(
        run, written.outcomes, outward_settle.read_back(run, written.outcomes[written.where(Outcome.DONE)])
    )
    refused = _set_aside(going, written)
    with run.database.tenant(run.tenant) as scope:
        quiet = outward_settle.quiet(run, scope, ready.take(skips & settles).alone())
        done.settle(run, scope)
        quiet.settle(run, scope)
        _intents(scope, written)
        failures = pd.concat([ready.rejected, refused], ignore_index=True)
        _park(run, scope, failures)
        moved += array(going.records.index).filter(pa.array(written.where(Outcome.MOVED))).to_pylist()
        unsent = array(going.records.index).filter(pa.array(written.where(Outcome.ABSENT))).to_pylist()
        seen = {*array(ready.records.index).to_pylist(), *array(failures["record_id"]).to_pylist()} - {*moved, *unsent}
        rejects.settle(scope, run.config, run.opened, sorted(seen), failures, Side.ERP)
        actions = done.rows["action"]
        numbers = {str(name): int(number) for name, number in actions.value_counts().items()}
        found = Counts(len(actions), actions=numbers)
        if written.problem is None:  # else the next try counts what was left, and with it what was not written
            found = Counts(len(actions), len(failures), int(skips.sum()), numbers)
        history.count(scope, run.opened, succeeded=found.succeeded, failed=found.failed, skipped=found.skipped)
    run.counts.add(found)
    if written.problem is not None:
        raise written.problem
    return batch.take(np.asarray(batch.records.index.isin(moved), dtype=bool)).alone()


def _set_aside(going: Batch, written: Written) -> pd.DataFrame:
    """Rows of the records that the other system refuses, and of those that may or may not have been made."""
    refused, unknown = written.where(Outcome.REFUSED), written.where(Outcome.UNKNOWN) & (written.problem is None)
    reasons = list(written.outcomes["message"][refused])
    left = going.reject(refused, error_type="validation", message=reasons, rule="external")
    return left.reject(unknown[~refused], error_type="conflict", message=DOUBT, rule="intent").rejected


def planned_afresh(run: Run, moved: Batch, others: Sequence[str] = ()) -> list[Batch]:
    """These ERP records (and `others`), read again from both sides."""
    return afresh(run, list(dict.fromkeys([*array(moved.records.index).to_pylist(), *others])))


def afresh(run: Run, wanted: Sequence[str]) -> list[Batch]:
    """The ERP records of these ids as they are now, with their plan."""
    read = list(validate(erp_again(run, wanted), run.target.fields))
    return [outward.plan(run, mapped(run, batch)) for batch in read]


def _plan(batch: Batch) -> pd.DataFrame:
    assert batch.plan is not None  # noqa: S101 - resolve has made it
    return batch.plan


def _still_as_planned(run: Run, scope: Scope, batch: Batch) -> tuple[Batch, list[str]]:
    """Lock the links that will be written: what stands as planned, and the ids of the records whose link has moved since.
    Where it has moved to the very values that the record has, an earlier try did it; what was this run's own is counted."""
    plan, ids = _plan(batch), array(batch.records.index)
    later = bools(array(plan["later"]))
    touched = bools(array(plan["settle"])) | bools(pc.not_equal(array(plan["action"]), Change.SKIP))
    if not (touched | later).any():
        return batch, []
    found = aligned(
        links.find(scope, run.pair, ids.filter(pa.array(touched)).to_pylist(), Side.ERP, lock=True), batch.records.index
    )
    same = bools(pc.equal(pc.coalesce(array(found["revision"]), -1), pc.coalesce(array(plan["revision"]), -1)))
    texts = canonical(batch.records, run.fields)
    prints = sides.fingerprints(scope, texts, np.ones(texts.shape, dtype=bool))
    seen = bools(pc.equal(array(found["erp_fingerprint"]), prints)) & ~batch.deleted
    buried = bools(pc.equal(array(found["state"]), "deleted")) & batch.deleted
    done = touched & ~same & (seen | buried)
    moved = (touched & ~done & (~same | _claimed(run, scope, plan, touched))) | later
    counted = ledger.written_by(scope, run.opened, ids.filter(pa.array(done)).to_pylist())
    again = np.asarray(batch.records.index.isin(list(counted)), dtype=bool)
    action = pc.if_else(pa.array(done), Change.SKIP.value, array(plan["action"]))
    settle_now = pc.and_(array(plan["settle"]), pa.array(~done))
    planned = plan.assign(action=extension(action), settle=extension(settle_now))
    return replace(batch, plan=planned).take(~moved & ~again), ids.filter(pa.array(moved)).to_pylist()


def _claimed(run: Run, scope: Scope, plan: pd.DataFrame, touched: Bools) -> Bools:
    """Records without a link whose match key, or whose external record, another one has got since: one of an earlier batch."""
    new = touched & bools(pc.is_null(array(plan["link_id"])))
    digests, theirs = array(plan["match_digest"]), array(plan["external_id"])
    keys = digests.filter(pa.array(new)).drop_null().to_pylist()
    ids = theirs.filter(pa.array(new)).drop_null().to_pylist()
    held = pa.array(list(links.claimed(scope, run.pair, keys)) if keys else [], pa.binary())
    linked = array(links.find(scope, run.pair, ids).index) if ids else pa.array([], TEXT)
    return new & (bools(pc.is_in(digests, value_set=held)) | bools(pc.is_in(theirs, value_set=linked)))


def _without_doubt(run: Run, scope: Scope, batch: Batch) -> Batch:
    """Without the creations that an earlier try sent, and that may have arrived."""
    creates = pc.equal(array(_plan(batch)["action"]), Change.CREATE)
    doubtful = ledger.doubtful(scope, run.pair, array(batch.records.index).filter(creates).to_pylist())
    mask = np.asarray(batch.records.index.isin(list(doubtful)), dtype=bool) & bools(creates)
    return batch.reject(mask, error_type="conflict", message=DOUBT, rule="intent")


def _contract_holds(run: Run, batch: Batch) -> Batch:
    """Without the records whose values would break the external entity's contract."""
    if batch.outgoing is None or batch.withheld is None or not len(batch):
        return batch
    sent = ~batch.withheld.to_numpy(dtype=bool)
    writes = bools(pc.is_in(array(_plan(batch)["action"]), value_set=pa.array([Change.CREATE, Change.UPDATE])))
    probe = Batch(batch.outgoing, batch.marks)
    fields = [field for name in batch.outgoing.columns if (field := run.source.field(str(name)))]
    held = checked(probe, schema_of(fields), only=sent & writes[:, None])
    stays = np.asarray(batch.records.index.isin(held.records.index), dtype=bool)
    return batch.reject(
        ~stays,
        error_type=array(held.rejected["error_type"]).to_pylist(),
        message=[text.replace("where it comes from", "in the ERP") for text in array(held.rejected["message"]).to_pylist()],
        field=array(held.rejected["field"]).to_pylist(),
        rule="contract",
    )


def _written(run: Run, batch: Batch, announced: OutwardSettlement) -> Written:
    """Write, probe what got no answer, and send again once what never arrived: it is the same write, so it keeps its key."""
    if not len(batch):
        nothing = pd.DataFrame(
            {"outcome": [], "id": [], "version": [], "message": []}, index=batch.records.index, dtype=object
        )
        return Written(announced, nothing)
    changes = changes_of(batch, array(announced.rows["intent"]))
    problem: IntegrationError | None = None
    outcomes = run.external.write(run.source, changes)
    lost = np.zeros(len(batch), dtype=bool)  # whose answer was lost at some time
    try:
        for _ in range(TRIES):
            lost |= _are(outcomes, Outcome.UNKNOWN)
            outcomes = _probed(run, changes, outcomes)
            absent = _are(outcomes, Outcome.ABSENT)
            if not absent.any():
                break
            outcomes = _put(outcomes, run.external.write(run.source, _only(changes, absent)))
        outcomes = _probed(run, changes, outcomes)
        busy = _busy(changes, outcomes, lost)
        outcomes.loc[busy, "outcome"] = Outcome.UNKNOWN
        if (busy | _are(outcomes, Outcome.ABSENT)).any():
            problem = _half(run)
    except IntegrationError as stopped:
        problem = stopped
    if problem is None:
        changing = _are(outcomes, Outcome.UNKNOWN) & np.asarray(changes.steps["action"] != Change.CREATE, dtype=bool)
        outcomes.loc[changing, "outcome"] = Outcome.MOVED  # somebody else has changed it: read and merge again
    else:  # what was sent once keeps its key until it is known to be there
        outcomes.loc[lost & _are(outcomes, Outcome.ABSENT), "outcome"] = Outcome.UNKNOWN
    return Written(announced, outcomes, problem)


def _half(run: Run) -> SystemUnavailable:
    return SystemUnavailable(f"{run.external.type} takes only some of the writes for now.")


def _busy(changes: Changes, outcomes: pd.DataFrame, sent_before: Bools) -> Bools:
    """Creations that are refused as moved when they are sent again: the first time is still under way over there, or has made
    the record. Under another key they would become a second one."""
    creates = np.asarray(changes.steps["action"] == Change.CREATE, dtype=bool)
    return np.asarray(_are(outcomes, Outcome.MOVED) & creates & sent_before, dtype=bool)


def _probed(run: Run, changes: Changes, outcomes: pd.DataFrame) -> pd.DataFrame:
    lost = _are(outcomes, Outcome.UNKNOWN)
    return _put(outcomes, run.external.probe(run.source, _only(changes, lost))) if lost.any() else outcomes


def _are(outcomes: pd.DataFrame, outcome: Outcome) -> Bools:
    return np.asarray(outcomes["outcome"] == outcome, dtype=bool)


def changes_of(batch: Batch, intents: pa.Array) -> Changes:
    assert batch.outgoing is not None and batch.withheld is not None  # noqa: S101 - map and resolve have made them
    plan = _plan(batch)
    columns = {"action": plan["action"], "id": plan["external_id"], "version": plan["external_version"]}
    created = bools(pc.equal(array(plan["action"]), Change.CREATE))
    steps = pd.DataFrame({name: array(values).to_pylist() for name, values in columns.items()}, dtype=object)
    steps.loc[created, ["id", "version"]] = None
    steps["intent"] = intents.to_pylist()
    written = pd.DataFrame(~batch.withheld.to_numpy(dtype=bool), index=batch.outgoing.index, columns=batch.outgoing.columns)
    return Changes(batch.outgoing, written, steps.set_axis(batch.outgoing.index))


def _only(changes: Changes, mask: Bools) -> Changes:
    return Changes(changes.records[mask], changes.written[mask], changes.steps[mask])


def _put(outcomes: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    merged = outcomes.copy()
    merged.loc[known.index, ["outcome", "id", "version", "message"]] = known[["outcome", "id", "version", "message"]]
    return merged


def _intents(scope: Scope, written: Written) -> None:
    intents = array(written.settlement.rows["intent"])
    states = dict.fromkeys((Outcome.REFUSED, Outcome.MOVED, Outcome.ABSENT), "abandoned") | {Outcome.DONE: "confirmed"}
    if written.problem is None:  # else the next try asks once more what became of them
        states[Outcome.UNKNOWN] = "unknown"
    for outcome, state in states.items():
        ledger.settle_intents(scope, intents.filter(pa.array(written.where(outcome))).to_pylist(), state)


def _park(run: Run, scope: Scope, failures: pd.DataFrame) -> None:
    """Linked pairs that wait for a person are marked so."""
    waiting = failures[np.asarray(failures["error_type"] == "conflict", dtype=bool)]
    held = links.find(scope, run.pair, array(waiting["record_id"]).to_pylist(), Side.ERP)
    if len(held):
        links.park(scope, run.pair, dict.fromkeys(array(held["external_id"]).cast(TEXT).to_pylist()))


def recover(run: Run) -> list[str]:
    """Settle the intents that a run announced and did not live to settle; returns the ERP records that they were about. A
    creation that seems not to have arrived is sent again under its own key (some systems recognise it by that alone), if it
    would still be made. Raises SystemUnavailable where such a one is still under way over there."""
    with run.database.tenant(run.tenant) as scope:
        waiting = ledger.unsettled(scope, run.pair, Side.EXTERNAL)
    if not waiting:
        return []
    announced, changes = outward_settle.remembered(run, waiting)
    outcomes = run.external.probe(run.source, changes)
    erp_ids = array(announced.rows["erp_id"])
    creates = bools(pc.equal(array(announced.rows["action"]), Change.CREATE))
    again = _are(outcomes, Outcome.ABSENT) & creates
    again &= bools(pc.is_in(erp_ids, value_set=_still_made(run, erp_ids.filter(pa.array(again)).to_pylist())))
    busy = np.zeros(len(outcomes), dtype=bool)
    if again.any():
        outcomes = _probed(run, changes, _put(outcomes, run.external.write(run.source, _only(changes, again))))
        busy = _busy(changes, outcomes, again)
    outcomes.loc[_held_by_others(run, outcomes, erp_ids), "outcome"] = Outcome.MOVED
    arrived, unknown = _are(outcomes, Outcome.DONE), _are(outcomes, Outcome.UNKNOWN) & creates
    young = np.array([run.now() - told["announced"] < UNDER_WAY for told in waiting.values()], dtype=bool)
    waits, unknown = busy & young, unknown | (busy & ~young)
    done = announced.arrived(run, outcomes, outward_settle.read_back(run, outcomes[arrived]))
    with run.database.tenant(run.tenant) as scope:
        done.settle(run, scope)
        history.count(scope, run.opened, succeeded=len(done))
        intents = array(announced.rows["intent"])
        settled = ((arrived, "confirmed"), (unknown, "unknown"), (~arrived & ~unknown & ~waits, "abandoned"))
        for mask, state in settled:
            ledger.settle_intents(scope, intents.filter(pa.array(mask)).to_pylist(), state)
    if waits.any():
        raise _half(run)
    return erp_ids.filter(pa.array(arrived)).to_pylist()  # type: ignore[no-any-return] # Arrow has no types


def _still_made(run: Run, erp_ids: Sequence[str]) -> pa.Array:
    """Those of these ERP records that would still become new ones over there: they are alive, and nobody fits them now."""
    planned = afresh(run, erp_ids) if erp_ids else []
    made = [id_ for batch in planned for id_ in _created_in(batch)]
    return pa.array(made, TEXT)


def _created_in(batch: Batch) -> list[str]:
    creates = pc.equal(array(_plan(batch)["action"]), Change.CREATE)
    ids: list[str] = array(batch.records.index).filter(creates).to_pylist()
    return ids


def _held_by_others(run: Run, outcomes: pd.DataFrame, erp_ids: pa.Array) -> Bools:
    """Records over there that are linked with another ERP record by now: that one's plan tells what becomes of them."""
    theirs = pa.array([id_ if isinstance(id_, str) else None for id_ in outcomes["id"]], TEXT)
    with run.database.tenant(run.tenant) as scope:
        held = links.find(scope, run.pair, theirs.drop_null().unique().to_pylist())
    owner = array(held["erp_id"]).take(pc.index_in(theirs, value_set=array(held.index)))
    return bools(pc.not_equal(owner, erp_ids))
