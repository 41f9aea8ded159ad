"""Tenants, and the roles and first user that each one has."""

import os
from uuid import UUID, uuid4

import sqlalchemy as sa

from connector_resources.errors import ConfigurationError
from integration_pipelines.store import audit
from integration_pipelines.store.database import Database, Scope
from integration_pipelines.store.master_key import key_id
from integration_pipelines.store.vault import wrap_tenant_key

ROLES = ("administrator", "engineer", "auditor")


def create(database: Database, name: str, email: str = "admin@localhost") -> UUID:
    """A tenant with its key, its roles and one administrator. Raises ConfigurationError when the name is taken."""
    name = name.strip()
    if not name or len(name) > 255:
        raise ConfigurationError("A tenant's name has 1 to 255 characters; give one with `integration tenant create NAME`.")
    if find(database, name, required=False):
        raise ConfigurationError(f"There is a tenant '{name}' already; choose another name.")
    tenant = uuid4()
    master = database.master.current()
    with database.directory() as connection:
        connection.execute(sa.text("SELECT set_config('app.tenant_id', :t, true)"), {"t": str(tenant)})
        connection.execute(sa.text("INSERT INTO tenants (id, name) VALUES (:id, :name)"), {"id": tenant, "name": name})
        connection.execute(
            sa.text("INSERT INTO tenant_keys (tenant_id, wrapped, master_key_id) VALUES (:t, :w, :k)"),
            {"t": tenant, "w": wrap_tenant_key(master, tenant, os.urandom(32)), "k": key_id(master)},
        )
        scope = database.enter(connection, tenant)
        scope.run("INSERT INTO roles (tenant_id, name) SELECT :t, unnest(CAST(:names AS text[]))", t=tenant, names=list(ROLES))
        scope.run(
            """INSERT INTO users (tenant_id, email, role_id) SELECT :t, :email, id FROM roles WHERE name = 'administrator'""",
            t=tenant,
            email=email.strip().lower(),
        )
        audit.record(scope, "system", "tenant.create", f"tenants/{tenant}")
    return tenant


def find(database: Database, name: str | None = None, *, required: bool = True) -> UUID | None:
    """By name or id; without a name the only one there is. Raises ConfigurationError when that is none or several."""
    with database.directory() as connection:
        if name is not None:
            found = connection.execute(sa.text("SELECT find_tenant(:n)"), {"n": name}).scalar()
            if found is None and required:
                raise ConfigurationError(f"There is no tenant '{name}'; make it with `integration tenant create {name}`.")
            return found
        every = list(connection.execute(sa.text("SELECT tenant_ids()")).scalars())
    if len(every) != 1:
        what = "There is no tenant yet; make one with `integration tenant create NAME`."
        raise ConfigurationError(what if not every else f"There are {len(every)} tenants; say which one with --tenant NAME.")
    only: UUID = every[0]
    return only


def first_user(scope: Scope) -> int:
    """Id of the user that the command line acts as: the tenant's first administrator."""
    found = scope.run(
        """SELECT min(u.id) FROM users u JOIN roles r ON (r.tenant_id, r.id) = (u.tenant_id, u.role_id)
           WHERE u.is_active AND r.name = 'administrator'"""
    ).scalar()
    if found is None:
        raise ConfigurationError("This tenant has no active administrator; make a user active again.")
    return int(found)
