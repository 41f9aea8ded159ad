"""Users and their passwords, and the first operator."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher

from connector_resources.errors import ConfigurationError, NotSignedIn
from integration_pipelines.store import api_keys, people, sessions, tenants
from integration_pipelines.store.database import Database, engine
from integration_pipelines.store.people import FirstSignIn
from integration_pipelines.store.sign_in import sign_in

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
PASSWORD = "correct horse battery staple"


@pytest.fixture
def acme(database: Database) -> UUID:
    return tenants.create(database, "acme")


@pytest.fixture
def ann(database: Database, acme: UUID) -> int:
    with database.tenant(acme) as scope:
        return people.create(scope, "Ann@Acme.example", PASSWORD, role="engineer", actor="test")


def enter(database: Database, password: str = PASSWORD) -> people.Principal:
    session = sign_in(database, "ann@acme.example", password, address="192.0.2.7", now=NOON)
    return sessions.principal(database, session.token, NOON)


def test_a_user_signs_in_however_the_address_is_capitalised(database: Database, acme: UUID, ann: int) -> None:
    session = sign_in(database, " ANN@acme.EXAMPLE ", PASSWORD, address="192.0.2.7", now=NOON)
    found = sessions.principal(database, session.token, NOON)
    assert found == people.Principal(acme, ann, "ann@acme.example", "engineer", False, "session")


def test_a_password_typed_with_composed_or_separate_accents_is_the_same(database: Database, acme: UUID) -> None:
    with database.tenant(acme) as scope:
        people.create(scope, "ann@acme.example", "grüße aus Köln", role="auditor", actor="test")
    assert enter(database, "gru\u0308ße aus Ko\u0308ln").role == "auditor"


@pytest.mark.parametrize("password", ["x" * 11, "x" * 257], ids=["short", "long"])
def test_a_password_that_is_too_short_or_too_long_is_refused(database: Database, acme: UUID, password: str) -> None:
    with pytest.raises(ConfigurationError, match="12 to 256 characters"), database.tenant(acme) as scope:
        people.create(scope, "ann@acme.example", password, role="engineer", actor="test")


@pytest.mark.parametrize("email", ["ann", "ann@", "@acme", "an n@acme", "ann@acme\x00", "a@b\nc", "x" * 250 + "@acme.example"])
def test_what_is_no_address_is_refused(database: Database, acme: UUID, email: str) -> None:
    with pytest.raises(ConfigurationError, match="no e-mail address"), database.tenant(acme) as scope:
        people.create(scope, email, PASSWORD, role="engineer", actor="test")


@pytest.mark.usefixtures("ann")
def test_an_address_is_taken_once_in_a_tenant(database: Database, acme: UUID) -> None:
    with pytest.raises(ConfigurationError, match=r"There is a user ann@acme\.example already"), database.tenant(acme) as scope:
        people.create(scope, "ANN@acme.example", PASSWORD, role="engineer", actor="test")


def test_an_unknown_role_is_refused_naming_those_there_are(database: Database, acme: UUID) -> None:
    with pytest.raises(ConfigurationError, match="administrator, engineer, auditor"), database.tenant(acme) as scope:
        people.create(scope, "ann@acme.example", PASSWORD, role="king", actor="test")


def test_a_new_password_ends_the_sessions_and_the_old_password(database: Database, acme: UUID, ann: int) -> None:
    session = sign_in(database, "ann@acme.example", PASSWORD, address="192.0.2.7", now=NOON)
    with database.tenant(acme) as scope:
        people.set_password(scope, ann, "another one, as good", actor="test")
    with pytest.raises(NotSignedIn, match="session has ended"):
        sessions.principal(database, session.token, NOON)
    with pytest.raises(NotSignedIn, match="is wrong"):
        enter(database)
    assert enter(database, "another one, as good").user_id == ann


def test_an_inactive_user_is_out_at_once_with_sessions_and_keys(database: Database, acme: UUID, ann: int) -> None:
    session = sign_in(database, "ann@acme.example", PASSWORD, address="192.0.2.7", now=NOON)
    with database.tenant(acme) as scope:
        key = api_keys.create(scope, ann, "report", actor="test").key
    assert api_keys.principal(database, key, NOON).by == "key"
    with database.tenant(acme) as scope:
        people.deactivate(scope, ann, actor="test")
    with pytest.raises(NotSignedIn):
        sessions.principal(database, session.token, NOON)
    with pytest.raises(NotSignedIn):
        api_keys.principal(database, key, NOON)
    with pytest.raises(NotSignedIn):
        enter(database)
    with pytest.raises(ConfigurationError, match="not active"), database.tenant(acme) as scope:
        api_keys.create(scope, ann, "another", actor="test")


def test_the_last_administrator_stays(database: Database, acme: UUID) -> None:
    with database.tenant(acme) as scope:
        admin = people.find(scope, "admin@localhost")
        with pytest.raises(ConfigurationError, match="last active administrator"):
            people.deactivate(scope, admin, actor="test")
        people.create(scope, "second@acme.example", PASSWORD, role="administrator", actor="test")
        people.deactivate(scope, admin, actor="test")
        assert {row["email"]: row["is_active"] for row in people.every(scope)} == {
            "admin@localhost": False,
            "second@acme.example": True,
        }


def test_a_hash_of_older_cost_is_made_anew_at_the_next_sign_in(database: Database, acme: UUID, ann: int) -> None:
    cheap = PasswordHasher(time_cost=1, memory_cost=1024).hash(PASSWORD)

    def stored() -> str:
        with database.tenant(acme) as scope:
            return str(scope.run("SELECT password_hash FROM users WHERE id = :id", id=ann).scalar())

    with database.tenant(acme) as scope:
        scope.run("UPDATE users SET password_hash = :h WHERE id = :id", h=cheap, id=ann)
    enter(database)
    assert stored().startswith("$argon2id$")
    assert (people.HASHER.check_needs_rehash(cheap), people.HASHER.check_needs_rehash(stored())) == (True, False)
    enter(database)


@pytest.mark.usefixtures("ann")
def test_an_unknown_address_costs_one_hash_like_a_known_one(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(PasswordHasher):
        computed = 0

        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            Counting.computed += 1
            return super().hash(password, salt=salt)

        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - the library's own name
            Counting.computed += 1
            return super().verify(hash, password)

    monkeypatch.setattr(people, "HASHER", Counting())
    for email in ("ann@acme.example", "nobody@acme.example", "admin@localhost"):  # the last one has no password
        before = Counting.computed
        with pytest.raises(NotSignedIn, match=r"^E-mail address or password is wrong\.$"):
            sign_in(database, email, "not the password", address="192.0.2.7", now=NOON)
        assert Counting.computed - before == 1, email


def test_the_first_start_makes_one_operator_in_the_only_tenant(database: Database, acme: UUID) -> None:
    first = people.ensure_operator(database)
    assert first is not None
    assert first.email == "admin@localhost"
    assert people.ensure_operator(database) is None
    session = sign_in(database, first.email, first.password, address="::1", now=NOON)
    found = sessions.principal(database, session.token, NOON)
    assert (found.tenant, found.role, found.operator) == (acme, "administrator", True)


def test_the_first_start_makes_a_tenant_where_there_is_none_and_takes_nobodys_password(database: Database) -> None:
    assert people.ensure_operator(database) is not None
    main = tenants.find(database, "main")
    assert main is not None
    with database.tenant(main) as scope:
        scope.run("UPDATE users SET is_operator = false")
    again = people.ensure_operator(database)
    assert again is not None
    assert again.email == "operator@localhost"  # the administrator has a password, and keeps it


def test_among_several_tenants_none_is_guessed(database: Database) -> None:
    for name in ("acme", "globex"):
        tenants.create(database, name)
    assert people.ensure_operator(database) is not None
    assert tenants.find(database, "main", required=False) is not None


@pytest.mark.usefixtures("acme")
def test_an_operator_who_is_inactive_or_has_no_password_is_none(database: Database, acme: UUID, ann: int) -> None:
    with database.tenant(acme) as scope:
        scope.run("UPDATE users SET is_operator = true, is_active = id <> :id", id=ann)
    assert people.ensure_operator(database) is not None


def test_of_two_processes_that_start_at_once_one_makes_the_operator(database: Database) -> None:
    databases = [database, Database(database.url, database.master)]
    got: list[FirstSignIn | None] = []
    start = threading.Barrier(2)

    def begin(mine: Database) -> None:
        start.wait()
        got.append(people.ensure_operator(mine))

    threads = [threading.Thread(target=begin, args=(mine,)) for mine in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    databases[1].close()
    assert sorted(one is None for one in got) == [False, True]


def test_no_password_token_or_key_stands_anywhere_in_the_database(database: Database, acme: UUID, ann: int) -> None:
    session = sign_in(database, "ann@acme.example", PASSWORD, address="192.0.2.7", now=NOON)
    with pytest.raises(NotSignedIn):
        sign_in(database, "typed into the wrong field", "canary password", address="192.0.2.7", now=NOON)
    with database.tenant(acme) as scope:
        people.set_password(scope, ann, "the second password", actor="test")
        key = api_keys.create(scope, ann, "report", expires_at=NOON + timedelta(days=1), actor="test").key
    session = sign_in(database, "ann@acme.example", "the second password", address="192.0.2.7", now=NOON)
    owner = engine(database.url, role=None, poolclass=sa.NullPool)
    with owner.connect() as connection:
        names = connection.exec_driver_sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").scalars().all()
        rows = [str(row) for name in names for row in connection.exec_driver_sql(f'SELECT t::text FROM "{name}" t').scalars()]
    whole = "\n".join(rows)
    assert "ann@acme.example" in whole  # the search finds what is there
    for secret in (PASSWORD, "the second password", "canary", "wrong field", session.token, key, key.split("_", 2)[2]):
        assert secret not in whole, secret


def test_all_of_it_is_audited(database: Database, acme: UUID, ann: int) -> None:
    token = sign_in(database, "ann@acme.example", PASSWORD, address="192.0.2.7", now=NOON).token
    sessions.end(database, token)
    with pytest.raises(NotSignedIn):
        enter(database, "not the password")
    with database.tenant(acme) as scope:
        people.set_password(scope, ann, "another one, as good", actor="test")
        key = api_keys.create(scope, ann, "report", actor="test")
        api_keys.revoke(scope, key.id, now=NOON, actor="test")
        api_keys.revoke(scope, key.id, now=NOON, actor="test")
        people.deactivate(scope, ann, actor="test")
        rows = scope.rows(
            "SELECT actor, action, subject, succeeded FROM audit_log WHERE action <> 'tenant.create' ORDER BY id"
        )
    me, it = f"users/{ann}", f"api_keys/{key.id}"
    told: list[tuple[object, ...]] = [tuple(row.values()) for row in rows]
    assert told == [
        ("test", "user.create", me, True),
        (me, "user.sign_in", me, True),
        (me, "user.sign_out", me, True),
        ("anonymous", "user.sign_in", me, False),
        ("test", "user.password", me, True),
        ("test", "api_key.create", it, True),
        ("test", "api_key.revoke", it, True),
        ("test", "user.deactivate", me, True),
    ]
