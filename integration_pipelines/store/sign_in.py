"""Signing in with e-mail address and password: attempts are counted for all processes, and every outcome is audited."""

import hmac
import ipaddress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from connector_resources.errors import NotSignedIn, RateLimited, TenantNeeded
from integration_pipelines.store import audit, people, sessions, tenants
from integration_pipelines.store.database import Database
from integration_pipelines.store.people import normal_email, password_fits

WITHIN = timedelta(minutes=15)
PER_EMAIL, PER_NETWORK = 5, 20


@dataclass(frozen=True)
class NewSession:
    """`token` goes into the browser's cookie and nowhere else."""

    token: str = field(repr=False)
    tenant: UUID
    user_id: int


@dataclass(frozen=True)
class _Candidate:
    user_id: int
    tenant: UUID
    password_hash: str | None = field(repr=False)


def sign_in(
    database: Database, email: str, password: str, *, tenant: str | None = None, address: str, now: datetime
) -> NewSession:
    """A new session. One address may stand in several tenants: the password decides, else `tenant` (name or id) must.

    Raises RateLimited with the seconds to wait, TenantNeeded with the names to choose from, and NotSignedIn for everything
    else, without telling whether the address or the password is wrong."""
    email = normal_email(email)
    digest = _email_digest(database, email)
    _admit(database, digest, address, now)
    candidates = _candidates(database, email, tenant)
    if not candidates:
        password_fits(None, password)
    fitting = [found for found in candidates if password_fits(found.password_hash, password)]
    if not fitting:
        _audit_failure(database, candidates, address)
        raise NotSignedIn("E-mail address or password is wrong.")
    with database.directory() as connection:
        connection.execute(sa.text("SELECT forget_sign_ins(:e)"), {"e": digest})
    if len(fitting) > 1:
        names = tuple(sorted(_tenant_name(database, found.tenant) for found in fitting))
        raise TenantNeeded("This password is right in several tenants; choose one, and give the password again.", names)
    return _begin(database, fitting[0], password, address, now)


def _admit(database: Database, digest: str, address: str, now: datetime) -> None:
    with database.directory() as connection:
        wait = connection.execute(
            sa.text("SELECT admit_sign_in(:digest, :place, :now, :span, :per_email, :per_network)"),
            {
                "digest": digest,
                "place": network(address),
                "now": now,
                "span": WITHIN,
                "per_email": PER_EMAIL,
                "per_network": PER_NETWORK,
            },
        ).scalar_one()
    if wait:
        minutes = -(-wait // 60)
        plural = "minute" if minutes == 1 else "minutes"
        raise RateLimited(f"Too many failed sign-ins. Try again in {minutes} {plural}.", wait)


def _candidates(database: Database, email: str, tenant: str | None) -> list[_Candidate]:
    """Active users with this address. A wrong tenant is like a wrong address."""
    if "\x00" in email + (tenant or ""):  # no text to PostgreSQL
        return []
    with database.directory() as connection:
        rows = connection.execute(sa.text("SELECT user_id, tenant FROM users_by_email(:e)"), {"e": email}).all()
    wanted = tenants.find(database, tenant, required=False) if tenant else None
    found = []
    for row in rows:
        if tenant and row.tenant != wanted:
            continue
        with database.tenant(row.tenant) as scope:
            hashed = scope.run("SELECT password_hash FROM users WHERE id = :id", id=row.user_id).scalar()
        found.append(_Candidate(row.user_id, row.tenant, hashed))
    return found


def _begin(database: Database, found: _Candidate, password: str, address: str, now: datetime) -> NewSession:
    outdated = found.password_hash is not None and people.HASHER.check_needs_rehash(found.password_hash)
    rehashed = people.hash_password(password) if outdated else found.password_hash
    with database.tenant(found.tenant) as scope:
        # Whoever changes the password or makes the user inactive meanwhile comes before this, or ends the session after it.
        still = scope.run(
            """UPDATE users SET password_hash = :rehashed WHERE id = :id AND is_active AND password_hash = :verified
               RETURNING id""",
            id=found.user_id,
            rehashed=rehashed,
            verified=found.password_hash,
        ).scalar()
        if still is None:
            raise NotSignedIn("E-mail address or password is wrong.")
        token = sessions.begin(scope, found.user_id, address, now)
        audit.record(scope, f"users/{found.user_id}", "user.sign_in", f"users/{found.user_id}", {"address": address[:64]})
    return NewSession(token, found.tenant, found.user_id)


def _audit_failure(database: Database, candidates: list[_Candidate], address: str) -> None:
    """In the tenants whose user it would have been. An address that nobody has belongs in no tenant's log."""
    for found in candidates:
        with database.tenant(found.tenant) as scope:
            subject = f"users/{found.user_id}"
            audit.record(scope, "anonymous", "user.sign_in", subject, {"address": address[:64]}, succeeded=False)


def _tenant_name(database: Database, tenant: UUID) -> str:
    with database.tenant(tenant) as scope:
        return str(scope.run("SELECT name FROM tenants WHERE id = :t", t=tenant).scalar_one())


def _email_digest(database: Database, email: str) -> str:
    """Keyed, because people type passwords into the wrong field."""
    key = database.master.current()
    return hmac.digest(key, b"sign-in attempt:" + email.encode("utf-8", "surrogatepass"), "sha256").hex()


def network(address: str) -> str:
    """Whose attempts are counted together: an IPv4 address, or the /64 that one IPv6 customer has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), 64), strict=False))
