"""Pages from columns of Python values."""

import itertools
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
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


def uuids(count: int, moment: datetime | None = None) -> "pa.Array":
    """So many UUIDs (RFC 9562) as text: random ones (version 4), or such that sort by `moment` and then by their place here
    (version 7, with a counter in rand_a), which indexes take in far faster."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    raw = np.frombuffer(os.urandom(16 * count), np.uint8).reshape(count, 16).copy()
    if moment is None:
        raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    else:
        place = np.arange(count)
        milliseconds = int(moment.timestamp() * 1000) + (place >> 12)  # the counter has twelve bits
        raw[:, :8] = (milliseconds << 16 | 0x7000 | place & 0xFFF).astype(">u8").view(np.uint8).reshape(count, 8)
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    digits = pa.array(np.frombuffer(raw.tobytes().hex().encode(), "S32")) if count else pa.array([], pa.binary())
    digits = digits.cast(pa.string())
    borders = (0, 8, 12, 16, 20, 32)
    groups = [pc.utf8_slice_codeunits(digits, start, stop) for start, stop in itertools.pairwise(borders)]
    return pc.binary_join_element_wise(*groups, "-")


def json_strings(texts: "pa.Array") -> "pa.Array":
    """Texts as JSON strings; null stays null. Only those that hold what JSON escapes are looked at one by one."""
    import orjson
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = pc.binary_join_element_wise('"', texts, '"', "")
    special = _escaped(texts)
    if special is None:
        return plain
    escaped = pa.array([orjson.dumps(text).decode() for text in texts.filter(special).to_pylist()], pa.string())
    return pc.replace_with_mask(plain, special, escaped)


def _escaped(texts: "pa.Array") -> "pa.Array | None":
    """Which of these texts hold a character that JSON escapes; None where none does. Found in the bytes of the whole column at
    once: a regular expression begins anew at each text."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = texts.cast(pa.string())
    _, places, content = texts.buffers()
    if content is None:
        return None
    borders = np.frombuffer(places, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    held = np.frombuffer(content, np.uint8)[borders[0] : borders[-1]]
    found = np.flatnonzero((held < ord(" ")) | (held == ord('"')) | (held == ord("\\")))
    if not len(found):
        return None
    rows = np.zeros(len(texts), dtype=bool)
    rows[np.searchsorted(borders, found + borders[0], side="right") - 1] = True
    return pc.and_(pa.array(rows), texts.is_valid())


def page(
    ids: "Sequence[str] | pa.Array",
    columns: Mapping[str, "tuple[pa.DataType, Sequence[Any] | pa.Array]"],
    *,
    version: "Sequence[str | None] | pa.Array",
    modified: "Sequence[Any] | pa.Array",
    deleted: "Sequence[bool] | pa.Array | None" = None,
    merged_into: "Sequence[str | None] | pa.Array | None" = None,
    own: "Sequence[bool | None] | pa.Array | None" = None,
    unreadable: Sequence[str] | None = None,
) -> Page:
    """A page of these records; `columns`: field → (Arrow type, values)."""
    import pandas as pd
    import pyarrow as pa

    def typed(kind: pa.DataType, values: "Sequence[Any] | pa.Array") -> pd.arrays.ArrowExtensionArray:
        return pd.arrays.ArrowExtensionArray(values if isinstance(values, pa.Array) else pa.array(values, kind))

    index = pd.Index(typed(pa.string(), ids), name="id")

    def frame(given: "Mapping[str, tuple[pa.DataType, Sequence[Any] | pa.Array]]") -> pd.DataFrame:
        return pd.DataFrame({name: typed(kind, values) for name, (kind, values) in given.items()}, index=index)

    marks = {
        "version": (pa.string(), version),
        "modified": (pa.timestamp("us", "UTC"), modified),
        "deleted": (pa.bool_(), deleted if deleted is not None else [False] * len(ids)),
        "merged_into": (pa.string(), merged_into if merged_into is not None else [None] * len(ids)),
    }
    if own is not None:
        marks["own"] = (pa.bool_(), own)
    if unreadable is not None:
        marks["unreadable"] = (pa.string(), unreadable)
    return Page(frame(columns), frame(marks))
