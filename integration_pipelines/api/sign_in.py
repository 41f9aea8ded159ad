"""The pages /sign-in and /sign-out, and `protect`, which gives an application all of it."""

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response

from connector_resources.errors import IntegrationError, NotSignedIn, RateLimited, TenantNeeded
from integration_pipelines.api.gate import SecurityHeaders
from integration_pipelines.api.problems import answer_framework_errors
from integration_pipelines.api.security import REFUSALS, Access, address, retry_after
from integration_pipelines.settings import Settings
from integration_pipelines.store import sessions
from integration_pipelines.store.database import Database
from integration_pipelines.store.sign_in import sign_in

_LONGEST_FORM = 8192
_AT_ONCE = 4  # each look at a password takes 64 MiB for a moment
_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")


def protect(app: FastAPI, database: Database, settings: Settings, now: Callable[[], datetime]) -> Access:
    """Sign-in pages, security headers, and problem documents for what is refused. Returns what Gate needs too."""
    access = Access(database, settings, now)
    app.state.access = access
    app.include_router(router(access))
    app.add_middleware(SecurityHeaders, production=settings.production)
    answer_framework_errors(app)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, IntegrationError)  # noqa: S101 - registered for these below
        return access.refused(request, error)

    for kind in REFUSALS:
        app.add_exception_handler(kind, refused)
    return access


def router(access: Access) -> APIRouter:
    """GET and POST /sign-in, POST /sign-out."""
    routes = APIRouter(include_in_schema=False)
    looking = CapacityLimiter(_AT_ONCE)

    @routes.api_route("/sign-in", methods=["GET", "HEAD"])
    def show(request: Request, next: str = "/") -> Response:  # noqa: A002 - the name in the address
        try:
            access.principal(request)
        except REFUSALS:
            return _form_page(access, {"next": local_path(next)})
        return RedirectResponse(local_path(next), 303)

    @routes.post("/sign-in")
    async def submit(request: Request) -> Response:
        access.require_same_origin(request)  # else a foreign page could sign somebody in as somebody else
        form = await _form(request)
        form["next"] = local_path(form.get("next", "/"))
        attempt = partial(
            sign_in,
            access.database,
            form.get("email", ""),
            form.get("password", ""),
            tenant=form.get("tenant") or None,
            address=address(request),
            now=access.now(),
        )
        try:
            session = await to_thread.run_sync(attempt, limiter=looking)
        except (NotSignedIn, RateLimited) as refusal:
            if "text/html" in request.headers.get("accept", ""):
                return _form_page(access, form, refusal)
            return access.refused(request, refusal)
        response = RedirectResponse(form["next"], 303)
        _set_cookie(access, request, response, session.token, int(sessions.LASTS.total_seconds()))
        return response

    @routes.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        access.require_same_origin(request)
        token = access.token(request)
        if token is not None:
            with suppress(NotSignedIn):  # it had ended by itself
                await run_in_threadpool(sessions.end, access.database, token)
        response = RedirectResponse("/sign-in", 303)
        _set_cookie(access, request, response, "", 0)
        return response

    return routes


def local_path(wanted: str) -> str:
    """Where to go after signing in: a path on this server, else `/`. What browsers read as another server's address (`//…`,
    `/\\…`, a scheme, characters that they drop) is none."""
    return wanted if len(wanted) <= 2000 and _PATH.fullmatch(wanted) else "/"


def _form_page(access: Access, form: dict[str, str], refusal: NotSignedIn | RateLimited | None = None) -> Response:
    values: dict[str, Any] = {
        "email": form.get("email", ""),
        "next": form["next"],
        "tenants": refusal.tenants if isinstance(refusal, TenantNeeded) else (),
        "message": str(refusal) if refusal else "",
    }
    if isinstance(refusal, RateLimited):
        return access.pages.page("sign_in.html", 429, retry_after(refusal), **values)
    if refusal:
        return access.pages.page("sign_in.html", 401, {"WWW-Authenticate": "Bearer"}, **values)
    return access.pages.page("sign_in.html", **values)


async def _form(request: Request) -> dict[str, str]:
    """Fields of a short form, the first of each name."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise HTTPException(415, "Send the form as application/x-www-form-urlencoded.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            raise HTTPException(413, f"The form is longer than {_LONGEST_FORM} bytes.")
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=10)
    except ValueError:  # not ASCII, or too many
        raise HTTPException(400, "That is no form of this page.") from None
    return {name: values[0] for name, values in fields.items()}


def _set_cookie(access: Access, connection: HTTPConnection, response: Response, token: str, seconds: int) -> None:
    secure, name = access.secure(connection), access.cookie_name(connection)
    response.set_cookie(name, token, max_age=seconds, path="/", secure=secure, httponly=True, samesite="lax")
    response.headers["Cache-Control"] = "no-store"
