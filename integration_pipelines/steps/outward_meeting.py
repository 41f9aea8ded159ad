"""First meetings on the way out: an ERP record without a link finds its external record by the match key, or gets a new one.

The same rules as on the way in (meeting.py): one candidate links, several park, and so does one that another ERP record holds.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.contract import Condition, FieldType, Page, Window
from integration_pipelines.canonical import TEXT, array
from integration_pipelines.model import Batch, Change, bools, concat
from integration_pipelines.steps import external_side, meeting, sides
from integration_pipelines.steps.base import Bools
from integration_pipelines.steps.map import inside
from integration_pipelines.steps.outgoing import created
from integration_pipelines.steps.outward_pairs import changed
from integration_pipelines.steps.run import Run
from integration_pipelines.store import ledger, links

_TIDIED = ("trim", "empty_to_null")
_FOLDED = ("trim", "upper", "lower")  # `Connector.find` compares without case and outer blanks


def met(run: Run, batch: Batch, pairs: pd.DataFrame) -> Batch:
    """Plan of records that have no link yet."""
    batch, pairs = _without_doubtful(run, batch, pairs)
    with run.database.tenant(run.tenant) as scope:
        keys = meeting.match_digests(run, scope, batch)
        wanted = [digest for digest in keys.to_pylist() if digest is not None]
        claimed = dict(links.claimed(scope, run.pair, wanted)) if wanted else {}
    candidates = _candidates(run, batch, keys) if wanted else {}
    with run.database.tenant(run.tenant) as scope:
        found = sorted({one for digest in wanted for one in candidates.get(digest, [])})
        held = links.find(scope, run.pair, found) if found else None
    taken = set() if held is None else set(array(held.index).to_pylist())
    reasons, ids = _decided(keys, candidates, claimed, taken)
    waiting = np.array([reason is not None for reason in reasons], dtype=bool)
    left = batch.reject(
        waiting,
        error_type="conflict",
        message=[
            f"{reason} Match key: {' + '.join(run.mapping.match)}. Nothing was written; decide which records belong together."
            for reason in reasons if reason
        ],
        field=run.mapping.match[0] if run.mapping.match else "",
        rule="match",
    )  # fmt: skip
    there = pa.array([one for one, wait in zip(ids, waiting, strict=True) if not wait], TEXT)
    met_pairs = sides.pairs_frame(left.records.index, external_id=there, match_digest=keys.filter(pa.array(~waiting)))
    linked = bools(pc.is_valid(there))
    made = ~linked & _wanted(run, left)
    parts = [created(run, left.take(made), met_pairs[made]), sides.skipped(run, left.take(~linked & ~made).alone())]
    if linked.any():
        parts.append(changed(run, left.take(linked).alone(), met_pairs[linked]))
    return concat(parts)


def without_rivals(run: Run, batch: Batch) -> Batch:
    """Without linked records that would be made anew over there, where one with their match key has been made since."""
    assert batch.plan is not None  # noqa: S101 - resolve has made it
    anew = bools(pc.and_(pc.equal(array(batch.plan["action"]), Change.CREATE), pc.is_valid(array(batch.plan["link_id"]))))
    if not anew.any():
        return batch
    again = batch.take(anew).alone()
    with run.database.tenant(run.tenant) as scope:
        keys = meeting.match_digests(run, scope, again)
    there = _candidates(run, again, keys) if keys.null_count < len(keys) else {}
    rivals = np.zeros(len(batch), dtype=bool)
    rivals[anew] = [key is not None and key in there for key in keys.to_pylist()]
    return batch.reject(
        rivals,
        error_type="conflict",
        message="Its record over there was deleted, and another one with its match key is there; decide where it belongs.",
        field=run.mapping.match[0] if run.mapping.match else "",
        rule="match",
    )


def _wanted(run: Run, batch: Batch) -> Bools:
    """ERP records that may become new ones over there: the mapping makes them, and what would be sent keeps its conditions."""
    if run.mapping.definition.create not in ("both", "outbound"):
        return np.zeros(len(batch), dtype=bool)
    assert batch.outgoing is not None  # noqa: S101 - `mapped` was here
    return inside(run.mapping, Batch(batch.outgoing, batch.marks))


def _without_doubtful(run: Run, batch: Batch, pairs: pd.DataFrame) -> tuple[Batch, pd.DataFrame]:
    """Without records of which nobody knows whether they were made over there already."""
    with run.database.tenant(run.tenant) as scope:
        unknown = ledger.doubtful(scope, run.pair, array(batch.records.index).to_pylist())
    mask = np.asarray(batch.records.index.isin(list(unknown)), dtype=bool)
    left = batch.reject(mask, error_type="conflict", message=DOUBT, rule="intent")
    return left, pairs[~mask]


DOUBT = (
    "Its creation got no answer, and the other system cannot say whether it arrived: look there. If it is missing, "
    "`integration sync resend` lets the next run send it again."
)


def _decided(
    keys: pa.Array, candidates: dict[bytes, list[str]], claimed: dict[bytes, str], taken: set[str]
) -> tuple[list[str | None], list[str | None]]:
    """For each record why it must wait, and the external record that it belongs to."""
    reasons: list[str | None] = []
    ids: list[str | None] = []
    seen: set[bytes] = set()
    for digest in keys.to_pylist():
        there = candidates.get(digest, []) if digest is not None else []
        reason = None
        if digest is not None and digest in seen:
            reason = "Two records of the ERP claim one match key."
        elif digest is not None and digest in claimed:
            reason = "Another record that is linked already claims the same match key."
        elif len(there) > 1:
            reason = f"{len(there)} external records fit this one's match key."
        elif there and there[0] in taken:
            reason = "The external record that fits is linked with another one already."
        if digest is not None and reason is None:
            seen.add(digest)
        reasons.append(reason)
        ids.append(there[0] if len(there) == 1 and reason is None else None)
    return reasons, ids


def _candidates(run: Run, batch: Batch, wanted: pa.Array) -> dict[bytes, list[str]]:
    """Digest → ids of the external records that have it: looked up where the system can, else all are read once a run."""
    place = _looked_up(run, batch)
    if place is not None and run.external.capabilities.find:
        field, texts = place
        table = _table(run, run.external.find(run.source, run.watched, Condition(field, tuple(sorted(set(texts))))))
    else:
        if run.external_matches is None:
            pages = run.external.read(run.source, run.watched, Window(deleted=False))
            run.external_matches = pa.concat_tables([_table(run, [page]) for page in pages] or [_table(run, ())])
        table = run.external_matches
    fitting = table.filter(pc.is_in(table["digest"], value_set=wanted.drop_null()))
    found: dict[bytes, list[str]] = {}
    for digest, one in zip(fitting["digest"].to_pylist(), fitting["external_id"].to_pylist(), strict=True):
        found.setdefault(digest, []).append(one)
    return found


def _table(run: Run, pages: Iterable[Page]) -> pa.Table:
    """Match keys of external records that are alive."""
    alive = external_side.match_keys(run, pages)
    with run.database.tenant(run.tenant) as scope:
        digests = meeting.digests_of(run, scope, alive)
    return pa.table({"digest": digests, "external_id": array(alive.index).cast(TEXT)})


def _looked_up(run: Run, batch: Batch) -> tuple[str, list[str]] | None:
    """The external text field that holds a part of the match key, and the texts to look for in it. Only where the field holds
    the ERP's own text: where rules make another one of it, records that fit would not be found."""
    if any(step.transform.name not in _FOLDED for step in run.mapping.definition.normalise):
        return None
    for rule in (one.rule for one in run.mapping.rules if one.rule.match):
        both_sides = (run.source.field(rule.source or ""), run.target.field(rule.target))
        texts = all(field is not None and field.type is FieldType.STRING for field in both_sides)
        tidied = all(step.transform.name in _TIDIED for step in rule.chain)
        if rule.source and texts and tidied and not (rule.when or rule.default or rule.reference):
            values = array(batch.records[rule.target]).drop_null()
            return rule.source, pc.utf8_trim_whitespace(values).to_pylist()
    return None
