"""Who may do what: the two roles, their policies, and the few functions that look past them."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from integration_pipelines.store.database import Database, engine

DEFINERS = {  # the only functions that look past row-level security, and what each tells
    "find_tenant(text)": "uuid",
    "tenant_ids()": "uuid",
    "active_syncs()": "TABLE(sync_id bigint, tenant uuid)",
    "tenant_of_sync(bigint)": "uuid",
    "running_histories()": "TABLE(history_id bigint, tenant uuid)",
    "tenants_of_master_key(text)": "uuid",
    "master_key_ids()": "text",  # ids of keys
    "old_staging(timestamp with time zone)": "TABLE(run uuid, tenant uuid)",
    "users_by_email(text)": "TABLE(user_id bigint, tenant uuid)",
    "operators()": "TABLE(user_id bigint, tenant uuid)",
    "session_by_token(text)": "TABLE(session_id bigint, tenant uuid)",
    "tenant_of_api_key(bigint)": "uuid",
    "admit_sign_in(text,text,timestamp with time zone,interval,integer,integer)": "integer",  # seconds to wait
    "forget_sign_ins(text)": "void",
    "syncs_digest()": "text",  # a digest
    "due_retries(timestamp with time zone)": "TABLE(history_id bigint, tenant uuid)",
    "runs_without_history(uuid[])": "uuid",
    "due_alerts(timestamp with time zone)": "TABLE(alert_id bigint, tenant uuid)",
    "add_journal_month(date)": "text",  # names of partitions
    "drop_journal_before(date)": "text",
}
LOADED = {  # what syncs_digest() is a digest of
    *("sync_name", "source_entity", "target_entity", "sync_direction", "sync_mode", "schedule_cron", "time_zone"),
    *("field_mappings", "transformation_rules", "conflict_resolution_strategy", "delete_policy"),
}
DIRECTORY = {  # the only columns that those functions may read
    "tenants": {"id", "name"},
    "sync_configurations": {"id", "tenant_id", "connector_id", "is_active", "deleted_at"} | LOADED,
    "connectors": {"id", "tenant_id", "is_active", "deleted_at"},
    "sync_history": {"id", "tenant_id", "sync_configuration_id", "sync_status", "retry_at", "run_id", "completed_at"},
    "alerts": {"id", "tenant_id", "due_at"},
    "tenant_keys": {"tenant_id", "master_key_id"},
    "staged_batches": {"tenant_id", "run_id", "created_at"},
    "users": {"id", "tenant_id", "email", "is_active", "is_operator"},
    "sessions": {"id", "tenant_id", "token_hash"},
    "api_keys": {"id", "tenant_id"},
}
# Tables with rows for each record: their policies are hidden from indexes.
EACH_RECORD = {"identity_links", "data_keys", "sync_record_changes", "write_intents", "staged_batches"}
ATTEMPTS = "sign_in_attempts"  # the one table that those functions write; the application cannot reach it


@pytest.fixture
def owner(database_url: str) -> Iterator[sa.Engine]:
    made = engine(database_url, role=None, poolclass=sa.NullPool)
    yield made
    made.dispose()


def test_every_policy_is_the_tenants_or_the_directorys(owner: sa.Engine) -> None:
    with owner.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT schemaname, tablename, policyname, roles, cmd, qual, with_check, permissive FROM pg_policies"
        ).all()
    for row in rows:
        if row.tablename == ATTEMPTS:
            assert (row.policyname, row.cmd, row.roles) == ("directory", "ALL", ["integration_directory"]), row
            continue
        if row.policyname == "directory":
            assert (row.cmd, row.roles, row.tablename in DIRECTORY) == ("SELECT", ["integration_directory"], True), row
            continue
        assert (row.policyname, row.cmd, row.roles) == ("tenant", "ALL", ["integration_app"]), row
        ours = f"({'id' if row.tablename == 'tenants' else 'tenant_id'} = ( SELECT app_tenant() AS app_tenant))"
        hidden = "(NOT (( SELECT app_tenant() AS app_tenant) IS DISTINCT FROM tenant_id))"
        each_record = row.schemaname == "erp" or row.tablename in EACH_RECORD or "changes_" in row.tablename
        assert row.qual == (hidden if each_record else ours), row
        assert row.with_check in (row.qual, None), row


def test_the_functions_that_look_past_policies_are_these_and_tell_ids_only(owner: sa.Engine) -> None:
    statement = """SELECT p.oid::regprocedure::text AS name, pg_get_function_result(p.oid) AS result, p.proconfig,
            p.proowner::regrole::text AS owner, has_function_privilege('public', p.oid, 'EXECUTE') AS open
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')"""
    with owner.connect() as connection:
        found = connection.exec_driver_sql(statement).all()
    assert {row.name: row.result.removeprefix("SETOF ") for row in found} == DEFINERS
    for row in found:
        assert row.proconfig == ["search_path=public, pg_temp"], row.name
        assert not row.open, row.name
        assert row.name.split("(")[0].endswith(("_month", "_before")) or row.owner == "integration_directory", row.name


def test_those_functions_may_read_these_columns_only(owner: sa.Engine) -> None:
    statement = """SELECT table_name, column_name, privilege_type FROM information_schema.column_privileges
                   WHERE grantee = 'integration_directory'"""
    with owner.connect() as connection:
        granted = [row for row in connection.exec_driver_sql(statement) if row.table_name != ATTEMPTS]
        tables = connection.exec_driver_sql(
            "SELECT table_name, privilege_type FROM information_schema.role_table_grants"
            " WHERE grantee = 'integration_directory'"
        ).all()
    assert {row.privilege_type for row in granted} == {"SELECT"}
    assert {(row.table_name, row.column_name) for row in granted} == {(t, c) for t, names in DIRECTORY.items() for c in names}
    assert {tuple(row) for row in tables} == {(ATTEMPTS, right) for right in ("SELECT", "INSERT", "DELETE")}


def test_neither_role_is_more_than_it_should_be(owner: sa.Engine) -> None:
    with owner.connect() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM pg_roles WHERE rolname LIKE 'integration\\_%%'").mappings().all()
        memberships = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_auth_members WHERE member::regrole::text LIKE 'integration\\_%%'"
        ).scalar()
        owned = connection.exec_driver_sql(
            "SELECT relname FROM pg_class WHERE relowner::regrole::text LIKE 'integration\\_%%'"
        ).all()
    assert {row["rolname"] for row in rows} == {"integration_app", "integration_directory"}
    for row in rows:
        for right in ("rolsuper", "rolbypassrls", "rolcanlogin", "rolcreatedb", "rolcreaterole", "rolreplication"):
            assert row[right] is False, (row["rolname"], right)
    assert (memberships, owned) == (0, [])


def test_the_application_may_not_make_a_month_far_away(database: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="too far from today"), database.directory() as connection:
        connection.exec_driver_sql("SELECT add_journal_month('1999-01-01')")
