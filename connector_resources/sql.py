"""Frames into PostgreSQL, and out of it, without a loop per row."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import psycopg
import sqlalchemy as sa

if TYPE_CHECKING:
    import pandas as pd


def quoted(name: str) -> str:
    """An identifier, whatever it contains."""
    return '"' + name.replace('"', '""') + '"'


def copy_in(connection: sa.Connection, name: str, columns: Mapping[str, str], frame: "pd.DataFrame") -> None:
    """Load `frame` into a temporary table `name` (column → SQL type) that lives as long as the transaction.

    COPY cannot fill a table under row-level security, hence the detour. Null and the empty string stay apart: Arrow's CSV
    writes the one bare and the other quoted, as PostgreSQL reads them. Bytes come as text, `\\x` and hexadecimal.

    Raises what SQLAlchemy raises for a statement (DataError for a value that is not of the column's type)."""
    import pyarrow as pa
    from pyarrow import csv

    spec = ", ".join(f"{quoted(column)} {kind}" for column, kind in columns.items())
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS pg_temp.{quoted(name)}")
    connection.exec_driver_sql(f"CREATE TEMP TABLE {quoted(name)} ({spec}) ON COMMIT DROP")
    if frame.empty:
        return
    # In one piece: Arrow 26 writes garbage for a column that has empty chunks.
    table = pa.Table.from_pandas(frame[list(columns)], preserve_index=False).combine_chunks()
    buffer = io.BytesIO()
    csv.write_csv(table, buffer, csv.WriteOptions(include_header=False))
    driver: Any = connection.connection.driver_connection
    statement = f"COPY pg_temp.{quoted(name)} FROM STDIN (FORMAT csv)"
    try:
        with driver.cursor().copy(statement) as copy:
            copy.write(buffer.getbuffer())
    except psycopg.Error as failure:
        raise sa.exc.DBAPIError.instance(statement, None, failure, psycopg.Error, hide_parameters=True) from None


def read_frame(connection: sa.Connection, statement: str, values: Mapping[str, object] | None = None) -> "pd.DataFrame":
    """Rows as a frame of Python objects, columns named as selected; empty frames keep their columns."""
    import pandas as pd

    found = connection.execute(sa.text(statement), dict(values or {}))
    rows = [tuple(row) for row in found]
    return pd.DataFrame(rows, columns=list(found.keys()), dtype=object)
