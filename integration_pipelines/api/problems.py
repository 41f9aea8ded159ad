"""Errors as RFC 9457 problem documents: application/problem+json with type, title, status and detail."""

from collections.abc import Mapping
from http import HTTPStatus

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",  # here too: the answer to a bug passes by every middleware
}


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that tells a program what is wrong; never kept by a cache."""
    phrase = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": phrase, "status": status, "detail": detail}
    kept = {**HEADERS, **(headers or {})}
    return Response(orjson.dumps(body), status, kept, media_type="application/problem+json")


def answer_framework_errors(app: FastAPI) -> None:
    """No route, wrong method, input that does not fit, a bug: all of them become problem documents."""

    async def http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for it below
        return problem(error.status_code, str(error.detail), error.headers)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it below
        # The places and the rules, never the values: one may be a password.
        found = "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['type']}" for one in error.errors())
        return problem(422, f"The request does not fit: {found}.")

    async def bug(_: Request, __: Exception) -> Response:
        return problem(500, "Something went wrong here; the server's log says more.")

    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, bug)
