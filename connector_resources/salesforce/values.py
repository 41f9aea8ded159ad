"""Values as the REST API takes them in JSON: exact numbers, ISO dates, instants to the millisecond."""

from typing import TYPE_CHECKING, Any

import orjson

from connector_resources.contract import Changes

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def written(changes: Changes) -> list[dict[str, Any]]:
    """Field → value of each record, JSON-able for orjson, with the fields that are to be written and no others."""
    rows: list[dict[str, Any]] = [{} for _ in range(len(changes.steps))]
    for name in map(str, changes.written.columns):
        told = changes.written[name].to_numpy(dtype=bool)
        for row, value, wanted in zip(rows, jsonable(changes.records[name]), told, strict=True):
            if wanted:
                row[name] = value
    return rows


def jsonable(column: "pd.Series[Any]") -> list[Any]:
    """The values of a column; Decimals as JSON numbers with every digit."""
    import pyarrow as pa

    values = texts(column) if not _plain(kind := array(column).type) else array(column)
    if pa.types.is_decimal(kind):
        return [None if text is None else orjson.Fragment(text) for text in values.to_pylist()]
    listed: list[Any] = values.to_pylist()
    return listed


def texts(column: "pd.Series[Any]") -> "pa.Array":
    """The values of a column as text, null where they are null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = array(column)
    if pa.types.is_timestamp(values.type):
        milliseconds = values.cast(pa.timestamp("ms", values.type.tz), safe=False)
        return pc.strftime(milliseconds, "%Y-%m-%dT%H:%M:%SZ")
    return values.cast(pa.string())


def array(column: "pd.Series[Any]") -> "pa.Array":
    """The Arrow values of a column in one piece."""
    import pyarrow as pa

    values = pa.array(column, from_pandas=True)
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _plain(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    tests = (pa.types.is_string, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null)
    return any(test(kind) for test in tests)
