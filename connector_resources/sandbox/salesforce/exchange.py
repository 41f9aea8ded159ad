"""One request, and its answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import orjson

from connector_resources.sandbox.salesforce.refusal import Refusal


@dataclass(frozen=True)
class Call:
    """One request. `base`: the URL under which the org was reached; header names are lower case; path and query as sent.
    `content`: what the body holds, if it was read already."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    base: str
    content: Any = None

    @property
    def params(self) -> dict[str, str]:
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def json(self) -> dict[str, Any]:
        """The body. Raises Refusal 400 for anything but a JSON object."""
        try:
            body = orjson.loads(self.body) if self.content is None else self.content
        except orjson.JSONDecodeError as problem:
            message = f"Unexpected character or end of input at [line:{problem.lineno}, column:{problem.colno}]"
            raise Refusal(400, "JSON_PARSER_ERROR", message) from None
        if not isinstance(body, dict):
            raise Refusal(
                400, "JSON_PARSER_ERROR", "The HTTP entity body is required to be one JSON structure at [line:1, column:1]"
            )
        return body


@dataclass(frozen=True)
class Answer:
    """`body`: JSON-able, text (XML), bytes (CSV), or None for no content."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
