"""Several requests in one call: composite, where each sees what the ones before it did, and batch (both in the REST guide)."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connector_resources.sandbox.salesforce.org import Org
from connector_resources.sandbox.salesforce.refusal import Refusal

LIMIT, QUERIES = 25, 5
_REFERENCE = re.compile(r"@\{(\w+)((?:\.\w+|\[\d+\])*)\}")
_QUERYING = re.compile(r"/v\d+\.0/(query|queryAll|composite/sobjects)\b")
_HALTED = "The transaction was rolled back since another operation in the same transaction failed."

Run = Callable[[str, str, Any, Mapping[str, str]], tuple[int, Any, Mapping[str, str]]]


def answered(org: Org, body: Mapping[str, Any], run: Run, referring: bool) -> dict[str, Any]:
    """`run(method, url, body, headers)` gives (status, body, headers); `referring`: some request may name a result of another.
    Raises Refusal 400 for what is wrong as a whole."""
    given = _checked(body)
    done: dict[str, tuple[int, Any]] = {}
    with org.lock:
        before = org.copied() if body.get("allOrNone") else None
        results = []
        for request in given:
            name = request["referenceId"]
            try:
                url, content = request["url"], request.get("body")
                if referring:
                    url, content = _filled(url, done), _filled(content, done)
                status, answer, headers = run(str(request["method"]), url, content, request.get("httpHeaders") or {})
            except Refusal as problem:
                status, answer, headers = problem.status, problem.body, {}
            done[name] = status, answer
            results.append({"body": answer, "httpHeaders": dict(headers), "httpStatusCode": status, "referenceId": name})
        if before is not None and any(result["httpStatusCode"] >= 400 for result in results):
            org.restore(before)
            halted = [{"errorCode": "PROCESSING_HALTED", "message": _HALTED}]
            results = [r if r["httpStatusCode"] >= 400 else {**r, "body": halted, "httpStatusCode": 400} for r in results]
    return {"compositeResponse": results}


def batched(org: Org, body: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """Up to 25 requests in one call that know nothing of each other ("Batch", REST guide); each counts as a call."""
    given = body.get("batchRequests")
    if not isinstance(given, list) or not given or not all(isinstance(one, dict) for one in given):
        raise Refusal(400, "JSON_PARSER_ERROR", "The request needs a list of subrequests.")
    if len(given) > LIMIT:
        raise Refusal(400, "LIMIT_EXCEEDED", f"The limit of {LIMIT} subrequests is exceeded.")
    results: list[dict[str, Any]] = []
    failed = False
    for request in given:
        if failed and body.get("haltOnError"):
            halted = [{"errorCode": "BATCH_PROCESSING_HALTED", "message": "Batch processing halted per request"}]
            results.append({"statusCode": 412, "result": halted})
            continue
        url = str(request.get("url", ""))
        try:
            if results:  # the first is the call itself
                org.count_call()
            whole = url if url.startswith("/") else f"/services/data/{url}"
            status, answer, _ = run(str(request.get("method")), whole, request.get("richInput"), {})
        except Refusal as problem:
            status, answer = problem.status, problem.body
        failed |= status >= 400
        results.append({"statusCode": status, "result": answer})
    return {"hasErrors": failed, "results": results}


def _checked(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    given = body.get("compositeRequest")
    if not isinstance(given, list) or not given or not all(isinstance(request, dict) for request in given):
        raise Refusal(400, "JSON_PARSER_ERROR", "The request needs a list of subrequests.")
    if len(given) > LIMIT:
        raise Refusal(400, "LIMIT_EXCEEDED", f"The limit of {LIMIT} subrequests is exceeded.")
    for request in given:
        if not all(isinstance(request.get(part), str) for part in ("method", "url", "referenceId")):
            raise Refusal(400, "MISSING_ARGUMENT", "A subrequest needs method, url and referenceId.")
        if not re.fullmatch(r"[A-Za-z]\w*", request["referenceId"]):
            raise Refusal(400, "INVALID_INPUT", f"Provided referenceId '{request['referenceId']}' is invalid.")
    names = [request["referenceId"] for request in given]
    if len(set(names)) < len(names):
        raise Refusal(400, "INVALID_INPUT", "Each referenceId must be used once.")
    if sum(bool(_QUERYING.search(request["url"])) for request in given) > QUERIES:
        raise Refusal(400, "LIMIT_EXCEEDED", f"At most {QUERIES} subrequests may be queries or collections.")
    return given


def _filled(value: Any, done: Mapping[str, tuple[int, Any]]) -> Any:
    """`value` with its references replaced by what earlier answers hold."""
    if isinstance(value, dict):
        return {name: _filled(one, done) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, done) for one in value]
    return _REFERENCE.sub(lambda match: _looked_up(match, done), value) if isinstance(value, str) else value


def _looked_up(match: re.Match[str], done: Mapping[str, tuple[int, Any]]) -> str:
    status, found = done.get(match[1], (400, None))
    if status >= 400:
        raise Refusal(400, "PROCESSING_HALTED", f"Invalid reference specified. No value for {match[1]} found.")
    try:
        for name, place in re.findall(r"\.(\w+)|\[(\d+)\]", match[2]):
            found = found[name] if name else found[int(place)]
    except (KeyError, IndexError, TypeError):
        raise Refusal(400, "PROCESSING_HALTED", f"Invalid reference specified. No value for {match[0][2:-1]} found.") from None
    return str(found)
