"""Pages of the ERP's records by their ids, in one statement each."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import sqlalchemy as sa

from connector_resources import erp_lines
from connector_resources.catalogue import CatalogueEntity
from connector_resources.contract import Field, FieldType, Page
from connector_resources.erp_schema import SQL_TYPES, table_name
from connector_resources.errors import ConfigurationError
from connector_resources.frames import arrow_type, page
from connector_resources.lined_yaml import suggestion
from connector_resources.sql import quoted, read_table, text_array

if TYPE_CHECKING:
    from connector_resources.erp import Erp

MOST_UNREADABLE = 1_000  # on one page: where there are more, it is the catalogue that is wrong


class ErpPages:
    """Reads these fields of records of one entity."""

    def __init__(self, erp: "Erp", connection: sa.Connection, stored: CatalogueEntity, fields: Sequence[str]) -> None:
        self.erp = erp
        self.connection = connection
        self.stored = stored
        self.fields = fields
        self.kind = erp.key_type(connection, stored)
        self.unreadable = 0
        self._select(fields, "")  # names what is not there, also where there are no records

    def of(self, ids: Sequence[str]) -> Iterator[Page]:
        """Those of these records that there are.

        A record with a value that its type cannot hold (a date that is infinite or of the year 10000, a number that is none)
        comes alone, without values, and its mark `unreadable` names the field: what cannot be read together is halved.
        Raises ConfigurationError where such records are many."""
        self.unreadable = 0
        yield from self._halved(ids)

    def _halved(self, ids: Sequence[str]) -> Iterator[Page]:
        try:
            yield self._read(self.fields, ids)
        except _Unreadable:
            if len(ids) > 1:
                yield from self._halved(ids[: len(ids) // 2])
                yield from self._halved(ids[len(ids) // 2 :])
            else:
                yield self._told(ids[0])

    def _read(self, fields: Sequence[str], ids: Sequence[str]) -> Page:
        """Raises _Unreadable; the transaction can go on then."""
        key = f"t.{quoted(self.stored.columns[self.stored.entity.key])}"
        # One by one: a planner that has no statistics yet would read all of a tenant's records for every page.
        statement = (
            f"SELECT f.* FROM unnest(CAST(:ids AS {self.kind}[])) AS wanted (id) "
            f"CROSS JOIN LATERAL ({self._select(fields, f'{key} = wanted.id')} OFFSET 0) f"
        )
        try:
            with self.connection.begin_nested():
                rows = read_table(self.connection, statement, self._kinds(fields), self.erp.values(ids=text_array(ids)))
        except (sa.exc.DataError, pa.ArrowInvalid):
            raise _Unreadable from None
        found, version, modified, *values = (column.combine_chunks() for column in rows.columns)
        columns = {name: (column.type, column) for name, column in zip(rows.column_names[3:], values, strict=True)}
        return page(found, columns, version=version, modified=modified)

    def _told(self, record: str) -> Page:
        """A record that cannot be read, with the name of the first field that is to blame; or as it is, if it can by now."""
        names = ["", *dict.fromkeys(map(_top, self.fields))]  # without any field there is the modification still
        found = next((name for name in names if self._breaks(name, record)), None)
        if found is None:
            return self._read(self.fields, [record])
        field = found or self.stored.entity.modified or self.stored.entity.key
        self.unreadable += 1
        if self.unreadable > MOST_UNREADABLE:
            raise ConfigurationError(
                f"More than {MOST_UNREADABLE:,} records of the ERP's {self.stored.entity.name} on one page hold a {field} "
                "that its type cannot hold. Correct its type in the catalogue, or leave it out of the mapping."
            )
        kinds = list(self._kinds(self.fields).items())[3:]
        columns = {name: (kind, pa.nulls(1, kind)) for name, kind in kinds}
        return page([record], columns, version=[None], modified=[None], unreadable=[field])

    def _breaks(self, name: str, record: str) -> bool:
        try:
            self._read([field for field in self.fields if _top(field) == name], [record])
        except _Unreadable:
            return True
        return False

    def _select(self, fields: Sequence[str], where: str) -> str:
        stored, entity = self.stored, self.stored.entity
        modified = f"t.{quoted(stored.columns[entity.modified])}::timestamptz" if entity.modified else "NULL::timestamptz"
        parts = [f"t.{quoted(stored.columns[entity.key])}::text", erp_lines.version(stored, self.erp.catalogue), modified]
        parts += [self._column(name) for name in fields if "." not in name]
        parts += [self._lines(name) for name in line_names(fields)]
        ours = self.erp.ours(stored)
        return f"SELECT {', '.join(parts)} FROM {table_name(stored)} t WHERE {where}{f' AND {ours}' if ours else ''}"

    def _column(self, name: str) -> str:
        stored, field = self.stored, self.stored.entity.field(name)
        if field is None:
            raise ConfigurationError(
                f"The ERP's {stored.entity.name} (module {stored.module}) has no field '{name}'"
                f"{suggestion(name, stored.entity.names)}"
            )
        column = f"t.{quoted(stored.columns[name])}"
        if field.type is FieldType.DECIMAL:
            return f"round({column}::numeric, {field.scale})"
        return f"{column}::{SQL_TYPES[field.type]}" + ("::text" if field.type is FieldType.JSON else "")

    def _lines(self, name: str) -> str:
        lines = erp_lines.lines_named(self.stored, name)
        if lines is None:
            raise ConfigurationError(f"The ERP's {self.stored.entity.name} has no child lines '{name}'.")
        inside = [path.partition(".")[2] for path in self.fields if path.startswith(f"{name}.")]
        return erp_lines.selection(self.stored, lines, self.erp.catalogue[lines.entity], inside)

    def _kinds(self, fields: Sequence[str]) -> dict[str, pa.DataType]:
        """Types of what `_select` selects, by position: id, version and modification come first."""
        described = [field for name in fields if "." not in name and (field := self.stored.entity.field(name))]
        described += [Field(name, FieldType.JSON) for name in line_names(fields)]
        marks = {" id": pa.string(), " version": pa.string(), " modified": pa.timestamp("us", "UTC")}
        return marks | {field.name: arrow_type(field) for field in described}


class _Unreadable(Exception):
    """Some value of what was asked for is none of its type."""


def line_names(fields: Sequence[str]) -> list[str]:
    """Names of the child lines that paths such as lines.quantity ask for."""
    return list(dict.fromkeys(map(_top, filter(lambda path: "." in path, fields))))


def _top(path: str) -> str:
    return path.partition(".")[0]
