"""The change log: who wrote which fields of which record, and when, in the transaction of the write."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa
from erp_tables import create, reference_erp, write

from connector_resources.catalogue import load_catalogue
from connector_resources.erp import Erp
from integration_pipelines.settings import Settings
from integration_pipelines.store import tenants
from integration_pipelines.store.database import Database, Scope
from integration_pipelines.store.installation import migrate_all, open_installation


@pytest.fixture
def customer(erp: Erp) -> str:
    return create(erp, "customer", customer_number="007", name="Ada", email=None, active=True)


def log(scope: Scope) -> list[tuple[str, list[str], str]]:
    rows = scope.rows("SELECT action, fields, actor FROM erp.change_log ORDER BY id")
    return [(row["action"], sorted(row["fields"]), row["actor"]) for row in rows]


def test_each_write_is_logged_with_the_fields_that_changed(database: Database, tenant: UUID, customer: str, erp: Erp) -> None:
    write(erp, "customer", ("update", customer, None, {"name": "Ada", "phone": "1"}))
    write(erp, "customer", ("update", customer, None, {"phone": None, "email": "a@b"}))
    write(erp, "customer", ("delete", customer, None, {}))
    with database.tenant(tenant) as scope:
        assert log(scope) == [
            ("create", ["active", "customer_number", "name"], "postgres"),
            ("update", ["phone"], "postgres"),
            ("update", ["email", "phone"], "postgres"),
            ("delete", [], "postgres"),
        ]
        assert set(scope.run("SELECT record_id FROM erp.change_log").scalars()) == {customer}


def test_an_update_that_changes_nothing_is_not_logged(database: Database, tenant: UUID, customer: str, erp: Erp) -> None:
    write(erp, "customer", ("update", customer, None, {"name": "Ada"}))
    with database.tenant(tenant) as scope:
        assert [action for action, *_ in log(scope)] == ["create"]


def test_the_actor_is_who_the_session_says_else_who_logged_in(database: Database, tenant: UUID, customer: str) -> None:
    with database.tenant(tenant) as scope:
        scope.run("SELECT set_config('app.actor', 'users/7', true)")
        scope.run("UPDATE erp.customer SET name = 'x' WHERE id = CAST(:id AS uuid)", id=customer)
    with database.tenant(tenant) as scope:
        scope.run("UPDATE erp.customer SET name = 'y'")
        assert [actor for _, _, actor in log(scope)] == ["postgres", "users/7", "postgres"]


def test_a_write_that_is_rolled_back_leaves_no_trace(database: Database, tenant: UUID, customer: str) -> None:
    with pytest.raises(RuntimeError, match="changed my mind"), database.tenant(tenant) as scope:
        scope.run("UPDATE erp.customer SET name = 'x' WHERE id = CAST(:id AS uuid)", id=customer)
        assert len(log(scope)) == 2
        raise RuntimeError("changed my mind")
    with database.tenant(tenant) as scope:
        assert len(log(scope)) == 1


def test_the_log_is_written_in_the_transaction_of_the_write(database: Database, tenant: UUID, customer: str) -> None:
    with database.tenant(tenant) as scope:
        scope.run("UPDATE erp.customer SET name = 'x' WHERE id = CAST(:id AS uuid)", id=customer)
        assert scope.run("SELECT max(txid) = pg_current_xact_id()::text::bigint FROM erp.change_log").scalar() is True


def test_a_thousand_rows_are_logged_one_by_one(database: Database, tenant: UUID) -> None:
    with database.tenant(tenant) as scope:
        scope.run("INSERT INTO erp.customer (name, active) SELECT 'n' || n, true FROM generate_series(1, 1000) n")
        scope.run("UPDATE erp.customer SET phone = name WHERE name < 'n5'")
        changed = scope.run("SELECT count(*) FROM erp.customer WHERE phone IS NOT NULL").scalar()
        rows = scope.rows(
            "SELECT action, count(*), count(DISTINCT record_id) AS records FROM erp.change_log GROUP BY 1 ORDER BY 1"
        )
    assert [tuple(row.values()) for row in rows] == [("create", 1000, 1000), ("update", changed, changed)]


def test_changed_at_tells_the_last_write_of_each_field(erp: Erp, customer: str) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    write(erp, "customer", ("update", customer, None, {"phone": "1"}))
    write(erp, "customer", ("update", customer, None, {"phone": "2", "email": "x"}))
    found = erp.changed_at(erp.describe("customer"), [customer])
    at: dict[str, datetime] = dict(zip(found["field"], found["changed_at"], strict=True))
    assert set(at) == {"active", "customer_number", "name", "phone", "email"}
    assert before < at["name"] < at["phone"] == at["email"]
    assert at["name"].tzinfo is not None
    assert set(found["actor"]) == {"postgres"}


def test_what_happens_to_a_line_is_an_update_of_its_document(database: Database, tenant: UUID, customer: str) -> None:
    with database.tenant(tenant) as scope:
        scope.run(
            """INSERT INTO erp.sales_order (order_number, customer_id, order_date, status, currency_code)
               SELECT n, CAST(:id AS uuid), '2026-01-01', 'draft', 'EUR' FROM unnest(ARRAY['1', '2']) n""",
            id=customer,
        )
        scope.run(
            "INSERT INTO erp.sales_order_line (sales_order_id, line_number, quantity) SELECT id, 1, 1 FROM erp.sales_order"
        )

    def told() -> list[tuple[str, str, list[str]]]:
        with database.tenant(tenant) as scope:
            rows = scope.rows(
                """SELECT o.order_number, l.action, l.fields FROM erp.change_log l JOIN erp.sales_order o
                   ON o.id::text = l.record_id WHERE l.entity = 'sales_order'
                   AND l.txid = (SELECT max(txid) FROM erp.change_log) ORDER BY l.id"""
            )
        return [(row["order_number"], row["action"], row["fields"]) for row in rows]

    assert sorted(told())[1::2] == [("1", "update", ["lines"]), ("2", "update", ["lines"])]
    for change in ("UPDATE erp.sales_order_line SET quantity = 2 {}", "DELETE FROM erp.sales_order_line {}"):
        with database.tenant(tenant) as scope:
            scope.run(change.format("WHERE sales_order_id = (SELECT id FROM erp.sales_order WHERE order_number = '2')"))
        assert told() == [("2", "update", ["lines"])]
    with database.tenant(tenant) as scope:
        scope.run("UPDATE erp.sales_order_line SET quantity = quantity")
        assert scope.run("SELECT max(txid) < pg_current_xact_id()::text::bigint FROM erp.change_log").scalar() is True


def test_a_deletion_is_told_without_a_field(erp: Erp, customer: str) -> None:
    write(erp, "customer", ("delete", customer, None, {}))
    found = erp.changed_at(erp.describe("customer"), [customer])
    assert [row.changed_at is not None for row in found.itertuples() if row.field is None] == [True]


def test_another_tenants_log_is_not_told(database: Database, erp: Erp, customer: str) -> None:
    other = reference_erp(database, tenants.create(database, "other"))
    assert len(erp.changed_at(erp.describe("customer"), [customer]))
    assert len(other.changed_at(other.describe("customer"), [customer])) == 0


def test_an_unknown_record_has_no_history(erp: Erp) -> None:
    found = erp.changed_at(erp.describe("customer"), ["nobody"])
    assert list(found.columns) == ["record_id", "field", "changed_at", "actor"]
    assert found.empty


@pytest.mark.parametrize("name", sorted(load_catalogue()))
def test_the_instant_of_modification_is_the_databases(database: Database, tenant: UUID, name: str) -> None:
    with database.tenant(tenant) as scope:
        found = scope.rows(
            "SELECT tgname FROM pg_trigger WHERE tgrelid = CAST(:t AS regclass) AND NOT tgisinternal ORDER BY 1",
            t=f"erp.{name}",
        )
    assert [row["tgname"] for row in found] == [
        "integration_log_delete", "integration_log_insert", "integration_log_update", "touch",
    ]  # fmt: skip


def test_a_back_dated_modification_does_not_stand(database: Database, tenant: UUID, customer: str) -> None:
    with database.tenant(tenant) as scope:
        scope.run("UPDATE erp.customer SET updated_at = '1999-01-01' WHERE id = CAST(:id AS uuid)", id=customer)
        assert scope.run("SELECT updated_at > now() - interval '1 hour' FROM erp.customer").scalar() is True


def test_a_field_that_the_catalogue_gains_is_added_and_logged(database: Database, settings: Settings, tenant: UUID) -> None:
    owner = sa.create_engine(sa.make_url(database.url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    with owner.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE erp.customer DROP COLUMN phone")
    with open_installation(settings) as installation:
        migrate_all(installation)
    with database.tenant(tenant) as scope:
        scope.run("INSERT INTO erp.customer (name, phone, active) VALUES ('x', '1', true)")
        assert log(scope)[-1] == ("create", ["active", "name", "phone"], "postgres")
