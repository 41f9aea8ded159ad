"""Canonical text: one spelling for each value, so that two sides can be compared, fingerprinted and stored alike.

string    as it is                       decimal   at the field's scale, no exponent, no "-0.00"
integer   "-12"                          boolean   "true", "false"
date      "2024-03-31"                   instant   "2024-03-31T01:00:00.000000Z"
json      keys sorted, no blanks         null      stays null
"""

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from decimal import Context, Decimal
from functools import cache
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.contract import Field, FieldType
from connector_resources.errors import ContractError
from connector_resources.frames import arrow_type, json_string, json_strings

TEXT = pa.string()
_INSTANT = pa.timestamp("us", "UTC")


def array(series: "pd.Series[Any] | pd.Index[Any]") -> pa.Array:
    """The Arrow values of a column in one piece. Zero copy where the column is Arrow-typed and unbroken."""
    # Not of the series itself: it would be asked for names that it has not, and index its labels for that.
    values = pa.array(series.array)
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def extension(values: pa.Array) -> pd.arrays.ArrowExtensionArray:
    return pd.arrays.ArrowExtensionArray(values)


def record_index(ids: pa.Array | Sequence[str]) -> "pd.Index[Any]":
    """The index of a frame of records: ids as text, named "id"."""
    values = ids if isinstance(ids, pa.Array) else pa.array(ids, TEXT)
    return pd.Index(extension(values.cast(TEXT)), name="id")


def frame(columns: Mapping[str, pa.Array], index: "pd.Index[Any]") -> pd.DataFrame:
    """A frame of these Arrow columns under that index."""
    typed_columns: dict[Hashable, Any] = {name: extension(values) for name, values in columns.items()}
    return pd.DataFrame(typed_columns, index=index)


def where(mask: "np.ndarray[Any, np.dtype[np.bool_]]", these: pa.Array, others: pa.Array | str) -> pa.Array:
    """Of `these` where the mask is True, else of `others`. Nothing is copied where it is True throughout, as it mostly is."""
    return these if mask.all() else pc.if_else(pa.array(mask), these, others)


def per_unique(values: pa.Array, convert: Callable[[str], Any], to: pa.DataType) -> pa.Array:
    """Apply `convert` once to each different value; null stays null."""
    encoded = values.dictionary_encode()
    outcome = pa.array([convert(value) for value in encoded.dictionary.to_pylist()], to)
    return outcome.take(encoded.indices)


def rescaled(values: pa.Array, to: pa.DataType) -> pa.Array:
    """Decimals at another scale. Raises ArrowInvalid where one does not fit: Arrow itself multiplies without a look at the 128
    bits, and what leaves them comes back as another number."""
    wide = values.cast(pa.decimal256(76, to.scale)) if to.scale > values.type.scale else values
    return wide.cast(to)


@cache
def _exact(digits: int) -> Context:
    return Context(prec=digits, Emin=-(10**17), Emax=10**17)


def json_text(value: object) -> str:
    """JSON with sorted keys and without blanks; numbers keep every digit (1.10 and 1.1 are the same number)."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json_text(str(k))}:{json_text(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(json_text, value)) + "]"
    if isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)  # so that 1000 has one spelling, whoever parsed it
    if isinstance(value, Decimal):
        return "0" if value == 0 else str(value.normalize(_exact(len(value.as_tuple().digits)))).replace("E+", "E")
    return json_string(value) if isinstance(value, str) else json.dumps(value)


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is not JSON")


def parse_json(text: str) -> Any:
    """A JSON text, numbers as Decimal. Raises ValueError for anything that is not JSON (NaN, nesting without end), and for
    exponents that no number has."""
    try:
        return json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ArithmeticError:  # decimal: 1e999999999999999999999
        raise ValueError("an exponent out of range") from None


def _canonical_json(values: pa.Array, name: str) -> pa.Array:
    def one(text: str) -> str:
        try:
            return json_text(parse_json(text))
        except (ValueError, RecursionError):
            raise ContractError(f"The field {name} promises JSON and holds text that is none.") from None

    return per_unique(values, one, TEXT)


def decimal_text(values: pa.Array) -> pa.Array:
    """Decimals written out at their own scale. Arrow writes an exponent where six zeros follow the point: spell those out."""
    texts = values.cast(TEXT)
    short = pc.match_substring(texts, "E")
    if not pc.any(short).as_py():
        return texts
    spelled = pa.array([format(value.as_py(), "f") for value in values.filter(short)], TEXT)
    return pc.replace_with_mask(texts, pc.fill_null(short, False), spelled)


def text_of(values: pa.Array, kind: FieldType, scale: int | None = None, name: str = "") -> pa.Array:
    """Canonical text of one column. `scale`: round half even to this scale first."""
    if kind is FieldType.JSON:
        return _canonical_json(values, name)
    if kind is FieldType.DECIMAL:
        if scale is not None and values.type != pa.decimal128(38, scale):
            try:
                values = rescaled(pc.round(values, scale, round_mode="half_to_even"), pa.decimal128(38, scale))
            except pa.ArrowInvalid:
                whole = 38 - scale
                raise ContractError(f"The field {name} holds a number of more than {whole} digits before the point.") from None
        return decimal_text(values)
    if kind is FieldType.INSTANT:
        return pc.replace_substring(values.cast(_INSTANT).cast(TEXT), " ", "T")
    return values.cast(TEXT)


def canonical(records: pd.DataFrame, fields: Sequence[Field]) -> pd.DataFrame:
    """The same records as canonical text: columns are exactly `fields`, all of them strings, null stays null."""
    columns = {f.name: text_of(array(records[f.name]), f.type, f.scale, f.name) for f in fields}
    return frame(columns, records.index)


def typed(texts: pd.DataFrame, fields: Sequence[Field]) -> pd.DataFrame:
    """Inverse of `canonical`. Raises ContractError for a text that is not of the field's type."""
    columns = {}
    for field in fields:
        try:
            columns[field.name] = array(texts[field.name]).cast(arrow_type(field))
        except pa.ArrowInvalid:
            raise ContractError(f"A stored value of {field.name} is not of type {field.type.value}.") from None
    return frame(columns, texts.index)


def rows_json(texts: pd.DataFrame, shown: "np.ndarray[Any, np.dtype[np.bool_]] | None" = None) -> pa.Array:
    """Each row as a JSON object of canonical texts (bytes); `shown`: only the cells where it is True."""
    if not len(texts.columns):
        return pa.array([b"{}"] * len(texts), pa.binary())
    cells = []
    for at, name in enumerate(texts.columns):
        values = pc.coalesce(json_strings(array(texts[name])), "null")
        cell = pc.binary_join_element_wise(f",{orjson.dumps(str(name)).decode()}:", values, "")
        cells.append(cell if shown is None else where(shown[:, at], cell, ""))
    rows = pc.utf8_slice_codeunits(pc.binary_join_element_wise(*cells, ""), 1)  # without the first comma
    return pc.binary_join_element_wise("{", rows, "}", "").cast(pa.binary())


def _readable(values: pa.Array) -> list[str | None]:
    texts = decimal_text(values) if pa.types.is_decimal(values.type) else values.cast(TEXT)
    found: list[str | None] = texts.to_pylist()
    return found


def record_texts(records: pd.DataFrame, absent: pd.DataFrame | None = None) -> pa.Array:
    """Each record as JSON text, values as text; fields that the other side did not name are left out."""
    columns = [(str(name), _readable(array(records[name]))) for name in records.columns]
    missing = None if absent is None else absent.to_numpy(dtype=bool)
    rows = []
    for row in range(len(records)):
        kept = {name: texts[row] for at, (name, texts) in enumerate(columns) if missing is None or not missing[row, at]}
        rows.append(json.dumps(kept, ensure_ascii=False))
    return pa.array(rows, TEXT)


def rows_from_json(
    contents: Sequence[bytes | None] | pa.Array, names: Sequence[str], index: "pd.Index[Any]"
) -> "tuple[pd.DataFrame, np.ndarray[Any, np.dtype[np.bool_]]]":
    """Inverse of `rows_json`: canonical texts, and a boolean array of the same shape that tells which cells there were."""
    given = pa.array(contents, pa.binary()) if not isinstance(contents, pa.Array) else contents
    there = np.zeros((len(given), len(names)), dtype=bool)
    if given.null_count == len(given):
        return frame({name: pa.nulls(len(given), TEXT) for name in names}, index), there
    rows = orjson.loads(b"[" + b",".join(pc.fill_null(given, b"{}").to_pylist()) + b"]")
    found = set().union(*rows)
    columns = {}
    for at, name in enumerate(names):
        columns[name] = pa.array([row.get(name) for row in rows] if name in found else [None] * len(rows), TEXT)
        there[:, at] = [name in row for row in rows] if name in found else False
    return frame(columns, index), there


def aligned(rows: pd.DataFrame, index: "pd.Index[Any]") -> pd.DataFrame:
    """The rows of these records, in this order; all null where there is none. `rows` is Arrow-typed."""
    at = pc.index_in(array(index).cast(TEXT), value_set=array(rows.index).cast(TEXT))
    return frame({str(name): array(rows[name]).take(at) for name in rows.columns}, index)
