"""The few kinds of columns and keys that every table of ours is made of."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

metadata = sa.MetaData(
    naming_convention={
        "ix": "idx_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Column = sa.Column
Text, Integer, BigInteger, Boolean = sa.Text, sa.Integer, sa.BigInteger, sa.Boolean
Sealed = sa.LargeBinary
SEALED_JSON = JSONB


def identity() -> "Column[int]":
    return Column("id", BigInteger, sa.Identity(), primary_key=True)


def tenant() -> "Column[Any]":
    return Column("tenant_id", UUID(as_uuid=True), sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False)


def tenant_of_parent() -> "Column[Any]":
    """Where a composite key says already whose row it is; a check of its own would cost a look-up a row."""
    return Column("tenant_id", UUID(as_uuid=True), nullable=False)


def at(name: str, nullable: bool = True) -> "Column[Any]":
    return Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=None if nullable else sa.func.now())


def created() -> "Column[Any]":
    return at("created_at", nullable=False)


def updated() -> "Column[Any]":
    return at("updated_at", nullable=False)


def text(name: str, length: int | None = None, *, default: str | None = None, null: bool = False) -> "Column[str]":
    return Column(name, sa.String(length) if length else Text, nullable=null, server_default=default)


def within(column: str, parent: str, ondelete: str | None = None) -> sa.ForeignKeyConstraint:
    """A reference that cannot leave the tenant."""
    return sa.ForeignKeyConstraint(["tenant_id", column], [f"{parent}.tenant_id", f"{parent}.id"], ondelete=ondelete)


def own() -> sa.UniqueConstraint:
    """What composite foreign keys point at."""
    return sa.UniqueConstraint("tenant_id", "id")
