"""Frames into PostgreSQL, and out of it, without a loop per row."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import sqlalchemy as sa

from connector_resources.sql_binary import BINARY, binary_rows

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def quoted(name: str) -> str:
    """An identifier, whatever it contains."""
    return '"' + name.replace('"', '""') + '"'


def text_array(values: Sequence[str]) -> str:
    """These texts as PostgreSQL writes an array, for CAST(:name AS text[]). The driver would go through them one by one.

    A text of PostgreSQL's holds no NUL, so that one can stand between them meanwhile."""
    joined = "\0".join(values).replace("\\", r"\\").replace('"', r"\"").replace("\0", '","')
    return '{"' + joined + '"}' if len(values) else "{}"


def bytes_array(values: Sequence[bytes]) -> str:
    """The same of bytes, for CAST(:name AS bytea[])."""
    return text_array([f"\\x{value.hex()}" for value in values])


def copy_in(connection: sa.Connection, name: str, columns: Mapping[str, str], frame: "pd.DataFrame") -> None:
    """Load `frame` into a temporary table `name` (column → SQL type) that lives as long as the transaction. Bytes go beside
    types of BINARY only.

    COPY cannot fill a table under row-level security, hence the detour. Null and the empty string stay apart.

    Raises what SQLAlchemy raises for a statement (DataError for a value that is not of the column's type)."""
    import pyarrow as pa

    spec = ", ".join(f"{quoted(column)} {kind}" for column, kind in columns.items())
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS pg_temp.{quoted(name)}")
    connection.exec_driver_sql(f"CREATE TEMP TABLE {quoted(name)} ({spec}) ON COMMIT DROP")
    if frame.empty:
        return
    # In one piece: Arrow 26 writes garbage for a column that has empty chunks.
    table = pa.Table.from_pandas(frame[list(columns)], preserve_index=False).combine_chunks()
    kinds = list(columns.values())
    binary = "bytea" in kinds or BINARY.issuperset(kinds)
    with _copying(connection, f"COPY pg_temp.{quoted(name)} FROM STDIN (FORMAT {'binary' if binary else 'csv'})") as copy:
        copy.write(binary_rows(table, kinds) if binary else _csv(table))


def _csv(table: "pa.Table") -> memoryview:
    """Arrow writes null bare and the empty string quoted, as PostgreSQL reads them."""
    from pyarrow import csv

    buffer = io.BytesIO()
    csv.write_csv(table, buffer, csv.WriteOptions(include_header=False))
    return buffer.getbuffer()


def read_table(
    connection: sa.Connection, statement: str, kinds: Mapping[str, "pa.DataType"], values: Mapping[str, object] | None = None
) -> "pa.Table":
    """Rows as an Arrow table; `kinds`: the columns as selected, by their place, with their types.

    Raises what SQLAlchemy raises for a statement, and ArrowInvalid for a value that is not of the column's type."""
    import pyarrow as pa
    from pyarrow import csv

    compiled = sa.text(statement).compile(dialect=connection.dialect)
    with _copying(connection, f"COPY ({compiled}) TO STDOUT (FORMAT csv)", dict(values or {})) as copy:
        content = b"".join(copy)
    if not content:
        return pa.schema(list(kinds.items())).empty_table()
    plain = {name: pa.string() if pa.types.is_binary(kind) else kind for name, kind in kinds.items()}
    table = csv.read_csv(
        pa.BufferReader(content),
        csv.ReadOptions(column_names=list(kinds), block_size=len(content) + 1, use_threads=False),
        csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        csv.ConvertOptions(
            column_types=plain,
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    ).combine_chunks()
    for at, (name, kind) in enumerate(kinds.items()):
        if pa.types.is_binary(kind):
            table = table.set_column(at, name, _bytes(table.column(at).combine_chunks()))
    return table


def read_frame(connection: sa.Connection, statement: str, values: Mapping[str, object] | None = None) -> "pd.DataFrame":
    """Rows as a frame of Python objects, columns named as selected; empty frames keep their columns."""
    import pandas as pd

    found = connection.execute(sa.text(statement), dict(values or {}))
    rows = [tuple(row) for row in found]
    return pd.DataFrame(rows, columns=list(found.keys()), dtype=object)


@contextmanager
def _copying(connection: sa.Connection, statement: str, values: Mapping[str, object] | None = None) -> Iterator[Any]:
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor().copy(statement, values or None) as copy:
            yield copy
    except psycopg.Error as failure:
        raise sa.exc.DBAPIError.instance(statement, None, failure, psycopg.Error, hide_parameters=True) from None


def _bytes(texts: "pa.Array") -> "pa.Array":
    """From what PostgreSQL writes for bytes, `\\x` and hexadecimal: all of them as one piece, whose borders move with it."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    digits = pc.utf8_slice_codeunits(texts, 2)
    valid, places, content = digits.buffers()
    if content is None:
        return digits.cast(pa.binary())
    borders = np.frombuffer(places, np.int32)[: digits.offset + len(digits) + 1]
    moved = pa.py_buffer((borders // 2).astype(np.int32).tobytes())
    data = pa.py_buffer(bytes.fromhex(content[: int(borders[-1])].to_pybytes().decode()))
    return pa.Array.from_buffers(pa.binary(), len(digits), [valid, moved, data], offset=digits.offset)
