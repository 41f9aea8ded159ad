"""sObject Collections: up to 200 records a call, each with its own result ("Using Composite Resources", REST guide)."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from connector_resources.sandbox.salesforce import writes
from connector_resources.sandbox.salesforce.org import Org
from connector_resources.sandbox.salesforce.refusal import Refusal
from connector_resources.sandbox.salesforce.schema import SObjectType

LIMIT = 200
RETRIEVED = 2000  # records that one retrieve gives at most
_TYPES = 10  # stretches of records of one type, at most
_OF_THE_REQUEST = ("INVALID_FIELD", "JSON_PARSER_ERROR", "INVALID_TYPE")  # a body that cannot be read is refused as a whole
Write: TypeAlias = Callable[[Mapping[str, Any]], dict[str, Any]]
_ROLLED_BACK = Refusal(
    400,
    "ALL_OR_NONE_OPERATION_ROLLED_BACK",
    "Record rolled back because not all records were valid and the request was using AllOrNone header",
)


def create(org: Org, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One result a record, in their order. Raises Refusal 400 for a body that is wrong as a whole."""
    records = _records(body)
    if any("id" in record or "Id" in record for record in records):
        raise Refusal(400, "INVALID_FIELD", "The Id field should not be specified in the sobject data.", ["Id"])
    return _each(org, records, body, lambda record: {"id": writes.create(org, _kind(org, record), _fields(record))})


def update(org: Org, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    def one(record: Mapping[str, Any]) -> dict[str, Any]:
        id_ = record.get("id") or record.get("Id")
        if not isinstance(id_, str):
            raise Refusal(400, "MISSING_ARGUMENT", "Id not specified in an update call", [])
        writes.update(org, _kind(org, record), id_, _fields(record))
        return {"id": id_}

    records = _records(body)
    return _each(org, records, body, _once(one, records, lambda record: record.get("id") or record.get("Id"), "Duplicate id"))


def upsert(org: Org, kind: SObjectType, field: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    key = writes.key_field(org, kind, field).name

    def one(record: Mapping[str, Any]) -> dict[str, Any]:
        given = value(record)
        if _kind(org, record) is not kind:
            raise Refusal(400, "INVALID_TYPE", f"The request is for {kind.name} records only.")
        if given is None:
            raise Refusal(400, "MISSING_ARGUMENT", f"{key} not specified", [])
        rest = {name: one for name, one in _fields(record).items() if name.lower() != key.lower()}
        try:
            id_, created = writes.upsert(org, kind, key, str(given), rest)
        except writes.Ambiguous:
            raise Refusal(400, "DUPLICATE_EXTERNAL_ID", f"{key}: more than one record found", [key]) from None
        return {"id": id_, "created": created}

    def value(record: Mapping[str, Any]) -> Any:
        return {name.lower(): one for name, one in record.items()}.get(key.lower())

    records = _records(body)
    return _each(org, records, body, _once(one, records, value, "Duplicate external id"))


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


def _once(write: Write, records: Sequence[Mapping[str, Any]], key: Callable[[Mapping[str, Any]], Any], what: str) -> Write:
    """`write` for records that are alone with their key in this call; the others are refused, each of them."""
    counted = Counter(str(key(record)).casefold() for record in records)

    def one(record: Mapping[str, Any]) -> dict[str, Any]:
        if key(record) is not None and counted[str(key(record)).casefold()] > 1:
            raise Refusal(400, "DUPLICATE_VALUE", f"{what} specified: {key(record)}", [])
        return write(record)

    return one


def _each(
    org: Org,
    records: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
    write: Write,
) -> list[dict[str, Any]]:
    if len(records) > LIMIT:
        message = f"record limit reached. cannot submit more than {LIMIT} records into this call"
        raise Refusal(400, "EXCEEDED_ID_LIMIT", message)
    types = [record.get("attributes", {}).get("type") for record in records]
    if sum(one != other for one, other in itertools.pairwise([None, *types])) > _TYPES:
        message = f"Cannot have more than {_TYPES} chunks in a single operation. Please rearrange the data."
        raise Refusal(400, "INVALID_INPUT", message)
    with org.lock:
        for record in records:
            _check_readable(org, record)
        before = org.copied() if options.get("allOrNone") else None
        results = [_result(record, write) for record in records]
        if before is not None and not all(result["success"] for result in results):
            org.restore(before)
            return [_failed(_ROLLED_BACK) if result["success"] else result for result in results]
    return results


def _check_readable(org: Org, record: Mapping[str, Any]) -> None:
    """Raises Refusal for a record whose fields or types are unknown: with it the whole request cannot be read."""
    if "attributes" not in record:
        return  # a record to delete
    try:
        writes.stored(org, _kind(org, record), _fields(record), str(record.get("id") or record.get("Id")))
    except Refusal as problem:
        if problem.code in _OF_THE_REQUEST and problem.fields is None:
            raise


def _result(record: Mapping[str, Any], write: Write) -> dict[str, Any]:
    try:
        return {**write(record), "success": True, "errors": []}
    except Refusal as problem:
        return _failed(problem)


def _failed(problem: Refusal) -> dict[str, Any]:
    error = {"statusCode": problem.code, "message": problem.message, "fields": list(problem.fields or [])}
    return {"success": False, "errors": [error]}
