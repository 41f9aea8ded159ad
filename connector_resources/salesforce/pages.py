"""Answers with records, JSON or CSV, as pages of typed columns.

Numbers go from their digits straight to decimals; nothing is guessed, everything follows the entity's description. Arrow reads
pages of JSON without a Python object for each record; where it finds something odd, the careful way reads them again, and says
what is wrong.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from connector_resources.answers import Answer
from connector_resources.contract import Entity, Field, FieldType, Page
from connector_resources.errors import ContractError
from connector_resources.frames import arrow_array, arrow_type, page
from connector_resources.salesforce import soql
from connector_resources.salesforce.lines import STAMP, Lines, touched
from connector_resources.salesforce.lines import columns as lines_of

if TYPE_CHECKING:
    import pyarrow as pa

DELETED, MASTER, WHO = "IsDeleted", "MasterRecordId", "LastModifiedById"
_PLACES = 18  # decimals that are read quickly: more than the scale of a field, since formulas have more
_BEGINNING = 65_536  # bytes
_BLOCK = 1 << 30  # bytes; Arrow reads a page as one block, however long its longest record is


@dataclass(frozen=True)
class Plan:
    """What a read asks for: each path with its field, the paths of the marks that the entity has, and of child lines by their
    relationship the paths within a line. `user`: the id of ours, where pages are to tell what somebody else changed last."""

    entity: Entity
    fields: Mapping[str, Field]
    marks: tuple[str, ...]
    lines: Lines = dataclasses.field(default_factory=dict)
    user: str | None = None

    def telling(self, user: str | None) -> "Plan":
        """The same, and whether the last change was that of somebody else."""
        known = user is not None and self.entity.field(WHO) is not None
        return dataclasses.replace(self, marks=(*self.marks, WHO), user=user) if known else self

    @property
    def paths(self) -> list[str]:
        return list(dict.fromkeys((self.entity.key, *self.marks, *self.fields)))

    @cached_property
    def schema(self) -> "pa.Schema":
        return _schema(self)

    def query(self, where: str = "", ordered: bool = True) -> str:
        order = [name for name in (self.entity.modified, self.entity.key) if name] if ordered else []
        inner = {name: list(dict.fromkeys(["Id", STAMP, *fields])) for name, fields in self.lines.items()}
        return soql.select(self.entity.name, self.paths, where, order, inner)

    def field(self, path: str) -> Field | None:
        return self.fields.get(path) or self.entity.field(path)


@dataclass(frozen=True)
class Fetched:
    """A page of a query's answer, the path of the next one, and how many records the query found."""

    page: Page
    more: str | None
    total: int


def from_json(plan: Plan, answer: Answer, more: "Callable[[str], Answer] | None" = None) -> Fetched:
    """The page that a query answers; `more` fetches what a document has of lines beyond the first ones. Raises ContractError
    naming what is wrong with it."""
    found = None if plan.lines else quick(plan, answer.content)
    if found is not None:
        return found
    body = answer.json()
    records = body.get("records") if isinstance(body, dict) else None
    if not isinstance(records, list):
        raise ContractError("Salesforce answered a query without a list of records.")
    columns = {path: _values(plan.entity.name, path, records) for path in plan.paths}
    if not plan.lines or more is None:
        return _fetched(_page(plan, columns), body)
    texts, stamps = lines_of(plan.entity, plan.lines, records, more)
    return _fetched(touched(_page(plan, columns | texts), stamps), body)


def from_csv(plan: Plan, content: bytes) -> Page:
    """The page in a file of a bulk query's results. Raises ContractError naming what is wrong with it."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    texts = csv.ConvertOptions(
        column_types=dict.fromkeys(plan.paths, pa.string()),
        include_columns=plan.paths,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    reading = csv.ReadOptions(use_threads=False, block_size=max(len(content), 1))
    parsing = csv.ParseOptions(newlines_in_values=True)
    try:
        table = csv.read_csv(pa.BufferReader(content), reading, parsing, texts).combine_chunks()
    except pa.ArrowException:
        raise ContractError(
            f"Salesforce answered a bulk query over {plan.entity.name} with a file that has other columns, or is no CSV."
        ) from None
    columns: dict[str, Any] = {path: _one(table[path]) for path in plan.paths}
    if plan.entity.modified:  # the same token as in JSON
        stamps = columns[plan.entity.modified]
        columns[plan.entity.modified] = pc.replace_substring_regex(stamps, "Z$", "+0000")
    return _page(plan, columns)


def _fetched(page: Page, envelope: Mapping[str, Any]) -> Fetched:
    more, total = envelope.get("nextRecordsUrl"), envelope.get("totalSize")
    return Fetched(page, str(more) if more else None, total if isinstance(total, int) else len(page.records))


def _page(plan: Plan, columns: Mapping[str, Any]) -> Page:
    """`columns`: path → values as they came, Arrow or not. Raises ContractError naming one that is not of its type."""
    import pyarrow as pa

    entity, empty = plan.entity, pa.nulls(0)

    def typed(path: str) -> "pa.Array | None":
        field = plan.field(path)
        return None if field is None or path not in columns else _typed(entity.name, path, field, columns[path])

    def mark(path: str | None) -> "pa.Array | None":
        return typed(path) if path in plan.marks and path is not None else None

    ids = typed(entity.key)
    stamps = columns.get(entity.modified or "")
    unknown = pa.nulls(len(ids if ids is not None else empty), pa.string())
    modified = mark(entity.modified)
    return page(
        ids if ids is not None else empty,
        {path: (arrow_type(field), _typed(entity.name, path, field, columns[path])) for path, field in plan.fields.items()}
        | {name: (pa.string(), columns[name]) for name in plan.lines},
        version=unknown if stamps is None else stamps if isinstance(stamps, pa.Array) else pa.array(stamps, pa.string()),
        modified=unknown.cast(pa.timestamp("us", "UTC")) if modified is None else modified,
        deleted=mark(DELETED),
        merged_into=mark(MASTER),
        own=None if plan.user is None else _own(mark(WHO), plan.user),
    )


def _own(who: "pa.Array | None", user: str) -> "pa.Array | None":
    """False where somebody else changed the record last; null where our user did, who may be more than this connector. The
    version cannot tell: Salesforce counts whole seconds."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if who is None:
        return None
    return pc.if_else(pc.equal(pc.utf8_slice_codeunits(who, 0, 15), user[:15]), pa.scalar(None, pa.bool_()), False)


def quick(plan: Plan, content: bytes) -> Fetched | None:
    """As `from_json`, by way of Arrow's reader, to which the whole answer is one row; None where the page is not as it always
    is."""
    import pyarrow as pa
    from pyarrow import json

    if b'"records":[{"attributes":' not in content:  # laid out in another way than what `_odd` looks for
        return None
    try:
        options = json.ParseOptions(plan.schema, unexpected_field_behavior="ignore")
        answer = json.read_json(pa.BufferReader(content), json.ReadOptions(use_threads=False, block_size=_BLOCK), options)
        records = _one(answer["records"]).flatten()
        columns = {path: _reached(records, path) for path in plan.paths}
        whole = len(answer) == 1 and records.null_count == 0 and len(records)
        if not whole or any(_odd(plan, path, values, content) for path, values in columns.items()):
            return None
        envelope = {name: answer[name][0].as_py() for name in ("nextRecordsUrl", "totalSize")}
        return _fetched(_page(plan, columns), envelope)
    except (pa.ArrowException, ContractError):
        return None


def _schema(plan: Plan) -> "pa.Schema":
    """How Arrow reads an answer, and in it each path: numbers as decimals of their digits, dates and instants as texts."""
    import pyarrow as pa

    def kind(field: Field | None) -> pa.DataType:
        known = {
            FieldType.BOOLEAN: pa.bool_(),
            FieldType.INTEGER: pa.decimal128(38, 0),
            FieldType.DECIMAL: pa.decimal256(76, _PLACES),  # of 38 digits Arrow makes another number where they do not suffice
        }
        return known.get(field.type, pa.string()) if field is not None else pa.string()

    tree: dict[str, Any] = {}
    for path in plan.paths:
        *parents, name = path.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = kind(plan.field(path))

    def struct(branch: Mapping[str, Any]) -> list[pa.Field]:
        return [pa.field(name, pa.struct(struct(one)) if isinstance(one, dict) else one) for name, one in branch.items()]

    envelope = {"nextRecordsUrl": pa.string(), "totalSize": pa.int64()}
    return pa.schema({**envelope, "records": pa.list_(pa.struct(struct(tree)))})


def _reached(records: "pa.StructArray", path: str) -> "pa.Array":
    """The column at the end of a path; null where a parent is missing."""
    import pyarrow.compute as pc

    first, *rest = path.split(".")
    column = records.field(first)
    return pc.struct_field(column, rest) if rest else column


def _odd(plan: Plan, path: str, values: "pa.Array", content: bytes) -> bool:
    """Whether a field may be missing from the records, or is a text where it should be a number: Arrow takes both.

    The latter is looked for where the page begins: whoever writes numbers as texts does so in every record."""
    first, _, _ = path.partition(".")
    field = plan.field(path)
    number = field is not None and field.type in (FieldType.DECIMAL, FieldType.INTEGER)
    if number and content.find(f'"{path.rpartition(".")[2]}":"'.encode(), 0, _BEGINNING) >= 0:
        return True
    return values.null_count == len(values) and f'"{first}":'.encode() not in content


def _one(column: "pa.ChunkedArray") -> "pa.Array":
    import pyarrow as pa

    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def _values(entity: str, path: str, records: Sequence[Mapping[str, Any]]) -> list[Any]:
    """One field of every record; null where a parent on the way is missing."""
    *parents, name = path.split(".")
    try:
        rows: Sequence[Any] = records
        for parent in parents:
            rows = [row and row[parent] for row in rows]
        return [row and row[name] for row in rows] if parents else list(map(itemgetter(name), rows))
    except (KeyError, TypeError):
        raise ContractError(f"Salesforce left the field {path} of {entity} out of its answer.") from None


def _typed(entity: str, path: str, field: Field, values: "Sequence[Any] | pa.Array") -> "pa.Array":
    import pyarrow as pa

    kind = arrow_type(field)
    try:
        if isinstance(values, pa.Array) and values.type == kind:
            return values
        if field.type in (FieldType.DATE, FieldType.INSTANT):
            return pa.array(values, pa.string()).cast(kind)
        if field.type is FieldType.DECIMAL:
            return _decimals(values, kind)
        if field.type is FieldType.INTEGER:  # by way of a decimal: Arrow cuts 1.5 down to an integer without a word
            return _decimal(values, pa.decimal128(38, 0)).cast(kind)
        return values.cast(kind) if isinstance(values, pa.Array) else arrow_array(values, kind)
    except (ValueError, TypeError, OverflowError, pa.ArrowException):
        raise ContractError(
            f"Salesforce sends a value of {entity}.{path} that is no {field.type.value}, which its description promises."
        ) from None


def _decimals(values: "Sequence[Any] | pa.Array", kind: "pa.DataType") -> "pa.Array":
    """Numbers at the field's scale. Salesforce computes formulas to more digits than it describes: those are rounded."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        exact = _decimal(values, pa.decimal256(76, _PLACES))
    except pa.ArrowInvalid:  # more decimals than that
        exact = _decimal(values, pa.decimal256(76, 38))
    try:
        return exact.cast(kind)
    except pa.ArrowInvalid:  # more digits than the scale; a float would have lost some already
        return pc.round(exact, kind.scale, round_mode="half_to_even").cast(kind)


def _decimal(values: "Sequence[Any] | pa.Array", kind: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)
