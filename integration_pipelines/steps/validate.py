"""validate: the entity's contract as a pandera schema; what breaks it is set aside with the reason."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow.compute as pc
from pandera.errors import SchemaErrors

from connector_resources.contract import Field, FieldType
from connector_resources.frames import UNSTORABLE, unstorable
from integration_pipelines.canonical import array
from integration_pipelines.model import Batch, Side, bools
from integration_pipelines.steps.base import Bools
from integration_pipelines.steps.run import Run

LONGEST_ID = 255


def schema_of(fields: Sequence[Field]) -> pa.DataFrameSchema:
    """Null where there must be something, texts that are too long, values that are no choice. Types are the frame's own."""
    return pa.DataFrameSchema({field.name: _column(field) for field in fields}, name="contract")


def _column(field: Field) -> pa.Column:
    checks = []
    if field.type is FieldType.STRING and field.max_length:
        longest = field.max_length
        checks.append(pa.Check(lambda s: s.str.len() <= longest, error=f"is longer than {longest} characters"))
    if field.choices:
        checks.append(pa.Check.isin(field.choices, error=f"is none of {', '.join(field.choices)}"))
    return pa.Column(checks=checks, nullable=field.nullable, required=False)


def validate(batches: Iterable[Batch], fields: Sequence[Field]) -> Iterator[Batch]:
    schema = schema_of(fields)
    for batch in batches:
        yield checked(_storable(batch), schema)


def validated(run: Run, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Each batch held against the contract of the side that it was read from."""
    schemas = {side: schema_of(run.fields_of(side)) for side in Side}
    for batch in batches:
        yield checked(_storable(batch), schemas[batch.side])


def _storable(batch: Batch) -> Batch:
    """Without records that cannot be kept, by their id or because of a text: one of them must not end a run. Of deleted ones
    only the marks count."""
    batch = _nameable(batch)
    for name in batch.marks.columns:
        batch = _without_text(batch, str(name), unstorable(array(batch.marks[name])))
    for name in batch.records.columns:
        batch = _without_text(batch, str(name), unstorable(array(batch.records[name])) & ~batch.deleted)
    return batch


def _without_text(batch: Batch, name: str, bad: Bools) -> Batch:
    message = f"{name} {UNSTORABLE}; correct the record where it comes from."
    return batch.reject(bad, error_type="validation", message=message, field=name, rule="contract")


def _nameable(batch: Batch) -> Batch:
    """Without records whose id cannot be kept. They are not asked for again: what is kept of such an id is not it."""
    ids = array(batch.records.index)
    long, odd = bools(pc.greater(pc.utf8_length(ids), LONGEST_ID)), unstorable(ids)
    reasons = [
        f"is longer than {LONGEST_ID} characters" if one else f"{UNSTORABLE}, shown as an escape" for one in long[long | odd]
    ]
    messages = [f"Its id {reason}; such a record cannot be synced." for reason in reasons]
    return batch.reject(long | odd, error_type="validation", message=messages, rule="id")


def checked(batch: Batch, schema: pa.DataFrameSchema, only: "Bools | None" = None) -> Batch:
    """The batch without the records that break the schema. Deletions pass; so do fields that the other side did not name.

    `only`: a boolean array, a record by a column: the cells that count."""
    if not len(batch):
        return batch
    try:
        schema.validate(batch.records, lazy=True)
    except SchemaErrors as found:
        return _without(batch, found.failure_cases, only)
    return batch


def _without(batch: Batch, failures: pd.DataFrame, only: "Bools | None") -> Batch:
    positions = {str(record): at for at, record in enumerate(batch.records.index)}
    columns = {str(name): at for at, name in enumerate(batch.records.columns)}
    deleted = batch.deleted
    reasons: dict[int, tuple[str, str]] = {}
    for record, column, check in zip(failures["index"], failures["column"], failures["check"], strict=True):
        at, field = positions.get(str(record)), str(column)
        if at is None or deleted[at] or batch.absence(field)[at] or (only is not None and not only[at, columns[field]]):
            continue
        reasons.setdefault(at, (field, "is empty and must not be" if check == "not_nullable" else str(check)))
    mask = np.zeros(len(batch), dtype=bool)
    mask[list(reasons)] = True
    ordered = [reasons[at] for at in sorted(reasons)]
    return batch.reject(
        mask,
        error_type="validation",
        message=[f"{field} {why}; correct the record where it comes from." for field, why in ordered],
        field=[field for field, _ in ordered],
        rule="contract",
    )
