"""The ERP's own writes in the ERP's own database: none of them fails because we listen, and none of them is missed."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import pandas as pd
import pyarrow as pa
import pytest
from erp_tables import by_id, create, pages, records, version, write
from own_erp import Own, migrated, opened

from connector_resources.contract import Changes
from connector_resources.erp_changes import changed_since
from connector_resources.errors import ConfigurationError
from integration_pipelines.canonical import frame
from integration_pipelines.store.database import Database
from integration_pipelines.store.installation import APART
from integration_pipelines.store.migrate import create_database

CATALOGUE = """
module: shop
schema: public
tenant_column: {tenants}
entities:
  order:
    table: orders
    key: {{name: id, column: nr}}
    modified: null
    fields:
      name: {{type: string}}
      extra: {{type: {kind}}}
    lines:
      lines: {{entity: order_line, parent: order_id, key: no}}
  order_line:
    table: order_lines
    key: {{name: id, column: line}}
    modified: null
    fields:
      order_id: {{type: integer, references: order, column: order_nr}}
      no: {{type: integer}}
      text: {{type: string}}
"""
ORDERS = "CREATE TABLE orders (nr serial PRIMARY KEY, name text, extra {kind})"
LINES = "CREATE TABLE order_lines (line serial PRIMARY KEY, order_nr integer, no integer, text text)"
Make: TypeAlias = Callable[..., Own]


@pytest.fixture
def make(database: Database, server: str, tmp_path: Path) -> Make:
    def made(*tables: str, kind: str = "string", tenants: str = "null", tenant: object = None) -> Own:
        url = create_database(server, f"own_{uuid4().hex[:10]}")
        own = opened(url, tmp_path, CATALOGUE.format(kind=kind, tenants=tenants), tenant)  # type: ignore[arg-type] # a UUID
        with own.engine.begin() as connection:
            for table in tables or (ORDERS.format(kind="text"), LINES):
                connection.exec_driver_sql(table)
        migrated(database, url, tmp_path)
        return own

    return made


def log(own: Own) -> list[tuple[str, str, str, list[str]]]:
    rows = own.sql(f"SELECT entity, record_id, action, fields FROM {APART}.change_log ORDER BY id")
    return [(row.entity, row.record_id, row.action, list(row.fields)) for row in rows]


@pytest.mark.parametrize(
    ("kind", "value", "other"),
    [
        ("json", '{"a": 1}', '{"a": 2}'),
        ("json", r'{"a": "\u0000"}', r'{"a": "\ud800"}'),
        ("json[]", "{}", "{1}"),
        ("point", "(1,2)", "(1,3)"),
        ("tsvector", "'a' 'b'", "'a' 'c'"),
        ("text[]", "{a}", "{b}"),
        ("name", "a", "b"),
    ],
)
def test_a_column_of_any_type_can_be_written_and_is_logged(make: Make, kind: str, value: str, other: str) -> None:
    own = make(ORDERS.format(kind=kind), LINES)
    with own.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO orders (name, extra) VALUES (%s, %s)", ("a", value))
        connection.exec_driver_sql("UPDATE orders SET extra = %s", (value,))
        connection.exec_driver_sql("UPDATE orders SET extra = %s", (other,))
    assert log(own)[1:] == [("order", "1", "update", ["extra"])]
    assert records(pages(own.erp, "order", ["extra"])) == {"1": {"extra": other}}


def test_a_type_whose_equality_is_elsewhere_can_be_written_and_is_logged(make: Make) -> None:
    own = make(
        "CREATE FUNCTION same(point, point) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 ~= $2'",
        "CREATE OPERATOR = (LEFTARG = point, RIGHTARG = point, FUNCTION = same)",
        ORDERS.format(kind="point"),
        LINES,
    )
    own.sql("INSERT INTO orders (extra) VALUES ('(1,2)')")
    own.sql("UPDATE orders SET name = 'y'")
    assert log(own)[1:] == [("order", "1", "update", ["name"])]


def test_a_line_without_a_document_can_be_written(make: Make) -> None:
    own = make()
    own.sql("INSERT INTO orders (name) VALUES ('a')")
    own.sql("INSERT INTO order_lines (order_nr, no) VALUES (NULL, 1), (1, 1)")
    own.sql("UPDATE order_lines SET order_nr = 1 WHERE order_nr IS NULL")
    own.sql("DELETE FROM order_lines WHERE line = 1")
    assert [entry[1:] for entry in log(own) if entry[0] == "order"] == [
        ("1", "create", ["name"]), ("1", "update", ["lines"]), ("1", "update", ["lines"]), ("1", "update", ["lines"]),
    ]  # fmt: skip


def test_a_key_that_changes_is_one_record_less_and_another_one_more(make: Make) -> None:
    own = make()
    own.sql("INSERT INTO orders (name) VALUES ('a'), ('b'), ('c')")
    before = len(log(own))
    own.sql("UPDATE orders SET nr = 7, name = 'z' WHERE nr = 1")
    own.sql("UPDATE orders SET nr = nr - 1 WHERE nr < 4")
    assert sorted(log(own)[before:]) == [
        ("order", "1", "create", ["name"]), ("order", "1", "delete", []), ("order", "2", "update", ["name"]),
        ("order", "3", "delete", []), ("order", "7", "create", ["name"]),
    ]  # fmt: skip


def test_after_truncate_nobody_knows_what_is_gone_so_all_is_read(make: Make) -> None:
    own = make()
    own.sql("INSERT INTO orders (name) VALUES ('a')")
    order, line = own.erp.describe("order"), own.erp.describe("order_line")
    position = changed_since(own.erp, order, None).position
    own.sql("TRUNCATE order_lines")
    found = changed_since(own.erp, line, position)
    assert found.ids is None
    assert changed_since(own.erp, order, position).ids is None
    assert changed_since(own.erp, line, found.position).ids == []
    own.sql("TRUNCATE orders")
    assert changed_since(own.erp, order, found.position).ids is None
    assert changed_since(own.erp, line, found.position).ids == []


PARTED = (
    ORDERS.format(kind="text") + " PARTITION BY RANGE (nr)",
    "CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (1) TO (10)",
    LINES,
)


def test_records_of_partitioned_tables_are_written_like_others(make: Make) -> None:
    own = make(*PARTED)
    record = create(own.erp, "order", name="a")
    seen = version(own.erp, "order", record)
    (outcome,) = write(own.erp, "order", ("update", record, seen, {"name": "b"}))
    assert (outcome["outcome"], outcome["version"]) == ("done", version(own.erp, "order", record))
    assert write(own.erp, "order", ("update", record, seen, {"name": "c"}))[0]["outcome"] == "moved"
    assert write(own.erp, "order", ("delete", record, outcome["version"], {}))[0]["outcome"] == "done"
    assert own.sql("SELECT * FROM orders") == []
    assert [entry[1:] for entry in log(own)] == [
        (record, "create", ["name"]), (record, "update", ["name"]), (record, "delete", []),
    ]  # fmt: skip


def test_what_is_written_to_a_partition_itself_is_logged_also_in_one_that_came_later(make: Make) -> None:
    own = make(*PARTED)
    own.sql("CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM (10) TO (20)")
    own.sql("INSERT INTO orders_1 (nr, name) VALUES (1, 'a')")
    own.sql("INSERT INTO orders_2 (nr, name) VALUES (11, 'a')")
    own.sql("UPDATE orders_2 SET name = 'b'")
    own.sql("UPDATE orders SET nr = 12 WHERE nr = 1")
    own.sql("DELETE FROM orders_2 WHERE nr = 11")
    assert sorted(entry[1:] for entry in log(own)) == [
        ("1", "create", ["name"]), ("1", "delete", []), ("11", "create", ["name"]), ("11", "delete", []),
        ("11", "update", ["name"]), ("12", "create", ["name"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "orders",
    [
        "CREATE TABLE orders (firm uuid NOT NULL, nr serial, name text, extra text, PRIMARY KEY (firm, nr))",
        "CREATE TABLE orders (firm uuid NOT NULL, nr integer UNIQUE, name text, extra text)",
        "CREATE TABLE orders (firm uuid, nr integer NOT NULL, name text, extra text)",
    ],
)
def test_a_key_that_is_not_unique_by_itself_is_refused_before_anything_is_made(make: Make, orders: str) -> None:
    refusal = r'do not fit: the key nr of "public"."orders" must be NOT NULL and have a unique index of its own'
    with pytest.raises(ConfigurationError, match=refusal):
        make(orders, LINES)


@pytest.mark.parametrize(
    "more", ["CREATE TABLE old_orders () INHERITS (orders)", "ALTER TABLE orders RENAME TO o; CREATE VIEW orders AS TABLE o"]
)
def test_what_is_written_to_behind_our_back_is_refused(make: Make, more: str) -> None:
    with pytest.raises(ConfigurationError, match=r'"public"."orders" must be a table, and none that others inherit from'):
        make(ORDERS.format(kind="text"), LINES, *more.split("; "))


def test_another_tenants_lines_stay_as_they_are(make: Make) -> None:
    """Even where their document is ours, which no ERP should let happen."""
    ours, others = uuid4(), uuid4()
    tables = [sql.replace(" (", " (firm uuid NOT NULL, ", 1) for sql in (ORDERS.format(kind="text"), LINES)]
    own = make(*tables, tenants="firm", tenant=ours)
    own.sql(f"INSERT INTO orders VALUES ('{ours}', 1, 'a')")
    for firm, text in ((ours, "ours"), (others, "theirs")):
        own.sql(f"INSERT INTO order_lines (firm, order_nr, no, text) VALUES ('{firm}', 1, 1, '{text}'), ('{firm}', 1, 2, 'x')")
    index = pd.Index(["x0"])
    lines = frame({"lines": pa.array(['[{"no": "1", "text": "new"}]'])}, index)
    step = {"action": "update", "id": "1", "version": version(own.erp, "order", "1"), "intent": str(uuid4())}
    steps = pd.DataFrame([step], index=index, dtype=object)
    changes = Changes(lines, frame({"lines": pa.array([True])}, index), steps)
    assert own.erp.write(own.erp.describe("order"), changes)["outcome"].tolist() == ["done"]
    told = "SELECT text FROM order_lines WHERE firm = '{}' ORDER BY no"
    assert [row.text for row in own.sql(told.format(ours))] == ["new"]
    assert write(own.erp, "order", ("delete", "1", version(own.erp, "order", "1"), {}))[0]["outcome"] == "done"
    assert own.sql(told.format(ours)) == []
    assert [row.text for row in own.sql(told.format(others))] == ["theirs", "x"]
    assert by_id(own.erp, "order", [], "1") == {}
