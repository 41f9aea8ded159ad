"""What tests of expressions share: an external entity of every type, and ways to work an expression out."""

from collections.abc import Mapping as Table
from typing import Any

import numpy as np
import pyarrow as pa

from connector_resources.catalogue import load_catalogue
from connector_resources.contract import Entity, Field, FieldType
from connector_resources.frames import arrow_type
from integration_pipelines.canonical import array, frame, record_index
from integration_pipelines.model import Batch, absence_frame, marks_frame
from integration_pipelines.steps.calculator import Calculation, Calculator
from integration_pipelines.steps.expressions import parse
from integration_pipelines.steps.map import apply
from integration_pipelines.steps.mapping import Mapping, compile_mapping, from_json

ERP = {name: described.entity for name, described in load_catalogue().items()}
SOURCE = Entity(
    "Account",
    (
        *(Field(name, FieldType.STRING) for name in ("Name", "Site", "Code")),
        Field("Quantity", FieldType.INTEGER),
        Field("Amount", FieldType.DECIMAL, scale=2),
        Field("Rate", FieldType.DECIMAL, scale=18),
        Field("Active", FieldType.BOOLEAN),
        Field("Due", FieldType.DATE),
        Field("Created", FieldType.INSTANT),
        Field("BillingAddress", FieldType.JSON),
        Field("Items", FieldType.JSON),
        Field("Parent", FieldType.STRING, references=("Account",)),
    ),
    "Id",
)
ABSENT = object()


def prepared(duck: Calculator, text: str) -> Calculation:
    expression = parse(text, duck)
    fields = [SOURCE.field(name) for name in expression.sources]
    return duck.prepare(
        expression, {n: arrow_type(f) if f else pa.string() for n, f in zip(expression.sources, fields, strict=True)}
    )


def results(calculation: Calculation, rows: list[dict[str, Any]]) -> tuple[list[Any], list[str | None]]:
    """The values, and beside each why there is none."""
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in calculation.types.items()}
    values, failures = calculation.perform(columns, np.ones(len(rows), dtype=bool))
    reasons = [next((reason for reason, mask in failures.items() if mask[at]), None) for at in range(len(rows))]
    return values.to_pylist(), reasons


def one(duck: Calculator, text: str, **row: Any) -> Any:
    (value,), (reason,) = results(prepared(duck, text), [row])
    return value if reason is None else reason


def batch(columns: Table[str, list[Any]], deleted: list[bool] | None = None) -> Batch:
    """Records r0, r1, …; ABSENT where the other side did not say."""
    index = record_index([f"r{at}" for at in range(len(next(iter(columns.values()))))])
    types = {field.name: arrow_type(field) for field in SOURCE.fields}
    values = {n: pa.array([None if v is ABSENT else v for v in vs], types.get(n, pa.string())) for n, vs in columns.items()}
    absent = {n: np.array([v is ABSENT for v in vs], dtype=bool) for n, vs in columns.items()}
    return Batch(frame(values, index), marks_frame(index, deleted=deleted), absence_frame(absent, index))


def compiled(*rules: Any, target: str = "customer") -> Mapping:
    return compile_mapping(from_json("m", "Account", target, list(rules)), ERP[target], SOURCE, ERP)


def outcome(mapping: Mapping, given_batch: Batch, field: str) -> list[Any]:
    mapped = apply(mapping, given_batch)
    values = array(mapped.records[field]).to_pylist()
    return [ABSENT if gone else value for value, gone in zip(values, mapped.absence(field), strict=True)]
