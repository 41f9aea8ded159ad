"""Ingest: the rows of an uploaded table written one by one, in internal batches of 200, and the three result files.

The order of the result files is not that of the upload: the real one promises none, this one turns it round.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from connector_resources.sandbox.salesforce import ids, tables, writes
from connector_resources.sandbox.salesforce.org import Org
from connector_resources.sandbox.salesforce.paths import relation
from connector_resources.sandbox.salesforce.reading import read
from connector_resources.sandbox.salesforce.refusal import Refusal
from connector_resources.sandbox.salesforce.schema import SObjectType
from connector_resources.sandbox.salesforce.tables import DELIMITERS, ENDINGS, Table

if TYPE_CHECKING:
    from connector_resources.sandbox.salesforce.jobs import Job

Row: TypeAlias = Sequence[str]
_BATCH = 200
_NULL = "#N/A"


def ingested(org: Org, job: "Job") -> str | None:
    """Do the job's work and keep its result files; the error message of a job that fails as a whole."""
    settings = job.settings
    kind, operation = org.schema[settings["object"]], settings["operation"]
    try:
        table = unprocessed(job)
        key = _key(org, kind, operation, settings.get("externalIdFieldName"), table.header)
        fields = {name: _field(org, kind, name) for name in table.header}
    except Refusal as problem:
        return problem.message
    good: list[Row] = []
    bad: list[Row] = []
    write = _writer(org, kind, operation, key)
    for start in range(0, len(table.rows), _BATCH):
        batch = [dict(zip(table.header, row, strict=True)) for row in table.rows[start : start + _BATCH]]
        counted = Counter(row[key].casefold() for row in batch) if key else Counter()
        for row in batch:
            try:
                if key and row[key] and counted[row[key].casefold()] > 1:
                    raise Refusal(400, "DUPLICATE_VALUE", f"Duplicate id or external id specified: {row[key]}", [])
                id_, created = write(row, _values(row, fields))
                good.append([id_, str(created).lower(), *row.values()])
            except Refusal as problem:
                id_ = row.get("Id", "") if operation in ("update", "delete") else ""
                error = f"{problem.code}:{problem.message}:{' '.join(problem.fields or ())} --"
                bad.append([id_, error, *row.values()])
    job.processed = len(table.rows)
    job.files = _files(table.header, good[::-1], bad[::-1], [])
    return None


def unprocessed(job: "Job") -> Table:
    """What was uploaded, of which nothing has been done so far. Raises Refusal for what is no table."""
    table = tables.read(job.content or b"", DELIMITERS[job.settings["columnDelimiter"]], ENDINGS[job.settings["lineEnding"]])
    job.files = _files(table.header, [], [], table.rows)
    return table


def _files(header: Sequence[str], good: list[Row], bad: list[Row], rest: list[Row]) -> dict[str, Table]:
    return {
        "successfulresults": Table(["sf__Id", "sf__Created", *header], good),
        "failedresults": Table(["sf__Id", "sf__Error", *header], bad),
        "unprocessedrecords": Table(header, rest),
    }


def _key(org: Org, kind: SObjectType, operation: str, external: str | None, header: Sequence[str]) -> str | None:
    """The column that says which record is meant. Raises Refusal when it is not there."""
    if operation == "insert":
        if "Id" in header:
            raise Refusal(400, "INVALIDBATCH", "InvalidBatch : Field name not found : Id")
        return None
    wanted = writes.key_field(org, kind, external).name if operation == "upsert" and external else "Id"
    found = next((name for name in header if name.lower() == wanted.lower()), None)
    if found is None:
        raise Refusal(400, "INVALIDBATCH", f"InvalidBatch : Field name not found : {wanted}")
    if operation == "delete" and len(header) > 1:
        raise Refusal(400, "INVALIDBATCH", "InvalidBatch : Invalid batch for delete: only Id is allowed")
    return found


def _field(org: Org, kind: SObjectType, name: str) -> tuple[str, str, str | None]:
    """(field or relationship, type, the parent's key field). Raises Refusal for a column that leads nowhere."""
    first, _, last = name.partition(".")
    known = {field.name.lower(): field for field in org.fields(kind).values()}
    if not last and first.lower() in known:
        return known[first.lower()].name, known[first.lower()].type, None
    step = relation(org, kind, first) if last else None
    if step is None:
        raise Refusal(400, "INVALIDBATCH", f"InvalidBatch : Field name not found : {name}")
    return step.relationship, "reference", last


def _values(row: Mapping[str, str], fields: Mapping[str, tuple[str, str, str | None]]) -> dict[str, Any]:
    """What the row says: empty is absent, #N/A is null."""
    found: dict[str, Any] = {}
    for column, text in row.items():
        name, kind, parent_key = fields[column]
        if text == "" or name == "Id":
            continue
        value: Any = None if text == _NULL else text
        if kind == "boolean" and value is not None:
            value = {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
        found[name] = {parent_key: value} if parent_key and value is not None else value
    return found


def _writer(
    org: Org, kind: SObjectType, operation: str, key: str | None
) -> Callable[[Mapping[str, str], dict[str, Any]], tuple[str, bool]]:
    def write(row: Mapping[str, str], values: dict[str, Any]) -> tuple[str, bool]:
        try:
            if operation == "insert":
                return writes.create(org, kind, read(org, kind, values)), True
            given = row[key or "Id"]
            if not given:
                raise Refusal(400, "MISSING_ARGUMENT", f"{key} not specified", [])
            if operation == "upsert":
                rest = {name: value for name, value in values.items() if name.lower() != str(key).lower()}
                return writes.upsert(org, kind, str(key), given, read(org, kind, rest))
            if operation == "update":
                writes.update(org, kind, given, read(org, kind, values))
            else:
                writes.delete(org, kind, given)
            return ids.normal(given) or given, False
        except writes.Ambiguous:
            raise Refusal(400, "DUPLICATE_EXTERNAL_ID", f"{key}: more than one record found for it", [str(key)]) from None
        except Refusal as problem:
            if problem.code != "JSON_PARSER_ERROR":
                raise
            raise Refusal(400, "INVALID_TYPE_ON_FIELD_IN_RECORD", "value not of required type", problem.fields or []) from None

    return write
