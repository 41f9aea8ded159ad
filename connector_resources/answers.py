"""What comes back from another system, what its status means, and how messages speak of the request that it answers.

A `Judge` says what an answer that is no success means in the words of errors.py; `status_error` is the table that judges fall
back on. Messages quote nothing of an answer but a code, and show nothing that was filled into the request: a customer number
in a path, or one that a code repeats, would otherwise stand in logs and in sync_errors.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias

from connector_resources.errors import (
    AuthenticationError,
    ConfigurationError,
    ContractError,
    IntegrationError,
    RateLimited,
    Redirected,
    SystemUnavailable,
)

_KEYS = ("id", "ids", "key", "cursor", "intent", "version")
_RECORDS = ("record", "items")
_SHORTEST = 3  # characters of a field's value that is looked for in a code: shorter ones are parts of any text


@dataclass(frozen=True)
class Told:
    """How messages speak of a request: `path` as the manifest has it, and the `values` that fill its placeholders."""

    path: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def without_values(self, text: str) -> str:
        """A text of the other side, each value that it repeats left out."""
        for value in sorted(self._filled(), key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "…", text, flags=re.IGNORECASE)
        return text

    def _filled(self) -> set[str]:
        found = {text for name in _KEYS for text in _texts(self.values.get(name))}
        return found | {text for name in _RECORDS for text in _texts(self.values.get(name)) if len(text) >= _SHORTEST}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, str | int | Decimal) and not isinstance(value, bool) and value != "":
        yield format(value, "f") if isinstance(value, Decimal) else str(value)


@dataclass(frozen=True)
class Answer:
    """What came back, read to its end. `path` of the URL, which no message shows where `told` says what to show in its place;
    `wait`: seconds that Retry-After asks for."""

    system: str
    path: str
    status: int
    headers: Mapping[str, str]
    content: bytes
    wait: float | None = None
    told: Told | None = None

    @property
    def place(self) -> str:
        """The path for messages."""
        return self.told.path if self.told else self.path

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip() or "no content type"

    def json(self) -> Any:
        """The body; numbers with a point or an exponent as exact Decimals. Raises ContractError for anything but JSON."""
        try:
            return json.loads(self.content, parse_float=Decimal)
        except (ValueError, RecursionError, ArithmeticError):  # the last one for an exponent that no Decimal has
            raise ContractError(
                f"{self.system} answered {self.place} with status {self.status} and {self.content_type} instead of JSON; "
                "check that the connector's URL leads to the API and not to a web page or proxy."
            ) from None


Judge: TypeAlias = Callable[[Answer], IntegrationError | None]

_MEANING: Mapping[int, tuple[type[IntegrationError], str]] = {
    400: (ContractError, "does not understand our request"),
    401: (AuthenticationError, "refuses the credentials; check them and reconnect"),
    403: (AuthenticationError, "refuses access; give the connector's user the permission for it"),
    404: (ConfigurationError, "has nothing at that place; check the connector's URL"),
    405: (ContractError, "does not allow this method"),
    406: (ContractError, "cannot answer in the form that we ask for; say another one in the header Accept"),
    407: (ConfigurationError, "is behind a proxy that wants to be signed in to"),
    408: (SystemUnavailable, "gave up waiting for the request"),
    410: (ConfigurationError, "has retired what was asked for; a newer API version is needed"),
    413: (ContractError, "finds the request too large"),
    414: (ContractError, "finds the URL too long"),
    415: (ContractError, "does not take the form of what we send; say another one in the header Content-Type"),
    420: (SystemUnavailable, "is overloaded"),
    425: (SystemUnavailable, "asks to try again later"),
    428: (ContractError, "changes records only on a condition; send their version, mostly in the header If-Match"),
    429: (RateLimited, "limits the rate of calls"),
}


def status_error(answer: Answer, code: str = "") -> IntegrationError | None:
    """What a status means where nothing more is known; None for a success. `code`: the vendor's own word for it."""
    if answer.status < 300:
        return None
    default: tuple[type[IntegrationError], str] = (ContractError, "answered something that the connector does not expect")
    if answer.status < 400:
        default = (Redirected, "answered with a redirect that leads nowhere")
    if answer.status >= 500:
        default = (SystemUnavailable, "cannot serve at the moment")
    kind, sentence = _MEANING.get(answer.status, default)
    code = answer.told.without_values(code) if answer.told else code
    message = f"{answer.system} {sentence} ({code or answer.content_type}, status {answer.status}, {answer.place})."
    return kind(message, answer.wait) if issubclass(kind, RateLimited | SystemUnavailable) else kind(message)


def retry_after(told: str | None, now: datetime) -> float | None:
    """The seconds that Retry-After asks for, as a number or as an HTTP date (RFC 9110, 10.2.3); None where it says nothing."""
    if not told:
        return None
    if re.fullmatch(r"[0-9]{1,9}", told.strip()):
        return float(told)
    try:
        moment = parsedate_to_datetime(told)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())
