"""One spelling for each value: round trips, and equality that never passes through a float or raw text."""

import json
import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_resources.contract import Field, FieldType
from connector_resources.errors import ContractError
from connector_resources.frames import arrow_array, arrow_type, json_strings, shown, storable, unstorable
from integration_pipelines.canonical import (
    canonical,
    frame,
    json_text,
    parse_json,
    per_unique,
    record_index,
    rows_from_json,
    rows_json,
    text_of,
    typed,
)

FIELDS = (
    Field("text", FieldType.STRING),
    Field("whole", FieldType.INTEGER),
    Field("money", FieldType.DECIMAL, scale=2),
    Field("rate", FieldType.DECIMAL, scale=10),
    Field("flag", FieldType.BOOLEAN),
    Field("day", FieldType.DATE),
    Field("moment", FieldType.INSTANT),
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
ROW = st.fixed_dictionaries(
    {
        "text": st.none() | TEXT,
        "whole": st.none() | st.integers(-(2**63), 2**63 - 1),
        "money": st.none()
        | st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**20), max_value=10**20),
        "rate": st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=10, min_value=-1000, max_value=1000),
        "flag": st.none() | st.booleans(),
        "day": st.none() | st.dates(),
        "moment": st.none() | st.datetimes(timezones=st.just(UTC)),
    }
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)


def made(rows: list[dict[str, Any]]) -> Any:
    columns = {f.name: pa.array([row[f.name] for row in rows], arrow_type(f)) for f in FIELDS}
    return frame(columns, record_index([str(n) for n in range(len(rows))]))


def one(value: object, kind: FieldType, scale: int = 0) -> Any:
    field = Field("f", kind, scale=scale)
    found = text_of(pa.array([value], arrow_type(field)), kind, scale, "f")
    return found[0].as_py()


@given(st.lists(ROW, max_size=5))
def test_typed_takes_canonical_back(rows: list[dict[str, Any]]) -> None:
    records = made(rows)
    again = typed(canonical(records, FIELDS), FIELDS)
    assert again.dtypes.tolist() == records.dtypes.tolist()
    for name in records.columns:
        assert pa.array(again[name]).to_pylist() == [row[name] for row in rows]


@given(st.lists(ROW, max_size=5))
def test_canonical_takes_typed_back(rows: list[dict[str, Any]]) -> None:
    texts = canonical(made(rows), FIELDS)
    assert canonical(typed(texts, FIELDS), FIELDS).equals(texts)
    assert {str(kind) for kind in texts.dtypes} <= {"string[pyarrow]"}


@pytest.mark.parametrize(
    ("value", "kind", "scale", "text"),
    [
        ("00123", FieldType.STRING, 0, "00123"),
        (" ", FieldType.STRING, 0, " "),
        ("", FieldType.STRING, 0, ""),
        (-12, FieldType.INTEGER, 0, "-12"),
        (Decimal("1E+3"), FieldType.DECIMAL, 2, "1000.00"),
        (Decimal("-0.00"), FieldType.DECIMAL, 2, "0.00"),
        (Decimal("0.0000001"), FieldType.DECIMAL, 7, "0.0000001"),
        (Decimal("0E-10"), FieldType.DECIMAL, 10, "0.0000000000"),
        (Decimal("0.1"), FieldType.DECIMAL, 18, "0.100000000000000000"),
        (Decimal("9" * 38), FieldType.DECIMAL, 0, "9" * 38),
        (True, FieldType.BOOLEAN, 0, "true"),
        (date(2024, 3, 31), FieldType.DATE, 0, "2024-03-31"),
        (date(1, 1, 1), FieldType.DATE, 0, "0001-01-01"),
        (datetime(2024, 3, 31, 1, tzinfo=UTC), FieldType.INSTANT, 0, "2024-03-31T01:00:00.000000Z"),
        (datetime(2024, 3, 31, 3, tzinfo=timezone(timedelta(hours=2))), FieldType.INSTANT, 0, "2024-03-31T01:00:00.000000Z"),
        (None, FieldType.DECIMAL, 2, None),
    ],
)
def test_each_value_has_one_spelling(value: object, kind: FieldType, scale: int, text: str | None) -> None:
    assert one(value, kind, scale) == text


@pytest.mark.parametrize(
    ("value", "rounded"), [("0.005", "0.00"), ("0.015", "0.02"), ("-0.005", "0.00"), ("2.675", "2.68"), ("1.004", "1.00")]
)
def test_decimals_are_rounded_half_even_as_decimals(value: str, rounded: str) -> None:
    assert text_of(pa.array([Decimal(value)]), FieldType.DECIMAL, 2)[0].as_py() == rounded


def test_two_numbers_that_are_one_float_stay_two() -> None:
    big = [Decimal("9007199254740992.01"), Decimal("9007199254740992.02")]
    assert float(big[0]) == float(big[1])
    assert one(big[0], FieldType.DECIMAL, 2) != one(big[1], FieldType.DECIMAL, 2)
    assert one(2**53, FieldType.INTEGER) != one(2**53 + 1, FieldType.INTEGER)
    assert one("[9007199254740993]", FieldType.JSON) != one("[9007199254740992]", FieldType.JSON)
    assert one("0.1000000000000000055511151231257827", FieldType.JSON) != one("0.1", FieldType.JSON)


def test_a_number_that_the_scale_has_no_room_for_is_a_sentence_without_the_number() -> None:
    with pytest.raises(ContractError, match=r"The field revenue holds a number of more than 36 digits before the point\."):
        text_of(pa.array([Decimal(10**37)]), FieldType.DECIMAL, 2, "revenue")


@given(JSON)
def test_json_text_is_json_and_means_the_same(value: Any) -> None:
    text = json_text(value)
    assert parse_json(text) == value
    assert json_text(parse_json(text)) == text


@given(st.dictionaries(TEXT, JSON, max_size=5), st.randoms())
def test_the_order_of_keys_does_not_matter(value: dict[str, Any], chance: Any) -> None:
    shuffled = list(value.items())
    chance.shuffle(shuffled)
    assert json_text(dict(shuffled)) == json_text(value)


@pytest.mark.parametrize(
    "group", [["1.1", "1.10", "110e-2", "0.11E1"], ["100", "1e2", "1E+2", "100.0"], ["0", "-0", "0.0", "0e9"]]
)
def test_the_spelling_of_a_number_does_not_matter(group: list[str]) -> None:
    assert len({one(f'{{"n": {text}}}', FieldType.JSON) for text in group}) == 1


def test_white_space_and_escapes_do_not_matter_but_values_do() -> None:
    assert one(' {"b" : [1, 2] ,"a":"\\u00e4"} ', FieldType.JSON) == '{"a":"ä","b":[1,2]}'
    assert (
        len({one(text, FieldType.JSON) for text in ('"1"', "1", "true", "null", "[1]", '""', "[]", "{}", '{"1":null}')}) == 9
    )


@pytest.mark.parametrize(
    "text",
    ["", "x", "NaN", "-Infinity", "{'a': 1}", '"canary', "[1,]", "1e999999999999999999999", "[" * 100_000],
)
def test_text_that_is_no_json_is_a_sentence_without_the_text(text: str) -> None:
    with pytest.raises(ContractError, match="The field address promises JSON and holds text that is none") as refusal:
        text_of(pa.array([text]), FieldType.JSON, None, "address")
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize("depth", [10, 450, 900, 3_000, 100_000])
def test_deep_json_is_read_or_refused_with_a_sentence(depth: int) -> None:
    text = "[" * depth + "]" * depth
    try:
        assert one(text, FieldType.JSON) == text
    except ContractError as refusal:
        assert depth > 100, refusal


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("canary", FieldType.INTEGER),
        ("1.234", FieldType.DECIMAL),
        ("x", FieldType.DATE),
        ("maybe", FieldType.BOOLEAN),
        ("x", FieldType.INSTANT),
    ],
)
def test_a_text_of_another_type_is_refused_by_the_fields_name(text: str, kind: FieldType) -> None:
    field = Field("amount", kind, scale=2)
    with pytest.raises(ContractError, match=f"A stored value of amount is not of type {kind.value}") as refusal:
        typed(frame({"amount": pa.array([text])}, record_index(["1"])), [field])
    assert "canary" not in str(refusal.value)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.none() | TEXT), max_size=5))
def test_rows_of_json_come_back_with_what_was_there(rows: list[dict[str, str | None]]) -> None:
    index = record_index([str(n) for n in range(len(rows))])
    contents = [json.dumps(row).encode() for row in rows]
    texts, there = rows_from_json(contents, ["a", "b", "c"], index)
    again, shown = rows_from_json(rows_json(texts, there), ["a", "b", "c"], index)
    assert again.equals(texts)
    assert (shown == there).all()
    assert [[name in row for name in "abc"] for row in rows] == there.tolist()


def test_a_row_that_is_not_there_knows_nothing() -> None:
    texts, there = rows_from_json([None], ["a"], record_index(["1"]))
    assert (pa.array(texts["a"]).to_pylist(), there.tolist()) == ([None], [[False]])


def test_rows_without_columns_are_empty_objects() -> None:
    assert rows_json(frame({}, record_index(["1", "2"]))).to_pylist() == [b"{}", b"{}"]


def test_a_conversion_is_made_once_for_each_different_value() -> None:
    asked: list[str] = []

    def convert(value: str) -> str:
        asked.append(value)
        return value.upper()

    found = per_unique(pa.array(["a", "b", "a", None]), convert, pa.string())
    assert (found.to_pylist(), sorted(asked)) == (["A", "B", "A", None], ["a", "b"])


@pytest.mark.parametrize(
    "imports",
    [
        "import pandera.pandas; from connector_resources.frames import page",
        "from connector_resources.frames import page; import pandera.pandas",
        "import integration_pipelines.steps.validate; from connector_resources.frames import page",
    ],
)
def test_an_instant_keeps_its_offset_whatever_was_imported_before(imports: str) -> None:
    """pandera tells pyarrow to drop offsets, for Spark's sake."""
    code = f"""{imports}
import pyarrow as pa
from datetime import datetime
moment = datetime.fromisoformat("2024-03-31T03:00:00+02:00")
made = page(["1"], {{"at": (pa.timestamp("us", "UTC"), [moment])}}, version=["1"], modified=[moment])
print(pa.array(made.records["at"])[0].as_py().isoformat(), pa.array(made.marks["modified"])[0].as_py().isoformat())"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said == ["2024-03-31T01:00:00+00:00"] * 2


@given(st.lists(st.none() | st.text(st.characters()) | st.text("a\0\ud800\udfff😀", max_size=4)), st.integers(0, 3))
def test_texts_that_cannot_be_stored_are_found_and_can_be_shown(texts: list[str | None], start: int) -> None:
    column = arrow_array(texts, pa.string())[start:]
    bad = [text is not None and not storable(text) for text in texts[start:]]
    assert list(unstorable(column)) == bad
    assert not unstorable(shown(column)).any()
    escaped = [text and re.sub("[\0\ud800-\udfff]", lambda sign: f"\\u{ord(sign[0]):04x}", text) for text in texts[start:]]
    assert shown(column).to_pylist() == escaped


@given(st.text(st.characters()) | st.text("a\0\ud800\udfff", max_size=4))
def test_json_holds_every_text_of_python(text: str) -> None:
    spelled = json_text({text: [text]})
    assert storable(spelled)
    assert parse_json(spelled) == json.loads(json.dumps({text: [text]}))


@given(st.lists(st.none() | TEXT | st.text('"\\\n\t\x00\x1f\x7f ä', max_size=3)), st.integers(0, 3), st.integers(0, 3))
def test_texts_become_json_strings_also_in_a_slice_of_a_column(texts: list[str | None], start: int, less: int) -> None:
    column = pa.array(texts, pa.string())[start : max(start, len(texts) - less)]
    assert json_strings(column).to_pylist() == [
        None if text is None else orjson.dumps(text).decode() for text in column.to_pylist()
    ]
