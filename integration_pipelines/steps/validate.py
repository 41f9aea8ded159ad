"""validate: the entity's contract as a pandera schema; what breaks it is set aside with the reason."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow.compute as pc
from pandera.errors import SchemaErrors

from connector_resources.contract import Field, FieldType
from integration_pipelines.canonical import array
from integration_pipelines.model import Batch, Side
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
        yield checked(_nameable(batch), schema)


def validated(run: Run, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Each batch held against the contract of the side that it was read from."""
    schemas = {side: schema_of(run.fields_of(side)) for side in Side}
    for batch in batches:
        yield checked(_nameable(batch), schemas[batch.side])


def _nameable(batch: Batch) -> Batch:
    """Without records whose id is too long to be remembered: one of them must not end a run."""
    return batch.reject(
        pc.greater(pc.utf8_length(array(batch.records.index)), LONGEST_ID),
        error_type="validation",
        message=f"Its id is longer than {LONGEST_ID} characters; such a record cannot be synced.",
        rule="id",
    )


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
