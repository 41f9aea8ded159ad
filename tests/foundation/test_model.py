"""The batch that travels: nothing is lost on the way, and nothing of a record gets into a message."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_resources.contract import Field, FieldType
from connector_resources.errors import ContractError
from connector_resources.frames import arrow_type, page
from integration_pipelines.canonical import array, frame, record_index
from integration_pipelines.model import (
    PLAN,
    REJECTED,
    Batch,
    Direction,
    absence_frame,
    concat,
    marks_frame,
    plan_frame,
)

FIELDS = (
    Field("id", FieldType.STRING),  # an entity may well have a field of this name
    Field("money", FieldType.DECIMAL, scale=2),
    Field("day", FieldType.DATE),
    Field("moment", FieldType.INSTANT),
    Field("flag", FieldType.BOOLEAN),
    Field("whole", FieldType.INTEGER),
)
NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)


@st.composite
def batches(draw: st.DrawFn, planned: bool | None = None, most: int = 5) -> Batch:
    ids = draw(st.lists(TEXT, unique=True, max_size=most))
    count = len(ids)

    def column(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=count, max_size=count))

    values = {
        "id": column(st.none() | TEXT),
        "money": column(st.none() | st.decimals(places=2, min_value=-999, max_value=999)),
        "day": column(st.none() | st.dates()),
        "moment": column(st.none() | st.datetimes(timezones=st.just(UTC))),
        "flag": column(st.none() | st.booleans()),
        "whole": column(st.none() | st.integers(-9, 9)),
    }
    index = record_index(ids)
    batch = Batch(
        frame({f.name: pa.array(values[f.name], arrow_type(f)) for f in FIELDS}, index),
        marks_frame(index, version=column(st.none() | TEXT), modified=[NOW] * count, deleted=column(st.booleans())),
    )
    if draw(st.booleans()):
        batch.absent = absence_frame({f.name: np.array(column(st.booleans()), dtype=bool) for f in FIELDS}, index)
    if draw(st.booleans()) if planned is None else planned:
        batch.plan = plan_frame(
            index, erp_id=column(st.none() | TEXT), base=column(st.none() | st.binary(max_size=4)), revision=7
        )
        batch.written = absence_frame({f.name: np.array(column(st.booleans()), dtype=bool) for f in FIELDS}, index)
    if count and draw(st.booleans()):
        batch = batch.reject(np.arange(count) == 0, error_type="validation", message="m", field="f", rule="r")
    return batch


def same(left: Batch, right: Batch) -> bool:
    for name in ("records", "marks", "absent", "plan", "written", "rejected"):
        one, other = getattr(left, name), getattr(right, name)
        if (one is None) != (other is None):
            return False
        if one is not None:
            assert one.dtypes.tolist() == other.dtypes.tolist(), name
            assert one.index.name == other.index.name, name
            if not one.equals(other) or list(one.index) != list(other.index):
                return False
    return True


def masks(batch: Batch) -> st.SearchStrategy[Any]:
    return st.lists(st.booleans(), min_size=len(batch), max_size=len(batch)).map(lambda values: np.array(values, dtype=bool))


@given(batches())
def test_a_batch_comes_back_from_bytes_with_every_part(batch: Batch) -> None:
    assert same(Batch.from_bytes(batch.to_bytes()), batch)


@given(batches(), st.data())
def test_bytes_that_broke_off_are_a_sentence(batch: Batch, data: st.DataObject) -> None:
    content = batch.to_bytes()
    cut = data.draw(st.integers(0, len(content) // 2))
    with pytest.raises(ContractError, match="its bytes are damaged or of another version"):
        Batch.from_bytes(content[:cut])


def test_bytes_of_something_else_are_a_sentence() -> None:
    for content in (b"", b"records\n", b"\xff\xfe", b"other rejected\n" + b"x" * 40, b"records marks\n"):
        with pytest.raises(ContractError, match="damaged"):
            Batch.from_bytes(content)


@given(batches(), st.data())
def test_take_keeps_exactly_the_records_under_the_mask_in_every_part(batch: Batch, data: st.DataObject) -> None:
    mask = data.draw(masks(batch))
    kept = batch.take(mask)
    ids = [record for record, keep in zip(batch.records.index, mask, strict=True) if keep]
    for part in (kept.records, kept.marks, kept.absent, kept.plan, kept.written):
        assert part is None or list(part.index) == ids
    assert kept.rejected.equals(batch.rejected)
    assert same(kept.take(np.ones(len(kept), dtype=bool)), kept)


@given(batches(), st.data())
def test_a_mask_may_be_numpy_pandas_or_arrow_and_null_is_false(batch: Batch, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | st.booleans(), min_size=len(batch), max_size=len(batch)))
    expected = batch.take(np.array([bool(v) for v in values], dtype=bool))
    arrow = pa.array(values, pa.bool_())
    assert same(batch.take(arrow), expected)
    assert same(batch.take(pd.Series(pd.arrays.ArrowExtensionArray(arrow), index=batch.records.index)), expected)


@given(batches(), st.data())
def test_reject_splits_the_records_and_loses_none(batch: Batch, data: st.DataObject) -> None:
    mask = data.draw(masks(batch))
    before = array(batch.rejected["record_id"]).to_pylist()
    after = batch.reject(mask, error_type="mapping", message="The rule failed.")
    gone = [record for record, bad in zip(batch.records.index, mask, strict=True) if bad]
    assert array(after.rejected["record_id"]).to_pylist() == before + [record.replace("\0", "\\u0000") for record in gone]
    assert list(after.records.index) == [record for record in batch.records.index if record not in gone]
    assert list(after.rejected.columns) == list(REJECTED)
    assert list(after.rejected.index) == list(range(len(before) + len(gone)))


def example(absent: bool = False) -> Batch:
    index = record_index(["A1", "A2", "A3"])
    records = frame(
        {
            "name": pa.array(["canary-name", None, "x"]),
            "money": pa.array([Decimal("1E-7"), None, Decimal(2)], pa.decimal128(38, 7)),
            "moment": pa.array([NOW, None, None], pa.timestamp("us", "UTC")),
        },
        index,
    )
    missing_cells = absence_frame({n: np.array([False, n != "name", False]) for n in records.columns}, index)
    return Batch(records, marks_frame(index), missing_cells if absent else None)


def test_the_record_goes_to_data_and_nowhere_else() -> None:
    found = example().reject(
        np.array([True, False, False]),
        error_type="validation",
        message="The name is too long.",
        field="name",
        rule="max_length",
    )
    row = {name: array(found.rejected[name])[0].as_py() for name in REJECTED}
    assert json.loads(row.pop("data")) == {
        "name": "canary-name",
        "money": "0.0000001",
        "moment": "2026-01-02 03:04:05.678901Z",
    }
    assert row == {
        "record_id": "A1",
        "error_type": "validation",
        "message": "The name is too long.",
        "field": "name",
        "rule": "max_length",
        "details": "{}",
    }


def test_what_the_other_side_did_not_say_is_not_in_data_and_a_null_is() -> None:
    found = example(absent=True).reject(np.array([False, True, False]), error_type="validation", message="m")
    assert json.loads(array(found.rejected["data"])[0].as_py()) == {"name": None}


def test_texts_may_differ_from_record_to_record() -> None:
    found = example().reject(np.array([True, False, True]), error_type="mapping", message=["one", "three"], rule=["1", "3"])
    assert array(found.rejected["message"]).to_pylist() == ["one", "three"]
    assert array(found.rejected["rule"]).to_pylist() == ["1", "3"]


def test_as_many_texts_as_records_are_needed() -> None:
    with pytest.raises(ValueError, match="2 records are set aside, and there are 1 texts for them"):
        example().reject(np.array([True, False, True]), error_type="mapping", message=["only one"])


@given(st.lists(batches(planned=True, most=3), min_size=1, max_size=4))
def test_concat_keeps_every_record_and_every_rejected_row_in_order(given_batches: list[Batch]) -> None:
    whole = concat(given_batches)
    assert list(whole.records.index) == [record for batch in given_batches for record in batch.records.index]
    rejected = [record for batch in given_batches for record in array(batch.rejected["record_id"]).to_pylist()]
    assert array(whole.rejected["record_id"]).to_pylist() == rejected
    for part in (whole.marks, whole.plan, whole.written, whole.absent):
        assert part is None or list(part.index) == list(whole.records.index)
    for name in ("id", "money"):
        expected = [value for batch in given_batches for value in array(batch.records[name]).to_pylist()]
        assert array(whole.records[name]).to_pylist() == expected


@given(batches(planned=True, most=4), st.data())
def test_concat_puts_together_what_take_took_apart(batch: Batch, data: st.DataObject) -> None:
    first = len(batch) and data.draw(st.integers(0, len(batch)))
    mask = np.arange(len(batch)) < first
    left, right = batch.take(mask), replace(batch.take(~mask), rejected=batch.rejected.iloc[:0])
    assert same(concat([left, right]), batch)


def test_a_batch_that_says_all_beside_one_that_does_not_is_present_everywhere() -> None:
    whole = concat(
        [example(absent=True), Batch(example().records.set_axis(record_index(["B1", "B2", "B3"])), example().marks)]
    )
    assert whole.absence("money").tolist() == [False, True, False, False, False, False]


def test_a_resolved_batch_cannot_be_put_beside_one_that_is_not() -> None:
    resolved = example()
    resolved.plan = plan_frame(resolved.records.index)
    with pytest.raises(ValueError, match="Only 1 of 2 batches have the part 'plan'"):
        concat([resolved, example()])


def test_nothing_cannot_be_concatenated() -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        concat([])


def test_a_batch_is_made_of_a_page_without_copying_it() -> None:
    made = page(["1"], {"a": (pa.string(), ["x"])}, version=["v"], modified=[None], deleted=[True])
    batch = Batch.of(made)
    assert batch.records is made.records
    assert (len(batch), batch.deleted.tolist(), batch.absence("a").tolist()) == (1, [True], [False])


def test_a_part_of_a_batch_may_travel_without_its_rejected_rows() -> None:
    batch = Batch.of(page(["1", "2"], {"a": (pa.string(), ["x", "y"])}, version=["v", "w"], modified=[None, None]))
    left = batch.reject(np.array([True, False]), error_type="validation", message="No.")
    assert (len(left.rejected), len(left.alone().rejected), len(left.alone())) == (1, 0, 1)
    assert list(left.alone().rejected.columns) == list(left.rejected.columns)


def test_a_plan_says_skip_unless_told_otherwise() -> None:
    plan = plan_frame(record_index(["1", "2"]), action=["create", "skip"], revision=[1, float("nan")])
    assert list(plan.columns) == [name for name, _ in PLAN]
    assert array(plan["revision"]).to_pylist() == [1, None]
    assert array(plan_frame(record_index(["1"]))["action"]).to_pylist() == ["skip"]


def test_a_direction_knows_which_ways_values_travel() -> None:
    assert [(d.inward, d.outward) for d in Direction] == [(True, False), (False, True), (True, True)]
