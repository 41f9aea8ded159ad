"""API keys: what a program of a user's signs in with. `ik_<id>_<random>`; of the random part only the SHA-256 is stored."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from connector_resources.errors import ConfigurationError, NotSignedIn
from integration_pipelines.store import audit
from integration_pipelines.store.database import Database, Scope
from integration_pipelines.store.people import Principal

_KEY = re.compile(r"ik_([1-9][0-9]{0,17})_([A-Za-z0-9_-]{43})")
_NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class NewKey:
    """`key` is shown once and stored nowhere."""

    id: int
    key: str = field(repr=False)


def create(scope: Scope, user_id: int, name: str, *, expires_at: datetime | None = None, actor: str) -> NewKey:
    """A key with its user's rights. Raises ConfigurationError when the name is no good or the user is inactive."""
    name = name.strip()
    if not name or len(name) > 255 or not name.isprintable():
        raise ConfigurationError("A key's name has 1 to 255 characters and says which program it is for; give it one.")
    secret = secrets.token_urlsafe(32)
    found = scope.run(
        """INSERT INTO api_keys (tenant_id, user_id, name, key_hash, expires_at)
           SELECT :t, id, :name, :hash, :until FROM users WHERE id = :user AND is_active RETURNING id""",
        t=scope.tenant,
        user=user_id,
        name=name,
        hash=_digest(secret),
        until=expires_at,
    ).scalar()
    if found is None:
        raise ConfigurationError("This user is not active, so no key of theirs would work; choose another user.")
    audit.record(scope, actor, "api_key.create", f"api_keys/{found}", {"user_id": user_id, "expires_at": expires_at})
    return NewKey(int(found), f"ik_{found}_{secret}")


def every(scope: Scope, now: datetime) -> Sequence[dict[str, Any]]:
    """id, name, email, state (active, revoked, expired, user inactive), created_at, last_used_at, expires_at."""
    return [
        dict(row)
        for row in scope.rows(
            """SELECT k.id, k.name, u.email, k.created_at, k.last_used_at, k.expires_at,
                      CASE WHEN k.revoked_at IS NOT NULL THEN 'revoked' WHEN k.expires_at <= :now THEN 'expired'
                           WHEN NOT u.is_active THEN 'user inactive' ELSE 'active' END AS state
               FROM api_keys k JOIN users u ON (u.tenant_id, u.id) = (k.tenant_id, k.user_id) ORDER BY k.id""",
            now=now,
        )
    ]


def revoke(scope: Scope, key_id: int, *, now: datetime, actor: str) -> None:
    """From now on it is refused; revoking again changes nothing. Raises ConfigurationError when there is no such key."""
    done = scope.run(
        "UPDATE api_keys SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL RETURNING id", now=now, id=key_id
    ).scalar()
    if done is not None:
        audit.record(scope, actor, "api_key.revoke", f"api_keys/{key_id}")
    elif scope.run("SELECT id FROM api_keys WHERE id = :id", id=key_id).scalar() is None:
        raise ConfigurationError(f"There is no API key {key_id} in this tenant; `integration api-key list` shows them.")


def principal(database: Database, key: str, now: datetime) -> Principal:
    """Whose key it is, and note that it was used. Raises NotSignedIn when it is unknown, revoked, expired, or its user is
    inactive; the sentence does not tell which."""
    refused = NotSignedIn("This API key is not valid; `integration api-key create` makes a new one.")
    parts = _KEY.fullmatch(key)
    if parts is None:
        raise refused
    with database.directory() as connection:
        tenant = connection.execute(sa.text("SELECT tenant_of_api_key(:id)"), {"id": int(parts[1])}).scalar()
        if tenant is None:
            raise refused
        scope = database.enter(connection, tenant)
        row = scope.run(
            """SELECT k.key_hash, k.last_used_at, u.id, u.email, r.name AS role, u.is_operator
               FROM api_keys k JOIN users u ON (u.tenant_id, u.id) = (k.tenant_id, k.user_id)
               LEFT JOIN roles r ON (r.tenant_id, r.id) = (u.tenant_id, u.role_id)
               WHERE k.id = :id AND u.is_active AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > :now)""",
            id=int(parts[1]),
            now=now,
        ).first()
        if row is None or not hmac.compare_digest(row.key_hash, _digest(parts[2])):
            raise refused
        if row.last_used_at is None or row.last_used_at <= now - _NOTED_EVERY:
            scope.run("UPDATE api_keys SET last_used_at = :now WHERE id = :id", now=now, id=int(parts[1]))
        return Principal(tenant, row.id, row.email, row.role, row.is_operator, "key")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
