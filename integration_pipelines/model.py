"""Core types: the batch that travels through the five steps, and the words that every layer shares."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.contract import Page
from connector_resources.errors import ContractError
from connector_resources.frames import arrow_array, shown
from integration_pipelines.canonical import (
    TEXT,
    array,
    extension,
    frame,
    record_index,
    record_texts,
)

Mask: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]] | pd.Series[Any] | pa.BooleanArray"


class Direction(StrEnum):
    INBOUND = "inbound"
    OUTBOUND = "outbound"
    BIDIRECTIONAL = "bidirectional"

    @property
    def inward(self) -> bool:
        return self is not Direction.OUTBOUND

    @property
    def outward(self) -> bool:
        return self is not Direction.INBOUND


class Side(StrEnum):
    EXTERNAL = "external"
    ERP = "erp"


class ConflictStrategy(StrEnum):
    LAST_WRITE_WINS = "last_write_wins"
    SOURCE_WINS = "source_wins"
    TARGET_WINS = "target_wins"
    MANUAL = "manual"


class Change(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    SKIP = "skip"


class SyncMode(StrEnum):
    SCHEDULED = "scheduled"
    EVENT_DRIVEN = "event_driven"
    MANUAL = "manual"


class SyncStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    PARTIAL = "partial"


class DeletePolicy(StrEnum):
    PROPAGATE = "propagate"
    DEACTIVATE = "deactivate"
    IGNORE = "ignore"


MARKS = (("version", TEXT), ("modified", pa.timestamp("us", "UTC")), ("deleted", pa.bool_()), ("merged_into", TEXT))
_ALONGSIDE = ("records", "marks", "absent", "plan", "written", "outgoing", "withheld")  # share the records' index
REJECTED = ("record_id", "error_type", "message", "field", "rule", "details", "data")


def rejected_rows(columns: dict[str, pa.Array] | None = None) -> pd.DataFrame:
    """A frame of rejected rows, all text: one row a record. Without columns: an empty one."""
    given = columns or {name: pa.array([], TEXT) for name in REJECTED}
    count = len(next(iter(given.values())))
    return frame({name: given[name] for name in REJECTED}, pd.RangeIndex(count))


def bools(mask: Mask) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """A mask without nulls (null counts as False)."""
    if isinstance(mask, pd.Series):
        mask = array(mask)
    if isinstance(mask, np.ndarray):
        return mask.astype(bool)
    known = pc.fill_null(mask, False) if mask.null_count else mask
    return np.asarray(known.to_numpy(zero_copy_only=False), dtype=bool)


def _with_deletions(details: pa.Array, marks: pd.DataFrame) -> pa.Array:
    """Of tombstones the details tell when and how the record ended: not every system knows the deleted by their ids."""
    gone = array(marks["deleted"])
    if not pc.any(gone).as_py():
        return details
    told = zip(array(marks["modified"]).to_pylist(), shown(array(marks["merged_into"])).to_pylist(), strict=True)
    ends = [{"deleted": {"modified": at and at.isoformat(), "merged_into": into}} for at, into in told]
    texts = [
        orjson.dumps(orjson.loads(text) | end).decode() if dead else text
        for text, end, dead in zip(details.to_pylist(), ends, gone.to_pylist(), strict=True)
    ]
    return pa.array(texts, TEXT)


@dataclass
class Batch:
    """Up to some thousand records on their way, with the rejected ones beside them.

    side      the one that the records were read from
    records   index: record id (text, named "id"); Arrow-typed columns
    marks     same index: version, modified, deleted, merged_into; outside (not synced), once a mapping has conditions
    absent    same index and columns as records, True where the other side did not say; None when all is present
    rejected  one row a record: record_id, error_type, message, field, rule, details and data (JSON texts; data: the record)
    plan      same index: what resolve decided (steps/resolve.py has the columns); None before that
    written   same index and columns as records: the fields that the plan writes to the other side
    outgoing  of ERP records, same index: the external fields that the outbound rules make of them
    withheld  same index and columns as outgoing, True where a rule does not apply
    """

    records: pd.DataFrame
    marks: pd.DataFrame
    absent: pd.DataFrame | None = None
    rejected: pd.DataFrame = field(default_factory=rejected_rows)
    plan: pd.DataFrame | None = None
    written: pd.DataFrame | None = None
    outgoing: pd.DataFrame | None = None
    withheld: pd.DataFrame | None = None
    side: Side = Side.EXTERNAL

    @classmethod
    def of(cls, page: Page) -> "Batch":
        made = cls(page.records, page.marks[[name for name, _ in MARKS]], page.absent)
        if "unreadable" not in page.marks.columns:
            return made
        blamed = array(page.marks["unreadable"])
        fields = blamed.drop_null().to_pylist()
        message = [
            f"{name} holds a value that its type cannot hold; correct the record where it comes from." for name in fields
        ]
        return made.reject(pc.is_valid(blamed), error_type="validation", message=message, field=fields, rule="contract")

    def __len__(self) -> int:
        return len(self.records)

    @property
    def deleted(self) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        return bools(array(self.marks["deleted"]))

    @property
    def outside(self) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        there = "outside" in self.marks.columns
        return bools(array(self.marks["outside"])) if there else np.zeros(len(self.records), dtype=bool)

    def absence(self, name: str) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        """True where the other side did not say what field `name` holds."""
        if self.absent is None or name not in self.absent.columns:
            return np.zeros(len(self.records), dtype=bool)
        return bools(self.absent[name])

    def take(self, mask: Mask) -> "Batch":
        """Only the records where `mask` holds. The rejected rows stay."""
        kept = bools(mask)
        if kept.all():
            return self
        rows = kept if kept.any() else slice(0)  # a slice costs next to nothing
        parts = {name: part[rows] for name in _ALONGSIDE if (part := getattr(self, name)) is not None}
        return Batch(rejected=self.rejected, side=self.side, **parts)

    def alone(self) -> "Batch":
        """Without the rejected rows: they travel with one part only."""
        return replace(self, rejected=rejected_rows())

    def reject(
        self,
        mask: Mask,
        *,
        error_type: str,
        message: str | Sequence[str],
        field: str | Sequence[str] = "",
        rule: str | Sequence[str] = "",
        details: str | Sequence[str] = "{}",
    ) -> "Batch":
        """Set the records under `mask` aside. Texts are one for all, or one for each record set aside, in order.

        Messages and details quote no value of the record: the record itself goes to `data`, which is stored encrypted.
        """
        bad = bools(mask)
        if not bad.any():
            return self
        out = self.records[bad]
        count = len(out)

        def column(value: str | Sequence[str]) -> pa.Array:
            if not isinstance(value, str) and len(value) != count:
                raise ValueError(f"{count} records are set aside, and there are {len(value)} texts for them.")
            return shown(arrow_array([value] * count if isinstance(value, str) else list(value), TEXT))

        rows = rejected_rows(
            {
                "record_id": shown(array(out.index).cast(TEXT)),
                "error_type": column(error_type),
                "message": column(message),
                "field": column(field),
                "rule": column(rule),
                "details": _with_deletions(column(details), self.marks[bad]),
                "data": record_texts(out, None if self.absent is None else self.absent[bad]),
            }
        )
        return replace(self.take(~bad), rejected=_stack([self.rejected, rows]))

    def to_bytes(self) -> bytes:
        """In one piece of zstd: a line of JSON (the side, and the columns of each part that there is), then two Arrow IPC
        streams: ids and parts side by side, and the rejected rows."""
        parts = {name: part for name in _ALONGSIDE if (part := getattr(self, name)) is not None}
        told = {"side": self.side, "parts": {name: list(part.columns) for name, part in parts.items()}}
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as packed:
            packed.write(orjson.dumps(told) + b"\n")
            ids = array(self.records.index).cast(TEXT)
            _write(packed, [ids, *(values for part in parts.values() for values in _arrays(part))])
            _write(packed, _arrays(self.rejected))
        written: bytes = sink.getvalue().to_pybytes()
        return written

    @classmethod
    def from_bytes(cls, content: bytes) -> "Batch":
        try:
            plain = pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
            begin = plain.index(b"\n")
            told, source = orjson.loads(plain[:begin]), pa.BufferReader(pa.py_buffer(plain).slice(begin + 1))
            (ids, *columns), rejected = _read(source), _read(source)
            index, left = record_index(ids), iter(columns)
            parts = {name: frame({one: next(left) for one in names}, index) for name, names in told["parts"].items()}
            return cls(rejected=rejected_rows(dict(zip(REJECTED, rejected, strict=True))), side=Side(told["side"]), **parts)
        except (pa.ArrowInvalid, ValueError, OSError, KeyError, TypeError, StopIteration):
            raise ContractError("A staged batch cannot be read: its bytes are damaged or of another version.") from None


def _arrays(part: pd.DataFrame) -> list[pa.Array]:
    return [array(part[name]) for name in part.columns]


def _write(sink: pa.NativeFile, columns: Sequence[pa.Array]) -> None:
    table = pa.Table.from_arrays(columns, names=[str(at) for at in range(len(columns))])  # names may come twice
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)


def _read(source: pa.NativeFile) -> list[pa.Array]:
    pieces = [column.combine_chunks() for column in pa.ipc.open_stream(source).read_all().columns]
    return [piece if isinstance(piece, pa.Array) else pa.array([], piece.type) for piece in pieces]


def _stack(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [part for part in parts if len(part)]
    if not filled:
        return parts[0]
    return filled[0] if len(filled) == 1 else pd.concat(filled, ignore_index=True)


def concat(batches: Sequence[Batch]) -> Batch:
    """One batch of several that have the same columns and parts. Raises ValueError without any batch."""
    if not batches:
        raise ValueError("Nothing to concatenate: give at least one batch.")
    if len(batches) == 1:
        return batches[0]
    parts = {}
    filled = [batch for batch in batches if len(batch)] or batches[:1]
    for name in _ALONGSIDE:
        there = sum(getattr(batch, name) is not None for batch in batches)
        if there and there < len(batches) and name != "absent":
            raise ValueError(f"Only {there} of {len(batches)} batches have the part '{name}': resolve all of them, or none.")
        if there:
            found = [_absence(b) if name == "absent" else getattr(b, name) for b in filled]
            parts[name] = found[0] if len(found) == 1 else pd.concat(found)
    return Batch(rejected=_stack([batch.rejected for batch in batches]), side=batches[0].side, **parts)


def _absence(batch: Batch) -> pd.DataFrame:
    if batch.absent is not None:
        return batch.absent
    return absence_frame({str(n): np.zeros(len(batch), dtype=bool) for n in batch.records.columns}, batch.records.index)


def absence_frame(columns: "dict[str, np.ndarray[Any, np.dtype[np.bool_]]]", index: "pd.Index[Any]") -> pd.DataFrame:
    """A frame for `absent`: Arrow booleans, never null."""
    return frame({name: pa.array(values, pa.bool_()) for name, values in columns.items()}, index)


PLAN = (
    ("action", TEXT),  # model.Change
    ("settle", pa.bool_()),  # the link is to be written, even where the record is not
    ("link_id", pa.int64()),  # null: there is no link yet
    ("revision", pa.int64()),  # of the link, as resolve saw it
    ("state", TEXT),  # of the link afterwards
    ("erp_id", TEXT),
    ("erp_version", TEXT),  # of the ERP record, as resolve saw it
    ("fingerprint", pa.binary()),  # of the external side's values
    ("match_digest", pa.binary()),
    ("base", pa.binary()),  # JSON of canonical texts: what both sides agree on afterwards
    ("before", pa.binary()),  # JSON of canonical texts: the record's fields, on the side that is written, as resolve saw them
    ("external_id", TEXT),  # of ERP records; of external ones it is the index
    ("external_version", TEXT),  # the same
    ("later", pa.bool_()),  # of ERP records: the same run writes the pair first; load resolves them then
)


def plan_frame(index: "pd.Index[Any]", **columns: Any) -> pd.DataFrame:
    """A frame for `plan`, of columns or single values for every row; what is not given is null (action: skip, settle: no)."""
    given: dict[str, Any] = {"action": Change.SKIP.value, "settle": False, "state": "active", "later": False}
    given |= columns
    return frame({name: _column(given.get(name), kind, len(index)) for name, kind in PLAN}, index)


def _column(value: Any, kind: pa.DataType, count: int) -> pa.Array:
    if isinstance(value, pd.Series):
        value = array(value)
    if isinstance(value, (pa.Array, np.ndarray, list)):
        return value.cast(kind) if isinstance(value, pa.Array) else pa.array(value, kind, from_pandas=True)
    return pa.repeat(pa.scalar(value, kind), count)


def marks_frame(
    index: "pd.Index[Any]",
    version: Sequence[str | None] | None = None,
    modified: Sequence[Any] | None = None,
    deleted: Sequence[bool] | None = None,
    merged_into: Sequence[str | None] | None = None,
) -> pd.DataFrame:
    """A frame for `marks`; what is not given is unknown (deleted: False)."""
    count = len(index)
    given = {"version": version, "modified": modified, "deleted": deleted, "merged_into": merged_into}
    columns = {}
    for name, kind in MARKS:
        unknown = [False] * count if name == "deleted" else [None] * count
        columns[name] = pa.array(unknown if given[name] is None else list(given[name] or []), kind)
    return pd.DataFrame({name: extension(values) for name, values in columns.items()}, index=index)
