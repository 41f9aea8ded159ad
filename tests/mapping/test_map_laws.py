"""Laws of mapping that hold for all records: hypothesis looks for one that breaks them."""

from decimal import Context, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_resources.contract import Entity, Field, FieldType
from integration_pipelines.canonical import array, frame, record_index
from integration_pipelines.model import Batch, absence_frame, concat, marks_frame
from integration_pipelines.steps.map import apply
from integration_pipelines.steps.mapping import compile_mapping, from_json
from integration_pipelines.steps.transforms import fit

SOURCE = Entity("Thing", tuple(Field(name, FieldType.STRING) for name in ("A", "B", "C")), "Id")
TARGET = Entity(
    "thing",
    (
        Field("name", FieldType.STRING),
        Field("amount", FieldType.DECIMAL, scale=2),
        Field("day", FieldType.DATE),
        Field("phone", FieldType.STRING),
        Field("code", FieldType.STRING),
        Field("label", FieldType.STRING),
    ),
    "id",
)
MAPPING = compile_mapping(
    from_json(
        "things",
        "Thing",
        "thing",
        [
            {"source": "A", "target": "name", "transforms": ["collapse_spaces", "empty_to_null"], "required": True},
            {"source": "B", "target": "amount", "transforms": ["to_decimal", {"multiply": "0.5"}, {"money": 2}]},
            {"source": "C", "target": "day", "transforms": [{"to_date": {"on_error": "null"}}], "default": "2000-01-01"},
            {"source": "C", "target": "phone", "transforms": [{"phone": {"country_field": "A", "on_error": "keep"}}]},
            {"source": "A", "target": "code", "transforms": ["country"], "when": {"source": "C", "is_null": True}},
            {"source": "A", "target": "label", "transforms": [{"concat": ["B", "C"]}], "default_on": "both", "default": "-"},
        ],
    ),
    TARGET,
    SOURCE,
)
TEXTS = st.one_of(
    st.none(),
    st.text(max_size=12),
    st.sampled_from(["DE", "Germany", "089 1234567", "2024-02-29", "12.345", "-0.01", " ", "+4989123456"]),
)
CELLS = st.tuples(TEXTS, st.booleans())
ROWS = st.lists(st.tuples(st.tuples(CELLS, CELLS, CELLS), st.booleans()), max_size=8)


def batch(rows: list[Any], ids: list[int]) -> Batch:
    index = record_index(pa.array([f"r{at}" for at in ids], pa.string()))
    columns = {name: pa.array([cells[at][0] for cells, _ in rows], pa.string()) for at, name in enumerate("ABC")}
    absent = {name: np.array([cells[at][1] for cells, _ in rows], dtype=bool) for at, name in enumerate("ABC")}
    return Batch(frame(columns, index), marks_frame(index, deleted=[gone for _, gone in rows]), absence_frame(absent, index))


def contents(result: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
    """What became of each record: its fields and where they are absent, or why it was rejected."""
    columns = [(f.name, array(result.records[f.name]).to_pylist(), result.absence(f.name).tolist()) for f in MAPPING.fields]
    kept = {
        identity: [(name, values[at], gone[at]) for name, values, gone in columns]
        for at, identity in enumerate(result.records.index)
    }
    return kept, {row["record_id"]: row for row in result.rejected.to_dict("records")}


@given(ROWS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_records_does_not_matter(rows: list[Any], random: Any) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)
    assert contents(apply(MAPPING, batch(rows, list(range(len(rows)))))) == contents(
        apply(MAPPING, batch([rows[at] for at in order], order))
    )


@given(ROWS, ROWS)
@settings(deadline=None)
def test_mapping_two_batches_as_one_is_mapping_each(first: list[Any], second: list[Any]) -> None:
    one = batch(first, list(range(len(first))))
    two = batch(second, [100 + at for at in range(len(second))])
    assert contents(apply(MAPPING, concat([one, two]))) == contents(concat([apply(MAPPING, one), apply(MAPPING, two)]))


@given(ROWS)
@settings(deadline=None)
def test_each_record_is_mapped_or_rejected_once_and_keeps_its_marks(rows: list[Any]) -> None:
    given_batch = batch(rows, list(range(len(rows))))
    result = apply(MAPPING, given_batch)
    assert sorted([*result.records.index, *result.rejected["record_id"]]) == sorted(given_batch.records.index)
    assert result.marks.equals(given_batch.marks.loc[result.records.index])


SECRET = st.text(alphabet="§ÐÞ", min_size=3, max_size=9)  # letters that no sentence of ours has


@given(SECRET)
@settings(deadline=None)
def test_no_value_of_a_record_gets_into_a_rejection_but_its_data(secret: str) -> None:
    rows = [
        (((secret, False), (secret, False), (None, False)), False),
        (((None, False), ("1", False), (secret, False)), False),
    ]
    result = apply(MAPPING, batch(rows, [0, 1]))
    assert len(result.rejected) == 2
    told = result.rejected.drop(columns=["data"]).to_dict("records")
    assert not any(sign in str(told) for sign in secret)


@given(st.decimals(min_value=Decimal(-(10**17)), max_value=Decimal(10**17), places=4))
@settings(deadline=None)
def test_decimals_are_exact(amount: Decimal) -> None:
    """Half of the amount, rounded half to even at two decimals, as Python's own decimals have it."""
    rows = [((("a", False), (format(amount, "f"), False), ("x", False)), False)]
    found = array(apply(MAPPING, batch(rows, [0])).records["amount"])[0].as_py()
    assert found == round(amount * Decimal("0.5"), 2)


EXACT = Context(prec=200)
SCALES = st.integers(0, 18)


@given(st.integers(-(10**38) + 1, 10**38 - 1), SCALES, SCALES, st.integers(-40, 40), st.integers(0, 80))
@settings(deadline=None, max_examples=1000)
def test_a_number_that_does_not_fit_a_type_is_null_there_and_never_another_number(
    digits: int, scale: int, wanted: int, exponent: int, zeros: int
) -> None:
    number, to = EXACT.scaleb(Decimal(digits), -scale), pa.decimal128(38, wanted)
    texts = {format(number, "f"): number, f"{digits}e{exponent}": EXACT.scaleb(Decimal(digits), exponent)}
    texts[f"{number:f}{'.' * (not scale)}0{'0' * zeros}"] = number
    columns = [(pa.array([number], pa.decimal128(38, scale)), number)]
    for values, value in [*columns, *((pa.array([text], pa.string()), meant) for text, meant in texts.items())]:
        whole = value == value.quantize(Decimal(1).scaleb(-wanted), context=EXACT)
        fits = whole and value.copy_abs() < Decimal(10) ** (38 - wanted)
        assert fit(values, to).to_pylist() == [value if fits else None]
