"""The database as one tenant sees it.

`Database.tenant(id)` opens a transaction in which row-level security shows that tenant's rows only; nothing else reaches
tenants' tables. What is needed before a tenant is known comes from `Database.directory()`: functions that return ids.

A connection works as the role integration_app, whoever logged in: neither superuser nor owner, so that policies hold.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import sqlalchemy as sa
from psycopg.errors import DiskFull
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from connector_resources.errors import ConfigurationError, NetworkError
from connector_resources.sql import copy_in, read_table
from integration_pipelines.store.master_key import MasterKey, key_id
from integration_pipelines.store.vault import Vault, unwrap_tenant_key, wrap_tenant_key

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

OLDEST = 140000
# A client that was killed must not leave its statement, and the locks of it, behind, nor one whose machine is gone. The styles
# are what frames are read in.
_SESSION = (
    "-c timezone=UTC -c datestyle=ISO -c bytea_output=hex -c client_connection_check_interval=2000 "
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=4"
)


def engine(url: str, *, role: str | None, name: str = "integration", **options: Any) -> sa.Engine:
    """An engine whose connections work as `role`. Nothing is connected yet."""
    made = sa.create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        hide_parameters=True,  # a failing statement's values must not reach a log
        connect_args={
            "application_name": name,
            "connect_timeout": 10,
            "options": _SESSION,
            "prepare_threshold": None,  # a plan that was made for an empty table must not be kept for a first load's batches
        },
        pool_pre_ping=True,
        **options,
    )
    if role:

        @sa.event.listens_for(made, "connect")
        def become(connection: Any, _: Any) -> None:
            try:
                with connection.cursor() as cursor:
                    cursor.execute(f"SET ROLE {role}")
                connection.commit()
            except psycopg.DatabaseError:
                connection.close()
                raise ConfigurationError(
                    f"The account in {shown(url)} cannot work as {role}. Run `integration migrate` with it, "
                    f"or let an administrator GRANT {role} to it."
                ) from None

    return made


def shown(url: str) -> str:
    """An address without its password, for people; of its options only where the server is."""
    found = make_url(url)
    place = found.difference_update_query([name for name in found.query if name not in ("host", "port")])
    return place._replace(password=None).render_as_string().replace("postgresql+psycopg", "postgresql")


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turns a driver's failure into one sentence of ours, without the values that drivers quote."""
    try:
        yield
    except OperationalError as failure:
        if isinstance(failure.orig, DiskFull):
            raise NetworkError(f"The database at {shown(url)} has no room left on its disk; make room there.") from None
        reason = str(failure.orig).strip().splitlines()[0] if failure.orig else "no answer"
        raise NetworkError(f"The database at {shown(url)} cannot be used: {reason}") from None
    except DBAPIError as failure:
        if failure.connection_invalidated:
            raise NetworkError(f"The connection to the database at {shown(url)} broke off.") from None
        raise


def each_wanted(probe: str, kind: str = "text") -> str:
    """A look-up of each value of `:wanted` (in the probe: `wanted.text`, or what `kind` is) by an index, whatever the planner
    knows of the table: without fresh statistics it would read a large tenant's whole table for `= ANY`."""
    return f"SELECT found.* FROM unnest(CAST(:wanted AS {kind}[])) AS wanted ({kind}) CROSS JOIN LATERAL ({probe}) found"


@dataclass
class Scope:
    """One transaction of one tenant. Its key is opened when somebody needs it: one that does not open stops no one else."""

    connection: sa.Connection
    tenant: UUID
    key: Callable[[], bytes]

    @cached_property
    def vault(self) -> Vault:
        """Raises ConfigurationError where the tenant's key does not open."""
        return Vault(self.tenant, self.key())

    def run(self, sql: str, **values: Any) -> sa.CursorResult[Any]:
        return self.connection.execute(sa.text(sql), values)

    def rows(self, sql: str, **values: Any) -> Sequence[sa.RowMapping]:
        return self.run(sql, **values).mappings().all()

    def stage(self, name: str, columns: Mapping[str, str], frame: "pd.DataFrame") -> None:
        copy_in(self.connection, name, columns, frame)

    def table(self, sql: str, kinds: "Mapping[str, pa.DataType]", **values: Any) -> "pa.Table":
        return read_table(self.connection, sql, kinds, values)


class Database:
    """Our store."""

    def __init__(self, url: str, master: MasterKey, *, role: str = "integration_app") -> None:
        self.url = url
        self.master = master
        self.engine = engine(url, role=role)
        self._tenant_keys: dict[UUID, bytes] = {}

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """Outside any tenant; for locks that live as long as a connection."""
        with explained(self.url), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def directory(self) -> Iterator[sa.Connection]:
        """For the listed functions that answer before a tenant is known."""
        with explained(self.url), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def tenant(self, tenant: UUID) -> Iterator[Scope]:
        """One transaction; committed at the end of the block, rolled back by an exception."""
        with explained(self.url), self.engine.begin() as connection:
            yield self.enter(connection, tenant)

    def enter(self, connection: sa.Connection, tenant: UUID) -> Scope:
        connection.execute(sa.text("SELECT set_config('app.tenant_id', :t, true)"), {"t": str(tenant)})
        return Scope(connection, tenant, self._tenant_key(connection, tenant))

    def _tenant_key(self, connection: sa.Connection, tenant: UUID) -> Callable[[], bytes]:
        if tenant in self._tenant_keys:
            return lambda: self._tenant_keys[tenant]
        row = connection.execute(sa.text("SELECT wrapped, master_key_id FROM tenant_keys")).first()
        if row is None:
            raise ConfigurationError(f"There is no tenant {tenant}.")

        def opened() -> bytes:
            self._tenant_keys[tenant] = unwrap_tenant_key(self.master.for_id(row.master_key_id), tenant, row.wrapped)
            return self._tenant_keys[tenant]

        return opened

    def check_master_key(self) -> None:
        """Raises ConfigurationError when the database was encrypted with another key. Sentence names both keys."""
        with self.directory() as connection:
            for used in connection.execute(sa.text("SELECT master_key_ids()")).scalars():
                self.master.for_id(used)

    def rewrap(self, old: bytes, new: bytes) -> int:
        """Wrap every tenant's key with `new`, in one transaction; no record is touched. Returns how many."""
        with self.directory() as connection:
            tenants = list(connection.execute(sa.text("SELECT tenants_of_master_key(:k)"), {"k": key_id(old)}).scalars())
            for tenant in tenants:
                connection.execute(sa.text("SELECT set_config('app.tenant_id', :t, true)"), {"t": str(tenant)})
                wrapped = connection.execute(sa.text("SELECT wrapped FROM tenant_keys FOR UPDATE")).scalar_one()
                again = wrap_tenant_key(new, tenant, unwrap_tenant_key(old, tenant, wrapped))
                connection.execute(
                    sa.text("UPDATE tenant_keys SET wrapped = :w, master_key_id = :k, updated_at = now()"),
                    {"w": again, "k": key_id(new)},
                )
            return len(tenants)
