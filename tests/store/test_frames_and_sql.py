"""Frames into PostgreSQL and out of it: exact, whatever the values are, and never one value at a time."""

import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa

from connector_resources.frames import uuids
from connector_resources.sql import bytes_array, copy_in, read_table, text_array
from integration_pipelines.canonical import extension
from integration_pipelines.store import ledger, tenants
from integration_pipelines.store.database import Database, engine

KINDS = {
    "text": pa.string(),
    "number": pa.decimal128(38, 2),
    "at": pa.timestamp("us", "UTC"),
    "flag": pa.bool_(),
}
VALUES = {
    "text": ["plain", "", None, 'q"uo,te', "two\nlines", "\\N", "back\\slash", "é\u2028"],
    "number": [Decimal("0.10"), Decimal("-99999999999999999999.99"), None, *[Decimal("1.00")] * 5],
    "at": [
        datetime(2026, 3, 29, 1, 0, 0, 1, UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        None,
        *[datetime(2026, 1, 1, tzinfo=UTC)] * 5,
    ],
    "flag": [True, False, None, True, True, False, True, None],
}
COLUMNS = {"text": "text", "number": "numeric", "at": "timestamptz", "flag": "boolean"}
BINARY_KINDS = {
    "text": pa.string(),
    "bytes": pa.binary(),
    "id": pa.string(),
    "n": pa.int64(),
    "flag": pa.bool_(),
    "j": pa.string(),
}
BINARY_VALUES = {
    **{name: VALUES[name] for name in ("text", "flag")},
    "bytes": [b"\x00\xff", b"", None, b"\\x", b"\n", b'"', b",", b"x" * 5000],
    "id": [None, *[f"0190a7c2-{at:04x}-7def-8123-0123456789ab" for at in range(7)]],
    "n": [0, -1, None, 2**63 - 1, -(2**63), 1, 2, 3],
    "j": ['{"a": [1, "é"]}', "null", None, "[]", '""', "0.10", "{}", "true"],
}
BINARY_COLUMNS = {"text": "text", "bytes": "bytea", "id": "uuid", "n": "bigint", "flag": "boolean", "j": "jsonb"}


@pytest.fixture
def connection(database_url: str) -> Iterator[sa.Connection]:
    made = engine(database_url, role=None, poolclass=sa.NullPool)
    with made.connect() as opened:
        yield opened


@pytest.mark.parametrize(
    ("columns", "kinds", "values"),
    [(COLUMNS, KINDS, VALUES), (BINARY_COLUMNS, BINARY_KINDS, BINARY_VALUES)],
    ids=["as CSV", "in binary"],
)
def test_a_frame_comes_back_from_the_database_as_it_went(
    connection: sa.Connection, columns: dict[str, str], kinds: dict[str, pa.DataType], values: dict[str, list[object]]
) -> None:
    frame = pd.DataFrame({name: extension(pa.array(values[name], kinds[name])) for name in columns})
    copy_in(connection, "trip", columns, frame)
    found = read_table(connection, f"SELECT {', '.join(columns)} FROM pg_temp.trip", kinds)
    assert found.schema.types == list(kinds.values())
    assert found.to_pydict() == {name: values[name] for name in kinds}


def test_bytes_go_with_types_that_have_a_binary_form(connection: sa.Connection) -> None:
    with pytest.raises(ValueError, match="numeric has no binary form here"):
        copy_in(connection, "trip", {"b": "bytea", "n": "numeric"}, pd.DataFrame({"b": [b""], "n": [Decimal(1)]}))


def test_a_column_that_holds_nothing_but_nulls_keeps_its_rows(connection: sa.Connection) -> None:
    found = read_table(connection, "SELECT NULL::bytea FROM generate_series(1, 3)", {"bytes": pa.binary()})
    assert found.to_pydict() == {"bytes": [None, None, None]}


def test_no_rows_are_a_table_with_its_columns(connection: sa.Connection) -> None:
    found = read_table(connection, "SELECT 'a', 1 WHERE :no", {"a": pa.string(), "b": pa.int64()}, {"no": False})
    assert found.num_rows == 0
    assert found.schema.names == ["a", "b"]


def test_a_slice_of_bytes_is_written_as_that_slice(connection: sa.Connection) -> None:
    values = pa.array([b"one", None, b"", b"four"], pa.binary())[1:3]
    copy_in(connection, "part", {"b": "bytea"}, pd.DataFrame({"b": extension(values)}))
    assert list(connection.execute(sa.text("SELECT b FROM pg_temp.part")).scalars()) == [None, b""]


def test_a_statement_that_fails_says_so_as_any_other(connection: sa.Connection) -> None:
    with pytest.raises(sa.exc.DBAPIError) as failure:
        read_table(connection, "SELECT CAST(:value AS int)", {"n": pa.int64()}, {"value": "canary-5b1"})
    assert "parameters" not in str(failure.value)


@pytest.mark.parametrize("values", [[], [""], ["a", 'b"c', "d\\e", "{,}", "NULL", "\n", " "]], ids=["none", "empty", "odd"])
def test_a_list_of_texts_arrives_as_it_is(connection: sa.Connection, values: list[str]) -> None:
    statement = sa.text("SELECT CAST(:given AS text[])")
    assert connection.execute(statement, {"given": text_array(values)}).scalar_one() == values


def test_a_list_of_bytes_arrives_as_it_is(connection: sa.Connection) -> None:
    values = [b"", b"\x00", b"\\x00", b'"']
    assert connection.execute(sa.text("SELECT CAST(:g AS bytea[])"), {"g": bytes_array(values)}).scalar_one() == values


def test_ids_are_random_uuids_of_version_4() -> None:
    made = uuids(200).to_pylist()
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", one) for one in made)
    assert len(set(made)) == 200
    assert uuids(0).to_pylist() == []


def test_ids_of_a_moment_are_uuids_of_version_7_that_sort_by_it_and_by_their_place() -> None:
    moment = datetime(2026, 3, 31, 1, 2, 3, 456_000, UTC)
    made = uuids(10_000, moment).to_pylist()
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", one) for one in made)
    assert int(made[0].replace("-", "")[:12], 16) == int(moment.timestamp() * 1000)
    assert made == sorted(set(made))
    assert uuids(0, moment).to_pylist() == []


def test_what_an_earlier_release_compressed_still_opens_and_long_records_are_compressed(database: Database) -> None:
    tenant, short, long = tenants.create(database, "acme"), b'{"a":"1"}', b'{"a":"' + b"1" * 5000 + b'"}'
    with database.tenant(tenant) as scope:
        keys, place = ledger.keys_for(scope, ["customer/1"]), scope.vault.place("t", "1")
        earlier = scope.vault.seal_records(keys, ["customer/1"], [zlib.compress(short, 6)], [place])
        now = ledger.seal(scope, keys, ["customer/1"] * 2, [short, long], [place] * 2)
        assert ledger.open_sealed(scope, [*earlier, *now], [place] * 3) == [short, short, long]
        assert now[1] is not None
        assert len(now[1]) < 200
