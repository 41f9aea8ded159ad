"""What a composite call answers, and what the results of records say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from connector_resources.answers import Answer
from connector_resources.contract import Changes, Outcome
from connector_resources.errors import AnswerLost, ContractError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(slots=True)
class Result:
    """What became of one change."""

    outcome: Outcome
    id: str | None
    version: str | None = None
    message: str = ""


def frame(changes: Changes, results: Sequence[Result]) -> "pd.DataFrame":
    """Outcomes as Connector.write and Connector.probe return them."""
    import pandas as pd

    columns = {
        "outcome": [result.outcome for result in results],
        "id": [result.id for result in results],
        "version": [result.version for result in results],
        "message": [result.message for result in results],
    }
    return pd.DataFrame(columns, index=changes.steps.index, dtype=object)


def subrequest(name: str, method: str, url: str, body: Any = None) -> dict[str, Any]:
    request = {"referenceId": name, "method": method, "url": url}
    return request if body is None else request | {"body": body}


@dataclass(frozen=True)
class Part(Answer):
    """An answer within an answer: read already."""

    body: Any = None

    def json(self) -> Any:
        return self.body


def parts_of(answer: Answer) -> dict[str, Part]:
    """The answers inside a composite answer, by their reference."""
    try:
        kind, parts = {"content-type": "application/json"}, {}
        for one in orjson.loads(answer.content)["compositeResponse"]:
            status = int(one["httpStatusCode"])
            parts[str(one["referenceId"])] = Part(answer.system, answer.path, status, kind, b"", body=one["body"])
        return {"write": parts.pop("write"), **parts}
    except (KeyError, TypeError, ValueError):
        raise AnswerLost("Salesforce answered a composite call in a form that the connector does not know.") from None


def results_of(answer: Answer, count: int) -> list[Mapping[str, Any]]:
    results = answer.json()
    if not isinstance(results, list) or len(results) != count or not all(isinstance(one, dict) for one in results):
        raise ContractError("Salesforce answered a write without one result for each record.")
    return results


def records_of(answer: Answer) -> list[Mapping[str, Any]]:
    body = answer.json()
    found = body.get("records") if isinstance(body, dict) else None
    return [record for record in found if isinstance(record, dict)] if isinstance(found, list) else []


def reason_of(result: Mapping[str, Any]) -> tuple[str, Sequence[object]]:
    errors = result.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    fields = first.get("fields")
    return str(first.get("statusCode", "")), fields if isinstance(fields, list) else []
