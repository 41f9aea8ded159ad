"""Values as the REST API takes them in JSON: exact numbers, ISO dates, instants to the millisecond."""

from typing import TYPE_CHECKING, Any

from connector_resources.frames import json_strings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def json(column: "pd.Series[Any]") -> "pa.Array":
    """The values of a column as JSON texts, "null" where they are null; numbers with every digit."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array(column).type
    number = pa.types.is_decimal(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    return pc.coalesce(texts(column) if number else json_strings(texts(column)), "null")


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
