"""Where expressions are worked out: DuckDB in this process, shut in, over whole columns.

No file, no network, no extension, no setting can be reached. DuckDB is imported when the first expression is checked: a
run without one never pays for it. A connection belongs to one mapping and closes when that is gone.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.contract import FieldType
from connector_resources.errors import ConfigurationError, MappingFailed
from integration_pipelines.canonical import TEXT
from integration_pipelines.steps.transforms_base import INSTANT, Shape, fit

if TYPE_CHECKING:
    from integration_pipelines.steps.expressions import Expression

Bools: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"
MOST_WORK = 500_000  # bytes of text that an expression may read and make for one record
_SETTINGS: Mapping[str, str | int | float | list[str]] = {
    "enable_external_access": False,
    "threads": 1,
    "memory_limit": "256MB",
    "temp_directory": "",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
}
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
_RESULTS: Mapping[str, tuple[FieldType, pa.DataType]] = MappingProxyType(
    {
        "VARCHAR": (FieldType.STRING, TEXT),
        "BOOLEAN": (FieldType.BOOLEAN, pa.bool_()),
        "DATE": (FieldType.DATE, pa.date32()),
        "TIMESTAMP WITH TIME ZONE": (FieldType.INSTANT, INSTANT),
        **dict.fromkeys(_INTEGERS, (FieldType.INTEGER, pa.int64())),
    }
)
_CAST = "cast it to VARCHAR, BIGINT, DECIMAL(18, 2), BOOLEAN or DATE"
_NO_RESULTS = {
    "DOUBLE": "a floating-point number, which is not exact; cast it to DECIMAL(18, 2), or whatever the field's scale is",
    "FLOAT": "a floating-point number, which is not exact; cast it to DECIMAL(18, 2), or whatever the field's scale is",
    "TIMESTAMP": "a local time without a zone; cast it to DATE, or say where: (…) AT TIME ZONE 'Europe/Berlin'",
    "NULL": "null whatever the record holds",
}
FAILED = "cannot be worked out for this record (a cast, an overflow, or a division by zero)"
TOO_LONG = "would take too much memory, because this record or its batch is too long"


class Calculator:
    """One connection to DuckDB. `seconds`: how long one expression may take over one batch. `at_once`: bytes of text that one
    statement may read and make, so that memory stays small, and that the time is looked at between two statements. `in_all`:
    the same for one batch."""

    def __init__(self, seconds: float = 10, at_once: int = 2_000_000, in_all: int = 256_000_000) -> None:
        import duckdb

        self.seconds = seconds
        self.at_once = at_once
        self.in_all = in_all
        self._connection = duckdb.connect(":memory:", config=dict(_SETTINGS))
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute("SET lock_configuration = true")
        self._turn = threading.Lock()  # batches are worked on side by side, and a connection does one thing at a time

    def tree(self, statement: str) -> Any:
        """The syntax tree of a statement. Raises ConfigurationError when it is not SQL."""
        options = "skip_null := true, skip_empty := true, skip_default := true"
        import duckdb

        try:
            (text,) = self._connection.execute(f"SELECT json_serialize_sql(?, {options})", [statement]).fetchall()[0]
            tree = orjson.loads(text)
        except (duckdb.Error, orjson.JSONDecodeError):
            raise ConfigurationError("the expression is not SQL that can be read; write it more simply") from None
        if tree.get("error"):
            raise ConfigurationError(f"this is not an SQL expression: {_line(tree['error_message'])}")
        return tree

    def written(self, values: list[Any]) -> str:
        """The statement that selects these values, each a part of a syntax tree, from a relation `r`."""
        tree = self.tree("SELECT 1 FROM r")
        tree["statements"][0]["node"]["select_list"] = values
        (text,) = self._connection.execute("SELECT json_deserialize_sql(?)", [orjson.dumps(tree).decode()]).fetchall()[0]
        return str(text)

    def problem(self, statement: str, value: str | None) -> str | None:
        """What is wrong with a value that a statement of ours is tried with; None: nothing."""
        import duckdb

        try:
            self._connection.execute(statement, [value]).fetchall()
        except duckdb.Error as problem:
            return _line(str(problem))
        return None

    def prepare(self, expression: "Expression", types: Mapping[str, pa.DataType]) -> "Calculation":
        """The expression over columns of these Arrow types. Raises ConfigurationError when it does not fit them, or
        gives what no field can hold."""
        import duckdb

        empty = pa.table({name: pa.nulls(0, kind) for name, kind in types.items()})
        try:
            with self._relation(empty):
                given = str(self._connection.sql(expression.statement).types[0]).removesuffix("[]").strip('"')
                for name, statement in expression.choices:
                    _same_decimals(name, [str(kind) for kind in self._connection.sql(statement).types])
        except duckdb.Error as problem:
            sentence = _line(str(problem)).rstrip(".")
            way = "cast the field first (a value inside JSON, of a parent or of a line is text)"
            raise ConfigurationError(f"{sentence}; {way}" if " type" in sentence else sentence) from None
        if decimal := _digits(given):
            digits, scale = decimal
            return Calculation(self, expression, types, Shape(FieldType.DECIMAL, scale), pa.decimal128(digits, scale))
        if given not in _RESULTS:
            raise ConfigurationError(f"the expression gives {_NO_RESULTS.get(given) or f'{given}; {_CAST}'}")
        kind, arrow = _RESULTS[given]
        return Calculation(self, expression, types, Shape(kind), arrow)

    def values(self, statement: str, columns: pa.Table) -> pa.Array | None:
        """The first column of the result, None when the time was up before it was there. Raises MappingFailed for a
        statement that a value stopped, ConfigurationError when DuckDB itself gives up. What DuckDB says may quote values, and
        goes no further."""
        import duckdb

        try:
            with self._relation(columns):
                return self._connection.sql(statement).to_arrow_table().column(0).combine_chunks()
        except duckdb.InterruptException:
            return None
        except duckdb.Error as problem:
            of_values = isinstance(problem, duckdb.DataError | duckdb.NotSupportedError | duckdb.ProgrammingError)
            where = f'"{" ".join(statement.split())}" ({type(problem).__name__})'
            sentence = f"An expression broke off: {where}; simplify it, or use transforms."
            raise (MappingFailed if of_values else ConfigurationError)(sentence) from None

    @contextmanager
    def clock(self) -> Iterator[threading.Event]:
        """The connection is ours within it, and a statement is interrupted when the time is up; then the event is set."""
        late = threading.Event()

        def ring() -> None:
            late.set()
            self._connection.interrupt()

        with self._turn:
            timer = threading.Timer(self.seconds, ring)
            timer.daemon = True
            timer.start()
            try:
                yield late
            finally:
                timer.cancel()
                timer.join()  # so that a late ring does not interrupt what comes next

    @contextmanager
    def _relation(self, columns: pa.Table) -> Iterator[None]:
        self._connection.register("r", columns)
        try:
            yield
        finally:
            self._connection.unregister("r")


@dataclass(frozen=True)
class Calculation:
    """An expression prepared for columns of these types. `shape` and `arrow`: what it gives."""

    calculator: Calculator
    expression: "Expression"
    types: Mapping[str, pa.DataType]
    shape: Shape
    arrow: pa.DataType

    def perform(self, columns: Mapping[str, pa.Array], wanted: Bools) -> tuple[pa.Array, dict[str, Bools]]:
        """The values of the records that are wanted, null for the others; and for each reason the records that failed."""
        table = pa.table({name: fit(columns[name], kind) for name, kind in self.types.items()})
        work = np.where(wanted, self._work(table), 0)
        too_long = work > MOST_WORK
        too_long |= wanted & (np.cumsum(np.where(too_long, 0, work)) > self.calculator.in_all)
        late, failed = np.zeros_like(wanted), np.zeros_like(wanted)
        parts = [pa.nulls(0, self.arrow)]
        chosen = np.flatnonzero(wanted & ~too_long)
        ends = np.flatnonzero(np.diff(np.cumsum(work[chosen]) // self.calculator.at_once)) + 1
        with self.calculator.clock() as over:
            todo = np.split(chosen, ends)[::-1]
            while todo:
                rows = todo.pop()
                part = table.take(pa.array(rows))
                try:
                    lists = None if over.is_set() else self.calculator.values(self.expression.statement, part)
                except MappingFailed:  # TRY lets a few errors through (a zone that strptime does not know): find the record
                    if len(rows) > 1:
                        todo += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
                        continue
                    lists = pa.nulls(len(rows), pa.list_(self.arrow))
                late[rows] = lists is None
                values, failed[rows] = self._unpacked(lists, len(rows))
                parts.append(values)
        found = pa.concat_arrays(parts)
        if len(chosen) < len(wanted):
            places = np.cumsum(wanted & ~too_long) - 1
            found = found.take(pa.array(places, mask=~wanted | too_long))
        slow = f"took longer than {self.calculator.seconds:g} seconds to work out, together with its batch"
        return found, {TOO_LONG: too_long, slow: late, FAILED: failed}

    def _unpacked(self, lists: pa.Array | None, count: int) -> tuple[pa.Array, Bools]:
        """The values, and which of them failed: a list that is null, or a date that is in no calendar."""
        if lists is None:
            return pa.nulls(count, self.arrow), np.zeros(count, dtype=bool)
        given = pc.list_element(lists, 0).cast(self.arrow)
        values = _within_calendar(given)
        failed = pc.or_(pc.is_null(lists), pc.xor(pc.is_null(values), pc.is_null(given)))
        return values, failed.to_numpy(zero_copy_only=False)

    def _work(self, table: pa.Table) -> "np.ndarray[Any, np.dtype[np.int64]]":
        """The most bytes of text that are read and made for each record."""
        longest = np.zeros(len(table), dtype=np.int64)
        for column in table.columns:
            if pa.types.is_string(column.type):
                longest = np.maximum(longest, pc.fill_null(pc.binary_length(column), 0).to_numpy())
        return longest * self.expression.growth.times + self.expression.growth.plus


def _within_calendar(values: pa.Array) -> pa.Array:
    """Null where a date or an instant is none of the years 1 to 9999, which is all that Python and our database share."""
    first: date | datetime
    if pa.types.is_date(values.type):
        first, last = date.min, date.max
    elif pa.types.is_timestamp(values.type):
        first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    else:
        return values
    inside = pc.and_(
        pc.greater_equal(values, pa.scalar(first, values.type)), pc.less_equal(values, pa.scalar(last, values.type))
    )
    return pc.if_else(inside, values, pa.scalar(None, values.type))


def _digits(kind: str) -> tuple[int, int] | None:
    """How many digits a decimal of DuckDB's has, in all and behind the point; None for another type."""
    if not kind.startswith("DECIMAL("):
        return None
    digits, scale = kind[len("DECIMAL(") : -1].split(",")
    return int(digits), int(scale)


def _same_decimals(name: str, kinds: list[str]) -> None:
    """Raises where a choice is of a decimal type (the first) with fewer decimals than one of the values it chooses from: where
    38 digits do not hold both, DuckDB rounds without a word."""
    given, *values = map(_digits, kinds)
    most = max((scale for _, scale in filter(None, values)), default=0)
    if given and given[1] < most:
        way = f"cast each of them to DECIMAL(38, {most}) first, or round them by a cast to fewer decimals"
        raise ConfigurationError(f"'{name}' would round what it chooses from to {given[1]} decimals; {way}")


def _line(message: str) -> str:
    """The first line of a message of DuckDB's, without the kind of error in front."""
    return message.split("\n", 1)[0].split("Error: ", 1)[-1]
