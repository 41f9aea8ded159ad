"""References: a parent's external id becomes its ERP id, and the other way round, through identity links."""

from dataclasses import replace

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from integration_pipelines.canonical import array, extension
from integration_pipelines.model import Batch
from integration_pipelines.steps.lines import with_lines
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
        ids = array(batch.records[name])
        parents = [value for value in pc.unique(ids).to_pylist() if value is not None]
        known = links.parents(scope, run.config.connector_id, reference.erp_entity, reference.external_entity, parents)
        values = ids.to_pylist()
        orphan = np.array([value is not None and value not in known for value in values], dtype=bool) & ~batch.deleted
        records = batch.records.copy()
        records[name] = extension(pa.array([None if value is None else known.get(value) for value in values], pa.string()))
        waits = [
            orjson.dumps({"waits_for": {"erp_entity": reference.erp_entity, "external_id": value}}).decode()
            for value, waiting in zip(values, orphan, strict=True)
            if waiting
        ]
        batch = replace(batch, records=records).reject(
            orphan,
            error_type="mapping",
            message=f"The {reference.erp_entity} in {name} is not linked yet; this heals itself once that one is synced.",
            field=name,
            rule="reference",
            details=waits,
        )
    return with_lines(run, scope, batch)


def external_references(run: Run, scope: Scope, batch: Batch) -> Batch:
    """The same for what goes out: ERP ids in `outgoing` become external ids."""
    for name, reference in (run.outward.references if run.outward else {}).items():
        if not len(batch) or batch.outgoing is None:
            break
        ids = array(batch.outgoing[name])
        parents = [value for value in pc.unique(ids).to_pylist() if value is not None]
        kind = reference.external_entity
        known = links.external_parents(scope, run.config.connector_id, reference.erp_entity, kind, parents)
        values = ids.to_pylist()
        orphan = np.array([value is not None and value not in known for value in values], dtype=bool) & ~batch.deleted
        outgoing = batch.outgoing.copy()
        outgoing[name] = extension(pa.array([None if value is None else known.get(value) for value in values], pa.string()))
        waits = [
            orjson.dumps({"waits_for": {"erp_entity": reference.erp_entity, "erp_id": value}}).decode()
            for value, waiting in zip(values, orphan, strict=True)
            if waiting
        ]
        batch = replace(batch, outgoing=outgoing).reject(
            orphan,
            error_type="mapping",
            message=f"The {reference.erp_entity} in {name} is not linked yet; this heals itself once that one is synced.",
            field=name,
            rule="reference",
            details=waits,
        )
    return batch
