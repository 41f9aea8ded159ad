"""Who may come in. A program shows an API key (`Authorization: Bearer ik_…`), a browser the cookie of its session.

A cookie comes along whoever made the browser send it; so what changes something needs proof, with a cookie, that a page of our
own sent it (`require_same_origin`). A key comes along only where somebody put it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response

from connector_resources.errors import (
    IntegrationError,
    NotAllowed,
    NotSignedIn,
    RateLimited,
    RequestRefused,
    RetryableError,
)
from integration_pipelines.api.pages import Pages
from integration_pipelines.api.problems import problem
from integration_pipelines.settings import Settings
from integration_pipelines.store import api_keys, sessions
from integration_pipelines.store.database import Database
from integration_pipelines.store.people import Principal

__all__ = ["REFUSALS", "Access", "Administrator", "Engineer", "Operator", "Principal", "SignedIn"]

REFUSALS = (RequestRefused, RetryableError)  # what Access.principal raises and Access.refused answers


@dataclass(frozen=True)
class Access:
    """What dependencies, gate and pages share; kept in `app.state.access`. `now` gives aware instants."""

    database: Database
    settings: Settings
    now: Callable[[], datetime]
    pages: Pages = field(default_factory=Pages)

    def principal(self, connection: HTTPConnection) -> Principal:
        """Who asks. A key is looked at first, and a bad one is not made good by a cookie. Raises NotSignedIn, or NotAllowed
        when a foreign page may have sent it. Blocks on the database."""
        shown = connection.headers.get("authorization")
        if shown is not None:
            scheme, _, key = shown.partition(" ")
            if scheme.lower() != "bearer":
                raise NotSignedIn("Show an API key as `Authorization: Bearer ik_…`, or sign in at /sign-in.")
            return api_keys.principal(self.database, key.strip(), self.now())
        token = self.token(connection)
        if token is None:
            raise NotSignedIn("Sign in at /sign-in, or show an API key as `Authorization: Bearer ik_…`.")
        if _changes_something(connection):
            self.require_same_origin(connection)
        return sessions.principal(self.database, token, self.now())

    def operator(self, connection: HTTPConnection) -> Principal:
        """Who asks, if they are a platform operator. Raises NotAllowed too."""
        found = self.principal(connection)
        if not found.operator:
            raise NotAllowed("This is for platform operators, because it shows every tenant.")
        return found

    def require_same_origin(self, connection: HTTPConnection) -> None:
        """Raises NotAllowed unless the browser says that a page of ours made this request. Sec-Fetch-Site is what the browser
        itself decided; it leaves it out where it does not trust the connection, and then Origin must be our address."""
        site = connection.headers.get("sec-fetch-site")
        scheme = "https" if self.secure(connection) else "http"
        ours = f"{scheme}://{connection.headers.get('host', '')}"
        if not (site == "same-origin" if site is not None else connection.headers.get("origin") == ours):
            raise NotAllowed("This request did not come from a page of this server; open the page anew and repeat it there.")

    def secure(self, connection: HTTPConnection) -> bool:
        """Whether the browser came over https, as far as the server that runs us knows; in production always."""
        return self.settings.production or connection.scope["scheme"] in ("https", "wss")

    def cookie_name(self, connection: HTTPConnection) -> str:
        """With the prefix, browsers take the cookie from this very host over https only."""
        return "__Host-integration_session" if self.secure(connection) else "integration_session"

    def token(self, connection: HTTPConnection) -> str | None:
        return connection.cookies.get(self.cookie_name(connection)) or None

    def refused(self, connection: HTTPConnection, error: IntegrationError) -> Response:
        """The answer to one of REFUSALS: a page or the way to sign in for browsers, a problem document for programs."""
        if isinstance(error, NotSignedIn):
            if _is_browser(connection):
                return RedirectResponse(f"/sign-in?next={quote(_asked_for(connection), safe='')}", 303)
            return problem(401, str(error), {"WWW-Authenticate": "Bearer"})
        if isinstance(error, RateLimited):
            return problem(429, str(error), retry_after(error))
        if isinstance(error, RetryableError):
            return problem(503, "The database cannot be used right now; the server's log says more.")
        if _is_browser(connection):
            return self.pages.page("refused.html", 403, message=str(error))
        return problem(403, str(error))


def retry_after(error: RateLimited) -> Mapping[str, str]:
    return {"Retry-After": str(round(error.wait or 1))}


def address(connection: HTTPConnection) -> str:
    """The client's: the socket's, or what a proxy says if the server that runs us was told to trust it."""
    return connection.client.host if connection.client else "unknown"


def _is_browser(connection: HTTPConnection) -> bool:
    """Whether a person waits for a page."""
    headers = connection.headers
    return connection.scope["type"] == "http" and "text/html" in headers.get("accept", "") and "authorization" not in headers


def _changes_something(connection: HTTPConnection) -> bool:
    scope = connection.scope
    if scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD", "OPTIONS"):
        return True
    # GraphQL runs mutations over GET as well; to whoever accepts HTML it shows its own page instead.
    return scope["path"].endswith("/graphql") and "text/html" not in connection.headers.get("accept", "")


def _asked_for(connection: HTTPConnection) -> str:
    if connection.scope["method"] not in ("GET", "HEAD"):
        return "/"  # nothing to come back to
    path: bytes = connection.scope["raw_path"]
    query: bytes = connection.scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")


def _of_app(connection: HTTPConnection) -> Access:
    found: Access = connection.app.state.access
    return found


def _signed_in(connection: HTTPConnection) -> Principal:
    return _of_app(connection).principal(connection)


def _operator(connection: HTTPConnection) -> Principal:
    return _of_app(connection).operator(connection)


def _one_of(*roles: str) -> Callable[[HTTPConnection], Principal]:
    def allowed(connection: HTTPConnection) -> Principal:
        found = _signed_in(connection)
        if found.role not in roles:
            raise NotAllowed(f"This needs the role {' or '.join(roles)}; ask an administrator of your tenant.")
        return found

    return allowed


# What a route asks for: `def route(who: SignedIn) -> …`
SignedIn = Annotated[Principal, Depends(_signed_in)]
Engineer = Annotated[Principal, Depends(_one_of("engineer", "administrator"))]
Administrator = Annotated[Principal, Depends(_one_of("administrator"))]
Operator = Annotated[Principal, Depends(_operator)]
