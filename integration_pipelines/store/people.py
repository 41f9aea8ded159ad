"""People of a tenant: their passwords, and the first one who may sign in.

Passwords are kept as argon2id hashes (RFC 9106). What a hash costs grows with the library's advice; a cheaper one of old is
made anew at the next sign-in.
"""

import re
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from connector_resources.errors import ConfigurationError
from integration_pipelines.store import audit, tenants
from integration_pipelines.store.database import Database, Scope

HASHER = PasswordHasher()
SHORTEST, LONGEST = 12, 256
_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+")


@dataclass(frozen=True)
class Principal:
    """Who asks, proven by a session or an API key. `operator`: may use what shows every tenant."""

    tenant: UUID
    user_id: int
    email: str
    role: str | None
    operator: bool
    by: Literal["session", "key"]

    @property
    def actor(self) -> str:
        """As the audit log names people: by id."""
        return f"users/{self.user_id}"


@dataclass(frozen=True)
class FirstSignIn:
    """To be shown once."""

    email: str
    password: str = field(repr=False)


def create(scope: Scope, email: str, password: str, *, role: str, operator: bool = False, actor: str) -> int:
    """A user who may sign in; returns the id. Raises ConfigurationError when the address is taken, or something is no good."""
    email = checked_email(email)
    hashed = hash_password(checked_password(password))
    role_id = scope.run("SELECT id FROM roles WHERE name = :name", name=role).scalar()
    if role_id is None:
        raise ConfigurationError(f"There is no role '{role}'; choose one of {', '.join(tenants.ROLES)}.")
    found = scope.run(
        """INSERT INTO users (tenant_id, email, password_hash, role_id, is_operator)
           VALUES (:t, :email, :hash, :role, :operator) ON CONFLICT DO NOTHING RETURNING id""",
        t=scope.tenant,
        email=email,
        hash=hashed,
        role=role_id,
        operator=operator,
    ).scalar()
    if found is None:
        raise ConfigurationError(f"There is a user {email} already; `integration user password {email}` sets the password.")
    audit.record(scope, actor, "user.create", f"users/{found}", {"role": role, "operator": operator})
    return int(found)


def every(scope: Scope) -> Sequence[dict[str, Any]]:
    """id, email, role, is_operator, is_active, has_password, created_at, last_seen_at (of sessions that still stand)."""
    return [
        dict(row)
        for row in scope.rows(
            """SELECT u.id, u.email, r.name AS role, u.is_operator, u.is_active, u.password_hash IS NOT NULL AS has_password,
                      u.created_at, (SELECT max(s.last_seen_at) FROM sessions s WHERE s.user_id = u.id) AS last_seen_at
               FROM users u LEFT JOIN roles r ON (r.tenant_id, r.id) = (u.tenant_id, u.role_id) ORDER BY u.email"""
        )
    ]


def find(scope: Scope, email: str) -> int:
    """Id of the tenant's user with this address, active or not. Raises ConfigurationError."""
    found = scope.run("SELECT id FROM users WHERE lower(email) = :email", email=checked_email(email)).scalar()
    if found is None:
        raise ConfigurationError(f"There is no user {email} in this tenant; `integration user list` shows who there is.")
    return int(found)


def set_password(scope: Scope, user_id: int, password: str, *, actor: str) -> None:
    """Set it, and end every session of the user. Raises ConfigurationError when it is too short or too long."""
    hashed = hash_password(checked_password(password))
    scope.run("UPDATE users SET password_hash = :hash WHERE id = :id", hash=hashed, id=user_id)
    ended = _end_sessions(scope, user_id)
    audit.record(scope, actor, "user.password", f"users/{user_id}", {"sessions_ended": ended})


def deactivate(scope: Scope, user_id: int, *, actor: str) -> None:
    """No sign-in, no session and no API key of this user works from now on. Raises ConfigurationError for the last
    administrator: the tenant needs one."""
    administrators = scope.rows(
        """SELECT id FROM users WHERE is_active AND role_id IN (SELECT id FROM roles WHERE name = 'administrator')
           ORDER BY id FOR UPDATE"""
    )
    if [row["id"] for row in administrators] == [user_id]:
        raise ConfigurationError("This is the tenant's last active administrator; make another one first.")
    scope.run("UPDATE users SET is_active = false WHERE id = :id", id=user_id)
    audit.record(scope, actor, "user.deactivate", f"users/{user_id}", {"sessions_ended": _end_sessions(scope, user_id)})


def _end_sessions(scope: Scope, user_id: int) -> int:
    return scope.run("DELETE FROM sessions WHERE user_id = :id", id=user_id).rowcount


def ensure_operator(database: Database) -> FirstSignIn | None:
    """The first way in. When no platform operator with a password exists anywhere, makes one, in the only tenant or else in
    one named `main`, and returns what to print; otherwise None. Of several processes that ask at once, one gets it."""
    with database.directory() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('ensure_operator'))"))
        for row in connection.execute(sa.text("SELECT user_id, tenant FROM operators()")).all():
            with database.tenant(row.tenant) as scope:
                if scope.run("SELECT password_hash FROM users WHERE id = :id", id=row.user_id).scalar():
                    return None
        there = list(connection.execute(sa.text("SELECT tenant_ids()")).scalars())
        only = there[0] if len(there) == 1 else tenants.find(database, "main", required=False)
        with database.tenant(only or tenants.create(database, "main")) as scope:
            return _first_operator(scope)


def _first_operator(scope: Scope) -> FirstSignIn:
    """The tenant's first administrator without a password; nobody's password is changed."""
    password = new_password()
    user = scope.rows(
        """SELECT u.id, u.email FROM users u JOIN roles r ON (r.tenant_id, r.id) = (u.tenant_id, u.role_id)
           WHERE u.is_active AND r.name = 'administrator' AND u.password_hash IS NULL ORDER BY u.id LIMIT 1"""
    )
    if not user:
        create(scope, "operator@localhost", password, role="administrator", operator=True, actor="system")
        return FirstSignIn("operator@localhost", password)
    scope.run("UPDATE users SET is_operator = true WHERE id = :id", id=user[0]["id"])
    audit.record(scope, "system", "user.operator", f"users/{user[0]['id']}")
    set_password(scope, user[0]["id"], password, actor="system")
    return FirstSignIn(user[0]["email"], password)


def checked_email(email: str) -> str:
    """As it is stored: lower case, no blanks around. Raises ConfigurationError when it is no address."""
    folded = normal_email(email)
    if len(folded) > 255 or not _EMAIL.fullmatch(folded):
        raise ConfigurationError("That is no e-mail address; write it like name@example.com.")
    return folded


def normal_email(email: str) -> str:
    return email.strip().lower()


def new_password() -> str:
    """Random, 144 bits."""
    return secrets.token_urlsafe(18)


def checked_password(password: str) -> str:
    """The same. Raises ConfigurationError when it is too short or too long; nothing else is demanded of it."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise ConfigurationError(f"A password has {SHORTEST} to {LONGEST} characters; choose another one.")
    return password


def hash_password(password: str) -> str:
    return HASHER.hash(_bytes(password))


def password_fits(hashed: str | None, password: str) -> bool:
    """Takes as long without a hash to compare with: how long an answer takes must not tell who has an account."""
    if hashed is None or len(password) > LONGEST:
        HASHER.hash(_bytes(password[:LONGEST]))
        return False
    try:
        return HASHER.verify(hashed, _bytes(password))
    except (VerificationError, InvalidHashError):
        return False


def _bytes(password: str) -> bytes:
    """The same characters are the same bytes, however a keyboard composes them."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
