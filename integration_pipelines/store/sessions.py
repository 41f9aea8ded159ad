"""Sessions of people who signed in: a random token in their browser, its SHA-256 here."""

import hashlib
import secrets
from datetime import datetime, timedelta

import sqlalchemy as sa

from connector_resources.errors import NotSignedIn
from integration_pipelines.store import audit
from integration_pipelines.store.database import Database, Scope
from integration_pipelines.store.people import Principal

LASTS, IDLE = timedelta(hours=12), timedelta(hours=1)
_NOTED_EVERY = timedelta(minutes=1)


def begin(scope: Scope, user_id: int, address: str, now: datetime) -> str:
    """A session of 12 hours; returns its token (256 bits), which is stored nowhere. The tenant's expired ones are dropped."""
    token = secrets.token_urlsafe(32)
    scope.run("DELETE FROM sessions WHERE expires_at <= :now OR last_seen_at <= :idle", now=now, idle=now - IDLE)
    scope.run(
        """INSERT INTO sessions (tenant_id, user_id, token_hash, address, created_at, expires_at, last_seen_at)
           VALUES (:t, :user, :hash, :address, :now, :until, :now)""",
        t=scope.tenant,
        user=user_id,
        hash=_digest(token),
        address=address[:64],
        now=now,
        until=now + LASTS,
    )
    return token


def principal(database: Database, token: str, now: datetime) -> Principal:
    """Whose session it is, and note that it was used. Raises NotSignedIn when it has ended, was not used for an hour, or the
    user is inactive."""
    with database.directory() as connection:
        scope, session_id = _enter(database, connection, token)
        row = scope.run(
            """SELECT u.id, u.email, r.name AS role, u.is_operator, s.last_seen_at
               FROM sessions s JOIN users u ON (u.tenant_id, u.id) = (s.tenant_id, s.user_id)
               LEFT JOIN roles r ON (r.tenant_id, r.id) = (u.tenant_id, u.role_id)
               WHERE s.id = :id AND u.is_active AND s.expires_at > :now AND s.last_seen_at > :idle""",
            id=session_id,
            now=now,
            idle=now - IDLE,
        ).first()
        if row is None:
            raise NotSignedIn("Your session has ended; sign in again.")
        if row.last_seen_at <= now - _NOTED_EVERY:
            scope.run("UPDATE sessions SET last_seen_at = :now WHERE id = :id", now=now, id=session_id)
        return Principal(scope.tenant, row.id, row.email, row.role, row.is_operator, "session")


def end(database: Database, token: str) -> None:
    """Sign out. Raises NotSignedIn when there is no such session any more."""
    with database.directory() as connection:
        scope, session_id = _enter(database, connection, token)
        user_id = scope.run("DELETE FROM sessions WHERE id = :id RETURNING user_id", id=session_id).scalar()
        if user_id is not None:  # None: another request was faster
            audit.record(scope, f"users/{user_id}", "user.sign_out", f"users/{user_id}")


def _enter(database: Database, connection: sa.Connection, token: str) -> tuple[Scope, int]:
    found = connection.execute(sa.text("SELECT session_id, tenant FROM session_by_token(:h)"), {"h": _digest(token)}).first()
    if found is None:
        raise NotSignedIn("Your session has ended; sign in again.")
    return database.enter(connection, found.tenant), found.session_id


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
