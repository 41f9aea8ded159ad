"""The database as it is made: the requirement's tables under their own names, nothing sealed left open, nothing too new."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import connector_resources.erp_schema
from connector_resources.errors import ConfigurationError, NetworkError
from integration_pipelines.settings import load
from integration_pipelines.store import migrate as migrate_module
from integration_pipelines.store import sync_tables, tables
from integration_pipelines.store.columns import metadata
from integration_pipelines.store.database import Database, engine
from integration_pipelines.store.embedded import Embedded
from integration_pipelines.store.installation import migrate_all, open_installation
from integration_pipelines.store.migrate import create_database, migrate, require_version

assert sync_tables, tables  # they describe themselves into metadata

# Every column of public that could hold a record or a secret. None: it is sealed. Otherwise why it need not be.
OPAQUE: dict[str, str | None] = {
    "alert_channels.address": None,
    "alerts.done_channels": "ids of channels",
    "audit_log.detail": "ids, names of fields and counts; never a value",
    "connector_change_requests.change": None,
    "connectors.configuration": "nothing secret belongs there (contract.Given)",
    "connectors.credentials": None,
    "data_keys.wrapped": "a key, wrapped by the tenant's key",
    "field_mappings.mappings": "rules, no records",
    "field_mappings.transformation_functions": "settings of rules, no records",
    "identity_links.base": None,
    "identity_links.erp_fingerprint": "keyed digest",
    "identity_links.external_fingerprint": "keyed digest",
    "identity_links.match_digest": "keyed digest",
    "outbox.payload": None,
    "staged_batches.content": None,
    "sync_configurations.field_mappings": "id and version of a mapping",
    "sync_configurations.transformation_rules": "numbers that the sync config is set to",
    "sync_errors.error_details": "names and rules; a message quotes no value",
    "sync_errors.record_data": None,
    "sync_history.data_snapshot_after": "counts and a digest over ciphertexts",
    "sync_history.data_snapshot_before": "counts and a digest over ciphertexts",
    "sync_record_changes.after": None,
    "sync_record_changes.before": None,
    "sync_record_changes.changed_fields": "names of fields",
    "sync_record_changes.digest": "digest over ciphertexts",
    "tenant_keys.wrapped": "a key, wrapped by the master key",
    "webhook_events.payload": None,
    "write_intents.payload": None,
}


@pytest.fixture
def connection(database_url: str) -> Iterator[sa.Connection]:
    with engine(database_url, role=None, poolclass=sa.NullPool).connect() as found:
        yield found


def test_the_description_in_code_equals_the_migrated_database(connection: sa.Connection) -> None:
    def ours(_: object, name: str | None, kind: str, reflected: bool, __: object) -> bool:
        if kind == "table" and reflected:
            return name != "alembic_version" and not re.fullmatch(r"sync_record_changes_\d{4}_\d\d", name or "")
        return True

    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": True, "include_object": ours}
    )
    assert compare_metadata(context, metadata) == []


def test_whatever_could_hold_a_record_is_sealed_or_says_why_not(connection: sa.Connection) -> None:
    statement = """SELECT table_name || '.' || column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND data_type IN ('bytea', 'jsonb', 'json', 'ARRAY')
          AND table_name !~ '^sync_record_changes_[0-9]'"""
    assert set(connection.exec_driver_sql(statement).scalars()) == set(OPAQUE)


def test_what_is_described_as_sealed_is_sealed() -> None:
    source = Path(tables.__file__).read_text() + Path(sync_tables.__file__).read_text()
    named = {
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if re.search(rf'"{column.name}", (Sealed|SEALED_JSON)', source)
        and isinstance(column.type, sa.LargeBinary | sa.JSON)
        and OPAQUE.get(f"{table.name}.{column.name}", "") is None
    }
    assert named == {name for name, reason in OPAQUE.items() if reason is None}


def test_no_timestamp_is_without_a_zone(connection: sa.Connection) -> None:
    statement = """SELECT table_name, column_name FROM information_schema.columns
                   WHERE table_schema IN ('public', 'erp') AND data_type = 'timestamp without time zone'"""
    assert connection.exec_driver_sql(statement).all() == []


def test_migrating_again_changes_nothing(database_url: str, connection: sa.Connection) -> None:
    def shape() -> list[object]:
        return list(
            connection.exec_driver_sql("SELECT oid, relname, relacl FROM pg_class WHERE relnamespace > 10000 ORDER BY 1")
        )

    settings = load({"DATABASE_URL": database_url})
    with open_installation(settings) as installation:
        before = shape()
        assert migrate_all(installation) is None
        assert shape() == before


def test_two_processes_that_migrate_at_once_make_one_database(server: str) -> None:
    code = "import sys; from integration_pipelines.store.migrate import migrate; print(migrate(sys.argv[1]))"
    urls = [create_database(server, name) for name in ("raced", "raced", "raced_beside")]
    running = [subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True) for url in urls]
    said = [process.communicate(timeout=120)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sorted(said) == [said[2], said[2], "None"]
    assert re.fullmatch(r"\d{4}", said[2])


@pytest.fixture(scope="module")
def fresh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on which nothing of ours has ever been: no roles either."""
    with Embedded(tmp_path_factory.mktemp("fresh") / "home") as embedded:
        yield embedded.url


def test_a_database_that_was_never_migrated_says_so(fresh_server: str) -> None:
    url = create_database(fresh_server, "empty")
    with open_installation(load({"DATABASE_URL": url})) as installation:
        with pytest.raises(ConfigurationError, match="Run `integration migrate`"):
            installation.database()
        with pytest.raises(ConfigurationError, match="Run `integration migrate`"):
            installation.database()


def test_tables_that_are_missing_where_the_roles_are_there_are_a_sentence(server: str) -> None:
    url = create_database(server, "without_tables")
    with open_installation(load({"DATABASE_URL": url})) as installation, pytest.raises(
        ConfigurationError, match=r"The tables are missing in postgresql://.*/without_tables.*Run `integration migrate`"
    ):  # fmt: skip
        installation.database()


@pytest.mark.parametrize(
    ("found", "way"), [("0001", "an older.*Run `integration migrate`"), ("9999", "a newer.*Use that release")]
)
def test_tables_of_another_release_are_a_sentence(database_url: str, found: str, way: str) -> None:
    with engine(database_url, role=None, poolclass=sa.NullPool).begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :v"), {"v": found})
    with open_installation(load({"DATABASE_URL": database_url})) as installation, pytest.raises(ConfigurationError, match=way):
        installation.database()


def test_an_owner_that_is_no_superuser_can_migrate_and_is_held_to_the_policies(fresh_server: str) -> None:
    admin = engine(fresh_server, role=None, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql("CREATE ROLE keeper LOGIN CREATEROLE PASSWORD 'canary-secret'")
        connection.exec_driver_sql("CREATE DATABASE kept OWNER keeper")
    url = fresh_server.replace("//postgres@/postgres", "//keeper:canary-secret@/kept")
    with open_installation(load({"DATABASE_URL": url})) as installation:
        assert migrate_all(installation) == migrate_module._newest()
        assert migrate_all(installation) is None
    owner = engine(url, role=None, poolclass=sa.NullPool)
    with pytest.raises(sa.exc.ProgrammingError, match="row-level security"), owner.begin() as connection:
        connection.exec_driver_sql(
            "SELECT set_config('app.tenant_id', gen_random_uuid()::text, true);"
            "INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), 'x')"
        )


def test_an_account_that_may_not_make_tables_is_told_so_without_its_password(server: str) -> None:
    with engine(server, role=None, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect() as connection:
        connection.exec_driver_sql("CREATE ROLE visitor LOGIN PASSWORD 'canary-secret'")
    url = create_database(server, "guarded").replace("//postgres@", "//visitor:canary-secret@")
    with pytest.raises(
        ConfigurationError, match=r"The tables could not be made in .*(permission denied|must have admin option)"
    ) as refusal:
        migrate(url)
    assert "canary" not in str(refusal.value)
    installation = open_installation(load({"DATABASE_URL": url}))
    with pytest.raises(ConfigurationError, match="cannot work as integration_app"):
        installation.database()


def test_a_server_that_does_not_answer_is_one_sentence_without_the_password() -> None:
    url = "postgresql://app:canary-secret@127.0.0.1:1/store?sslpassword=canary-too"
    for attempt in (lambda: migrate(url), lambda: open_installation(load({"DATABASE_URL": url})).database()):
        with pytest.raises(
            NetworkError, match=r"The database at postgresql://app@127\.0\.0\.1:1/store cannot be used"
        ) as refusal:
            attempt()
        assert "canary" not in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_a_server_that_is_too_old_is_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate_module, "OLDEST", 990000)
    too_old = pytest.raises(ConfigurationError, match=r"is PostgreSQL \d+; version 14 or newer is needed")
    with database.connection() as connection, too_old:
        require_version(connection, database.url)


NEWER = re.compile(  # what PostgreSQL 15 to 18 brought, as it is written
    r"""NULLS\s+NOT\s+DISTINCT | \bMERGE\s+INTO | security_invoker | \bIS\s+(NOT\s+)?JSON\b | \buuidv[47]\s*\( |
      \buuid_extract_ | \bJSON_(TABLE|VALUE|QUERY|EXISTS|SCALAR|SERIALIZE|ARRAY|ARRAYAGG|OBJECT|OBJECTAGG)\s*\( |
      \bany_value\s*\(
      | \bRETURNING\s+(OLD|NEW|WITH)\b | WITHOUT\s+OVERLAPS | \bVIRTUAL\b | \bON_ERROR\b | \brandom_normal\s*\(
      | \bregexp_(count|instr|like|substr)\s*\( | \bWITH\s+(INHERIT|SET)\b | \bSYSTEM_USER\b | \bdate_(add|subtract)\s*\(
      | \barray_(sample|shuffle|sort|reverse)\s*\( | \b0[xob][0-9a-f_]+ | \d_\d | \bpg_basetype\s*\( | \bxmltext\s*\(
      | \bcrc32c?\s*\( | ON\s+DELETE\s+SET\s+(NULL|DEFAULT)\s*\( | \bMAINTAIN\b | \bAT\s+LOCAL\b""",
    re.IGNORECASE | re.VERBOSE,
)


_SPEAKS_SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|GRANT|COPY|LOCK)\b")


def sql_texts() -> Iterator[tuple[str, str]]:
    """Everything that is sent to a database: migrations, and every string of the modules that speak SQL."""
    store = Path(migrate_module.__file__).parent
    for path in sorted(store.rglob("*.sql")):
        yield path.name, re.sub(r"--.*", "", path.read_text())
    for path in [*store.glob("*.py"), *Path(connector_resources.erp_schema.__file__).parent.glob("erp*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SPEAKS_SQL.search(node.value):
                yield path.name, node.value


def test_nothing_newer_than_postgresql_14_is_used() -> None:
    """By name: a server of version 14 is not at hand, so each thing that came later is looked for in every statement."""
    texts = list(sql_texts())
    assert len(texts) > 80
    assert [(name, found.group()) for name, text in texts if (found := NEWER.search(text))] == []


def test_the_search_for_newer_things_finds_them() -> None:
    for text in ("MERGE INTO t", "UNIQUE NULLS NOT DISTINCT", "RETURNING old.id", "a IS JSON", "json_table (x"):
        assert NEWER.search(text), text
