"""References: a parent's external id becomes its ERP id, and the other way round, through identity links."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from integration_pipelines.canonical import array, extension
from integration_pipelines.model import Batch, Side
from integration_pipelines.steps.lines import with_lines
from integration_pipelines.steps.mapping import Reference
from integration_pipelines.steps.run import Run
from integration_pipelines.store import links
from integration_pipelines.store.database import Scope


def resolve_references(run: Run, scope: Scope, batch: Batch) -> Batch:
    """A record whose parent is not linked yet is set aside as a mapping error that heals itself."""
    for name, reference in run.mapping.references.items():
        if not len(batch):
            break
        if "." in name:  # inside child lines
            continue
        known = _known(run, scope, reference, batch.records[name], Side.EXTERNAL)
        records = batch.records.assign(**{name: _exchanged(batch.records[name], known)})
        batch = _with_parents(replace(batch, records=records), batch.records[name], name, reference, known)
    return with_lines(run, scope, batch)


def external_references(run: Run, scope: Scope, batch: Batch) -> Batch:
    """The same for what goes out: ERP ids in `outgoing` become external ids."""
    for name, reference in (run.outward.references if run.outward else {}).items():
        if not len(batch) or batch.outgoing is None:
            break
        known = _known(run, scope, reference, batch.outgoing[name], Side.ERP)
        outgoing = batch.outgoing.assign(**{name: _exchanged(batch.outgoing[name], known)})
        batch = _with_parents(replace(batch, outgoing=outgoing), batch.outgoing[name], name, reference, known)
    return batch


def _known(run: Run, scope: Scope, reference: Reference, ids: "pd.Series[Any]", side: Side) -> Mapping[str, str]:
    parents = [value for value in pc.unique(array(ids)).to_pylist() if value is not None]
    return links.parents(scope, run.config.connector_id, reference.erp_entity, reference.external_entity, parents, side)


def _exchanged(ids: "pd.Series[Any]", known: Mapping[str, str]) -> pd.arrays.ArrowExtensionArray:
    values = array(ids).to_pylist()
    return extension(pa.array([None if value is None else known.get(value) for value in values], pa.string()))


def _with_parents(batch: Batch, ids: "pd.Series[Any]", name: str, reference: Reference, known: Mapping[str, str]) -> Batch:
    """Without the records whose parent is not among the known ones."""
    values = array(ids).to_pylist()
    orphan = np.array([value is not None and value not in known for value in values], dtype=bool) & ~batch.deleted
    key = "external_id" if batch.side is Side.EXTERNAL else "erp_id"
    waits = [
        orjson.dumps({"waits_for": {"erp_entity": reference.erp_entity, key: value}}).decode()
        for value, waiting in zip(values, orphan, strict=True)
        if waiting
    ]
    return batch.reject(
        orphan,
        error_type="mapping",
        message=f"The {reference.erp_entity} in {name} is not linked yet; this heals itself once that one is synced.",
        field=name,
        rule="reference",
        details=waits,
    )
