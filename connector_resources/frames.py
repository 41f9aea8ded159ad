"""Pages from columns of Python values."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from connector_resources.contract import Field, FieldType, Page

if TYPE_CHECKING:
    import pyarrow as pa


def arrow_type(field: Field) -> "pa.DataType":
    """The Arrow type of a frame's column that holds this field."""
    import pyarrow as pa

    if field.type is FieldType.DECIMAL:
        return pa.decimal128(38, field.scale)
    kinds = {
        FieldType.INTEGER: pa.int64(),
        FieldType.BOOLEAN: pa.bool_(),
        FieldType.DATE: pa.date32(),
        FieldType.INSTANT: pa.timestamp("us", "UTC"),
    }
    return kinds.get(field.type, pa.string())


def page(
    ids: Sequence[str],
    columns: Mapping[str, "tuple[pa.DataType, Sequence[Any] | pa.Array]"],
    *,
    version: Sequence[str | None],
    modified: Sequence[Any],
    deleted: Sequence[bool] | None = None,
    merged_into: Sequence[str | None] | None = None,
) -> Page:
    """A page of these records; `columns`: field → (Arrow type, values)."""
    import pandas as pd
    import pyarrow as pa

    index = pd.Index(pd.arrays.ArrowExtensionArray(pa.array(ids, pa.string())), name="id")

    def frame(given: "Mapping[str, tuple[pa.DataType, Sequence[Any] | pa.Array]]") -> pd.DataFrame:
        typed = {
            name: pd.arrays.ArrowExtensionArray(values if isinstance(values, pa.Array) else pa.array(values, kind))
            for name, (kind, values) in given.items()
        }
        return pd.DataFrame(typed, index=index)

    marks = {
        "version": (pa.string(), version),
        "modified": (pa.timestamp("us", "UTC"), modified),
        "deleted": (pa.bool_(), deleted if deleted is not None else [False] * len(ids)),
        "merged_into": (pa.string(), merged_into if merged_into is not None else [None] * len(ids)),
    }
    return Page(frame(columns), frame(marks))
