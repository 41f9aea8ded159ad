"""Pages read by Arrow are what the careful way makes of them, and files of bulk queries are the same once more."""

import csv
import io
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_resources.answers import Answer
from connector_resources.contract import Entity, Field, FieldType, Page
from connector_resources.errors import ContractError
from connector_resources.salesforce.pages import Plan, from_csv, from_json, quick

ENTITY = Entity(
    "Account",
    (
        Field("Id", FieldType.STRING),
        Field("Name", FieldType.STRING),
        Field("Amount", FieldType.DECIMAL, scale=2),
        Field("Count", FieldType.INTEGER),
        Field("Open", FieldType.BOOLEAN),
        Field("Day", FieldType.DATE),
        Field("SystemModstamp", FieldType.INSTANT),
        Field("IsDeleted", FieldType.BOOLEAN),
        Field("MasterRecordId", FieldType.STRING),
    ),
    "Id",
    modified="SystemModstamp",
)
PLAN = Plan(
    ENTITY,
    {
        name: ENTITY.field(name) or Field(name, FieldType.STRING)
        for name in ("Name", "Amount", "Count", "Open", "Day", "Owner.Name")
    },
    ("SystemModstamp", "IsDeleted", "MasterRecordId"),
)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r")).map(str.strip).filter(bool) | st.sampled_from(
    ['},{"attributes":', '"records":[{"attributes":', "}]", "\\", '\\"', 'a,b\n"c"', "null", "00123", "true", "1e5", "東京 😀"]
)
RECORDS = st.fixed_dictionaries(
    {
        "Id": st.integers(0, 99).map(lambda number: f"001{number:015d}"),
        "SystemModstamp": st.just("2026-01-31T12:00:00.123+0000"),
        "IsDeleted": st.booleans(),
        "MasterRecordId": st.none() | st.just("001000000000000001"),
        "Name": st.none() | TEXT,
        "Amount": st.none() | st.decimals(-(10**17), 10**17, places=2) | st.decimals(-100, 100, places=9),
        "Count": st.none() | st.integers(-(2**63), 2**63 - 1),
        "Open": st.booleans(),
        "Day": st.none() | st.dates().map(str),
        "Owner": st.none() | st.fixed_dictionaries({"Name": st.none() | TEXT}),
    }
)


def page_of(records: list[dict[str, Any]]) -> bytes:
    """A page as Salesforce writes it; decimals with their digits."""
    marked = [{"attributes": {"type": "Account"}, **{n: _marked(v) for n, v in record.items()}} for record in records]
    return orjson.dumps({"totalSize": len(records), "done": False, "nextRecordsUrl": "/next", "records": marked})


def _marked(value: Any) -> Any:
    if isinstance(value, dict):
        return {"attributes": {"type": "User"}, **value}
    return orjson.Fragment(f"{value:f}") if isinstance(value, Decimal) else value


def file_of(records: list[dict[str, Any]]) -> bytes:
    """The same as a file of a bulk query."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(PLAN.paths)
    for record in records:
        flat = {**record, "Owner.Name": (record["Owner"] or {}).get("Name")}
        writer.writerow([_text(flat[path]) for path in PLAN.paths])
    return out.getvalue().encode()


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    return str(value).replace("+0000", "Z") if str(value).startswith("2026-01-31T") else str(value)


def answer(content: bytes) -> Answer:
    return Answer("Salesforce", "/query", 200, {"content-type": "application/json"}, content)


def values(found: Page) -> tuple[Any, ...]:
    frames = (found.records, found.marks)
    dtypes = [str(dtype) for one in frames for dtype in one.dtypes]
    return (
        [str(id_) for id_ in found.records.index],
        dtypes,
        *(one.astype(object).where(one.notna(), None).values.tolist() for one in frames),
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=8))
def test_the_quick_way_reads_what_the_careful_way_reads(records: list[dict[str, Any]]) -> None:
    content = page_of(records)
    assert quick(PLAN, content) is not None
    swift = from_json(PLAN, answer(content))
    careful = from_json(PLAN, answer(content.replace(b'"records":', b'"records": ', 1)))
    assert [(one.more, one.total) for one in (swift, careful)] == [("/next", len(records))] * 2
    assert values(swift.page) == values(careful.page)


@settings(max_examples=200, deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=8))
def test_a_file_of_a_bulk_query_reads_like_a_page(records: list[dict[str, Any]]) -> None:
    page = from_json(PLAN, answer(page_of(records))).page
    assert values(from_csv(PLAN, file_of(records))) == values(page)


@pytest.mark.parametrize(
    ("sent", "amount", "count"),
    [
        ("1.234567890107E10", "12345678901.07", "7.0"),
        ("100.0", "100.00", "9223372036854775807"),
        ("-1.0E-2", "-0.01", "1.2E3"),
        ("7.70875344471038601664E20", "770875344471038601664.00", "0"),
    ],
)
def test_numbers_of_a_bulk_query_may_have_exponents(sent: str, amount: str, count: str) -> None:
    row = {"Amount": sent, "Count": count, "Id": "x", "IsDeleted": "false", "SystemModstamp": "2026-01-31T12:00:00.000Z"}
    line = ",".join(f'"{row.get(path, "")}"' for path in PLAN.paths)
    found = from_csv(PLAN, f"{','.join(PLAN.paths)}\n{line}\n".encode())
    assert str(found.records["Amount"].iloc[0]) == amount
    assert found.records["Count"].iloc[0] == int(Decimal(count))
    assert found.marks["version"].iloc[0] == "2026-01-31T12:00:00.000+0000"


@pytest.mark.parametrize("layout", [b'"records":', b'"records": '], ids=["the quick way", "the careful way"])
def test_a_number_that_38_digits_do_not_hold_with_all_its_decimals_is_no_other_one(layout: bytes) -> None:
    row: dict[str, Any] = {"attributes": {"type": "Thing"}} | {path.partition(".")[0]: None for path in PLAN.paths}
    row |= {"Id": "x", "IsDeleted": False, "SystemModstamp": "2026-01-31T12:00:00.000+0000"}
    content = orjson.dumps({"totalSize": 1, "done": True, "records": [row | {"Amount": "number"}]})
    content = content.replace(b'"number"', b"7.70875344471038601664E20").replace(b'"records":', layout)
    found = from_json(PLAN, answer(content)).page
    assert str(found.records["Amount"].iloc[0]) == "770875344471038601664.00"


@pytest.mark.parametrize("content", [b"", b"Id,Name\n1,2\n", b"<html>", b'"Id"\n"1","2"\n'])
def test_a_file_that_is_none_stops_the_read(content: bytes) -> None:
    with pytest.raises(ContractError, match="other columns, or is no CSV"):
        from_csv(PLAN, content)


@pytest.mark.parametrize(("path", "text"), [("Amount", "much"), ("Count", "1.5"), ("Day", "soon"), ("Open", "perhaps")])
def test_a_value_in_a_file_that_is_not_of_its_type_stops_the_read(path: str, text: str) -> None:
    line = ",".join(
        "2026-01-31T12:00:00.000Z" if one == "SystemModstamp" else text if one == path else "" for one in PLAN.paths
    )
    with pytest.raises(ContractError, match=f"Account.{path} that is no"):
        from_csv(PLAN, f"{','.join(PLAN.paths)}\n{line}\n".encode())
