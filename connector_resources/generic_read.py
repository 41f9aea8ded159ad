"""Pages of a manifest's entity: the loop over an operation's pages, and records → typed frames."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from connector_resources.contract import Clock, Page, Window
from connector_resources.errors import ConfigurationError, ContractError, RecordError
from connector_resources.frames import arrow_type, page
from connector_resources.lined_yaml import suggestion
from connector_resources.manifest import Call, EntitySpec, FieldSpec, Path, Reading
from connector_resources.paging import Next, PageNumber, Reply, pager
from connector_resources.refusals import Gone, TooCostly
from connector_resources.templates import NOTHING
from connector_resources.values import MarkedText, at, column, since_text, token

if TYPE_CHECKING:
    import pandas as pd

Untold: TypeAlias = Mapping[int, Sequence[Path]]  # row → paths in it that the other side could not tell
_PASSES = 3
_BEYOND = (
    "That was a page behind others: where the last one has no successor, `paging` must say where the answer tells so: `more` "
    "(what leads to the next page), or `total` (of pages, not of records)."
)
_CLOCKS = timedelta(minutes=1)  # the other side's clock need not agree to the second


class Ask(Protocol):
    def __call__(
        self, call: Call, values: Mapping[str, Any], *, url: str | None = None, about_record: bool = False, again: bool = True
    ) -> Reply: ...


class Reader:
    """One read of some fields of an entity. Raises ConfigurationError naming a field that is not there."""

    def __init__(
        self, ask: Ask, spec: EntitySpec, fields: Sequence[str], title: str, now: Clock, *, textual: bool = False
    ) -> None:
        for name in fields:
            if name not in spec.fields:
                raise ConfigurationError(f"{title} has no field '{name}' on {spec.entity.name}{suggestion(name, spec.fields)}")
        self.ask = ask
        self.spec = spec
        self.fields = {name: spec.fields[name] for name in fields}
        self.title = title
        self.now = now
        self.textual = textual

    def window(self, window: Window) -> Iterator[Page]:
        """Pages that may shift unnoticed are read again until two passes in a row bring the same records: one that is deleted
        meanwhile moves those behind it up, and leaves no trace."""
        read = self.spec.read
        known: dict[str, int] = {}  # id → hash of what has been yielded
        came: set[str] = set()
        for _ in range(_PASSES):
            before, came = came, set()
            started, shifted, several = self.now() - _CLOCKS, False, False
            for rows, reply, steady in self._pages(read, self._values(read, window), window.page_size):
                found = self.page(rows, untold_rows(reply, read.records), deleted=window.deleted)
                several = several or (not steady and bool(rows) and bool(came))
                shifted = shifted or (not steady and _changed_since(found, started))
                came.update(self._ids(read, rows))
                if not steady:
                    found = self._news(found, rows, known)
                if len(found.records):
                    yield found
            if not shifted and (not several or came == before):
                break
        if window.deleted and self.spec.tombstones:
            for rows, _, _ in self._pages(self.spec.tombstones, self._values(self.spec.tombstones, window)):
                if rows:
                    yield self._tombstones(self.spec.tombstones, rows)

    def _news(self, found: Page, rows: list[Any], known: dict[str, int]) -> Page:
        """Without the records that have been yielded as they are."""
        now = {self.id_of(row): hash(repr(row)) for row in rows}
        fresh = [id_ for id_, told in now.items() if known.get(id_) != told]
        known |= now
        return found if len(fresh) == len(now) else _kept(found, fresh)

    def ids(self, ids: Sequence[str]) -> Iterator[Page]:
        """Without `by_id` everything is read, and these records are kept."""
        one = self.spec.by_id
        wanted = list(dict.fromkeys(ids))
        if one is None:
            yield from self._picked(set(wanted))
            return
        waiting = [wanted[start : start + one.many] for start in range(0, len(wanted), one.many)]
        while waiting:
            some = waiting.pop(0)
            said = [token(id_, self.spec.key.number) for id_ in some]
            values = {"id": said[0], "ids": said, "size": len(said), "fields": self._asked()}
            try:
                reply = self.ask(one.call, values, about_record=True)
            except Gone:  # of several, one that is gone may do (or the path is of no use: then each is asked for alone)
                half = len(some) // 2
                waiting[:0] = [some[:half], some[half:]] if half else []
                continue
            except RecordError as refusal:
                raise ContractError(f"{refusal} That was a read by ids: check `by_id` in the manifest.") from None
            rows, untold = self._rows(reply, one.records, alone=one.many == 1), untold_rows(reply, one.records)
            there = [place for place, row in enumerate(rows) if row is not None]
            if there:
                told = {number: untold.get(place, ()) for number, place in enumerate(there)}
                yield self.page([rows[place] for place in there], told)

    def _picked(self, wanted: set[str]) -> Iterator[Page]:
        for found in self.window(Window()) if wanted else ():
            kept = _kept(found, list(wanted))
            if len(kept.records):
                yield kept

    def _values(self, reading: Reading, window: Window) -> dict[str, Any]:
        since = window.since or reading.since.start
        if since is None:
            return {"fields": self._asked()}
        modified = self.spec.fields.get(self.spec.entity.modified or "")
        zone = reading.since.zone or (modified.zone if modified else None) or UTC
        return {"fields": self._asked(), "since": since_text(since, reading.since.format, reading.since.inclusive, zone)}

    def _asked(self) -> list[str]:
        """What must come with each record: the first names of the paths of fields and marks."""
        spec = self.spec
        marks = [spec.key.path, spec.fields[spec.entity.modified].path if spec.entity.modified else None]
        paths = [*marks, spec.version, spec.deleted, *(field.path for field in self.fields.values())]
        return list(dict.fromkeys(path[0] for path in paths if path))

    def _pages(
        self, reading: Reading, values: Mapping[str, Any], wanted: int | None = None
    ) -> Iterator[tuple[list[Any], Reply, bool]]:
        """Each page's rows and answer, and whether shifting pages would be noticed. A page that costs too much is asked for
        again at half its size."""
        strategy, paging = pager(reading.paging), reading.paging
        size, overlap = (paging.size, paging.overlap) if paging else (100, 0)
        size = size if wanted is None else max(wanted, overlap + 1)
        step: Next | None = strategy.first()
        first = True
        while step is not None:
            call = paging.then if paging and paging.then and not first else reading.call
            try:
                reply = self.ask(call, {**values, "size": size, **step.values}, url=step.url)
            except ConfigurationError as problem:
                if first or not isinstance(strategy, PageNumber):
                    raise
                raise ConfigurationError(f"{problem} {_BEYOND}") from None
            except TooCostly:
                if size == 1 or (paging and paging.by == "page"):
                    raise
                size //= 2
                continue
            first = False
            rows = self._rows(reply, reading.records)
            yield rows, reply, strategy.steady
            versions = (version_of(self.spec, row) for row in rows)
            known_by = [f"{id_}\x1f{version}" for id_, version in zip(self._ids(reading, rows), versions, strict=True)]
            step = strategy.follow(reply, known_by)

    def _rows(self, reply: Reply, records: Path, alone: bool = False) -> list[Any]:
        rows = rows_of(reply, records, textual=self.textual, alone=alone)
        if rows is None:
            where = ".".join(_list_and_item(records)[0]) or "its top"
            raise ContractError(
                f"{self.title} answered a read of {self.spec.entity.name} without a list of records at {where}."
            )
        return rows

    def _ids(self, reading: Reading, rows: list[Any]) -> list[str]:
        if reading is self.spec.tombstones:
            return [self._tomb(row, reading.id) for row in rows]
        return [self.id_of(row) for row in rows]

    def _tomb(self, row: Any, path: Path) -> str:
        found = at(row, path)
        if not isinstance(found, str | int) or found == "":
            raise ContractError(f"{self.title} tells of a deleted {self.spec.entity.name} without its id.")
        return str(found)

    def id_of(self, row: Any) -> str:
        found = at(row, self.spec.key.path)
        if not isinstance(found, str | int) or isinstance(found, bool) or found == "":
            raise ContractError(
                f"{self.title} sends a record of {self.spec.entity.name} without its key {self.spec.entity.key}."
            )
        return str(found)

    def page(self, rows: list[Any], untold: "Untold", deleted: bool = True) -> Page:
        """The page of these records, the last of those that share an id. `deleted` False: without deleted ones."""
        spec, entity = self.spec, self.spec.entity
        ids = [self.id_of(row) for row in rows]
        last = {id_: place for place, id_ in enumerate(ids)}
        flags = [False] * len(rows) if spec.deleted is None else [self._is_deleted(row) for row in rows]
        places = [place for place in sorted(last.values()) if deleted or not flags[place]]
        kept = [rows[place] for place in places]
        gone = [untold.get(place, ()) for place in places]
        columns, absent = {}, {}
        for name, field in self.fields.items():
            array, missing = self._column(field, kept, gone)
            columns[name], absent[name] = (arrow_type(field.field), array), missing
        modified = self._column(spec.fields[entity.modified], kept, gone)[0] if entity.modified else [None] * len(kept)
        found = page(
            [ids[place] for place in places],
            columns,
            version=[version_of(spec, row) for row in kept],
            modified=modified,
            deleted=[flags[place] for place in places],
        )
        return Page(found.records, found.marks, _absent(found.records, absent))

    def _column(self, field: FieldSpec, rows: list[Any], untold: Sequence[Sequence[Path]]) -> Any:
        path = field.path
        if len(path) == 1 and not any(untold) and all(type(row) is dict for row in rows):
            values: list[Any] = [row.get(path[0], NOTHING) for row in rows]
        else:
            pairs = zip(rows, untold, strict=True)
            values = [NOTHING if gone and _is_under(path, gone) else at(row, path) for row, gone in pairs]
        return column(self.spec.entity.name, field, values, self.textual)

    def _is_deleted(self, row: Any) -> bool:
        found = at(row, self.spec.deleted or ())
        if self.textual and isinstance(found, str):
            return found in {
                str(value).lower() if isinstance(value, bool) else str(value) for value in self.spec.deleted_values
            }
        return found in self.spec.deleted_values and found is not NOTHING

    def _tombstones(self, reading: Reading, rows: list[Any]) -> Page:
        """Records of which only the id is known: every field is absent."""
        import pyarrow as pa

        last = {self._tomb(row, reading.id): row for row in rows}
        modified: Any = [None] * len(last)
        if reading.at is not None and self.spec.entity.modified:
            field = self.spec.fields[self.spec.entity.modified]
            moments = [at(row, reading.at) for row in last.values()]
            modified, _ = column(self.spec.entity.name, field, moments, self.textual)
        nulls = {
            name: (arrow_type(one.field), pa.nulls(len(last), arrow_type(one.field))) for name, one in self.fields.items()
        }
        found = page(list(last), nulls, version=[None] * len(last), modified=modified, deleted=[True] * len(last))
        return Page(found.records, found.marks, _absent(found.records, {name: [True] * len(last) for name in self.fields}))


def version_of(spec: EntitySpec, row: Any) -> str | None:
    """The version token of a record: where the manifest says, else its modification as the other side writes it."""
    path = spec.version or (spec.fields[spec.entity.modified].path if spec.entity.modified else None)
    found = at(row, path) if path else None
    return None if found in (None, NOTHING) else str(found)


def rows_of(reply: Reply, records: Path, *, textual: bool, alone: bool) -> list[Any] | None:
    """The records of an answer; None where it has no list of them. `alone`: it may hold one record in the place of a list."""
    path, item = _list_and_item(records)
    rows = at(reply.content, path)
    if rows is NOTHING and reply.lacks(path):
        return None
    textual = textual and reply.content is not None
    empty = alone or textual or isinstance(at(reply.content, path[:-1]), Mapping)  # some write null for no records
    if (rows is None and empty) or (rows is NOTHING and (alone or textual)):  # XML leaves an empty list out
        return []
    if isinstance(rows, Mapping | MarkedText) and (alone or textual):  # a list of one looks like no list in XML
        return [rows]
    if not isinstance(rows, list):
        return None
    return [at(row, item) for row in rows] if item else rows


def untold_rows(reply: Reply, records: Path) -> Untold:
    """Raises ContractError where the other side could not tell a whole record, or the list itself; and where a field that it
    could not tell has taken the record with it: that one is not gone."""
    found: dict[int, list[Path]] = {}
    rows, item = _list_and_item(records)
    alone = not isinstance(at(reply.content, rows), list)  # a read by id may bring the record itself
    for path in reply.untold:
        number = "0" if alone else "".join(path[len(rows) : len(rows) + 1])
        record = (*rows, *(() if alone else (number,)), *item)
        field = path[len(record) :]
        if path[: len(record)] != record or not field or not number.isdigit() or at(reply.content, record) in (None, NOTHING):
            raise ContractError(f"The other side could not tell {'.'.join(path)}, without which records would be missed.")
        found.setdefault(int(number), []).append(field)
    return found


def _list_and_item(records: Path) -> tuple[Path, Path]:
    """Where the list stands, and where the record stands in an item of it: behind the `*`, as in Relay's edges.*.node."""
    if "*" not in records:
        return records, ()
    return records[: records.index("*")], records[records.index("*") + 1 :]


def _is_under(path: Path, gone: Sequence[Path]) -> bool:
    return any(path[: len(one)] == one for one in gone)


def _kept(found: Page, ids: Sequence[str]) -> Page:
    """The records of a page that have one of these ids."""
    keep = found.records.index.isin(ids)
    return Page(found.records[keep], found.marks[keep], None if found.absent is None else found.absent[keep])


def _changed_since(found: Page, moment: datetime) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    latest = pc.max(pa.array(found.marks["modified"])).as_py()
    return latest is not None and latest >= moment


def _absent(records: "pd.DataFrame", absent: Mapping[str, list[bool]]) -> "pd.DataFrame | None":
    import pandas as pd

    if not any(any(column_) for column_ in absent.values()):
        return None
    return pd.DataFrame(absent, index=records.index, columns=list(records.columns), dtype=bool)
