"""sObject Collections: up to 200 records a call, each with its own result ("Using Composite Resources", REST guide)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connector_resources.sandbox.salesforce import writes
from connector_resources.sandbox.salesforce.org import Org
from connector_resources.sandbox.salesforce.refusal import Refusal
from connector_resources.sandbox.salesforce.schema import SObjectType

LIMIT = 200
_ROLLED_BACK = Refusal(
    400,
    "ALL_OR_NONE_OPERATION_ROLLED_BACK",
    "Record rolled back because not all records were valid and the request was using AllOrNone header",
)


def create(org: Org, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    return _each(org, _records(body), body, lambda record: {"id": writes.create(org, _kind(org, record), _fields(record))})


def update(org: Org, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    def one(record: Mapping[str, Any]) -> dict[str, Any]:
        id_ = record.get("id") or record.get("Id")
        if not isinstance(id_, str):
            raise Refusal(400, "MISSING_ARGUMENT", "Id not specified in an update call", [])
        writes.update(org, _kind(org, record), id_, _fields(record))
        return {"id": id_}

    return _each(org, _records(body), body, one)


def upsert(org: Org, kind: SObjectType, field: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    key = writes.key_field(org, kind, field).name

    def one(record: Mapping[str, Any]) -> dict[str, Any]:
        given = {name.lower(): value for name, value in record.items()}.get(key.lower())
        if given is None:
            raise Refusal(400, "MISSING_ARGUMENT", f"{key} not specified", [])
        rest = {name: value for name, value in record.items() if name.lower() != key.lower()}
        try:
            id_, created = writes.upsert(org, kind, key, str(given), rest)
        except writes.Ambiguous:
            raise Refusal(400, "DUPLICATE_EXTERNAL_ID", f"{key}: more than one record found", [key]) from None
        return {"id": id_, "created": created}

    return _each(org, _records(body), body, one)


def delete(org: Org, ids: Sequence[str], all_or_none: bool) -> list[dict[str, Any]]:
    kinds = {kind.prefix: kind for kind in org.schema.values()}

    def one(record: Mapping[str, Any]) -> dict[str, Any]:
        id_ = record["id"]
        if id_[:3] not in kinds:
            raise Refusal(400, "MALFORMED_ID", f"malformed id {id_}", [])
        writes.delete(org, kinds[id_[:3]], id_)
        return {"id": id_}

    return _each(org, [{"id": id_} for id_ in ids], {"allOrNone": all_or_none}, one)


def _records(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    records = body.get("records")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise Refusal(400, "JSON_PARSER_ERROR", "The request needs a list of records.")
    return records


def _kind(org: Org, record: Mapping[str, Any]) -> SObjectType:
    name = (record.get("attributes") or {}).get("type")
    if name not in org.schema:
        raise Refusal(400, "INVALID_TYPE", f"sObject type '{name}' is not supported.")
    return org.schema[name]


def _fields(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in ("attributes", "id", "Id")}


def _each(
    org: Org,
    records: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
    write: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> list[dict[str, Any]]:
    if len(records) > LIMIT:
        message = f"record limit reached. cannot submit more than {LIMIT} records into this call"
        raise Refusal(400, "EXCEEDED_ID_LIMIT", message)
    with org.lock:
        before = org.copied() if options.get("allOrNone") else None
        results = [_result(record, write) for record in records]
        if before is not None and not all(result["success"] for result in results):
            org.restore(before)
            return [_failed(_ROLLED_BACK) if result["success"] else result for result in results]
    return results


def _result(record: Mapping[str, Any], write: Callable[[Mapping[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {**write(record), "success": True, "errors": []}
    except Refusal as problem:
        return _failed(problem)


def _failed(problem: Refusal) -> dict[str, Any]:
    error = {"statusCode": problem.code, "message": problem.message, "fields": list(problem.fields or [])}
    return {"success": False, "errors": [error]}
