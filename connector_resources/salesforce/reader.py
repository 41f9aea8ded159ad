"""Records through queries ("Query", "QueryAll", "Query More Results" of the REST API Developer Guide).

A query's cursor fixes which records come; a page shows their values as they are when it is fetched. So a record that changes
during a read shows a SystemModstamp out of order, and is found again by the next read.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TypeAlias, cast

from connector_resources.answers import Answer
from connector_resources.contract import Entity, Field, Page, Window
from connector_resources.errors import ConfigurationError, ContractError, SystemUnavailable
from connector_resources.lined_yaml import suggestion
from connector_resources.salesforce import lines as lines_of
from connector_resources.salesforce import pages, soql
from connector_resources.salesforce.api import Api
from connector_resources.salesforce.describe import Description
from connector_resources.salesforce.errors import BulkUnsupported, CursorExpired
from connector_resources.salesforce.jobs import SINCE, Jobs
from connector_resources.salesforce.pages import Fetched, Plan

_CLOCKS = timedelta(minutes=1)  # the org's clocks need not agree to the second
_RESTARTS = 3
_PAGE = 2_000  # records of a page of the REST API, at most

First: TypeAlias = tuple[Fetched, "datetime | None"]  # the first page of a query, and when the query began


class Reader:
    """Reads pages. `describe` gives the description of a parent entity, for paths such as Owner.Name."""

    def __init__(self, api: Api, describe: Callable[[str], Description]) -> None:
        self.api = api
        self.describe = describe

    def plan(self, entity: Entity, fields: Sequence[str]) -> Plan:
        """Raises ConfigurationError naming a field that is not there."""
        described = {one.name: one for one in entity.lines}
        lines: dict[str, dict[str, Field]] = {}
        found = {}
        for path in fields:
            name, _, inner = path.partition(".")
            if name in described and inner:
                child = self.describe(described[name].entity).entity
                lines.setdefault(name, {})[inner] = self._field(child, inner)
            else:
                found[path] = self._field(entity, path)
        marks = tuple(name for name in (entity.modified, pages.DELETED, pages.MASTER) if name and entity.field(name))
        return Plan(entity, found, marks, lines)

    def window(self, plan: Plan, window: Window, first: First | None = None) -> Iterator[Page]:
        """Pages in ascending order of modification. An expired cursor is replaced by a fresh query from the last instant at
        which nothing can have been missed, inclusively: records there come twice. Entities without such an instant come whole.
        """
        modified, since, restarts = plan.entity.modified, window.since, 0
        while True:
            where = soql.at_least(modified, since) if modified and since else ""
            seen = since
            try:
                for found, started in self._pages(plan, _resource(window), plan.query(where), first):
                    yield found
                    seen = _settled(found, started) or seen
                return
            except CursorExpired:
                first = None
                restarts = restarts + 1 if seen == since else 0
                if restarts >= _RESTARTS:
                    raise SystemUnavailable(
                        f"Salesforce drops the cursor of each query over {plan.entity.name} before it is read to its end."
                    ) from None
                since = seen

    def documents(self, plan: Plan, window: Window) -> Iterator[Page]:
        """As `window`, then the documents that have not come yet and whose lines have changed or were deleted since: a line
        may change without a trace in its document."""
        seen: set[str] = set()
        for page in self.window(plan, window):
            seen.update(page.records.index)
            yield page
        latest: dict[str, str] = {}
        for lines in (one for one in plan.entity.lines if one.name in plan.lines):
            asked = self.plan(self.describe(lines.entity).entity, [lines.parent])
            for page in self.window(asked, Window(window.since)):
                parents = page.records[lines.parent].to_list()
                for parent, stamp in zip(parents, page.marks["version"].to_list(), strict=True):
                    if parent not in seen:
                        latest[parent] = max(latest.get(parent, ""), stamp)
        for page in self.ids(plan, list(latest)) if latest else ():
            yield lines_of.touched(page, [latest.get(str(record)) for record in page.records.index])

    def everything(self, plan: Plan, window: Window, jobs: Jobs, above: int) -> Iterator[Page]:
        """Pages of all records: by a bulk query, in no order, where there are more than `above` or too few calls are left to
        read them page by page; else, and where the Bulk API does not read them, as `window` does."""
        answer = self.api.answer(_resource(window), {"q": plan.query()})
        first = pages.from_json(plan, answer, self.api.answer), _date(answer)
        if not plan.lines and self.api.at_least(SINCE) and self._many(first[0], above):
            try:
                for content in jobs.query(plan.query(ordered=False), window.deleted):
                    yield pages.from_csv(plan, content)
                return
            except BulkUnsupported:
                pass
        yield from self.window(plan, window, first)

    def _many(self, first: Fetched, above: int) -> bool:
        left = self.api.calls_left()
        return first.more is not None and (first.total > above or (left is not None and -(-first.total // _PAGE) > left))

    def ids(self, plan: Plan, ids: Sequence[str]) -> Iterator[Page]:
        """Pages of these records, deleted ones included, with whether somebody else changed them last."""
        plan, key = plan.telling(self.api.user), plan.entity.key
        return self._among(plan, key, soql.id_chunks(ids, plan.query(soql.one_of(key, ()))))

    def among(self, plan: Plan, path: str, texts: Sequence[str]) -> Iterator[Page]:
        """Pages of the records whose field at `path` holds one of these texts, deleted ones included."""
        return self._among(plan, path, soql.text_chunks(texts, plan.query(soql.one_of(path, ()))))

    def _among(self, plan: Plan, path: str, chunks: Iterable[Sequence[str]]) -> Iterator[Page]:
        for chunk in chunks:
            for found, _ in self._pages(plan, "queryAll", plan.query(soql.one_of(path, chunk))):
                if len(found.records):
                    yield found

    def _pages(
        self, plan: Plan, resource: str, query: str, first: First | None = None
    ) -> Iterator[tuple[Page, datetime | None]]:
        """Each page, and when the query began by Salesforce's own clock. `first`: what the query answered, if it was sent."""
        if first is None:
            answer = self.api.answer(resource, {"q": query})
            first = pages.from_json(plan, answer, self.api.answer), _date(answer)
        found, started = first
        while True:
            yield found.page, started
            if not found.more:
                return
            if not found.more.startswith("/services/data/"):
                raise ContractError("Salesforce names a next page that is not one of its API.")
            answer = self.api.answer(found.more)
            found = pages.from_json(plan, answer, self.api.answer)

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


def _resource(window: Window) -> str:
    return "queryAll" if window.deleted else "query"


def _settled(found: Page, started: datetime | None) -> datetime | None:
    """The latest modification on the page that was there when the query began: up to it everything has been read.

    A later one belongs to a record that changed since, and that stood somewhere else in the order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if started is None or not len(found.records):
        return None
    stamps = pa.array(found.marks["version"].array)  # a document may show the instant of its lines
    kind = pa.timestamp("us", "UTC")
    last = stamps[-1:].cast(kind)[0].as_py()
    if last is not None and last < started - _CLOCKS:  # the usual case: pages are in this order
        return cast("datetime", last)
    moments = stamps.cast(kind)
    latest: datetime | None = pc.max(moments.filter(pc.less(moments, pa.scalar(started - _CLOCKS, moments.type)))).as_py()
    return latest


def _date(answer: Answer) -> datetime | None:
    try:
        return parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return None
