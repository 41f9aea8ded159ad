"""Writing to the ERP's tables: one statement for each action of a batch, whatever its size.

A batch that the database refuses (a duplicate number, a missing parent, a value out of range) is halved until the refused
records stand alone; all others are written.
"""

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError

from connector_resources.catalogue import CatalogueEntity
from connector_resources.contract import Changes, FieldType, Outcome
from connector_resources.erp_schema import SQL_TYPES, table_name
from connector_resources.errors import ConfigurationError
from connector_resources.sql import copy_in, quoted

if TYPE_CHECKING:
    import pandas as pd

    from connector_resources.erp import Erp


def write(connection: sa.Connection, erp: "Erp", stored: CatalogueEntity, changes: Changes) -> "pd.DataFrame":
    """Outcome of each record (see Connector.write). The whole batch belongs to the connection's transaction."""
    import pandas as pd

    steps = changes.steps
    outcomes = pd.DataFrame(
        {"outcome": Outcome.MOVED.value, "id": steps["id"].astype(object), "version": None, "message": ""},
        index=steps.index,
        dtype=object,
    )
    key_type = erp.key_type(connection, stored)
    writing = _Writing(connection, erp, stored, changes, key_type, outcomes)
    for action in ("delete", "update", "create"):
        rows = steps.index[steps["action"] == action]
        if len(rows):
            writing.apply(action, rows)
    if erp.place.apart:
        _remember(connection, erp, changes, outcomes)
    return outcomes


class _Writing:
    def __init__(
        self,
        connection: sa.Connection,
        erp: "Erp",
        stored: CatalogueEntity,
        changes: Changes,
        key_type: str,
        outcomes: "pd.DataFrame",
    ) -> None:
        self.connection = connection
        self.erp = erp
        self.stored = stored
        self.changes = changes
        self.key_type = key_type
        self.outcomes = outcomes

    def apply(self, action: str, rows: "pd.Index[Any]") -> None:
        """Write these rows; where the database refuses them, halve until the guilty ones stand alone."""
        try:
            with self.connection.begin_nested():
                {"create": self.create, "update": self.update, "delete": self.delete}[action](rows)
        except (IntegrityError, DataError) as refusal:
            if len(rows) == 1:
                self.outcomes.loc[rows, ["outcome", "message"]] = [Outcome.REFUSED.value, self.reason(refusal)]
                return
            middle = len(rows) // 2
            self.apply(action, rows[:middle])
            self.apply(action, rows[middle:])

    def create(self, rows: "pd.Index[Any]") -> None:
        written = self.changes.written.loc[rows]
        for pattern, group in written.groupby([written[name] for name in written.columns], sort=False):
            fields = [str(n) for n, kept in zip(written.columns, _tuple(pattern), strict=True) if kept]
            self.stage(group.index, fields)
            names = [self.column(name) for name in (self.key, *fields)]
            values = [quoted(name) for name in (self.key, *fields)]
            if self.erp.place.tenant is not None and self.stored.tenant_column:
                names.append(quoted(self.stored.tenant_column))
                values.append(":tenant")
            self.done(
                f"INSERT INTO {self.table} AS t ({', '.join(names)}) SELECT {', '.join(values)} FROM pg_temp.erp_write "
                f"RETURNING t.{self.column(self.key)}::text, t.xmin::text"
            )

    def update(self, rows: "pd.Index[Any]") -> None:
        written = self.changes.written.loc[rows]
        fields = [str(name) for name in written.columns if written[name].any()]
        if not fields:
            return
        self.stage(rows, fields, masks=True)
        sets = ", ".join(
            f"{self.column(f)} = CASE WHEN s.{quoted('write ' + f)} THEN s.{quoted(f)} ELSE t.{self.column(f)} END"
            for f in fields
        )
        self.done(
            f"UPDATE {self.table} t SET {sets} FROM pg_temp.erp_write s WHERE {self.expected} "
            f"RETURNING t.{self.column(self.key)}::text, t.xmin::text"
        )

    def delete(self, rows: "pd.Index[Any]") -> None:
        self.stage(rows, [])
        self.done(
            f"DELETE FROM {self.table} t USING pg_temp.erp_write s WHERE {self.expected} "
            f"RETURNING t.{self.column(self.key)}::text, NULL::text"
        )

    @property
    def key(self) -> str:
        return self.stored.entity.key

    @property
    def table(self) -> str:
        return table_name(self.stored)

    @property
    def expected(self) -> str:
        """The record is there, is our tenant's, and nobody has touched it since it was read."""
        same = f"t.{self.column(self.key)} = s.{quoted(self.key)} AND (s.version IS NULL OR t.xmin::text = s.version)"
        if self.erp.place.tenant is not None and self.stored.tenant_column:
            same += f" AND t.{quoted(self.stored.tenant_column)} = :tenant"
        return same

    def column(self, field: str) -> str:
        return quoted(self.stored.columns[field])

    def stage(self, rows: "pd.Index[Any]", fields: "list[str]", *, masks: bool = False) -> None:
        frame = self.changes.records.loc[rows, fields].copy()
        columns = {name: self.sql_type(name) for name in fields}
        if masks:
            for name in fields:
                frame["write " + name] = self.changes.written.loc[rows, name]
                columns["write " + name] = "boolean"
        frame[self.key] = self.outcomes.loc[rows, "id"].astype("string[pyarrow]")
        frame["version"] = self.changes.steps.loc[rows, "version"]
        copy_in(self.connection, "erp_write", {**columns, self.key: self.key_type, "version": "text"}, frame)

    def sql_type(self, name: str) -> str:
        field = self.stored.entity.field(name)
        if field is None:
            raise ConfigurationError(f"The ERP's {self.stored.entity.name} has no field '{name}'.")
        if self.stored.schema == "erp" and field.references:
            return "uuid"
        return "numeric" if field.type is FieldType.DECIMAL else SQL_TYPES[field.type]

    def done(self, statement: str) -> None:
        values = {} if self.erp.place.tenant is None else {"tenant": self.erp.place.tenant}
        found = self.connection.execute(sa.text(statement), values if ":tenant" in statement else {}).all()
        versions = {row[0]: row[1] for row in found}
        ids = self.outcomes["id"]
        arrived = ids.isin(list(versions))
        self.outcomes.loc[arrived, "outcome"] = Outcome.DONE.value
        self.outcomes.loc[arrived, "version"] = ids[arrived].map(versions)

    def reason(self, refusal: IntegrityError | DataError) -> str:
        """The database's reason by the names it concerns; its DETAIL would quote values."""
        told = getattr(refusal.orig, "diag", None)
        named = [word for word in (getattr(told, "constraint_name", None), getattr(told, "column_name", None)) if word]
        state = getattr(refusal.orig, "sqlstate", "") or ""
        kind = {
            "23505": "another record of the ERP has the same value",
            "23503": "another record of the ERP still refers to it, or the one it refers to is gone",
            "23502": "a value is missing",
            "23514": "a check failed",
            "22003": "a number is out of range",
            "22001": "a text is too long",
        }.get(state, f"it breaks a rule (SQLSTATE {state})")
        return f"The ERP refuses this {self.stored.entity.name}: {kind}{' (' + ', '.join(named) + ')' if named else ''}."


def _tuple(pattern: Any) -> tuple[Any, ...]:
    return pattern if isinstance(pattern, tuple) else (pattern,)


def _remember(connection: sa.Connection, erp: "Erp", changes: Changes, outcomes: "pd.DataFrame") -> None:
    arrived = outcomes[outcomes["outcome"] == Outcome.DONE.value]
    frame = arrived[["id", "version"]].assign(intent=changes.steps.loc[arrived.index, "intent"])
    copy_in(connection, "erp_applied", {"intent": "uuid", "id": "text", "version": "text"}, frame)
    connection.exec_driver_sql(
        f"INSERT INTO {erp.place.schema}.applied_intents (id, record_id, version) "
        "SELECT intent, id, version FROM pg_temp.erp_applied"
    )
