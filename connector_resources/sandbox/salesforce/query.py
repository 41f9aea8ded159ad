"""Answers to queries: which records, in which order, and pages of them.

The ids of an answer are fixed when the query runs; a page shows values as they are when the page is asked for (a record that
was deleted in between is still shown).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from lark import Token

from connector_resources.sandbox.salesforce.conditions import Conditions, comparing
from connector_resources.sandbox.salesforce.org import Cursor, Org
from connector_resources.sandbox.salesforce.paths import Place
from connector_resources.sandbox.salesforce.records import Record
from connector_resources.sandbox.salesforce.refusal import Refusal
from connector_resources.sandbox.salesforce.schema import SObjectType
from connector_resources.sandbox.salesforce.soql import Query, Selected, parse, refusal

Render = Callable[[Record], dict[str, Any]]
CHILDREN_AT_ONCE = 200


def first_page(org: Org, base: str, text: str, deleted: bool, batch: int) -> dict[str, Any]:
    """The answer to a query as JSON-able; `base` is the path of the API's version, `batch` the records a page."""
    with org.lock:
        query = parse(text)
        search = _Search(org, query, deleted)
        records = search.records()
        if any(item.function not in (None, "FIELDS", "CHILDREN") for item in query.items):
            return search.aggregated(records)
        render = search.render(base)
        table = org.records[search.kind.name]

        def page(ids: Sequence[str]) -> list[dict[str, Any]]:
            return [render(table[id_]) for id_ in ids if id_ in table]

        cursor = Cursor([record["Id"] for record in records], page, batch, org.now())
        if len(cursor.ids) <= batch:
            return {"totalSize": len(cursor.ids), "done": True, "records": page(cursor.ids)}
        return _page(cursor, base, org.keep_cursor(cursor), 0)


def exported(org: Org, text: str, deleted: bool) -> tuple[str, list[str], Callable[[Record | None], list[str]]]:
    """A bulk query: the sobject type, the ids found, and record → the texts of a row (for None: the header).

    Raises Refusal 400 for what the bulk API does not query."""
    parsed = parse(text)
    search = _Search(org, parsed, deleted)
    if any(item.function for item in parsed.items) or parsed.offset:
        raise Refusal(400, "FUNCTIONALITY_NOT_ENABLED", "Aggregates, FIELDS() and OFFSET are not supported in Bulk Query")
    places = [place for _, place in search.places() if place]
    if any(place.field.type == "address" for place in places):
        raise Refusal(400, "FUNCTIONALITY_NOT_ENABLED", "Selecting compound data not supported in Bulk Query")
    readers = [(place.field.type, place.reader(org.records)) for place in places]

    def row(record: Record | None) -> list[str]:
        if record is None:
            return [_name(place) for place in places]
        return [_text(kind, read(record)) for kind, read in readers]

    return search.kind.name, [record["Id"] for record in search.records()], row


def _text(kind: str, value: Any) -> str:
    """As a bulk query's file has it: instants end in Z, money and numbers always have a point, great ones an exponent."""
    if value is None:
        return ""
    if kind == "boolean":
        return str(value).lower()
    if kind == "datetime":
        return str(value).replace("+0000", "Z")
    if kind in ("double", "currency", "percent"):
        number = float(value)
        if abs(number) < 10_000_000:
            return repr(number)
        sign, digits, exponent = Decimal(repr(number)).as_tuple()
        text = "".join(map(str, digits)).rstrip("0")
        power = len(digits) + int(exponent) - 1
        return f"{'-' if sign else ''}{text[0]}.{text[1:] or '0'}E{power}"
    return str(value)


def next_page(org: Org, base: str, locator: str) -> dict[str, Any]:
    """The page that a locator ("01g…-2000") names. Raises Refusal 400 INVALID_QUERY_LOCATOR."""
    name, _, position = locator.partition("-")
    with org.lock:
        cursor = org.cursor(name)
        if not position.isdigit() or not int(position) < len(cursor.ids):
            raise Refusal(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        return _page(cursor, base, name, int(position))


def _page(cursor: Cursor, base: str, name: str, start: int) -> dict[str, Any]:
    end = start + cursor.batch
    answer: dict[str, Any] = {"totalSize": len(cursor.ids), "done": end >= len(cursor.ids)}
    if not answer["done"]:
        answer["nextRecordsUrl"] = f"{base}/query/{name}-{end}"
    return answer | {"records": cursor.page(cursor.ids[start:end])}


class _Search:
    """One query, its names resolved."""

    def __init__(self, org: Org, query: Query, deleted: bool) -> None:
        self.org = org
        self.query = query
        self.deleted = deleted
        try:
            self.kind = org.kind(query.sobject)
        except Refusal:
            message = (
                f"sObject type '{query.sobject}' is not supported. If you are attempting to use a custom object, be sure to "
                "append the '__c' after the entity name. Please reference your WSDL or the describe call for the appropriate "
                "names."
            )
            raise refusal(query.text, query.sobject.start_pos or 0, "INVALID_TYPE", message) from None
        self.conditions = Conditions(org, self.kind, query.text, self._inner)
        if query.offset > 2000:
            raise Refusal(400, "NUMBER_OUTSIDE_VALID_RANGE", "Maximum SOQL offset allowed is 2000")

    def records(self) -> list[Record]:
        """What the query finds, in its order."""
        test = self.conditions.test(self.query.where) if self.query.where else None
        places = self.places()  # resolved first: a wrong name is refused even when nothing is found
        del places
        found = [
            record
            for record in self.conditions.candidates(self.query.where)
            if (self.deleted or not record.get("IsDeleted")) and (test is None or test(record))
        ]
        for sort in reversed(self.query.order):
            read = comparing(self.conditions.place(sort.path), self.org)
            keyed = [(read(record), record) for record in found]
            nulls = [record for key, record in keyed if key is None]
            filled = sorted((pair for pair in keyed if pair[0] is not None), key=_first, reverse=sort.descending)
            values = [record for _, record in filled]
            found = [*values, *nulls] if sort.nulls_last else [*nulls, *values]
        end = None if self.query.limit is None else self.query.offset + self.query.limit
        return found[self.query.offset : end]

    def places(self) -> list[tuple[Selected, Place | None]]:
        """What the select list leads to, FIELDS() spelled out."""
        found: list[tuple[Selected, Place | None]] = []
        for item in self.query.items:
            if item.children is not None:
                continue
            if item.function == "FIELDS":
                found += [(item, Place((), self.kind, field)) for field in self._group(item)]
            else:
                found.append((item, None if item.path is None else self.conditions.place(item.path)))
        names = [_name(place) for item, place in found if place and item.function is None]
        for name in names:
            if names.count(name) > 1:
                raise Refusal(400, "INVALID_FIELD", f"duplicate field selected: {name}")
        return found

    def _group(self, item: Selected) -> list[Any]:
        word = str(item.path).upper()
        fields = self.org.fields(self.kind).values()
        if word not in ("ALL", "STANDARD", "CUSTOM"):
            raise Refusal(400, "MALFORMED_QUERY", f"The FIELDS function does not know {item.path}.")
        if word != "STANDARD" and not (self.query.limit is not None and self.query.limit <= 200):
            raise Refusal(400, "MALFORMED_QUERY", "The SOQL FIELDS function must have a LIMIT of at most 200")
        return [field for field in fields if word == "ALL" or field.name.endswith("__c") is (word == "CUSTOM")]

    def render(self, base: str) -> Render:
        """Record → what a page shows of it, parents as nested records, children as answers within the answer."""
        plain = renderer(self.org, self.kind, [place for _, place in self.places() if place], base)
        children = [
            Children(self.org, self.kind, item.children, self.deleted, base) for item in self.query.items if item.children
        ]
        return lambda record: plain(record) | {one.relationship: one.of(record) for one in children}

    def aggregated(self, records: Iterable[Record]) -> dict[str, Any]:
        """The answer of count(), which is a number alone, and of other aggregates, which is one row."""
        rows = list(records)
        if len(self.query.items) == 1 and self.query.items[0].path is None:
            return {"totalSize": len(rows), "done": True, "records": []}
        row: dict[str, Any] = {"attributes": {"type": "AggregateResult"}}
        for item, place in self.places():
            if place is None or item.function in (None, "FIELDS"):
                raise Refusal(400, "MALFORMED_QUERY", f"Field must be grouped or aggregated: {item.path}")
            read = place.reader(self.org.records)
            values = [value for value in map(read, rows) if value is not None]
            row[item.alias or f"expr{sum(key.startswith('expr') for key in row)}"] = _aggregate(str(item.function), values)
        return {"totalSize": 1, "done": True, "records": [row]}

    def _inner(self, query: Query) -> set[Any]:
        search = _Search(self.org, query, self.deleted)
        place = search.places()[0][1]
        if place is None or len(query.items) != 1 or query.items[0].function:
            raise Refusal(400, "MALFORMED_QUERY", "The inner query must select exactly one field")
        return set(map(comparing(place, self.org), search.records()))


def _first(pair: tuple[Any, Record]) -> Any:
    return pair[0]


def _name(place: Place) -> str:
    return ".".join([*(step.relationship for step in place.steps), place.field.name])


def _aggregate(function: str, values: list[Any]) -> Any:
    match function:
        case "COUNT":
            return len(values)
        case "COUNT_DISTINCT":
            return len({v.casefold() if isinstance(v, str) else v for v in values})
        case "MIN":
            return min(values, default=None)
        case "MAX":
            return max(values, default=None)
        case "SUM":
            return sum(values) if values else None
    return sum(values) / len(values) if values else None


class Children:
    """A query within the select list ("Relationship Queries", SOQL and SOSL Reference): its FROM names a relationship."""

    def __init__(self, org: Org, parent: SObjectType, query: Query, deleted: bool, base: str) -> None:
        child = next((one for one in parent.children if one.relationship.lower() == query.sobject.lower()), None)
        if child is None:
            message = (
                f"Didn't understand relationship '{query.sobject}' in FROM part of query call. If you are attempting to use a "
                "custom relationship, be sure to append the '__r' after the custom relationship name. Please reference your "
                "WSDL or the describe call for the appropriate names."
            )
            raise refusal(query.text, query.sobject.start_pos or 0, "INVALID_TYPE", message)
        if any(item.children for item in query.items):
            raise Refusal(400, "MALFORMED_QUERY", "SOQL queries within a query within a query are not supported here")
        self.org, self.base, self.relationship, self.field = org, base, child.relationship, child.field
        self.search = _Search(org, replace(query, sobject=Token("NAME", child.sobject)), deleted)
        self.show = self.search.render(base)

    def of(self, record: Record) -> dict[str, Any] | None:
        """None where there are no children; the first ones, and where to go on, where there are many."""
        table = self.org.records[self.search.kind.name]
        found = [one["Id"] for one in self.search.records() if one.get(self.field) == record["Id"]]
        if not found:
            return None

        def page(ids: Sequence[str]) -> list[dict[str, Any]]:
            return [self.show(table[id_]) for id_ in ids if id_ in table]

        if len(found) <= CHILDREN_AT_ONCE:
            return {"totalSize": len(found), "done": True, "records": page(found)}
        cursor = Cursor(found, page, CHILDREN_AT_ONCE, self.org.now())
        return _page(cursor, self.base, self.org.keep_cursor(cursor), 0)


def renderer(org: Org, kind: SObjectType, places: Sequence[Place], base: str, depth: int = 0) -> Render:
    """Record → JSON-able with these columns in their order; those under one parent become one nested record.

    `depth`: how many steps of the paths are taken already."""
    columns: dict[str, Callable[[Record], Any]] = {}
    for place in places:
        if len(place.steps) == depth:
            columns[place.field.name] = Place((), place.kind, place.field).reader(org.records)
            continue
        step = place.steps[depth]
        if step.relationship not in columns:
            under = [p for p in places if p.steps[: depth + 1] == place.steps[: depth + 1]]
            inner = renderer(org, step.kind, under, base, depth + 1)
            columns[step.relationship] = _parent(org, step.kind.name, step.field, inner)
    prefix = f"{base}/sobjects/{kind.name}/"

    def render(record: Record) -> dict[str, Any]:
        shown: dict[str, Any] = {"attributes": {"type": kind.name, "url": prefix + record["Id"]}}
        for name, read in columns.items():
            shown[name] = read(record)
        return shown

    return render


def _parent(org: Org, sobject: str, field: str, render: Render) -> Callable[[Record], Any]:
    def read(record: Record) -> Any:
        parent = org.records[sobject].get(record.get(field, ""))
        return None if parent is None else render(parent)

    return read


def batch_size(options: str | None) -> int:
    """Records a page from the header Sforce-Query-Options ("batchSize=500"): 200 to 2,000, usually 2,000."""
    for option in (options or "").split(","):
        name, _, number = option.partition("=")
        if name.strip().lower() == "batchsize" and number.strip().isdigit():
            return min(2000, max(200, int(number)))
    return 2000
