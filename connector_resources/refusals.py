"""What the refusals of a system mean: the error table of a manifest, in the words of errors.py."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from connector_resources.answers import Answer, Judge, Told, status_error
from connector_resources.errors import (
    AuthenticationError,
    ConfigurationError,
    ContractError,
    IntegrationError,
    RateLimited,
    RecordError,
    SystemUnavailable,
)
from connector_resources.manifest import Manifest
from connector_resources.templates import NOTHING
from connector_resources.values import at


class Refused(RecordError):
    """The system will not have this record."""


class Moved(RecordError):
    """Somebody else changed the record since it was read."""


class Gone(RecordError):
    """The record is not there (any more)."""


class TooCostly(ContractError):
    """The page is too large for what the system lets a query cost: ask for a smaller one."""


class Nonsense(ContractError):
    """A success whose answer cannot be read: what was asked for may have been done."""


MEANINGS: Mapping[str, tuple[type[IntegrationError], str]] = {
    "record": (Refused, "does not take this record; correct it where it comes from"),
    "moved": (Moved, "says that the record has changed since it was read"),
    "gone": (Gone, "has no such record"),
    "authentication": (AuthenticationError, "refuses the credentials or lacks a permission for them; check both"),
    "configuration": (ConfigurationError, "cannot do this as it is set up; check the connector and its manifest"),
    "rate": (RateLimited, "limits the rate of calls"),
    "unavailable": (SystemUnavailable, "cannot serve at the moment"),
    "contract": (ContractError, "does not understand our request; check the manifest"),
    "cost": (TooCostly, "finds the query too costly"),
}
_ABOUT_RECORDS = {400: "record", 404: "gone", 409: "moved", 410: "gone", 412: "moved", 422: "record"}
_TAKEN = "has a record like it already, or is at work on one"  # 409 to a create, which was made for no version
_CODE = re.compile(r"[\w.:/ -]{1,80}")


class Refusals:
    """The error table of one manifest. `content`: what an answer's body holds, JSON-like; it may raise ContractError."""

    def __init__(self, manifest: Manifest, content: Callable[[Answer], Any]) -> None:
        self.manifest = manifest
        self.content = content

    def judge(self, about_record: bool) -> Judge:
        """`about_record`: the request is about one record, so that 400, 404, 409, 410, 412 and 422 speak of that record."""
        return lambda answer: self.meaning(answer, about_record)

    def meaning(self, answer: Answer, about_record: bool) -> IntegrationError | None:
        """None for a success."""
        success = answer.status < 300
        if success and not self.manifest.error_in_success:
            return None
        code = self.code(answer)
        if success and not code:
            return None
        return self.of(answer.status, code, about_record, answer) or status_error(answer, code)

    def code(self, answer: Answer) -> str:
        """The vendor's word for what is wrong; empty where there is none that may be shown."""
        if self.manifest.error_code is None:
            return ""
        try:
            return shown_code(at(self.content(answer), self.manifest.error_code))
        except ContractError:
            return ""

    def of(
        self, status: int | None, code: str, about_record: bool, answer: Answer | None = None, told: Told | None = None
    ) -> IntegrationError | None:
        """What the table says of a status and a code, or what they mean by themselves; None where that is nothing.
        `told`: what was sent, without `answer`."""
        if known := self.listed(status, code, answer, told):
            return known
        word = _ABOUT_RECORDS.get(status or 0) if about_record else None
        if status is not None and status < 300 and code:
            word = "record" if about_record else "contract"
        sent = answer.told if answer else told
        taken = word == "moved" and sent is not None and sent.values.get("action") == "create"
        return self.said(word, code, answer, _TAKEN if taken else "", status, told) if word else None

    def listed(
        self, status: int | None, code: str, answer: Answer | None = None, told: Told | None = None
    ) -> IntegrationError | None:
        """What the table says of a status and a code; None where it says nothing."""
        for line in self.manifest.refusals:
            if line.status in (None, status) and line.code in (None, code):
                return self.said(line.means, code, answer, line.says, status, told)
        return None

    def said(
        self,
        word: str,
        code: str,
        answer: Answer | None,
        says: str = "",
        status: int | None = None,
        told: Told | None = None,
    ) -> IntegrationError:
        """The error that a word of the table stands for."""
        kind, sentence = MEANINGS[word]
        told = answer.told if answer else told
        code = told.without_values(code) if told else code
        why = ", ".join(part for part in (code, f"status {status}" if status else "", answer.place if answer else "") if part)
        message = f"{self.manifest.title} {says or sentence}{f' ({why})' if why else ''}."
        if issubclass(kind, RateLimited | SystemUnavailable):
            return kind(message, answer.wait if answer else None)
        return kind(message)


def shown_code(found: Any) -> str:
    """A code as text, if it is one: other texts may quote values of a record."""
    if found is NOTHING or isinstance(found, bool) or not isinstance(found, str | int):
        return ""
    return str(found) if _CODE.fullmatch(str(found)) else "a code that is no word"
