"""Pages from columns of Python values."""

import itertools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from connector_resources.contract import Field, FieldType, Page

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

UNSTORABLE = "has a character that cannot be stored (NUL, or half of a surrogate pair)"
Bools: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"
_HALF = re.compile(r"[\ud800-\udfff]")  # of a surrogate pair: Python and JSON can spell it, UTF-8 cannot
_SIGN = re.compile("\0(ud[89a-f][0-9a-f]{2})?")


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


def arrow_array(values: Sequence[Any], kind: "pa.DataType") -> "pa.Array":
    """The Arrow column of these Python values. Half of a surrogate pair becomes a NUL with its number behind it: Arrow has no
    place for it, and what holds a NUL is never stored (`unstorable`)."""
    import pyarrow as pa

    def spelled(value: Any) -> Any:
        return _HALF.sub(lambda half: f"\0u{ord(half[0]):04x}", value) if isinstance(value, str) else value

    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:
        return pa.array([spelled(value) for value in values], kind)


def unstorable(values: "pa.Array") -> "Bools":
    """Where a text holds a NUL, as no text of PostgreSQL's can; nowhere in a column that is no text."""
    import numpy as np
    import pyarrow as pa

    found = _holding(values, lambda held: held == 0) if pa.types.is_string(values.type) else None
    return np.zeros(len(values), dtype=bool) if found is None else found


def shown(texts: "pa.Array") -> "pa.Array":
    """These texts; characters that cannot be stored as the escapes that JSON has for them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = unstorable(texts)
    if not found.any():
        return texts
    bad = pa.array(found)
    spelled = [_SIGN.sub(lambda sign: f"\\{sign[1] or 'u0000'}", text) for text in texts.filter(bad).to_pylist()]
    return pc.replace_with_mask(texts, bad, pa.array(spelled, pa.string()))


def storable(text: str) -> bool:
    return "\0" not in text and not _HALF.search(text)


def json_string(text: str) -> str:
    """A text as a JSON string; half of a surrogate pair as its escape."""
    return _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", json.dumps(text, ensure_ascii=False))


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
    found = _holding(texts, lambda held: (held < ord(" ")) | (held == ord('"')) | (held == ord("\\")))
    if found is None:
        return plain
    special = pa.array(found)
    escaped = pa.array([orjson.dumps(text).decode() for text in texts.filter(special).to_pylist()], pa.string())
    return pc.replace_with_mask(plain, special, escaped)


def _holding(texts: "pa.Array", wanted: "Callable[[np.ndarray[Any, Any]], Bools]") -> "Bools | None":
    """Which of these texts hold a byte that is `wanted`; None where none does. Found in the bytes of the whole column at once:
    a search of Arrow's begins anew at each text."""
    import numpy as np
    import pyarrow as pa

    texts = texts.cast(pa.string())
    _, places, content = texts.buffers()
    if content is None:
        return None
    borders = np.frombuffer(places, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    held = np.frombuffer(content, np.uint8)[borders[0] : borders[-1]]
    found = np.flatnonzero(wanted(held))
    if not len(found):
        return None
    rows = np.zeros(len(texts), dtype=bool)
    rows[np.searchsorted(borders, found + borders[0], side="right") - 1] = True
    there: Bools = rows & texts.is_valid().to_numpy(zero_copy_only=False)
    return there


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
        return pd.arrays.ArrowExtensionArray(values if isinstance(values, pa.Array) else arrow_array(values, kind))

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
