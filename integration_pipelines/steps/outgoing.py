"""What the outbound rules make of ERP records, and which of it is written to the external side."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from integration_pipelines.canonical import (
    TEXT,
    array,
    canonical,
    extension,
    frame,
    json_text,
    parse_json,
    per_unique,
    rows_json,
)
from integration_pipelines.model import Batch, Change, Side, plan_frame
from integration_pipelines.steps import sides
from integration_pipelines.steps.base import Bools
from integration_pipelines.steps.map import apply
from integration_pipelines.steps.run import Run


def mapped(run: Run, batch: Batch) -> Batch:
    """Step three, map: external records become ERP fields; ERP records keep theirs, with what the outbound rules make of them
    beside them."""
    if batch.side is Side.EXTERNAL:
        return apply(run.mapping, batch)
    assert run.outward is not None  # noqa: S101 - only an outward run reads the ERP
    out = apply(run.outward, batch)
    left = batch.take(np.asarray(batch.records.index.isin(out.records.index), dtype=bool))
    withheld = pd.DataFrame(~sides.said(out), index=out.records.index, columns=out.records.columns).astype("bool[pyarrow]")
    return replace(left, outgoing=out.records, withheld=withheld, rejected=out.rejected)


def sendable(run: Run) -> Bools:
    sent = set(run.outward.source_fields) if run.outward else set()
    return np.array([field.name in sent for field in run.fields], dtype=bool)


def outgoing_cells(run: Run, batch: Batch, send: Bools) -> Bools:
    """Which external fields are written, where these ERP fields go out: a record by a column of `outgoing`."""
    assert run.outward is not None and batch.outgoing is not None and batch.withheld is not None  # noqa: S101 - `mapped` was here
    names = [field.name for field in run.fields]
    rules = {rule.rule.target: rule.rule.sources for rule in run.outward.rules}
    out = np.zeros(batch.outgoing.shape, dtype=bool)
    for at, column in enumerate(batch.outgoing.columns):
        for source in rules.get(str(column), ()):
            name = run.outward.paths[source].column
            out[:, at] |= send[:, names.index(name)] if name in names else False
    sent: Bools = out & ~batch.withheld.to_numpy(dtype=bool)
    return sent


def carried(run: Run, batch: Batch, planned: pd.DataFrame, send: Bools, withheld: Bools) -> Batch:
    """The batch with this plan; `send` and `withheld` as arrays."""
    assert batch.outgoing is not None  # noqa: S101 - `mapped` was here
    index = batch.records.index
    written = frame({f.name: pa.array(send[:, at]) for at, f in enumerate(run.fields)}, index)
    kept = frame({str(name): pa.array(withheld[:, at]) for at, name in enumerate(batch.outgoing.columns)}, index)
    return replace(batch, plan=planned, written=written, withheld=kept)


def fixed_columns(run: Run, batch: Batch) -> Bools:
    """Columns of `outgoing` that can be written when a record is made, and never again."""
    assert batch.outgoing is not None  # noqa: S101 - `mapped` was here
    fields = [run.source.field(str(name)) for name in batch.outgoing.columns]
    return np.array([field is not None and field.fixed for field in fields], dtype=bool)


def raw_json(run: Run, raw: pd.DataFrame) -> pa.Array:
    """External records as JSON of canonical texts: the fields that the mapping reads and writes."""
    fields = [field for name in run.watched if (field := run.source.field(name))]
    return rows_json(canonical(raw, fields))


def filled(value: Any) -> Any:
    """A JSON value without what is null in it: what is made has nothing to clear."""
    if isinstance(value, list):
        return [filled(one) for one in value]
    if isinstance(value, dict):
        return {name: inner for name, one in value.items() if (inner := filled(one)) is not None and inner != {}}
    return value


def _filled_text(text: str) -> str:
    return json_text(filled(parse_json(text)))


def created(run: Run, batch: Batch, pairs: pd.DataFrame) -> Batch:
    """Plan of records that become new ones over there; with a link_id, their link stands and gets the new id."""
    texts = canonical(batch.records, run.fields)
    nulls = np.column_stack([np.asarray(pc.is_null(array(texts[f.name]))) for f in run.fields])
    send = np.broadcast_to(sendable(run), texts.shape) & ~nulls
    assert run.outward is not None and batch.outgoing is not None  # noqa: S101 - `mapped` was here
    columns = {rule.rule.target: array(batch.outgoing[rule.rule.target]) for rule in run.outward.rules if rule.lines}
    new = {name: extension(per_unique(texts, _filled_text, TEXT)) for name, texts in columns.items()}
    outgoing = batch.outgoing.assign(**new)
    constant = np.array([rule.constant is not None for rule in run.outward.rules], dtype=bool)
    empty = np.column_stack([np.asarray(pc.is_null(array(outgoing[name]))) for name in outgoing.columns])
    withheld = ~(outgoing_cells(run, batch, send) | constant) | empty
    planned = plan_frame(
        batch.records.index,
        action=Change.CREATE.value,
        settle=True,
        link_id=pairs["link_id"],
        revision=pairs["revision"],
        erp_id=array(batch.records.index),
        match_digest=pairs["match_digest"],
        base=pa.array([b"{}"] * len(batch), pa.binary()),
    )
    return carried(run, replace(batch, outgoing=outgoing), planned, send, withheld)
