"""Rows in PostgreSQL's binary COPY format: half the bytes of hexadecimal digits, and nothing for the server to parse.

Layout: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format". A row is the number of its fields, then each
field's length and content; null has the length -1 and no content.
"""

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

BINARY = frozenset(("text", "bytea", "jsonb", "bigint", "boolean", "uuid"))
"""The SQL types that `binary_rows` can write."""
_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = struct.pack(">h", -1)


def binary_rows(table: "pa.Table", kinds: Sequence[str]) -> bytes:
    """The whole stream. `kinds`: the columns' SQL types, all of BINARY; UUIDs come as text."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    parts: list[pa.Array | pa.Scalar] = [pa.scalar(struct.pack(">h", table.num_columns), pa.binary())]
    for column, kind in zip(table.columns, kinds, strict=True):
        content = _content(column.combine_chunks(), kind)
        lengths = pc.fill_null(pc.binary_length(content), -1)
        parts += [_fixed(np.asarray(lengths).astype(">i4"), None), pc.fill_null(content, b"")]
    rows = pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.binary()))
    _, places, content = rows.buffers()
    borders = np.frombuffer(places, np.int32)[rows.offset : rows.offset + len(rows) + 1]
    return b"".join((_HEADER, memoryview(content)[borders[0] : borders[-1]], _TRAILER))


def _content(values: "pa.Array", kind: str) -> "pa.Array":
    """Each value as the type's receive function reads it; null stays null."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    valid = values.is_valid()
    match kind:
        case "bigint":
            return _fixed(np.asarray(pc.fill_null(values.cast(pa.int64()), 0)).astype(">i8"), valid)
        case "boolean":
            return _fixed(np.asarray(pc.fill_null(values.cast(pa.bool_()), False)).astype("u1"), valid)
        case "uuid":
            digits = pc.replace_substring(pc.fill_null(values.cast(pa.string()), "0" * 32), "-", "")
            return _fixed(np.frombuffer(bytes.fromhex("".join(digits.to_pylist())), "V16"), valid)
        case "jsonb":  # the version of its format comes first
            return pc.binary_join_element_wise(b"\x01", values.cast(pa.string()).cast(pa.binary()), b"")
        case "text":
            return values.cast(pa.string()).cast(pa.binary())
        case "bytea":
            return values.cast(pa.binary())
    raise ValueError(f"{kind} has no binary form here")


def _fixed(values: "np.ndarray[Any, Any]", valid: "pa.Array | None") -> "pa.Array":
    """Values of one width as bytes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    width = pa.binary(values.dtype.itemsize)
    cells = pa.Array.from_buffers(width, len(values), [None, pa.py_buffer(values.tobytes())]).cast(pa.binary())
    return cells if valid is None else pc.if_else(valid, cells, None)
