"""What lies in a sandbox's org, behind the API's back, and what was written to it."""

from typing import Any

from connector_resources.sandbox import Sandbox

KEYS = {"Account": "ERP_Id__c", "Contact": "ERP_Id__c"}


def outcomes(results: list[dict[str, Any]]) -> list[str]:
    return [result["outcome"] for result in results]


def add(sandbox: Sandbox, *rows: dict[str, Any], sobject: str = "Account") -> list[str]:
    return sandbox.state.insert(sobject, rows)


def version(sandbox: Sandbox, id_: str, sobject: str = "Account") -> str:
    stamp: str = sandbox.state.records[sobject][id_]["SystemModstamp"]
    return stamp


def stored(sandbox: Sandbox, id_: str, sobject: str = "Account") -> dict[str, Any]:
    return dict(sandbox.state.records[sobject][id_])


def calls(sandbox: Sandbox, path: str = "/services/data/v") -> int:
    return sum(path in request.target for request in sandbox.requests)
