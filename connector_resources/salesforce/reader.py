"""Records through queries ("Query", "QueryAll", "Query More Results" of the REST API Developer Guide).

A query's cursor fixes which records come; a page shows their values as they are when it is fetched. So a record that changes
during a read shows a SystemModstamp out of order, and is found again by the next read.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from connector_resources.contract import Entity, Field, FieldType, Page, Window
from connector_resources.errors import ConfigurationError, ContractError, SystemUnavailable
from connector_resources.frames import arrow_type, page
from connector_resources.http import Answer
from connector_resources.lined_yaml import suggestion
from connector_resources.salesforce import soql
from connector_resources.salesforce.api import Api
from connector_resources.salesforce.describe import Description
from connector_resources.salesforce.errors import CursorExpired

if TYPE_CHECKING:
    import pyarrow as pa

_DELETED, _MASTER = "IsDeleted", "MasterRecordId"
_CLOCKS = timedelta(minutes=1)  # the org's clocks need not agree to the second
_RESTARTS = 3


@dataclass(frozen=True)
class Plan:
    """What a read asks for: each path with its field, and the paths of the marks that the entity has."""

    entity: Entity
    fields: Mapping[str, Field]
    marks: tuple[str, ...]

    @property
    def paths(self) -> list[str]:
        return list(dict.fromkeys((self.entity.key, *self.marks, *self.fields)))

    def query(self, where: str = "") -> str:
        order = [name for name in (self.entity.modified, self.entity.key) if name]
        return soql.select(self.entity.name, self.paths, where, order)


class Reader:
    """Reads pages. `describe` gives the description of a parent entity, for paths such as Owner.Name."""

    def __init__(self, api: Api, describe: Callable[[str], Description]) -> None:
        self.api = api
        self.describe = describe

    def plan(self, entity: Entity, fields: Sequence[str]) -> Plan:
        """Raises ConfigurationError naming a field that is not there."""
        found = {path: self._field(entity, path) for path in fields}
        marks = tuple(name for name in (entity.modified, _DELETED, _MASTER) if name and entity.field(name))
        return Plan(entity, found, marks)

    def window(self, plan: Plan, window: Window) -> Iterator[Page]:
        """Pages in ascending order of modification. An expired cursor is replaced by a fresh query from the last instant at
        which nothing can have been missed, inclusively: records there come twice. Entities without such an instant come whole.
        """
        modified, since, restarts = plan.entity.modified, window.since, 0
        resource = "queryAll" if window.deleted else "query"
        while True:
            where = soql.at_least(modified, since) if modified and since else ""
            seen = since
            try:
                for records, started in self._pages(resource, plan.query(where)):
                    found = _page(plan, records)
                    yield found
                    seen = _settled(found, started) or seen
                return
            except CursorExpired:
                restarts = restarts + 1 if seen == since else 0
                if restarts >= _RESTARTS:
                    raise SystemUnavailable(
                        f"Salesforce drops the cursor of each query over {plan.entity.name} before it is read to its end."
                    ) from None
                since = seen

    def ids(self, plan: Plan, ids: Sequence[str]) -> Iterator[Page]:
        """Pages of these records, deleted ones included."""
        key = plan.entity.key
        return self._among(plan, key, soql.id_chunks(ids, plan.query(soql.one_of(key, ()))))

    def among(self, plan: Plan, path: str, texts: Sequence[str]) -> Iterator[Page]:
        """Pages of the records whose field at `path` holds one of these texts, deleted ones included."""
        return self._among(plan, path, soql.text_chunks(texts, plan.query(soql.one_of(path, ()))))

    def _among(self, plan: Plan, path: str, chunks: Iterable[Sequence[str]]) -> Iterator[Page]:
        for chunk in chunks:
            for records, _ in self._pages("queryAll", plan.query(soql.one_of(path, chunk))):
                if records:
                    yield _page(plan, records)

    def _pages(self, resource: str, query: str) -> Iterator[tuple[list[dict[str, Any]], datetime | None]]:
        """Records of each page, and when the query began by Salesforce's own clock."""
        answer = self.api.answer(resource, {"q": query})
        started = _date(answer)
        while True:
            body = answer.json()
            records, more = (body.get("records"), body.get("nextRecordsUrl")) if isinstance(body, dict) else (None, None)
            if not isinstance(records, list):
                raise ContractError("Salesforce answered a query without a list of records.")
            yield records, started
            if not more:
                return
            if not str(more).startswith("/services/data/"):
                raise ContractError("Salesforce names a next page that is not one of its API.")
            answer = self.api.answer(str(more))

    def _field(self, entity: Entity, path: str) -> Field:
        first, point, rest = path.partition(".")
        if not point:
            field = entity.field(path)
            if field is None:
                raise ConfigurationError(
                    f"Salesforce has no field '{path}' on {entity.name} that this connector could read"
                    f"{suggestion(path, entity.names)}"
                )
            return field
        parents = self.describe(entity.name).parents
        if first not in parents:
            raise ConfigurationError(f"Salesforce has no relationship '{first}' on {entity.name}{suggestion(first, parents)}")
        # The last one first: where several kinds of parent are possible (Group, User), that is the one people mean
        described = [self.describe(name).entity for name in reversed(parents[first])]
        holding = next((parent for parent in described if parent.field(rest)), described[0])
        return self._field(holding, rest)


def _page(plan: Plan, records: list[dict[str, Any]]) -> Page:
    """Raises ContractError naming a field that was asked for and did not come, or not in its type."""
    entity = plan.entity
    columns = {path: (arrow_type(field), _column(entity.name, path, field, records)) for path, field in plan.fields.items()}
    marks: dict[str, Sequence[Any]] = {name: _values(entity.name, name, records) for name in (entity.key, *plan.marks)}
    unknown = [None] * len(records)
    stamps = marks.get(entity.modified or "", unknown)
    modified = entity.field(entity.modified) if entity.modified else None
    return page(
        marks[entity.key],
        columns,
        version=stamps,
        modified=_typed(entity.name, modified.name, modified, stamps) if modified else unknown,
        deleted=marks.get(_DELETED),
        merged_into=marks.get(_MASTER),
    )


def _column(entity: str, path: str, field: Field, records: list[dict[str, Any]]) -> "pa.Array":
    return _typed(entity, path, field, _values(entity, path, records))


def _values(entity: str, path: str, records: list[dict[str, Any]]) -> list[Any]:
    """One field of every record; null where a parent on the way is missing."""
    *parents, name = path.split(".")
    try:
        rows: list[Any] = records
        for parent in parents:
            rows = [row and row[parent] for row in rows]
        return [row and row[name] for row in rows] if parents else list(map(itemgetter(name), rows))
    except (KeyError, TypeError):
        raise ContractError(f"Salesforce left the field {path} of {entity} out of its answer.") from None


def _typed(entity: str, path: str, field: Field, values: Sequence[Any]) -> "pa.Array":
    import pyarrow as pa

    kind = arrow_type(field)
    try:
        if field.type in (FieldType.DATE, FieldType.INSTANT):
            return pa.array(values, pa.string()).cast(kind)
        if field.type is FieldType.DECIMAL:
            return _decimals(values, kind)
        if field.type is FieldType.INTEGER:  # by way of a decimal: Arrow cuts 1.5 down to an integer without a word
            return pa.array(values, pa.decimal128(38, 0)).cast(kind)
        return pa.array(values, kind)
    except (ValueError, TypeError, OverflowError, pa.ArrowException):
        raise ContractError(
            f"Salesforce sends a value of {entity}.{path} that is no {field.type.value}, which its description promises."
        ) from None


def _decimals(values: Sequence[Any], kind: "pa.DataType") -> "pa.Array":
    """Numbers at the field's scale. Salesforce computes formulas to more digits than it describes: those are rounded."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return pa.array(values, kind)
    except pa.ArrowInvalid:  # more digits than the scale; a float would have lost some already
        exact = pa.array(values, pa.decimal256(76, 38))
        return pc.round(exact, kind.scale, round_mode="half_to_even").cast(kind)


def _settled(found: Page, started: datetime | None) -> datetime | None:
    """The latest modification on the page that was there when the query began: up to it everything has been read.

    A later one belongs to a record that changed since, and that stood somewhere else in the order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if started is None:
        return None
    moments = pa.array(found.marks["modified"])
    latest: datetime | None = pc.max(moments.filter(pc.less(moments, pa.scalar(started - _CLOCKS, moments.type)))).as_py()
    return latest


def _date(answer: Answer) -> datetime | None:
    try:
        return parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return None
