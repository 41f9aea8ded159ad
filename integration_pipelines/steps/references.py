"""References: a parent's external id becomes its ERP id, and the other way round, through identity links."""

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from integration_pipelines.canonical import array, extension, json_text, parse_json
from integration_pipelines.model import Batch, Side
from integration_pipelines.steps.lines import line_value, put_value, with_lines
from integration_pipelines.steps.mapping import Reference
from integration_pipelines.steps.parents import Parents, parents, without_parent
from integration_pipelines.steps.run import Run
from integration_pipelines.store.database import Scope


def resolve_references(run: Run, scope: Scope, batch: Batch) -> Batch:
    """A record whose parent is not linked yet is set aside as a mapping error that heals itself; one whose parent could be
    several, as one that the mapping has to heal."""
    for name, reference in run.mapping.references.items():
        if not len(batch):
            break
        if name not in batch.records.columns:  # it is inside child lines, or not asked for
            continue
        known = _known(run, scope, reference, batch.records[name], Side.EXTERNAL)
        records = batch.records.assign(**{name: _exchanged(batch.records[name], known)})
        batch = _with_parents(replace(batch, records=records), batch.records[name], name, reference, known)
    return with_lines(run, scope, batch)


def external_references(run: Run, scope: Scope, batch: Batch, linked: "pd.Index[Any]") -> Batch:
    """The same for what goes out: ERP ids in `outgoing` become external ids. A field that is set for good at creation makes no
    record wait that is `linked`."""
    for name, reference in (run.outward.references if run.outward else {}).items():
        out = batch.outgoing
        if not len(batch) or out is None:
            break
        if name not in out.columns:
            batch = _lines_exchanged(run, scope, batch, name, reference)
            continue
        field = run.source.field(name)
        if field is not None and field.fixed:
            made = pa.array(~batch.records.index.isin(linked))
            out = out.assign(**{name: extension(pc.if_else(made, array(out[name]), pa.scalar(None, pa.string())))})
        known = _known(run, scope, reference, out[name], Side.ERP)
        outgoing = out.assign(**{name: _exchanged(out[name], known)})
        batch = _with_parents(replace(batch, outgoing=outgoing), out[name], name, reference, known)
    return batch


def _lines_exchanged(run: Run, scope: Scope, batch: Batch, name: str, reference: Reference) -> Batch:
    """The same inside child lines, where `name` is `lines.item`."""
    assert batch.outgoing is not None  # noqa: S101 - the caller has looked
    column, _, path = name.partition(".")
    documents = [None if text is None else parse_json(text) for text in array(batch.outgoing[column]).to_pylist()]
    found = [[(line, line_value(line, path)) for line in document or ()] for document in documents]
    ids = sorted({str(value) for document in found for _, value in document if value is not None})
    known = parents(run, scope, reference, ids, Side.ERP)
    missing: list[str | None] = [None] * len(found)
    for at, document in enumerate(found):
        for line, value in document:
            if value is not None and known.get(value) is None:
                missing[at] = value
            elif value is not None:
                put_value(line, path, known[value])
    texts = [None if document is None else json_text(document) for document in documents]
    outgoing = batch.outgoing.assign(**{column: extension(pa.array(texts, pa.string()))})
    return _with_parents(
        replace(batch, outgoing=outgoing), pd.Series(extension(pa.array(missing, pa.string()))), name, reference, known
    )


def _known(run: Run, scope: Scope, reference: Reference, ids: "pd.Series[Any]", side: Side) -> Parents:
    return parents(run, scope, reference, [value for value in pc.unique(array(ids)).to_pylist() if value is not None], side)


def _exchanged(ids: "pd.Series[Any]", known: Parents) -> pd.arrays.ArrowExtensionArray:
    values = array(ids).to_pylist()
    return extension(pa.array([None if value is None else known.get(value) for value in values], pa.string()))


def _with_parents(batch: Batch, ids: "pd.Series[Any]", name: str, reference: Reference, known: Parents) -> Batch:
    """Without the records whose parent is not known for sure."""
    values = array(ids).to_pylist()
    orphan = np.array([value is not None and known.get(value) is None for value in values], dtype=bool) & ~batch.deleted
    told = [without_parent(reference, values[at], known, batch.side) for at in np.flatnonzero(orphan)]
    return batch.reject(
        orphan,
        error_type="mapping",
        message=[f"The {reference.erp_entity} in {name} {reason}" for reason, _ in told],
        field=name,
        rule="reference",
        details=[orjson.dumps(details).decode() for _, details in told],
    )
