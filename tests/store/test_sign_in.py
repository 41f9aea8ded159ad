"""Signing in, sessions and keys: what is refused, for how long, and that no tenant sees another's."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher

from connector_resources.errors import ConfigurationError, NotSignedIn, RateLimited, TenantNeeded
from integration_pipelines.store import api_keys, people, sessions, tenants
from integration_pipelines.store.database import Database, engine
from integration_pipelines.store.sign_in import PER_EMAIL, PER_NETWORK, network, sign_in

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PASSWORD, OTHER = "correct horse battery staple", "quite another password"
ANN = "ann@example.com"


@pytest.fixture
def acme(database: Database) -> UUID:
    found = tenants.create(database, "acme")
    with database.tenant(found) as scope:
        people.create(scope, ANN, PASSWORD, role="engineer", actor="test")
    return found


@pytest.fixture
def globex(database: Database) -> UUID:
    found = tenants.create(database, "globex")
    with database.tenant(found) as scope:
        people.create(scope, ANN, OTHER, role="auditor", actor="test")
    return found


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords that are quick to look at, where a test needs many attempts."""
    monkeypatch.setattr(people, "HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))


@pytest.fixture
def owner(database: Database) -> Iterator[sa.Connection]:
    with engine(database.url, role=None, poolclass=sa.NullPool).connect() as connection:
        yield connection


def fail(database: Database, email: str = ANN, address: str = "192.0.2.7", now: datetime = NOON) -> None:
    with pytest.raises(NotSignedIn, match="is wrong"):
        sign_in(database, email, "not the password", address=address, now=now)


@pytest.mark.usefixtures("acme", "globex")
def test_one_address_in_two_tenants_is_told_apart_by_the_password(database: Database, acme: UUID, globex: UUID) -> None:
    assert sign_in(database, ANN, PASSWORD, address="::1", now=NOON).tenant == acme
    assert sign_in(database, ANN, OTHER, address="::1", now=NOON).tenant == globex


def test_the_same_password_in_two_tenants_needs_the_tenant(database: Database, acme: UUID, globex: UUID) -> None:
    with database.tenant(globex) as scope:
        people.set_password(scope, people.find(scope, ANN), PASSWORD, actor="test")
    with pytest.raises(TenantNeeded) as needed:
        sign_in(database, ANN, PASSWORD, address="::1", now=NOON)
    assert needed.value.tenants == ("acme", "globex")
    assert sign_in(database, ANN, PASSWORD, tenant="globex", address="::1", now=NOON).tenant == globex
    assert sign_in(database, ANN, PASSWORD, tenant=str(acme), address="::1", now=NOON).tenant == acme


@pytest.mark.usefixtures("globex")
@pytest.mark.parametrize("tenant", ["globex", "nowhere", "x\x00"], ids=["another", "unknown", "nul"])
def test_a_password_is_good_in_its_tenant_alone(database: Database, acme: UUID, tenant: str) -> None:
    assert acme
    with pytest.raises(NotSignedIn, match="is wrong"):
        sign_in(database, ANN, PASSWORD, tenant=tenant, address="::1", now=NOON)


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("", ""),
        (ANN, ""),
        ("\x00", PASSWORD),
        (ANN, "x" * 5000),
        ("x" * 5000, PASSWORD),
        (f"{ANN}'--", "x"),
    ],
    ids=["empty", "no-password", "nul", "long-password", "long-address", "quote"],
)
def test_whatever_is_typed_is_at_most_wrong(database: Database, email: str, password: str) -> None:
    with pytest.raises(NotSignedIn, match="is wrong"):
        sign_in(database, email, password, address="::1", now=NOON)


@pytest.mark.usefixtures("acme", "cheap")
def test_after_five_failures_an_address_waits_until_the_first_is_fifteen_minutes_old(database: Database) -> None:
    for n in range(PER_EMAIL):
        fail(database, address=f"192.0.2.{n}", now=NOON + n * MINUTE)
    with pytest.raises(RateLimited, match=r"Try again in 10 minutes\.") as refused:
        sign_in(database, ANN, PASSWORD, address="198.51.100.1", now=NOON + 5 * MINUTE)
    assert refused.value.wait == 600
    with pytest.raises(RateLimited) as refused:
        sign_in(database, ANN, PASSWORD, address="198.51.100.1", now=NOON + 15 * MINUTE - timedelta(milliseconds=1))
    assert refused.value.wait == 1
    assert sign_in(database, ANN, PASSWORD, address="198.51.100.1", now=NOON + 15 * MINUTE).token


@pytest.mark.usefixtures("cheap")
def test_an_address_that_nobody_has_is_counted_alike(database: Database) -> None:
    for _ in range(PER_EMAIL):
        fail(database, "nobody@example.com")
    with pytest.raises(RateLimited):
        sign_in(database, "NOBODY@example.com", PASSWORD, address="198.51.100.1", now=NOON)


@pytest.mark.usefixtures("acme", "cheap")
def test_a_success_clears_the_count(database: Database) -> None:
    for _ in range(3):
        for _ in range(PER_EMAIL - 1):
            fail(database)
        sign_in(database, ANN, PASSWORD, address="192.0.2.7", now=NOON)


@pytest.mark.usefixtures("acme", "cheap")
def test_after_twenty_failures_a_network_waits_whoever_it_tries(database: Database) -> None:
    for n in range(PER_NETWORK):
        fail(database, f"user{n}@example.com", address=f"2001:db8::{n}")
    with pytest.raises(RateLimited):
        sign_in(database, ANN, PASSWORD, address="2001:db8::ffff", now=NOON)
    assert sign_in(database, ANN, PASSWORD, address="2001:db8:0:1::1", now=NOON).token


@pytest.mark.usefixtures("acme", "cheap")
def test_many_guesses_at_once_are_not_more_guesses(database: Database) -> None:
    outcomes: list[type[Exception]] = []

    def guess() -> None:
        try:
            sign_in(database, ANN, "not the password", address="192.0.2.7", now=NOON)
        except (NotSignedIn, RateLimited) as refusal:
            outcomes.append(type(refusal))

    threads = [threading.Thread(target=guess) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(kind.__name__ for kind in outcomes) == ["NotSignedIn"] * PER_EMAIL + ["RateLimited"] * PER_EMAIL


@pytest.mark.usefixtures("cheap")
def test_the_count_is_shared_and_forgotten_after_a_quarter_of_an_hour(database: Database, owner: sa.Connection) -> None:
    other = Database(database.url, database.master)
    for n in range(PER_EMAIL):
        fail(database if n % 2 else other)
    with pytest.raises(RateLimited):
        sign_in(other, ANN, PASSWORD, address="192.0.2.7", now=NOON)
    fail(other, now=NOON + 15 * MINUTE)
    other.close()
    assert owner.exec_driver_sql("SELECT count(*) FROM sign_in_attempts").scalar() == 1


@pytest.mark.parametrize(
    ("address", "counted"),
    [("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8::7", "2001:db8::/64"), ("unknown", "unknown")],
)
def test_what_counts_as_one_network(address: str, counted: str) -> None:
    assert network(address) == counted


@pytest.mark.usefixtures("acme")
def test_a_session_ends_after_an_hour_unused_and_after_twelve_anyway(database: Database) -> None:
    token = sign_in(database, ANN, PASSWORD, address="::1", now=NOON).token
    for minutes in range(59, 12 * 60, 59):
        assert sessions.principal(database, token, NOON + minutes * MINUTE).email == ANN
    with pytest.raises(NotSignedIn, match="session has ended"):
        sessions.principal(database, token, NOON + timedelta(hours=12))
    unused = sign_in(database, ANN, PASSWORD, address="::1", now=NOON).token
    with pytest.raises(NotSignedIn, match="session has ended"):
        sessions.principal(database, unused, NOON + timedelta(hours=1))


@pytest.mark.usefixtures("acme")
def test_sessions_that_are_over_leave_the_table(database: Database, owner: sa.Connection) -> None:
    for day in range(3):
        sign_in(database, ANN, PASSWORD, address="::1", now=NOON + timedelta(days=day))
    assert owner.exec_driver_sql("SELECT count(*) FROM sessions").scalar() == 1


@pytest.mark.usefixtures("acme")
def test_after_signing_out_the_token_is_worth_nothing_and_other_sessions_go_on(database: Database) -> None:
    first, second = (sign_in(database, ANN, PASSWORD, address="::1", now=NOON).token for _ in range(2))
    sessions.end(database, first)
    with pytest.raises(NotSignedIn):
        sessions.principal(database, first, NOON)
    with pytest.raises(NotSignedIn):
        sessions.end(database, first)
    assert sessions.principal(database, second, NOON).email == ANN


@pytest.fixture
def key(database: Database, acme: UUID) -> api_keys.NewKey:
    with database.tenant(acme) as scope:
        return api_keys.create(scope, people.find(scope, ANN), "report", expires_at=NOON + timedelta(days=1), actor="test")


def test_a_key_has_its_users_rights_until_it_expires(database: Database, acme: UUID, key: api_keys.NewKey) -> None:
    found = api_keys.principal(database, key.key, NOON)
    assert (found.tenant, found.email, found.role, found.operator, found.by) == (acme, ANN, "engineer", False, "key")
    with pytest.raises(NotSignedIn):
        api_keys.principal(database, key.key, NOON + timedelta(days=1))
    with database.tenant(acme) as scope:
        assert [row["state"] for row in api_keys.every(scope, NOON + timedelta(days=1))] == ["expired"]


def test_when_a_key_was_last_used_is_noted_once_a_minute(database: Database, acme: UUID, key: api_keys.NewKey) -> None:
    noted = []
    for seconds in (0, 30, 59, 60, 100):
        api_keys.principal(database, key.key, NOON + timedelta(seconds=seconds))
        with database.tenant(acme) as scope:
            noted.append((api_keys.every(scope, NOON)[0]["last_used_at"] - NOON).total_seconds())
    assert noted == [0, 0, 0, 60, 60]


def test_no_key_but_the_very_one_is_good(database: Database, key: api_keys.NewKey) -> None:
    secret = key.key.split("_", 2)[2]
    turned = secret[:-2] + ("AA" if not secret.endswith("AA") else "BB")
    hostile = [
        "",
        "ik_",
        secret,
        f"ik_{key.id}_{turned}",
        f"ik_{key.id + 1}_{secret}",
        f"ik_0{key.id}_{secret}",
        f"ik_{key.id}_{secret}\n",
        f"ik_-{key.id}_{secret}",
        f"ik_{'9' * 30}_{secret}",
        f"ik_{key.id}_",
        f"ik_\u0661_{secret}",
        "ik_1_" + "x" * 100_000,
    ]
    for wrong in hostile:
        with pytest.raises(NotSignedIn, match="not valid"):
            api_keys.principal(database, wrong, NOON)
    assert api_keys.principal(database, key.key, NOON).email == ANN


def test_one_tenants_keys_are_not_anothers_to_see_or_revoke(database: Database, globex: UUID, key: api_keys.NewKey) -> None:
    with database.tenant(globex) as scope:
        assert api_keys.every(scope, NOON) == []
        with pytest.raises(ConfigurationError, match=f"There is no API key {key.id} in this tenant"):
            api_keys.revoke(scope, key.id, now=NOON, actor="test")
        assert [row["email"] for row in people.every(scope)] == ["admin@localhost", ANN]
    assert api_keys.principal(database, key.key, NOON)


def test_no_key_for_another_tenants_user(database: Database, acme: UUID, globex: UUID) -> None:
    with database.tenant(acme) as scope:
        theirs = people.find(scope, ANN)
    with pytest.raises(ConfigurationError, match="not active"), database.tenant(globex) as scope:
        api_keys.create(scope, theirs, "report", actor="test")


def test_a_password_that_changes_during_the_sign_in_gives_no_session(
    database: Database, acme: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overtaken(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - the library's own name
            fits = super().verify(hash, password)
            with database.tenant(acme) as scope:
                people.set_password(scope, people.find(scope, ANN), OTHER, actor="test")
            return fits

    monkeypatch.setattr(people, "HASHER", Overtaken())
    with pytest.raises(NotSignedIn, match="is wrong"):
        sign_in(database, ANN, PASSWORD, address="::1", now=NOON)
