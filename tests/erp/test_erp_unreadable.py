"""Values that PostgreSQL holds and a frame cannot: their record is told apart, and all others come as they are."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest
from erp_tables import pages, records
from own_erp import Own, migrated, opened

from connector_resources import erp_read
from connector_resources.contract import Page
from connector_resources.errors import ConfigurationError
from integration_pipelines.store.database import Database
from integration_pipelines.store.migrate import create_database

CATALOGUE = """
module: shop
schema: public
tenant_column: null
entities:
  item:
    table: items
    modified: changed
    fields:
      day: {type: date}
      at: {type: instant}
      amount: {type: decimal, scale: 2}
      weight: {type: decimal, scale: 3}
      count: {type: integer}
      open: {type: boolean}
      extra: {type: json}
      changed: {type: instant, computed: true}
    lines:
      parts: {entity: part, parent: item_id, key: no}
  part:
    table: parts
    modified: null
    fields:
      item_id: {type: integer, references: item}
      no: {type: integer}
      price: {type: decimal, scale: 2}
"""
ITEMS = """CREATE TABLE items (id serial PRIMARY KEY, day date, at timestamptz, amount numeric, weight double precision,
    count text, open text, extra json, changed timestamptz NOT NULL DEFAULT clock_timestamp())"""
PARTS = "CREATE TABLE parts (id serial PRIMARY KEY, item_id integer, no integer, price text)"
FIELDS = ["day", "at", "amount", "weight", "count", "open", "extra", "parts.no", "parts.price"]


@pytest.fixture
def own(database: Database, server: str, tmp_path: Path) -> Own:
    found = opened(create_database(server, f"own_{uuid4().hex[:10]}"), tmp_path, CATALOGUE)
    with found.engine.begin() as connection:
        connection.exec_driver_sql(ITEMS)
        connection.exec_driver_sql(PARTS)
        connection.exec_driver_sql("INSERT INTO items (amount) SELECT n FROM generate_series(1, 20) n")
    migrated(database, found.url, tmp_path)
    return found


def blamed(found: list[Page]) -> dict[str, str]:
    told: dict[str, str] = {}
    for page in found:
        if "unreadable" in page.marks.columns:
            assert page.records.isna().all(axis=None)
            told.update(zip(map(str, page.marks.index), pa.array(page.marks["unreadable"]).to_pylist(), strict=True))
    return told


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("day", "infinity"),
        ("day", "-infinity"),
        ("day", "0044-03-15 BC"),
        ("day", "12026-01-01"),
        ("at", "infinity"),
        ("at", "12026-01-01"),
        ("at", "0044-03-15 BC"),
        ("amount", "NaN"),
        ("amount", "infinity"),
        ("amount", "1e37"),
        ("weight", "NaN"),
        ("weight", "1e300"),
        ("count", "many"),
        ("count", "99999999999999999999"),
        ("open", "perhaps"),
        ("extra", r'{"a": "\u0000"}'),
        ("extra", r'{"a": "\ud800"}'),
        ("extra", '{"a": 1e999999}'),
        ("changed", "infinity"),
    ],
)
def test_a_value_that_its_type_cannot_hold_concerns_its_record_alone(own: Own, column: str, value: str) -> None:
    with own.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE items SET {column} = %s WHERE id IN (7, 8)", (value,))
    everything = [str(n) for n in range(1, 21)]
    for found in (
        pages(own.erp, "item", FIELDS),
        list(own.erp.read_ids(own.erp.describe("item"), FIELDS, [*everything, "99"])),
    ):
        assert blamed(found) == {"7": column, "8": column}
        told = records(found)
        assert sorted(told, key=int) == everything
        assert told["9"]["amount"] == Decimal("9.00")
    assert blamed(pages(own.erp, "item", ["amount"])) == (
        {"7": column, "8": column} if column in ("amount", "changed") else {}
    )


def test_a_line_that_cannot_be_read_blames_the_lines_of_its_document(own: Own) -> None:
    own.sql("INSERT INTO parts (item_id, no, price) VALUES (3, 1, 'much'), (4, 1, 1)")
    found = pages(own.erp, "item", FIELDS)
    assert records(found)["3"]["parts"] is None
    assert blamed(found) == {"3": "parts"}
    assert records(found)["4"]["parts"] == '[{"no": "1", "price": "1.00"}]'


def test_the_ends_of_each_type_come_as_they_are(own: Own) -> None:
    own.sql(
        """UPDATE items SET day = '0001-01-01', at = '9999-12-31 23:59:59.999999+00', weight = 1e-10, amount = 1e35,
           count = -9223372036854775808, extra = '{"face": "\\ud83d\\ude00"}' WHERE id = 1"""
    )
    told = records(pages(own.erp, "item", FIELDS))["1"]
    assert told == {
        "day": date(1, 1, 1), "at": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "weight": Decimal("0.000"),
        "amount": Decimal(10) ** 35, "count": -(2**63), "open": None, "extra": '{"face": "😀"}', "parts": "[]",
    }  # fmt: skip


def test_many_such_records_are_a_fault_of_the_catalogue(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erp_read, "MOST_UNREADABLE", 10)
    own.sql("UPDATE items SET count = 'x'")
    with pytest.raises(
        ConfigurationError, match=r"More than 10 records of the ERP's item on one page hold a count that its type"
    ):
        pages(own.erp, "item", FIELDS)
