"""Connectors: credentials that are never in clear, and a refresh that one process makes at a time."""

import subprocess
import sys
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from connector_resources.errors import ConfigurationError
from integration_pipelines.store import connectors, tenants
from integration_pipelines.store.connectors import ConnectorRow, StoredCredentials
from integration_pipelines.store.database import Database, Scope, engine

SECRET = "canary-secret-7d1f"


@pytest.fixture
def tenant(database: Database) -> UUID:
    return tenants.create(database, "acme")


def make(scope: Scope, **changed: Any) -> ConnectorRow:
    given: dict[str, Any] = {
        "name": "Main CRM",
        "connector_type": "notebook",
        "url": "https://crm.example/",
        "authentication_method": "oauth2",
        "credentials": {"client_secret": SECRET, "refresh_token": "r1"},
        "user": tenants.first_user(scope),
    }
    return connectors.create(scope, **(given | changed))


@pytest.fixture
def row(database: Database, tenant: UUID) -> ConnectorRow:
    with database.tenant(tenant) as scope:
        return make(scope, configuration={"api": "v1"})


@pytest.fixture
def stored(database: Database, tenant: UUID, row: ConnectorRow) -> StoredCredentials:
    return StoredCredentials(database, tenant, row.id)


def test_a_connector_comes_back_without_its_credentials(database: Database, tenant: UUID, row: ConnectorRow) -> None:
    assert row == ConnectorRow(
        row.id, "main-crm", "Main CRM", "notebook", "https://crm.example", "oauth2", {"api": "v1"}, True, 1
    )
    with database.tenant(tenant) as scope:
        assert connectors.every(scope) == [row] == [connectors.get(scope, row.id)]
    assert SECRET not in repr(row)


def everything(database: Database) -> str:
    """All that stands in the tables, as text."""
    with engine(database.url, role=None, poolclass=sa.NullPool).connect() as connection:
        names = connection.exec_driver_sql(
            "SELECT c.oid::regclass::text FROM pg_class c WHERE relnamespace IN ('public'::regnamespace, 'erp'::regnamespace)"
            " AND relkind IN ('r', 'p')"
        ).scalars()
        return "\n".join(
            str(text) for name in names.all() for text in connection.exec_driver_sql(f"SELECT t::text FROM {name} t").scalars()
        )


def test_credentials_are_nowhere_in_clear(database: Database, stored: StoredCredentials) -> None:
    with stored.exclusive() as rotating:
        rotating.store({"refresh_token": "canary-rotated"})
    found = everything(database)
    assert "Main CRM" in found
    assert "canary" not in found
    assert stored.load()["client_secret"] == SECRET


def test_a_rotated_token_is_durable_before_store_returns(stored: StoredCredentials) -> None:
    with pytest.raises(RuntimeError, match="killed"), stored.exclusive() as rotating:
        rotating.store({"refresh_token": "r2", "access_token": "a2"})
        assert stored.load() == {"client_secret": SECRET, "refresh_token": "r2", "access_token": "a2"}
        raise RuntimeError("killed")
    assert stored.load()["refresh_token"] == "r2"


def held(stored: StoredCredentials) -> bool:
    """Whether another connection would have to wait for the row."""
    with engine(stored.database.url, role=None, poolclass=sa.NullPool).connect() as connection:
        try:
            connection.execute(sa.text("SELECT 1 FROM connectors WHERE id = :i FOR UPDATE NOWAIT"), {"i": stored.number})
        except sa.exc.OperationalError as refusal:
            assert "could not obtain lock" in str(refusal)
            return True
    return False


def test_the_lock_is_held_from_the_first_line_of_the_block_to_its_last(stored: StoredCredentials) -> None:
    with stored.exclusive() as rotating:
        assert held(stored)
        rotating.store({"refresh_token": "r2"})
        assert held(stored)
        assert rotating.load()["refresh_token"] == "r2"
        rotating.store({"refresh_token": "r3"})
        assert rotating.load()["refresh_token"] == "r3"
    assert not held(stored)
    assert stored.load()["refresh_token"] == "r3"


def test_the_lock_is_given_back_after_an_error(stored: StoredCredentials) -> None:
    with pytest.raises(RuntimeError), stored.exclusive():
        raise RuntimeError("no answer from the token endpoint")
    assert not held(stored)
    assert stored.load()["refresh_token"] == "r1"


def test_two_processes_that_refresh_at_once_lose_no_token(database: Database, stored: StoredCredentials) -> None:
    with stored.exclusive() as rotating:
        rotating.store({"count": "0"})
    code = (
        "import sys, uuid, pathlib\n"
        "from integration_pipelines.store.database import Database\n"
        "from integration_pipelines.store.master_key import MasterKey\n"
        "from integration_pipelines.store.connectors import StoredCredentials\n"
        "database = Database(sys.argv[1], MasterKey(None, pathlib.Path(sys.argv[2])))\n"
        "stored = StoredCredentials(database, uuid.UUID(sys.argv[3]), int(sys.argv[4]))\n"
        "for _ in range(25):\n"
        "    with stored.exclusive() as rotating:\n"
        "        rotating.store({'count': str(int(rotating.load()['count']) + 1)})\n"
        "stored.database.close()\n"
    )
    command = [sys.executable, "-c", code, database.url, str(database.master.file), str(stored.tenant), str(stored.number)]
    running = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert stored.load()["count"] == "50"


def test_a_ciphertext_moved_to_another_connector_does_not_open(database: Database, tenant: UUID, row: ConnectorRow) -> None:
    with database.tenant(tenant) as scope:
        other = make(scope, name="Other")
        scope.run(
            "UPDATE connectors SET credentials = (SELECT credentials FROM connectors WHERE id = :f) WHERE id = :t",
            f=row.id,
            t=other.id,
        )
    with pytest.raises(ConfigurationError, match=f"connectors/{other.id}/credentials cannot be decrypted"):
        StoredCredentials(database, tenant, other.id).load()


def test_another_tenant_has_no_such_connector(database: Database, row: ConnectorRow) -> None:
    stranger = StoredCredentials(database, tenants.create(database, "other"), row.id)
    with pytest.raises(ConfigurationError, match=f"There is no connector {row.id} in this tenant"):
        stranger.load()
    with pytest.raises(ConfigurationError, match=f"There is no connector {row.id} in this tenant"), stranger.exclusive():
        raise AssertionError("entered")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("Main CRM", "main-crm"),
        ("  --A_B  ", "a-b"),
        ("日本", "notebook"),
        ("x" * 200, "x" * 100),
        ("a" * 99 + " b", "a" * 99),
    ],
)
def test_a_code_is_made_of_the_name(database: Database, tenant: UUID, name: str, code: str) -> None:
    with database.tenant(tenant) as scope:
        assert make(scope, name=name).code == code


def test_a_code_is_unique_among_those_that_were_not_deleted(database: Database, tenant: UUID, row: ConnectorRow) -> None:
    with database.tenant(tenant) as scope:
        with pytest.raises(ConfigurationError, match="There is a connector with code 'main-crm' already"):
            make(scope, name="main crm")
        assert connectors.every(scope) == [row]  # the transaction goes on
        scope.run("UPDATE connectors SET deleted_at = now() WHERE id = :i", i=row.id)
        again = make(scope)
        assert (again.code, connectors.every(scope)) == ("main-crm", [again])
        with pytest.raises(ConfigurationError, match="There is no connector"):
            connectors.get(scope, row.id)


def test_two_tenants_may_use_the_same_code(database: Database, row: ConnectorRow) -> None:
    with database.tenant(tenants.create(database, "other")) as scope:
        assert make(scope).code == row.code


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"authentication_method": "password"}, "Authentication method 'password' is not one of oauth2, api_key, basic"),
        ({"url": "crm.example"}, "must begin with https://"),
        ({"url": "ftp://crm.example"}, "must begin with https://"),
        ({"url": "https://"}, "must begin with https://"),
        ({"url": "https://crm example"}, "without a space"),
        ({"url": "https://crm.example:99999"}, "like https://crm.example or https://crm.example:8443/path"),
        ({"url": "https://crm..example"}, "must be like https://crm.example"),
        ({"url": "https://crm.example/soap?key=canary"}, "a question mark"),
        ({"url": "https://user:canary@crm.example"}, "holds a user or password; leave it out"),
        ({"name": ""}, "A connector's name has 1 to 255 characters"),
        ({"name": "x" * 256}, "A connector's name has 1 to 255 characters"),
        ({"code": "x" * 101}, "its code up to 100"),
    ],
)
def test_what_cannot_be_stored_is_one_sentence(
    database: Database, tenant: UUID, changed: dict[str, str], sentence: str
) -> None:
    with database.tenant(tenant) as scope, pytest.raises(ConfigurationError, match=sentence) as refusal:
        make(scope, **changed)
    assert "canary" not in str(refusal.value)


def test_making_a_connector_is_audited_without_its_credentials(database: Database, tenant: UUID, row: ConnectorRow) -> None:
    with database.tenant(tenant) as scope:
        found = scope.rows("SELECT actor, action, subject, detail FROM audit_log WHERE action LIKE 'connector%'")
        user = tenants.first_user(scope)
    assert [dict(entry) for entry in found] == [
        {
            "actor": f"users/{user}",
            "action": "connector.create",
            "subject": f"connectors/{row.id}",
            "detail": {"type": "notebook"},
        }
    ]
