"""The ERP side, through the same contract: tables of PostgreSQL, described by the entity catalogue.

Two places for the ERP's tables:

    our own database      schema `erp`; reads and writes go through the connection that is handed in, so that a record, its
                          link and its journal row are committed together
    the user's database   the catalogue points at its tables; each write commits there with a row in applied_intents, which is
                          probed after a crash
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from connector_resources.catalogue import CatalogueEntity
from connector_resources.contract import (
    Capabilities,
    Changes,
    Connector,
    Entity,
    Given,
    Health,
    Page,
    Window,
)
from connector_resources.erp_schema import table_name
from connector_resources.errors import ConfigurationError
from connector_resources.frames import uuids
from connector_resources.lined_yaml import suggestion
from connector_resources.sql import quoted, read_frame, read_table

if TYPE_CHECKING:
    import pandas as pd

PAGE = 5_000


class Connect(Protocol):
    """A transaction in the ERP's database, committed at the end of the block."""

    def __call__(self) -> AbstractContextManager[sa.Connection]: ...


@dataclass(frozen=True)
class ErpPlace:
    """Where the ERP's tables are.

    schema   the one with change_log (and applied_intents, where there is one)
    close    gives back what `connect` holds
    tenant   value of the tables' tenant column, where the catalogue names one
    apart    True: a database of its own, not in one transaction with ours
    """

    connect: Connect
    schema: str = "erp"
    tenant: str | None = None
    apart: bool = False
    close: Callable[[], None] = lambda: None


class Erp(Connector):
    type = "erp"
    capabilities = Capabilities(
        delta_read=True,
        deletes=True,
        bulk_read=True,
        write=True,
        conditional_write=True,
        idempotency="transaction",
        batch_size=PAGE,
    )

    def __init__(self, given: Given, catalogue: Mapping[str, CatalogueEntity], place: ErpPlace) -> None:
        super().__init__(given)
        self.catalogue = catalogue
        self.place = place

    def close(self) -> None:
        self.place.close()

    def within(self, connection: sa.Connection) -> "Erp":
        """The same ERP inside a transaction that is open already; one apart from ours stays as it is."""
        if self.place.apart:
            return self
        return Erp(self.given, self.catalogue, replace(self.place, connect=lambda: nullcontext(connection)))

    def test(self) -> Health:
        with self.place.connect() as connection:
            account, version = connection.exec_driver_sql("SELECT current_user::text, current_setting('server_version')").one()
        return Health(account, {"PostgreSQL": version})

    def entities(self) -> Sequence[str]:
        return sorted(self.catalogue)

    def stored(self, entity: str) -> CatalogueEntity:
        found = self.catalogue.get(entity)
        if found is None:
            raise ConfigurationError(f"The ERP has no entity '{entity}'{suggestion(entity, self.catalogue)}")
        return found

    def describe(self, entity: str) -> Entity:
        return self.stored(entity).entity

    def read(self, entity: Entity, fields: Sequence[str], window: Window) -> Iterator[Page]:
        import pyarrow as pa

        stored = self.stored(entity.name)
        conditions, values = [self.ours(stored, by_key=False)], self.values()
        key = order = f"t.{quoted(stored.columns[entity.key])}"
        if entity.modified:
            order = f"t.{quoted(stored.columns[entity.modified])}, {key}"
            if window.since is not None:
                conditions.append(f"t.{quoted(stored.columns[entity.modified])} >= :since")
                values["since"] = window.since
        statement = f"SELECT {key}::text FROM {table_name(stored)} t{_where(conditions)} ORDER BY {order}"
        with self.place.connect() as connection:
            ids = read_table(connection, statement, {"id": pa.string()}, values).column("id")
        for start in range(0, len(ids) or 1, PAGE):
            yield from self.read_ids(entity, fields, ids[start : start + PAGE].to_pylist())

    def read_ids(self, entity: Entity, fields: Sequence[str], ids: Sequence[str]) -> Iterator[Page]:
        from connector_resources.erp_read import ErpPages

        stored = self.stored(entity.name)
        with self.place.connect() as connection:
            pages = ErpPages(self, connection, stored, fields)
            possible = list(dict.fromkeys(_possible(pages.kind, ids)))
            for start in range(0, len(possible), PAGE):
                yield from pages.of(possible[start : start + PAGE])

    def changed_at(self, entity: Entity, ids: Sequence[str]) -> "pd.DataFrame":
        """When each field of these records was last written and by whom, as far as the change log tells.

        Columns record_id, field (null for a deletion; the name of child lines for any of them), changed_at (aware), actor."""
        with self.place.connect() as connection:
            return read_frame(
                connection,
                f"""SELECT DISTINCT ON (record_id, field) record_id, field, changed_at, actor
                    FROM {self.place.schema}.change_log LEFT JOIN LATERAL unnest(fields) AS field ON true
                    WHERE entity = :entity AND record_id = ANY(:ids) AND (action = 'delete') = (field IS NULL)
                    ORDER BY record_id, field, id DESC""",
                {"entity": entity.name, "ids": list(ids)},
            )

    def write(self, entity: Entity, changes: Changes) -> "pd.DataFrame":
        from connector_resources.erp_write import write

        with self.place.connect() as connection:
            return write(connection, self, self.stored(entity.name), changes)

    def new_ids(self, entity: Entity, count: int) -> list[str]:
        """Ids for records yet to be made, so that no link is in doubt: UUIDs, or numbers drawn from the key's sequence."""
        stored = self.stored(entity.name)
        with self.place.connect() as connection:
            kind = self.key_type(connection, stored)
            if kind in ("uuid", "text") or kind.startswith("character varying"):
                return uuids(count, self.given.now()).to_pylist()  # type: ignore[no-any-return] # Arrow has no types
            table, column = table_name(stored), stored.columns[entity.key]
            sequence = connection.execute(sa.text("SELECT pg_get_serial_sequence(:t, :c)"), {"t": table, "c": column}).scalar()
            if sequence is None:
                raise ConfigurationError(
                    f"The key of {table} is of type {kind} and has no sequence, so no new record can be numbered. "
                    "Give the column an identity or a sequence of its own, or make it uuid or text."
                )
            drawn = sa.text("SELECT nextval(CAST(:s AS regclass))::text FROM generate_series(1, :n)")
            return list(connection.execute(drawn, {"s": sequence, "n": count}).scalars())

    def applied(self, intents: Sequence[str]) -> Mapping[str, str | None]:
        """Which of these intents arrived in a database of its own: intent → version token that the record then had."""
        with self.place.connect() as connection:
            statement = (
                f"SELECT id::text, version FROM {self.place.schema}.applied_intents WHERE id = ANY(CAST(:ids AS uuid[]))"
            )
            return {row.id: row.version for row in connection.execute(sa.text(statement), {"ids": list(intents)})}

    def key_type(self, connection: sa.Connection, stored: CatalogueEntity) -> str:
        """The SQL type of the key's column. Raises ConfigurationError when table or column is not there."""
        return self.column_types(connection, stored, [stored.entity.key])[stored.entity.key]

    def column_types(self, connection: sa.Connection, stored: CatalogueEntity, fields: Sequence[str]) -> Mapping[str, str]:
        """Field → SQL type of its column, without a length. Raises ConfigurationError when table or column is not there."""
        statement = """SELECT attname, format_type(atttypid, -1) FROM pg_attribute
                       WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped"""
        types = {name: str(kind) for name, kind in connection.execute(sa.text(statement), {"table": table_name(stored)})}
        for name in fields:
            if name not in stored.columns:
                raise ConfigurationError(f"The ERP's {stored.entity.name} has no field '{name}'.")
            if stored.columns[name] not in types:
                raise ConfigurationError(
                    f"The ERP has no column {stored.columns[name]} in {table_name(stored)}, where the catalogue (module "
                    f"{stored.module}) puts {stored.entity.name}.{name}. Correct the catalogue, or run `integration migrate` "
                    "for the reference ERP."
                )
        return {name: types[stored.columns[name]] for name in fields}

    def ours(self, stored: CatalogueEntity, *, alias: str = "t", by_key: bool = True) -> str:
        """The condition that a row is our tenant's, with the parameter :tenant; empty where the tables have no tenants.

        Where rows are looked up by their key in our own database, it is put so that no index serves it: a planner without
        fresh statistics would read all rows of the tenant for each of them."""
        if self.place.tenant is None or not stored.tenant_column:
            return ""
        column = f"{alias}.{quoted(stored.tenant_column)}"
        return f"{column}::text = :tenant" if by_key and not self.place.apart else f"{column} = :tenant"

    def run(self, connection: sa.Connection, statement: str) -> sa.CursorResult[*tuple[Any, ...]]:
        return connection.execute(sa.text(statement), self.values() if ":tenant" in statement else {})

    def values(self, **more: object) -> dict[str, object]:
        """Values for a statement's parameters, with that of :tenant where the tables have tenants."""
        return more if self.place.tenant is None else {**more, "tenant": self.place.tenant}


_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_INTEGERS = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}


def _possible(kind: str, ids: Sequence[str]) -> list[str]:
    """Those that a key of this type can hold; nobody knows the others."""
    if kind == "uuid":
        return list(filter(_UUID.fullmatch, ids))
    if limit := _INTEGERS.get(kind):
        return [i for i in ids if re.fullmatch(r"-?[0-9]{1,19}", i) and -limit <= int(i) < limit]
    return list(ids)


def _where(conditions: Sequence[str]) -> str:
    told = " AND ".join(filter(None, conditions))
    return f" WHERE {told}" if told else ""
