"""What Salesforce's refusals mean: errorCode → what happens next.

"Status Codes and Error Responses" of the REST API Developer Guide. An error body is a list of {message, errorCode, fields}.
The messages may quote values and queries, so of them only names of fields and entities are passed on.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connector_resources.answers import Answer, status_error
from connector_resources.errors import (
    AuthenticationError,
    ConfigurationError,
    ContractError,
    IntegrationError,
    QuotaReached,
    RateLimited,
    SystemUnavailable,
)

QUOTA_WAIT = 900.0  # seconds; the daily quota is a rolling 24 hours, so that calls come back bit by bit


class CursorExpired(ContractError):
    """A query's cursor is gone (they live two days, and an org may drop them earlier): query again."""


class NotThere(ConfigurationError):
    """There is nothing at that path: an unknown entity, or a URL that is not the API's."""


class BulkUnsupported(ConfigurationError):
    """The Bulk API does not do this: use the REST API."""


@dataclass(frozen=True)
class Refusal:
    """The first entry of an error body. `fields`: names only."""

    code: str
    message: str
    fields: tuple[str, ...]


_NAME = r"\w+(?:\.\w+)*"
_NO_COLUMN = re.compile(rf"No such column '({_NAME})' on (?:entity|sobject of type) '?(\w+)'?")
_NO_RELATIONSHIP = re.compile(rf"Didn't understand relationship '({_NAME})'")
_NO_TYPE = re.compile(r"sObject type '(\w+)' is not supported")

CODES: Mapping[str, tuple[type[IntegrationError], str]] = {
    "INVALID_SESSION_ID": (
        AuthenticationError,
        "refuses a session that was just opened; check the IP ranges and session settings of the connector's user",
    ),
    "INVALID_AUTH_HEADER": (AuthenticationError, "refuses the form of the token; check the connector's URL"),
    "API_DISABLED_FOR_ORG": (ConfigurationError, "has no API in this edition, or not for this user: switch on API Enabled"),
    "API_CURRENTLY_DISABLED": (SystemUnavailable, "has its API switched off at the moment"),
    "INSUFFICIENT_ACCESS": (AuthenticationError, "lets the connector's user not do this; give it Read on the entity"),
    "INSUFFICIENT_ACCESS_OR_READONLY": (
        AuthenticationError,
        "lets the connector's user not do this; give it Read (and Edit, to write) on the entity",
    ),
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY": (
        AuthenticationError,
        "does not show the connector's user a record that is referred to; give it Read on that entity",
    ),
    "FUNCTIONALITY_NOT_ENABLED": (ConfigurationError, "has this function switched off for the connector's user"),
    "INVALID_TYPE": (ConfigurationError, "has no such entity, or the connector's user may not read it"),
    "INVALID_TYPE_FOR_OPERATION": (ConfigurationError, "does not let this entity be queried"),
    "INVALID_FIELD": (
        ConfigurationError,
        "has no such field, or field-level security hides it from the connector's user; describe the entity again",
    ),
    "INVALID_FIELD_FOR_INSERT_UPDATE": (ConfigurationError, "does not let this field be written"),
    "MALFORMED_QUERY": (ContractError, "cannot read a query of ours, which is a defect of the connector: report it"),
    "MALFORMED_ID": (ContractError, "cannot read a record id"),
    "INVALID_QUERY_FILTER_OPERATOR": (ContractError, "does not let a query filter so, which is a defect of the connector"),
    "INVALID_QUERY_LOCATOR": (CursorExpired, "has dropped the cursor of a query"),
    "QUERY_TOO_COMPLICATED": (ConfigurationError, "finds the query too complicated; map fewer fields, above all formulas"),
    "NOT_FOUND": (NotThere, "has nothing at that place; check the connector's URL and the API version"),
    "REQUEST_LIMIT_EXCEEDED": (QuotaReached, "has no calls left in the daily quota of the org"),
    "CONCURRENT_REQUESTS_LIMIT_EXCEEDED": (SystemUnavailable, "serves too many long requests of this org already"),
    "QUERY_TIMEOUT": (SystemUnavailable, "took too long over a query"),
    "OPERATION_TOO_LARGE": (ConfigurationError, "finds the query too large for the sharing rules; give the user View All"),
    "UNABLE_TO_LOCK_ROW": (SystemUnavailable, "has a record locked by somebody else"),
    "SERVER_UNAVAILABLE": (SystemUnavailable, "cannot serve at the moment"),
    "UNKNOWN_EXCEPTION": (SystemUnavailable, "failed inside"),
    "INVALIDENTITY": (BulkUnsupported, "does not offer this entity to its Bulk API"),
    "FEATURENOTENABLED": (ConfigurationError, "has this bulk operation switched off for the connector's user"),
    "INVALIDJOBSTATE": (ContractError, "does not let a bulk job do this in its state"),
    "UNSUPPORTED_API_VERSION": (ConfigurationError, "has retired this version of its API"),
}


_CONCURRENT = "CONCURRENT_REQUESTS_LIMIT_EXCEEDED"  # some orgs say it under the code of the daily quota, with this message


UNPARSED = "JSON_PARSER_ERROR"


def salesforce_error(answer: Answer) -> IntegrationError | None:
    """What an answer means; None for a success. The default error table judges what is no Salesforce error body."""
    if answer.status < 300:
        return None
    refusal = _refusal(answer)
    if refusal is None or refusal.code not in CODES:
        return status_error(answer, refusal.code if refusal else "")
    kind, sentence = CODES[_CONCURRENT if refusal.message.startswith("Concurrent") else refusal.code]
    message = f"Salesforce {_named(refusal) or sentence} ({refusal.code})."
    if issubclass(kind, RateLimited):
        return kind(message, answer.wait or QUOTA_WAIT)
    return kind(message, answer.wait) if issubclass(kind, SystemUnavailable) else kind(message)


def unparsed(answer: Answer) -> bool:
    """Whether the whole request was refused, and nothing of it done, because one value in it is none of its type."""
    refusal = _refusal(answer)
    return answer.status == 400 and refusal is not None and refusal.code == UNPARSED


def _refusal(answer: Answer) -> Refusal | None:
    if answer.content_type != "application/json":
        return None
    try:
        body: Any = answer.json()
    except ContractError:
        return None
    first = body[0] if isinstance(body, list) and body else body
    code = first.get("errorCode") if isinstance(first, dict) else None
    if not isinstance(code, str) or not re.fullmatch(r"[A-Z_]{1,80}", code):
        return None
    named = first.get("fields")
    fields = [str(name) for name in named if re.fullmatch(_NAME, str(name))] if isinstance(named, list) else []
    return Refusal(code, str(first.get("message", "")), tuple(fields))


def _named(refusal: Refusal) -> str | None:
    """The sentence with the names that the refusal gives, where it gives some."""
    if match := _NO_COLUMN.search(refusal.message):
        return (
            f"has no field '{match[1]}' on {match[2]}, or field-level security hides it from the connector's user; map "
            "another field or give the user access"
        )
    if match := _NO_RELATIONSHIP.search(refusal.message):
        return f"has no relationship '{match[1]}' there; check the path in the mapping"
    if match := _NO_TYPE.search(refusal.message):
        return f"has no entity '{match[1]}', or the connector's user may not read it; give it Read on that entity"
    if refusal.code == "INVALID_FIELD" and refusal.fields:
        return f"refuses the fields {', '.join(refusal.fields)}; check their names and the user's access to them"
    return None
