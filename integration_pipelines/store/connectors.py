"""Connectors: the configured rows. Their credentials are sealed, and opened only for the connector itself."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa

from connector_resources.contract import GrantState
from connector_resources.errors import ConfigurationError
from integration_pipelines.store import audit
from integration_pipelines.store.call_budget import SETTING, limit_of
from integration_pipelines.store.database import Database, Scope

METHODS = ("oauth2", "api_key", "basic", "certificate", "none")


@dataclass(frozen=True)
class ConnectorRow:
    """A row of `connectors`, without its credentials.

    `reconnect_since`: when it turned out that a person must let us in again (None: all is well); `grant_expires_at`: when the
    grant ends by itself, where the system has told; `last_used_at`: when the credentials were last asked for, to the minute.
    """

    id: int
    code: str
    name: str
    type: str
    url: str
    authentication_method: str
    configuration: Mapping[str, Any]
    is_active: bool
    revision: int
    reconnect_since: datetime | None = None
    grant_expires_at: datetime | None = None
    last_used_at: datetime | None = None

    @property
    def state(self) -> str:
        """ok, or what a person must do; for people."""
        return f"reconnect needed since {self.reconnect_since:%Y-%m-%d %H:%M}" if self.reconnect_since else "ok"


_HOST = r"(?:\[[0-9a-fA-F:.]+\]|[\w-]+(?:\.[\w-]+)*\.?)"
_COLUMNS = """id, connector_code AS code, connector_name AS name, connector_type AS type, external_system_url AS url,
              authentication_method, COALESCE(configuration, '{}') AS configuration, is_active, revision,
              reconnect_since, grant_expires_at, last_used_at"""


def create(
    scope: Scope,
    *,
    name: str,
    connector_type: str,
    url: str,
    authentication_method: str,
    credentials: Mapping[str, str],
    configuration: Mapping[str, Any] | None = None,
    code: str | None = None,
    user: int,
) -> ConnectorRow:
    """Raises ConfigurationError for a code that is taken, an unknown method, an address that is none or holds a password, a
    limit of calls that is no number."""
    if authentication_method not in METHODS:
        raise ConfigurationError(f"Authentication method '{authentication_method}' is not one of {', '.join(METHODS)}.")
    if not re.match(r"^https?://[^\s/]+", url):
        raise ConfigurationError("The external system's URL must begin with https:// (or http:// for a test system).")
    if re.match(r"^https?://[^/?#]*@", url):
        raise ConfigurationError(
            "The external system's URL holds a user or password; leave it out and give it as a credential."
        )
    address = re.fullmatch(rf"https?://{_HOST}(?::([0-9]{{1,5}}))?(?:/[^\s?#]*)?", url)
    if not address or int(address[1] or 0) > 65_535:
        raise ConfigurationError(
            "The external system's URL must be like https://crm.example or https://crm.example:8443/path, without a space, a "
            "question mark or '#'; what stands behind those belongs into the manifest or --set."
        )
    limit_of(configuration or {})
    code = code or re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:100].strip("-") or connector_type
    if not name.strip() or len(name) > 255 or len(code) > 100:
        raise ConfigurationError("A connector's name has 1 to 255 characters, its code up to 100.")
    number = int(scope.run("SELECT nextval(pg_get_serial_sequence('connectors', 'id'))").scalar_one())
    made = scope.run(
        """INSERT INTO connectors (id, tenant_id, connector_code, connector_name, connector_type, external_system_url,
                                   authentication_method, credentials, configuration, is_active, created_by)
           VALUES (:id, :tenant, :code, :name, :type, :url, :method, CAST(:credentials AS jsonb),
                   CAST(:configuration AS jsonb), true, :user)
           ON CONFLICT (tenant_id, connector_code) WHERE deleted_at IS NULL DO NOTHING RETURNING id""",
        id=number,
        tenant=scope.tenant,
        code=code,
        name=name,
        type=connector_type,
        url=url.rstrip("/"),
        method=authentication_method,
        credentials=_sealed(scope, number, credentials),
        configuration=orjson.dumps(configuration or {}).decode(),
        user=user,
    ).scalar()
    if made is None:
        raise ConfigurationError(f"There is a connector with code '{code}' already; give another name or code.")
    audit.record(scope, f"users/{user}", "connector.create", f"connectors/{number}", {"type": connector_type})
    return get(scope, number)


def get(scope: Scope, number: int) -> ConnectorRow:
    row = scope.run(f"SELECT {_COLUMNS} FROM connectors WHERE id = :id AND deleted_at IS NULL", id=number).mappings().first()
    if row is None:
        raise ConfigurationError(f"There is no connector {number} in this tenant; `integration connector list` shows them.")
    return ConnectorRow(**row)


def every(scope: Scope) -> list[ConnectorRow]:
    return [
        ConnectorRow(**row) for row in scope.rows(f"SELECT {_COLUMNS} FROM connectors WHERE deleted_at IS NULL ORDER BY id")
    ]


def credentials_of(scope: Scope, number: int, *, lock: bool = False) -> dict[str, str]:
    """Raises ConfigurationError when there is no such connector. `lock`: its row is ours until the transaction ends."""
    get(scope, number)
    found = scope.run(
        f"SELECT credentials FROM connectors WHERE id = :id{' FOR NO KEY UPDATE' if lock else ''}", id=number
    ).scalar_one()
    opened: dict[str, str] = scope.vault.open_json(found, "connectors", str(number), "credentials")
    return opened


def reconnect(scope: Scope, number: int, changed: Mapping[str, str | None], state: GrantState, *, user: int) -> ConnectorRow:
    """A person has let us in again, perhaps as somebody else: these credentials change (None takes one away)."""
    _change(scope, number, changed)
    scope.run(
        "UPDATE connectors SET reconnect_since = NULL, grant_expires_at = :at, revision = revision + 1 WHERE id = :id",
        id=number,
        at=state.expires,
    )
    audit.record(scope, f"users/{user}", "connector.authorize", f"connectors/{number}", {})
    return get(scope, number)


def configure(scope: Scope, number: int, changed: Mapping[str, Any], *, user: int) -> ConnectorRow:
    """These settings change (None takes one away); runs that begin from now on have them. Raises ConfigurationError for a
    limit of calls that is no number. A limit says nothing of whose records these are: it makes no new revision."""
    merged = {**get(scope, number).configuration, **changed}
    kept = {name: value for name, value in merged.items() if value is not None}
    limit_of(kept)
    scope.run(
        """UPDATE connectors SET configuration = CAST(:configuration AS jsonb), revision = revision + :other,
               updated_at = now() WHERE id = :id""",
        configuration=orjson.dumps(kept).decode(),
        other=int(bool(changed.keys() - {SETTING})),
        id=number,
    )
    audit.record(scope, f"users/{user}", "connector.configure", f"connectors/{number}", {"settings": sorted(changed)})
    return get(scope, number)


def _change(scope: Scope, number: int, changed: Mapping[str, str | None]) -> None:
    merged = {**credentials_of(scope, number, lock=True), **changed}
    kept = {name: value for name, value in merged.items() if value is not None}
    scope.run(
        "UPDATE connectors SET credentials = CAST(:c AS jsonb), updated_at = now() WHERE id = :id",
        c=_sealed(scope, number, kept),
        id=number,
    )


def _note_state(scope: Scope, number: int, state: GrantState) -> None:
    scope.run(
        """UPDATE connectors SET reconnect_since = CASE WHEN :good THEN NULL ELSE COALESCE(reconnect_since, now()) END,
                  grant_expires_at = COALESCE(:expires, grant_expires_at) WHERE id = :id""",
        good=state.good,
        expires=state.expires,
        id=number,
    )


def _note_use(scope: Scope, number: int) -> None:
    """To the minute, and not while the row is locked: reading credentials waits for nobody."""
    scope.run(
        """UPDATE connectors SET last_used_at = now() WHERE id IN (
               SELECT id FROM connectors WHERE id = :id AND COALESCE(last_used_at < now() - interval '1 minute', true)
               FOR NO KEY UPDATE SKIP LOCKED)""",
        id=number,
    )


def _sealed(scope: Scope, number: int, credentials: Mapping[str, str]) -> str:
    return orjson.dumps(scope.vault.seal_json(dict(credentials), "connectors", str(number), "credentials")).decode()


@dataclass
class _Rotating:
    database: Database
    scope: Scope
    number: int

    def load(self) -> Mapping[str, str]:
        return credentials_of(self.scope, self.number)

    def store(self, changed: Mapping[str, str | None], state: GrantState | None = None) -> None:
        """Durable at once: the transaction is committed, and the row locked again. Whoever was faster (a person who has
        changed the credentials; no other refresh) is found by the next `load`."""
        if changed:
            _change(self.scope, self.number, changed)
        if state:
            _note_state(self.scope, self.number, state)
        self.scope.connection.commit()
        self.scope = self.database.enter(self.scope.connection, self.scope.tenant)
        credentials_of(self.scope, self.number, lock=True)


@dataclass(frozen=True)
class StoredCredentials:
    """contract.CredentialStore over one row."""

    database: Database
    tenant: UUID
    number: int

    def load(self) -> Mapping[str, str]:
        with self.database.tenant(self.tenant) as scope:
            found = credentials_of(scope, self.number)
            _note_use(scope, self.number)
            return found

    @contextmanager
    def exclusive(self) -> Iterator[_Rotating]:
        """The lock of the row goes with each commit, so another one lasts for the block: it ends with this connection, and so
        with a process that is killed."""
        lock = {"key": f"refresh/{self.tenant}/{self.number}"}
        with self.database.connection() as connection:
            connection.execute(sa.text("SELECT pg_advisory_lock(hashtextextended(:key, 0))"), lock)
            try:
                scope = self.database.enter(connection, self.tenant)
                credentials_of(scope, self.number, lock=True)
                yield _Rotating(self.database, scope, self.number)
                connection.commit()
            finally:
                connection.rollback()
                connection.execute(sa.text("SELECT pg_advisory_unlock(hashtextextended(:key, 0))"), lock)
                connection.commit()
