"""Writing to the ERP's tables: one statement for each action of a batch, whatever its size.

A batch that the database refuses (a duplicate number, a missing parent, a value out of range) is halved until the refused
records stand alone; all others are written. Those that were refused for a unique value are tried once more together, less the
ones whose value is held by a record that keeps it: they may swap values where the ERP's constraint is deferrable.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from psycopg.errors import UniqueViolation
from sqlalchemy.exc import DBAPIError

from connector_resources.catalogue import CatalogueEntity
from connector_resources.contract import Changes, FieldType, Outcome
from connector_resources.erp_lines import lines_named, version, write_lines
from connector_resources.erp_schema import SQL_TYPES, is_partitioned, table_name
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
    lines = {name for name in map(str, changes.written.columns) if lines_named(stored, name)}
    plain = [name for name in map(str, changes.written.columns) if name not in lines]
    types = erp.column_types(connection, stored, [stored.entity.key, *plain])
    writing = _Writing(connection, erp, stored, changes, types, outcomes)
    for action in ("delete", "update", "create"):
        rows = steps.index[steps["action"] == action]
        if len(rows):
            writing.apply(action, rows)
            if action == "update" and writing.collided and len(free := writing.free_to_swap()):
                writing.apply(action, free)
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
        types: Mapping[str, str],
        outcomes: "pd.DataFrame",
    ) -> None:
        self.connection = connection
        self.erp = erp
        self.stored = stored
        self.changes = changes
        self.types = types
        self.outcomes = outcomes
        self.written = changes.written[[name for name in changes.written.columns if not lines_named(stored, str(name))]]
        self.version = version(stored, erp.catalogue)
        self.partitioned = erp.place.apart and is_partitioned(connection, stored)  # an INSERT there tells no xmin
        self.collided: dict[Any, str] = {}  # record → the unique constraint that refused it

    def apply(self, action: str, rows: "pd.Index[Any]") -> None:
        """Write these rows; where the database refuses them, halve until the guilty ones stand alone."""
        try:
            with self.connection.begin_nested():
                {"create": self.create, "update": self.update, "delete": self.delete}[action](rows)
                if (self.stored.entity.lines or self.partitioned) and action != "delete":
                    self.lines(rows)
        except DBAPIError as refusal:
            if not _blames_a_record(refusal):
                raise
            self.outcomes.loc[rows, ["outcome", "version"]] = [Outcome.MOVED.value, None]  # what was done is undone
            if len(rows) == 1:
                self.outcomes.loc[rows, ["outcome", "message"]] = [Outcome.REFUSED.value, self.reason(refusal)]
                if isinstance(refusal.orig, UniqueViolation) and action == "update":
                    self.collided[rows[0]] = str(refusal.orig.diag.constraint_name)
                return
            middle = len(rows) // 2
            self.apply(action, rows[:middle])
            self.apply(action, rows[middle:])

    def free_to_swap(self) -> "pd.Index[Any]":
        """Of the collided records those whose new value nobody holds but others of them that are free to give it up."""
        ids = self.outcomes["id"].astype(str)
        free = {ids[row] for row in self.collided}
        holders = [pair for name in set(self.collided.values()) for pair in self.holders(name)]
        while blocked := {row for row, holder in holders if row in free and holder not in free}:
            free -= blocked
        rows = self.changes.steps.index
        return rows[[row in self.collided and ids[row] in free for row in rows]]

    def holders(self, constraint: str) -> list[tuple[str, str]]:
        """Collided record and the record that holds what it wants, by their ids."""
        rows = self.changes.steps.index[[self.collided.get(row) == constraint for row in self.changes.steps.index]]
        statement = """SELECT a.attname FROM pg_constraint c CROSS JOIN unnest(c.conkey) AS k (n)
                       JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n
                       WHERE c.conrelid = to_regclass(:table) AND c.conname = :name"""
        values = {"table": self.table, "name": constraint}
        columns = list(self.connection.execute(sa.text(statement), values).scalars())
        field_of = {column: field for field, column in self.stored.columns.items()}
        fields = [field_of[column] for column in columns if field_of.get(column) in self.written.columns]
        self.stage(rows, fields, masks=True)
        wanted = [
            f"CASE WHEN s.{quoted('write ' + field_of[c])} THEN {self.value(field_of[c])} ELSE r.{quoted(c)} END"
            if field_of.get(c) in fields else f"r.{quoted(c)}"
            for c in columns
        ]  # fmt: skip
        same = " AND ".join(f"t.{quoted(c)} = {value}" for c, value in zip(columns, wanted, strict=True)) or "false"
        key = self.column(self.key)
        pairs = f"""SELECT r.{key}::text, t.{key}::text FROM pg_temp.erp_write s
                    JOIN {self.table} r ON r.{key} = s.{quoted(self.key)}
                    JOIN {self.table} t ON {same} AND t.{key} <> r.{key}"""
        return [(row[0], row[1]) for row in self.connection.execute(sa.text(pairs))]

    def create(self, rows: "pd.Index[Any]") -> None:
        written = self.written.loc[rows]
        for pattern, group in written.groupby([written[name] for name in written.columns], sort=False):
            fields = [str(n) for n, kept in zip(written.columns, _tuple(pattern), strict=True) if kept]
            self.stage(group.index, fields)
            names = [self.column(name) for name in (self.key, *fields)]
            values = [self.value(name) for name in (self.key, *fields)]
            if self.erp.place.tenant is not None and self.stored.tenant_column:
                names.append(quoted(self.stored.tenant_column))
                values.append(":tenant")
            self.done(
                f"INSERT INTO {self.table} AS t ({', '.join(names)}) OVERRIDING SYSTEM VALUE "
                f"SELECT {', '.join(values)} FROM pg_temp.erp_write s "
                f"RETURNING t.{self.column(self.key)}::text, {'NULL::text' if self.partitioned else 't.xmin::text'}",
                group.index,
            )

    def update(self, rows: "pd.Index[Any]") -> None:
        written = self.written.loc[rows]
        fields = [str(name) for name in written.columns if written[name].any()]
        self.stage(rows, fields, masks=True)
        answer = f"t.{self.column(self.key)}::text, t.xmin::text"
        if not fields:  # nothing to write, yet the version is to be compared
            self.done(f"SELECT {answer} FROM {self.table} t, pg_temp.erp_write s WHERE {self.expected}", rows)
            return
        sets = ", ".join(
            f"{self.column(f)} = CASE WHEN s.{quoted('write ' + f)} THEN {self.value(f)} ELSE t.{self.column(f)} END"
            for f in fields
        )
        self.done(f"UPDATE {self.table} t SET {sets} FROM pg_temp.erp_write s WHERE {self.expected} RETURNING {answer}", rows)

    def delete(self, rows: "pd.Index[Any]") -> None:
        self.stage(rows, [])
        gone = ""
        for lines in self.stored.entity.lines:  # one statement, so that all of it sees the version that was expected
            child = self.erp.catalogue[lines.entity]
            gone += f", {quoted(lines.name)} AS (DELETE FROM {table_name(child)} c USING expected e "
            ours = self.erp.ours(child, alias="c")
            gone += f"WHERE c.{quoted(child.columns[lines.parent])} = e.id{f' AND {ours}' if ours else ''})"
        key = f"t.{self.column(self.key)}"
        expected = f"SELECT {key} AS id FROM {self.table} t, pg_temp.erp_write s WHERE {self.expected}"
        self.done(
            f"WITH expected AS ({expected}){gone} "
            f"DELETE FROM {self.table} t USING expected e WHERE {key} = e.id{self.ours} RETURNING {key}::text, NULL::text",
            rows,
        )

    def lines(self, rows: "pd.Index[Any]") -> None:
        """Child lines of the records that were just written, and the version that the records have with them."""
        arrived = rows[(self.outcomes.loc[rows, "outcome"] == Outcome.DONE.value).to_numpy(dtype=bool)]
        for lines in self.stored.entity.lines:
            if lines.name not in self.changes.written.columns:
                continue
            written = arrived[self.changes.written.loc[arrived, lines.name].to_numpy(dtype=bool)]
            texts = self.changes.records.loc[written, lines.name].astype(object)
            told = texts[texts.notna()]
            if told.empty:
                continue
            child = self.erp.stored(lines.entity)
            types = self.erp.column_types(self.connection, child, list(child.columns))
            parents = self.outcomes.loc[told.index, "id"]
            frame = told.to_frame("lines").assign(parent=parents).astype("string[pyarrow]")
            write_lines(self.connection, self.erp, lines, child, types, frame)
        if len(arrived):
            self.stage(arrived, [])
            told = f"t.{self.column(self.key)}::text, {self.version}"
            same = f"t.{self.column(self.key)} = s.{quoted(self.key)}{self.ours}"
            answer = f"SELECT {told} FROM {self.table} t, pg_temp.erp_write s WHERE {same}"
            self.done(answer, arrived)

    @property
    def key(self) -> str:
        return self.stored.entity.key

    @property
    def table(self) -> str:
        return table_name(self.stored)

    @property
    def ours(self) -> str:
        condition = self.erp.ours(self.stored)
        return f" AND {condition}" if condition else ""

    @property
    def expected(self) -> str:
        """The record is there, is our tenant's, and nobody has touched it since it was read."""
        same = f"t.{self.column(self.key)} = s.{quoted(self.key)} AND (s.version IS NULL OR {self.version} = s.version)"
        same += self.ours
        if not self.erp.place.apart:  # by the key's index: a planner without statistics would read all of a tenant
            same += f" AND t.{self.column(self.key)} = ANY(ARRAY(SELECT {quoted(self.key)} FROM pg_temp.erp_write))"
        return same

    def column(self, field: str) -> str:
        return quoted(self.stored.columns[field])

    def value(self, field: str) -> str:
        """The staged value as the column's own type (a user's reference may be a number, a choice an enum)."""
        staged = f"s.{quoted(field)}"
        return staged if self.types[field] == self.staged_type(field) else f"CAST({staged} AS {self.types[field]})"

    def staged_type(self, name: str) -> str:
        field = self.stored.entity.field(name)
        if name == self.key or field is None:
            return self.types[name]
        return "numeric" if field.type is FieldType.DECIMAL else SQL_TYPES[field.type]

    def stage(self, rows: "pd.Index[Any]", fields: "list[str]", *, masks: bool = False) -> None:
        frame = self.changes.records.loc[rows, fields].copy()
        columns = {name: self.staged_type(name) for name in fields}
        if masks:
            for name in fields:
                frame["write " + name] = self.changes.written.loc[rows, name]
                columns["write " + name] = "boolean"
        frame[self.key] = self.outcomes.loc[rows, "id"].astype("string[pyarrow]")
        frame["version"] = self.changes.steps.loc[rows, "version"]
        copy_in(self.connection, "erp_write", {**columns, self.key: self.types[self.key], "version": "text"}, frame)

    def done(self, statement: str, rows: "pd.Index[Any]") -> None:
        found = self.erp.run(self.connection, statement).all()
        versions = {row[0]: row[1] for row in found}
        ids = self.outcomes.loc[rows, "id"]
        arrived = ids[ids.isin(list(versions))]
        self.outcomes.loc[arrived.index, "outcome"] = Outcome.DONE.value
        self.outcomes.loc[arrived.index, "version"] = arrived.map(versions)

    def reason(self, refusal: DBAPIError) -> str:
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
            "22P02": "a value is not of the column's type",
            "P0001": "a trigger of the ERP says no",
        }.get(state, f"it breaks a rule (SQLSTATE {state})")
        return f"The ERP refuses this {self.stored.entity.name}: {kind}{' (' + ', '.join(named) + ')' if named else ''}."


def _blames_a_record(failure: DBAPIError) -> bool:
    """Whether another record in its place could have been written: bad values, broken constraints, a trigger's refusal."""
    state = getattr(failure.orig, "sqlstate", None) or ""
    return state[:2] in ("22", "23", "44") or state == "P0001"


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
