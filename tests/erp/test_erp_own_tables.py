"""A user's own database behind the same grammar: other schemas, names, keys and types, and intents remembered there."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from erp_tables import Row, by_id, changes, create, pages, records, version, write
from own_erp import Own, migrated, opened

from connector_resources.errors import ConfigurationError
from integration_pipelines.store.database import Database, engine
from integration_pipelines.store.installation import APART
from integration_pipelines.store.migrate import create_database

TABLES = """
CREATE SCHEMA "Fibu Süd";
CREATE TYPE public.art AS ENUM ('firma', 'privat');
CREATE TABLE "Fibu Süd"."Kunden" (
    "Kd-Nr" integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "Name (voll)" varchar(20) NOT NULL, "Rabatt %" numeric(5, 2),
    art public.art, seit timestamp, offen boolean, merkmale json, kuerzel char(5) UNIQUE,
    geaendert timestamp NOT NULL DEFAULT now());
CREATE TABLE "Fibu Süd"."Belege" (
    nr serial PRIMARY KEY, kunde integer REFERENCES "Fibu Süd"."Kunden", am date, betrag double precision);
CREATE FUNCTION "Fibu Süd".pruefe() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.am < '2000-01-01' THEN RAISE EXCEPTION 'canary: too old: %', NEW.am; END IF; RETURN NEW; END $$;
CREATE TRIGGER pruefe BEFORE INSERT OR UPDATE ON "Fibu Süd"."Belege" FOR EACH ROW EXECUTE FUNCTION "Fibu Süd".pruefe();
"""
CATALOGUE = """
module: fibu
schema: Fibu Süd
tenant_column: null
entities:
  customer:
    table: Kunden
    key: {name: id, column: Kd-Nr}
    modified: changed
    fields:
      name: {type: string, column: "Name (voll)", max_length: 20, personal: true}
      discount: {type: decimal, scale: 2, column: "Rabatt %"}
      kind: {type: string, column: art}
      since: {type: instant, column: seit}
      open: {type: boolean, column: offen}
      tags: {type: json, column: merkmale}
      code: {type: string, column: kuerzel}
      changed: {type: instant, column: geaendert, computed: true}
  voucher:
    table: Belege
    key: {name: id, column: nr}
    modified: null
    fields:
      customer_id: {type: string, column: kunde, references: customer}
      day: {type: date, column: am}
      amount: {type: decimal, scale: 3, column: betrag}
"""


@pytest.fixture
def own(database: Database, server: str, tmp_path: Path) -> Own:
    url = create_database(server, f"own_{uuid4().hex[:10]}")
    found = opened(url, tmp_path, CATALOGUE)
    with found.engine.begin() as connection:
        connection.execute(sa.text(TABLES))
    migrated(database, url, tmp_path)
    return found


VALUES: dict[str, Any] = {
    "name": "Ada & Söhne",
    "discount": Decimal("12.50"),
    "kind": "firma",
    "since": datetime(2026, 3, 29, 2, 30, tzinfo=UTC),
    "open": False,
    "tags": '{"b": 1, "a": [1.10]}',
    "code": "00A",
}


def test_a_record_comes_back_as_it_went_whatever_the_columns_are_called(own: Own) -> None:
    record = create(own.erp, "customer", **VALUES)
    assert record == "1"
    found = by_id(own.erp, "customer", list(VALUES), record)[record]
    assert json.loads(found.pop("tags")) == {"a": [1.1], "b": 1}
    assert found == {name: value for name, value in VALUES.items() if name != "tags"}


def test_ids_are_drawn_from_the_keys_sequence(own: Own) -> None:
    described = own.erp.describe("customer")
    assert own.erp.new_ids(described, 3) == ["1", "2", "3"]
    assert own.erp.new_ids(own.erp.describe("voucher"), 2) == ["1", "2"]
    own.sql("""INSERT INTO "Fibu Süd"."Kunden" ("Name (voll)") VALUES ('theirs')""")
    assert own.erp.new_ids(described, 1) == ["5"]


def test_a_key_that_cannot_be_numbered_is_a_sentence(own: Own) -> None:
    own.sql("""ALTER TABLE "Fibu Süd"."Belege" ALTER nr DROP DEFAULT; DROP SEQUENCE "Fibu Süd"."Belege_nr_seq" """)
    with pytest.raises(ConfigurationError, match=r"is of type integer and has no sequence, so no new record can be numbered"):
        own.erp.new_ids(own.erp.describe("voucher"), 1)


def test_references_may_be_numbers(own: Own) -> None:
    customer = create(own.erp, "customer", name="Ada")
    voucher = create(own.erp, "voucher", customer_id=customer, day=date(2026, 1, 31), amount=Decimal("0.1"))
    assert by_id(own.erp, "voucher", ["customer_id", "day", "amount"], voucher)[voucher] == {
        "customer_id": customer, "day": date(2026, 1, 31), "amount": Decimal("0.100"),
    }  # fmt: skip
    assert write(own.erp, "voucher", ("update", voucher, None, {"customer_id": None}))[0]["outcome"] == "done"


@pytest.mark.parametrize(
    ("entity", "values", "reason"),
    [
        ("customer", {"name": "canary" * 10}, "a text is too long"),
        ("customer", {"name": "x", "kind": "canary"}, "a value is not of the column's type"),
        ("customer", {"name": "x", "tags": "canary"}, "a value is not of the column's type"),
        ("customer", {"name": "x", "discount": Decimal("12345")}, "a number is out of range"),
        ("customer", {"name": "x", "code": "00A"}, "another record of the ERP has the same value (Kunden_kuerzel_key)"),
        ("voucher", {"customer_id": "99"}, "the one it refers to is gone (Belege_kunde_fkey)"),
        ("voucher", {"customer_id": "canary"}, "a value is not of the column's type"),
        ("voucher", {"day": date(1999, 1, 1)}, "a trigger of the ERP says no"),
    ],
)
def test_what_the_users_database_refuses_is_refused_alone_and_without_values(
    own: Own, entity: str, values: dict[str, Any], reason: str
) -> None:
    create(own.erp, "customer", **VALUES)
    good = {"name": "good"} if entity == "customer" else {"day": date(2026, 1, 1)}
    ids = own.erp.new_ids(own.erp.describe(entity), 3)
    rows: list[Row] = [
        ("create", record, None, dict(content)) for record, content in zip(ids, [good, values, good], strict=True)
    ]
    found = write(own.erp, entity, *rows)
    assert [row["outcome"] for row in found] == ["done", "refused", "done"]
    assert reason in found[1]["message"]
    assert "canary" not in found[1]["message"]
    intents = own.sql(f"SELECT record_id FROM {APART}.applied_intents ORDER BY applied_at")
    assert sorted(row.record_id for row in intents)[-2:] == sorted(str(r["id"]) for r in (found[0], found[2]))


@pytest.mark.parametrize("unknown", ["abc", "", "99", "99999999999", "-1", "1; DROP", "٣", "1.0"])
def test_an_id_that_nobody_knows_is_missing(own: Own, unknown: str) -> None:
    record = create(own.erp, "customer", name="x")
    assert list(by_id(own.erp, "customer", [], unknown, record)) == [record]


def test_a_window_works_on_instants_without_a_zone(own: Own) -> None:
    create(own.erp, "customer", name="old")
    own.sql("""UPDATE "Fibu Süd"."Kunden" SET geaendert = '2026-01-01 12:00:00'""")
    new = create(own.erp, "customer", name="new")
    own.sql("""UPDATE "Fibu Süd"."Kunden" SET geaendert = '2026-01-01 13:00:00' WHERE "Name (voll)" = 'new'""")
    found = pages(own.erp, "customer", ["name", "changed"], since=datetime(2026, 1, 1, 13, tzinfo=UTC))
    assert records(found) == {new: {"name": "new", "changed": datetime(2026, 1, 1, 13, tzinfo=UTC)}}


def test_an_entity_without_a_watermark_is_read_whole(own: Own) -> None:
    ids = [create(own.erp, "voucher", day=date(2026, 1, day)) for day in (1, 2)]
    assert list(records(pages(own.erp, "voucher", [], since=datetime(2999, 1, 1, tzinfo=UTC)))) == ids


def test_a_record_that_somebody_changed_in_between_is_moved(own: Own) -> None:
    record = create(own.erp, "customer", name="x")
    seen = version(own.erp, "customer", record)
    own.sql("""UPDATE "Fibu Süd"."Kunden" SET offen = true""")
    assert write(own.erp, "customer", ("update", record, seen, {"name": "y"}))[0]["outcome"] == "moved"
    assert own.sql(f"SELECT count(*) FROM {APART}.applied_intents")[0][0] == 1


def test_an_intent_that_arrived_can_be_probed_and_one_that_did_not_is_unknown(own: Own) -> None:
    described = own.erp.describe("customer")
    (record,) = own.erp.new_ids(described, 1)
    made = changes(described, [("create", record, None, {"name": "x"}), ("update", "99", None, {"name": "y"})])
    own.erp.write(described, made)
    arrived, missed = made.steps["intent"]
    assert own.erp.applied([arrived, missed, str(uuid4())]) == {arrived: version(own.erp, "customer", record)}
    assert own.erp.applied([]) == {}


def test_an_intent_is_remembered_in_the_transaction_of_its_record(own: Own) -> None:
    described = own.erp.describe("customer")
    (record,) = own.erp.new_ids(described, 1)
    made = changes(described, [("create", record, None, {"name": "x"})])
    own.erp.write(described, made)
    again = changes(described, [("update", record, None, {"name": "twice"})])
    again.steps["intent"] = made.steps["intent"]
    with pytest.raises(sa.exc.IntegrityError):
        own.erp.write(described, again)
    assert by_id(own.erp, "customer", ["name"], record)[record]["name"] == "x"


def test_their_own_writes_are_logged_with_who_and_what(own: Own) -> None:
    record = create(own.erp, "customer", **VALUES)
    own.sql("""UPDATE "Fibu Süd"."Kunden" SET art = art, merkmale = merkmale""")
    own.sql("""UPDATE "Fibu Süd"."Kunden" SET merkmale = '[]', "Name (voll)" = 'y'""")
    found = own.sql(f"SELECT action, fields, actor, record_id FROM {APART}.change_log ORDER BY id")
    assert [(row.action, sorted(row.fields), row.actor) for row in found] == [
        ("create", sorted(VALUES), "integration"),
        ("update", ["name", "tags"], "postgres"),
    ]
    assert {row.record_id for row in found} == {record}
    told = own.erp.changed_at(own.erp.describe("customer"), [record])
    assert dict(zip(told["field"], told["actor"], strict=True))["name"] == "postgres"


def test_accounts_that_know_nothing_of_our_schema_can_go_on_writing(own: Own) -> None:
    own.sql(
        """DO $$ BEGIN CREATE ROLE clerk LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
           GRANT USAGE ON SCHEMA "Fibu Süd" TO clerk;
           GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "Fibu Süd" TO clerk"""
    )
    clerk = engine(own.url.replace("//postgres@", "//clerk@"), role=None, poolclass=sa.NullPool)
    with clerk.begin() as connection:
        connection.execute(sa.text("""INSERT INTO "Fibu Süd"."Kunden" ("Name (voll)") VALUES ('x')"""))
        connection.execute(sa.text("""UPDATE "Fibu Süd"."Kunden" SET offen = true"""))
        connection.execute(sa.text("""DELETE FROM "Fibu Süd"."Kunden" """))
    found = own.sql(f"SELECT action, actor FROM {APART}.change_log ORDER BY id")
    assert [tuple(row) for row in found] == [("create", "clerk"), ("update", "clerk"), ("delete", "clerk")]


def test_a_catalogue_that_does_not_fit_the_tables_is_one_sentence(own: Own, database: Database, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(CATALOGUE.replace("column: offen", "column: ofen"))
    with pytest.raises(ConfigurationError, match=r'do not fit: column "ofen" does not exist. Correct the catalogue in ERP_'):
        migrated(database, own.url, tmp_path)
    own.sql("""INSERT INTO "Fibu Süd"."Kunden" ("Name (voll)") VALUES ('writes go on')""")


@pytest.mark.parametrize("kind", ["uuid", "text"])
def test_tables_of_several_tenants_are_told_apart_by_their_column(
    database: Database, server: str, tmp_path: Path, kind: str
) -> None:
    text = """
module: shared
schema: null
tenant_column: firm
entities:
  customer:
    table: customers
    key: id
    modified: null
    fields:
      name: {type: string}
"""
    url = create_database(server, f"own_{uuid4().hex[:10]}")
    ours, others = uuid4(), uuid4()
    own = opened(url, tmp_path, text, ours)
    own.sql(f"CREATE TABLE customers (id uuid PRIMARY KEY, firm {kind} NOT NULL, name text)")
    migrated(database, url, tmp_path)
    mine = create(own.erp, "customer", name="mine")
    theirs = str(uuid4())
    own.sql(f"INSERT INTO customers VALUES ('{theirs}', '{others}', 'theirs')")
    assert records(pages(own.erp, "customer", ["name"])) == {mine: {"name": "mine"}}
    assert by_id(own.erp, "customer", ["name"], mine, theirs) == {mine: {"name": "mine"}}
    for row in (("update", theirs, None, {"name": "x"}), ("delete", theirs, None, {})):
        assert write(own.erp, "customer", row)[0]["outcome"] == "moved"
    assert write(own.erp, "customer", ("update", mine, None, {"name": "still mine"}))[0]["outcome"] == "done"
    assert sorted(row.name for row in own.sql("SELECT name FROM customers")) == ["still mine", "theirs"]
