"""What the org answers when it says no: REST's list of {message, errorCode, fields}."""

from collections.abc import Sequence
from typing import Any


class Refusal(Exception):
    """An answer other than success. `code` is one of Salesforce's StatusCode or ExceptionCode words."""

    def __init__(self, status: int, code: str, message: str, fields: Sequence[str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.fields = fields

    @property
    def body(self) -> list[dict[str, Any]]:
        entry: dict[str, Any] = {"message": self.message, "errorCode": self.code}
        return [entry if self.fields is None else entry | {"fields": list(self.fields)}]


def not_found() -> Refusal:
    return Refusal(404, "NOT_FOUND", "The requested resource does not exist")
