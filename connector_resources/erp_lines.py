"""Child lines of the ERP's documents: read as one JSON field of the parent, written by their key in sets.

A line travels as an object of canonical texts (contract.py's types as the canonical text of a value), so that both sides'
lists can be compared as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa

from connector_resources.catalogue import CatalogueEntity
from connector_resources.contract import Field, FieldType, Lines
from connector_resources.erp_schema import table_name
from connector_resources.errors import ConfigurationError
from connector_resources.sql import copy_in, quoted

if TYPE_CHECKING:
    import pandas as pd

    from connector_resources.erp import Erp


def lines_named(stored: CatalogueEntity, name: str) -> Lines | None:
    return next((lines for lines in stored.entity.lines if lines.name == name), None)


def version(stored: CatalogueEntity, catalogue: Mapping[str, CatalogueEntity]) -> str:
    """SQL for the version token of a record `t`: it changes with the record and with each of its lines, however many."""
    parts = ["t.xmin::text"]
    for lines in stored.entity.lines:
        child = catalogue[lines.entity]
        every = "md5(string_agg(c.xmin::text, ',' ORDER BY c.xmin::text::bigint))"
        found = f"SELECT '/' || {every} FROM {table_name(child)} c WHERE {_of_parent(stored, child, lines)}"
        parts.append(f"coalesce(({found}), '')")
    return " || ".join(parts)


def selection(stored: CatalogueEntity, lines: Lines, child: CatalogueEntity, fields: Sequence[str]) -> str:
    """SQL for the lines of a record `t` with these fields, as a JSON text."""
    named = [(name, child.entity.field(name)) for name in fields]
    if unknown := [name for name, field in named if field is None]:
        raise ConfigurationError(f"The ERP's {child.entity.name} has no field '{unknown[0]}'.")
    pairs = ", ".join(f"'{name}', {_text(child, field)}" for name, field in named if field)
    return (
        f"(SELECT coalesce(jsonb_agg(jsonb_build_object({pairs})), '[]'::jsonb)::text FROM {table_name(child)} c "
        f"WHERE {_of_parent(stored, child, lines)})"
    )


def _of_parent(stored: CatalogueEntity, child: CatalogueEntity, lines: Lines) -> str:
    same = f"c.{quoted(child.columns[lines.parent])} = t.{quoted(stored.columns[stored.entity.key])}"
    if stored.tenant_column and child.tenant_column:
        same += f" AND c.{quoted(child.tenant_column)} = t.{quoted(stored.tenant_column)}"
    return same


def _text(child: CatalogueEntity, field: Field) -> str:
    column = f"c.{quoted(child.columns[field.name])}"
    if field.type is FieldType.DECIMAL:
        return f"round({column}::numeric, {field.scale})::text"
    if field.type is FieldType.INSTANT:
        return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
    return f"{column}::text"


def write_lines(
    connection: sa.Connection, erp: "Erp", lines: Lines, child: CatalogueEntity, types: Mapping[str, str], rows: "pd.DataFrame"
) -> None:
    """Make these parents' lines what `rows` says: columns parent (id) and lines (JSON text). Lines are told apart by their
    key; without a key all of a parent's lines are replaced. `types`: the child's columns, by field."""
    fields = _fields_in(rows["lines"])
    copy_in(connection, "erp_lines", {"parent": types[lines.parent], "lines": "jsonb"}, rows[["parent", "lines"]])
    record = ", ".join(f"{quoted(name)} text" for name in fields) or '"-" text'
    source = f"pg_temp.erp_lines s CROSS JOIN LATERAL jsonb_to_recordset(s.lines) AS l ({record})"
    table, parent = table_name(child), f"c.{quoted(child.columns[lines.parent])} = s.parent"
    if ours := erp.ours(child, alias="c"):
        parent += f" AND {ours}"
    values = {name: f"CAST(l.{quoted(name)} AS {types[name]})" for name in fields}
    key = lines.key if lines.key in fields else None
    same = f"c.{quoted(child.columns[key])} = {values[key]}" if key else "false"
    kept = f"AND NOT EXISTS (SELECT FROM jsonb_to_recordset(s.lines) AS l ({record}) WHERE {same})"
    erp.run(connection, f"DELETE FROM {table} c USING pg_temp.erp_lines s WHERE {parent} {kept}")
    changing = [name for name in fields if name != key]
    if key and changing:
        sets = ", ".join(f"{quoted(child.columns[name])} = {values[name]}" for name in changing)
        differ = " OR ".join(f"c.{quoted(child.columns[name])} IS DISTINCT FROM {values[name]}" for name in changing)
        erp.run(connection, f"UPDATE {table} c SET {sets} FROM {source} WHERE {parent} AND {same} AND ({differ})")
    owned = [child.tenant_column] if erp.place.tenant is not None and child.tenant_column else []
    names = [child.columns[name] for name in (lines.parent, *fields)] + owned
    wanted = ["s.parent", *values.values(), *([":tenant"] if owned else [])]
    erp.run(
        connection,
        f"INSERT INTO {table} ({', '.join(map(quoted, names))}) SELECT {', '.join(wanted)} FROM {source} "
        f"WHERE NOT EXISTS (SELECT FROM {table} c WHERE {parent} AND {same})",
    )


def _fields_in(texts: Iterable[str]) -> list[str]:
    import json

    return sorted({name for text in texts for line in json.loads(text) for name in line})
