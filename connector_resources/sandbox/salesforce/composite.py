"""sObject Collections: up to 200 records a call, each with its own result ("Using Composite Resources", REST guide)."""

import itertools
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from connector_resources.sandbox.salesforce import writes
from connector_resources.sandbox.salesforce.org import Org
from connector_resources.sandbox.salesforce.reading import Reading, read
from connector_resources.sandbox.salesforce.refusal import Refusal
from connector_resources.sandbox.salesforce.schema import SObjectType

LIMIT = 200
RETRIEVED = 2000  # records that one retrieve gives at most
_TYPES = 10  # stretches of records of one type, at most
_OF_THE_REQUEST = ("INVALID_FIELD", "JSON_PARSER_ERROR", "INVALID_TYPE")  # a body that cannot be read is refused as a whole
_ID = frozenset({"attributes", "id", "Id"})
Write: TypeAlias = Callable[[Any, SObjectType, Reading], dict[str, Any]]
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

    def one(_: None, kind: SObjectType, reading: Reading) -> dict[str, Any]:
        return {"id": writes.create(org, kind, reading)}

    return _each(org, records, [None] * len(records), body, one, _ID)


def update(org: Org, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    def one(id_: Any, kind: SObjectType, reading: Reading) -> dict[str, Any]:
        if not isinstance(id_, str):
            raise Refusal(400, "MISSING_ARGUMENT", "Id not specified in an update call", [])
        writes.update(org, kind, id_, reading)
        return {"id": id_}

    records = _records(body)
    return _each(org, records, [record.get("id") or record.get("Id") for record in records], body, one, _ID)


def upsert(org: Org, kind: SObjectType, field: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    key = writes.key_field(org, kind, field).name

    def one(given: Any, of: SObjectType, reading: Reading) -> dict[str, Any]:
        if of is not kind:
            raise Refusal(400, "INVALID_TYPE", f"The request is for {kind.name} records only.")
        if given is None:
            raise Refusal(400, "MISSING_ARGUMENT", f"{key} not specified", [])
        try:
            id_, created = writes.upsert(org, kind, key, str(given), reading)
        except writes.Ambiguous:
            raise Refusal(400, "DUPLICATE_EXTERNAL_ID", f"{key}: more than one record found", [key]) from None
        return {"id": id_, "created": created}

    records = _records(body)
    names = [key if key in one else next((name for name in one if name.lower() == key.lower()), key) for one in records]
    keys = [record.get(name) for record, name in zip(records, names, strict=True)]
    return _each(org, records, keys, body, one, frozenset({*_ID, *names}), "external id")


def delete(org: Org, ids: Sequence[str], all_or_none: bool) -> list[dict[str, Any]]:
    kinds = {kind.prefix: kind for kind in org.schema.values()}

    def one(id_: str) -> dict[str, Any]:
        if id_[:3] not in kinds:
            raise Refusal(400, "MALFORMED_ID", f"malformed id {id_}", [])
        writes.delete(org, kinds[id_[:3]], id_)
        return {"id": id_}

    _check_count(len(ids))
    with org.lock:
        return _results(org, [partial(one, id_) for id_ in ids], all_or_none)


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


def _each(
    org: Org,
    records: Sequence[Mapping[str, Any]],
    keys: Sequence[Any],
    options: Mapping[str, Any],
    write: Write,
    apart: Container[str],
    what: str = "id",
) -> list[dict[str, Any]]:
    """`write` for each record with its key, type and values (those `apart` left out). Records that share a key in one call are
    refused, each of them."""
    _check_count(len(records))
    types = [record.get("attributes", {}).get("type") for record in records]
    if sum(one != other for one, other in itertools.pairwise([None, *types])) > _TYPES:
        message = f"Cannot have more than {_TYPES} chunks in a single operation. Please rearrange the data."
        raise Refusal(400, "INVALID_INPUT", message)
    counted = Counter(str(key).casefold() for key in keys)

    def one(key: Any, kind: SObjectType, reading: Reading | Refusal) -> dict[str, Any]:
        if key is not None and counted[str(key).casefold()] > 1:
            raise Refusal(400, "DUPLICATE_VALUE", f"Duplicate {what} specified: {key}", [])
        if isinstance(reading, Refusal):
            raise reading
        return write(key, kind, reading)

    with org.lock:
        kinds = [_kind(org, record) for record in records]
        readings = [_read(org, kind, record, apart) for kind, record in zip(kinds, records, strict=True)]
        each = [partial(one, *of_one) for of_one in zip(keys, kinds, readings, strict=True)]
        return _results(org, each, bool(options.get("allOrNone")))


def _check_count(records: int) -> None:
    if records > LIMIT:
        message = f"record limit reached. cannot submit more than {LIMIT} records into this call"
        raise Refusal(400, "EXCEEDED_ID_LIMIT", message)


def _read(org: Org, kind: SObjectType, record: Mapping[str, Any], apart: Container[str]) -> Reading | Refusal:
    """Why the record is refused, if so. Raises Refusal for one with unknown fields or unreadable values: with it the whole
    request cannot be read."""
    try:
        return read(org, kind, {name: value for name, value in record.items() if name not in apart})
    except Refusal as problem:
        if problem.code in _OF_THE_REQUEST and problem.fields is None:
            raise
        return problem


def _results(org: Org, each: Sequence[Callable[[], dict[str, Any]]], all_or_none: bool) -> list[dict[str, Any]]:
    before = org.copied() if all_or_none else None
    results = [_result(write) for write in each]
    if before is not None and not all(result["success"] for result in results):
        org.restore(before)
        return [_failed(_ROLLED_BACK) if result["success"] else result for result in results]
    return results


def _result(write: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {**write(), "success": True, "errors": []}
    except Refusal as problem:
        return _failed(problem)


def _failed(problem: Refusal) -> dict[str, Any]:
    error = {"statusCode": problem.code, "message": problem.message, "fields": list(problem.fields or [])}
    return {"success": False, "errors": [error]}
