"""One tenant sees nothing of another: not by any query, not on any table, not through keys, partitions or functions."""

from collections.abc import Iterator
from datetime import date, timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from psycopg import errors

from connector_resources.errors import ConfigurationError
from integration_pipelines.store import tenants
from integration_pipelines.store.database import Database, engine

OF_NO_TENANT = "sign_in_attempts"  # whoever fails to sign in has none; the application cannot reach the table at all
APPEND_ONLY = {"public.audit_log", "erp.change_log"}

_TABLES = """SELECT c.oid::regclass::text AS name, n.nspname || '.' || c.relname AS full_name, c.relispartition,
                    c.relrowsecurity, c.relforcerowsecurity
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname IN ('public', 'erp') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
               AND c.relname <> 'alembic_version' ORDER BY 2"""
_COLUMNS = """SELECT a.attname AS name, a.atttypid::regtype::text AS type, a.atttypmod - 4 AS length
              FROM pg_attribute a LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
              WHERE a.attrelid = CAST(:t AS regclass) AND a.attnum > 0 AND NOT a.attisdropped
                AND a.attname <> :tenant AND a.attnotnull AND d.oid IS NULL AND a.attidentity = ''"""
_VALUES = {
    "uuid": "gen_random_uuid()",
    "bigint": "7",
    "integer": "7",
    "jsonb": "'{}'",
    "bytea": r"'\x00'",
    "boolean": "true",
    "timestamp with time zone": "now()",
    "date": "current_date",
    "numeric": "7",
    "text[]": "'{}'",
}


def tenant_column(table: str) -> str:
    return "id" if table == "tenants" else "tenant_id"


def insert(connection: sa.Connection, table: str, tenant: UUID) -> None:
    """A row of made-up values, whatever the table."""
    columns = connection.execute(sa.text(_COLUMNS), {"t": table, "tenant": tenant_column(table)}).all()
    values = [_VALUES.get(c.type) or ("gen_random_uuid()::text" if c.length < 0 or c.length > 40 else "'x'") for c in columns]
    names = ", ".join([tenant_column(table), *(c.name for c in columns)])
    listed = ", ".join([f"'{tenant}'", *values])
    connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({listed})")


@pytest.fixture
def owner(database_url: str) -> Iterator[sa.Engine]:
    made = engine(database_url, role=None, poolclass=sa.NullPool)
    yield made
    made.dispose()


@pytest.fixture
def pair(owner: sa.Engine) -> tuple[UUID, UUID]:
    """Two tenants, each with exactly one row in every table there is."""
    found = uuid4(), uuid4()
    with owner.begin() as connection:
        connection.exec_driver_sql("SET session_replication_role = replica")  # keys and triggers do not matter here
        for row in connection.exec_driver_sql(_TABLES).all():
            if not row.relispartition and row.name != OF_NO_TENANT:
                for tenant in found:
                    insert(connection, row.name, tenant)
    return found


def every_table(connection: sa.Connection) -> list[str]:
    return [row.name for row in connection.exec_driver_sql(_TABLES) if not row.relispartition and row.name != OF_NO_TENANT]


def as_tenant(connection: sa.Connection, tenant: UUID | None) -> None:
    connection.execute(sa.text("SELECT set_config('app.tenant_id', :t, true)"), {"t": "" if tenant is None else str(tenant)})


def denied(connection: sa.Connection, statement: str) -> bool:
    """Whether the database refuses it for want of rights (policies included)."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(statement)
    except sa.exc.ProgrammingError as refusal:
        return isinstance(refusal.orig, errors.InsufficientPrivilege)
    return False


def test_there_are_tables_in_both_schemas(owner: sa.Engine) -> None:
    with owner.connect() as connection:
        names = every_table(connection)
    assert len(names) > 50
    assert {"connectors", "sync_record_changes", "erp.customer", "erp.change_log"} <= set(names)


def test_a_tenant_sees_its_own_row_of_every_table_and_no_other(database: Database, pair: tuple[UUID, UUID]) -> None:
    first, second = pair
    with database.directory() as connection:
        as_tenant(connection, second)
        for table in every_table(connection):
            key = tenant_column(table)
            seen = connection.exec_driver_sql(f"SELECT {key} FROM {table}").scalars().all()
            assert seen == [second], table
            hidden = connection.exec_driver_sql(f"SELECT count(*) FROM {table} WHERE {key} = '{first}'").scalar()
            assert hidden == 0, table


def test_without_a_tenant_every_table_is_empty(database: Database, pair: tuple[UUID, UUID]) -> None:
    assert pair
    with database.directory() as connection:
        for table in every_table(connection):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0, table


def test_a_connection_that_served_a_tenant_shows_nothing_to_the_next(database: Database, pair: tuple[UUID, UUID]) -> None:
    with database.directory() as connection:
        served = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        as_tenant(connection, pair[0])
        assert connection.exec_driver_sql("SELECT count(*) FROM connectors").scalar() == 1
    with database.directory() as connection:
        assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar() == served
        assert connection.exec_driver_sql("SELECT current_setting('app.tenant_id', true)").scalar() == ""
        assert connection.exec_driver_sql("SELECT count(*) FROM connectors").scalar() == 0


def test_no_row_can_be_put_into_another_tenant(database: Database, pair: tuple[UUID, UUID]) -> None:
    first, second = pair
    with database.directory() as connection:
        as_tenant(connection, second)
        for table in every_table(connection):
            with pytest.raises(sa.exc.ProgrammingError) as refusal, connection.begin_nested():
                insert(connection, table, first)
            assert isinstance(refusal.value.orig, errors.InsufficientPrivilege), table
            assert "row-level security" in str(refusal.value.orig), table


def test_no_row_of_another_tenant_can_be_changed_deleted_or_taken_over(database: Database, pair: tuple[UUID, UUID]) -> None:
    first, second = pair
    with database.directory() as connection:
        as_tenant(connection, second)
        for table in every_table(connection):
            key = tenant_column(table)
            assert denied(connection, f"UPDATE {table} SET {key} = '{first}'"), table
            for statement in (f"UPDATE {table} SET {key} = {key}", f"DELETE FROM {table}"):
                narrowed = f"{statement} WHERE {key} = '{first}'"
                assert denied(connection, narrowed) or connection.exec_driver_sql(narrowed).rowcount == 0, narrowed
            assert denied(connection, f"TRUNCATE {table}"), table
    with database.directory() as connection:
        as_tenant(connection, first)
        for table in every_table(connection):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 1, table


def test_what_was_logged_cannot_be_rewritten(database: Database, pair: tuple[UUID, UUID]) -> None:
    with database.directory() as connection:
        as_tenant(connection, pair[0])
        for table in APPEND_ONLY:
            for statement in (f"UPDATE {table} SET actor = 'x'", f"DELETE FROM {table}"):
                assert denied(connection, statement), statement
        for statement in ("DELETE FROM tenants", "DELETE FROM sync_history"):
            assert denied(connection, statement), statement


def test_the_table_of_no_tenant_is_closed_to_the_application(database: Database, pair: tuple[UUID, UUID]) -> None:
    with database.directory() as connection:
        as_tenant(connection, pair[0])
        for statement in (
            f"SELECT count(*) FROM {OF_NO_TENANT}",
            f"INSERT INTO {OF_NO_TENANT} (email_digest, network) VALUES ('x', 'x')",
            f"UPDATE {OF_NO_TENANT} SET network = 'x'",
            f"DELETE FROM {OF_NO_TENANT}",
        ):
            assert denied(connection, statement), statement


def test_row_level_security_is_forced_on_every_table(owner: sa.Engine) -> None:
    with owner.connect() as connection:
        rows = connection.exec_driver_sql(_TABLES).all()
    assert [row.full_name for row in rows if not (row.relrowsecurity and row.relforcerowsecurity)] == []


def test_foreign_keys_cannot_leave_the_tenant(owner: sa.Engine) -> None:
    statement = """SELECT conrelid::regclass::text AS child, confrelid::regclass::text AS parent, conname,
            (SELECT array_agg(attname::text ORDER BY n) FROM unnest(conkey) WITH ORDINALITY k(num, n)
             JOIN pg_attribute ON attrelid = conrelid AND attnum = num) AS mine,
            (SELECT array_agg(attname::text ORDER BY n) FROM unnest(confkey) WITH ORDINALITY k(num, n)
             JOIN pg_attribute ON attrelid = confrelid AND attnum = num) AS theirs
        FROM pg_constraint WHERE contype = 'f'"""
    with owner.connect() as connection:
        keys = connection.exec_driver_sql(statement).all()
    assert len(keys) > 60
    for key in keys:
        if key.parent == "tenants":
            assert (key.mine, key.theirs) == (["tenant_id"], ["id"]), key
        else:
            assert len(key.mine) == 2, key
            assert dict(zip(key.mine, key.theirs, strict=True))["tenant_id"] == "tenant_id", key


def test_a_row_cannot_point_at_another_tenants(database: Database) -> None:
    one, two = (tenants.create(database, name) for name in ("one", "two"))
    with database.tenant(one) as scope:
        role = scope.run("SELECT min(id) FROM roles").scalar()
        customer = scope.run(
            "INSERT INTO erp.customer (customer_number, name, active) VALUES ('1', 'x', true) RETURNING id"
        ).scalar()
    for statement in (
        f"INSERT INTO users (tenant_id, email, role_id) VALUES ('{two}', 'a@b', {role})",
        f"INSERT INTO erp.contact_person (last_name, active, customer_id) VALUES ('x', true, '{customer}')",
    ):
        with pytest.raises(sa.exc.IntegrityError, match="violates foreign key"), database.tenant(two) as scope:
            scope.run(statement)


@pytest.fixture
def partitions(database: Database, owner: sa.Engine, pair: tuple[UUID, UUID]) -> list[str]:
    """The journal's partitions, one of them just made by the application."""
    assert pair
    with database.directory() as connection:
        far = connection.execute(sa.text("SELECT add_journal_month(:d)"), {"d": date.today() + timedelta(days=300)}).scalar()  # noqa: DTZ011 - as the server says
    with owner.connect() as connection:
        found = [row.name for row in connection.exec_driver_sql(_TABLES) if row.relispartition]
    assert len(found) == 4
    assert far in found
    return found


def test_every_partition_of_the_journal_has_its_own_policy_and_is_granted_to_nobody(
    partitions: list[str], owner: sa.Engine
) -> None:
    hidden = "(NOT (( SELECT app_tenant() AS app_tenant) IS DISTINCT FROM tenant_id))"  # from indexes
    with owner.connect() as connection:
        for name in partitions:
            policies = connection.execute(
                sa.text("SELECT policyname, roles, qual FROM pg_policies WHERE tablename = :t"), {"t": name}
            ).all()
            assert [tuple(p) for p in policies] == [("tenant", ["integration_app"], hidden)], name
            acl = connection.execute(sa.text("SELECT relacl FROM pg_class WHERE relname = :t"), {"t": name}).scalar()
            assert acl is None, name  # the owner alone


def test_no_partition_can_be_read_or_written_directly(
    partitions: list[str], database: Database, pair: tuple[UUID, UUID]
) -> None:
    with database.directory() as connection:
        as_tenant(connection, pair[0])
        for name in partitions:
            for statement in (
                f"SELECT * FROM {name}",
                f"DELETE FROM {name}",
                f"INSERT INTO {name} SELECT * FROM sync_record_changes",
            ):
                assert denied(connection, statement), statement


def test_a_partition_would_not_tell_another_tenants_rows_even_if_it_were_granted(
    partitions: list[str], owner: sa.Engine, database: Database, pair: tuple[UUID, UUID]
) -> None:
    with owner.begin() as connection:
        for name in partitions:
            connection.exec_driver_sql(f"GRANT SELECT ON {name} TO integration_app")
    with database.directory() as connection:
        as_tenant(connection, pair[1])
        seen = [tenant for n in partitions for tenant in connection.exec_driver_sql(f"SELECT tenant_id FROM {n}").scalars()]
    assert seen == [pair[1]]


def test_whoever_logs_in_works_as_the_application(database: Database) -> None:
    with database.directory() as connection:
        found = connection.exec_driver_sql("SELECT session_user::text, current_user::text").one()
        assert tuple(found) == ("postgres", "integration_app")
        for statement in (
            "CREATE TABLE mine (id int)",
            "ALTER TABLE connectors NO FORCE ROW LEVEL SECURITY",
            "SELECT * FROM pg_authid",
        ):
            assert denied(connection, statement), statement


def test_a_tenant_that_is_no_uuid_is_an_error_and_not_everybody(database: Database, pair: tuple[UUID, UUID]) -> None:
    assert pair
    with pytest.raises(sa.exc.DataError), database.directory() as connection:
        connection.exec_driver_sql("SELECT set_config('app.tenant_id', 'true', true)")
        connection.exec_driver_sql("SELECT * FROM connectors").all()


def test_an_unknown_tenant_is_refused(database: Database) -> None:
    unknown = uuid4()
    with pytest.raises(ConfigurationError, match=f"There is no tenant {unknown}"), database.tenant(unknown):
        raise AssertionError("entered")
