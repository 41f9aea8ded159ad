"""Signing requests in: with a key, with user name and password, and OAuth 2.0 with client credentials, a refresh token, or a
signed assertion (JWT bearer).

RFC 6749 (grants, error answers of the token endpoint) and RFC 7523 (the assertion). The access token lives in memory only;
a rotated refresh token goes to the CredentialStore before the access token that came with it is used.
"""

import re
import threading
from base64 import b64encode
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal, TypeAlias
from urllib.parse import quote_plus
from uuid import uuid4

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from connector_resources.contract import CredentialStore
from connector_resources.errors import AuthenticationError, ConfigurationError, IntegrationError, SystemUnavailable
from connector_resources.http import Answer, Http, status_error
from connector_resources.lined_yaml import suggestion

_ASSERTION_LIFE = timedelta(minutes=2)  # vendors take three at most, and clocks differ


class Grant(StrEnum):
    """How a token is asked for: the `grant` of the credentials, else what they hold."""

    CLIENT_CREDENTIALS = "client_credentials"
    REFRESH_TOKEN = "refresh_token"  # noqa: S105 - the name of a grant
    JWT_BEARER = "jwt_bearer"


_NEEDED = {
    Grant.CLIENT_CREDENTIALS: ("client_id", "client_secret"),
    Grant.REFRESH_TOKEN: ("client_id", "refresh_token"),
    Grant.JWT_BEARER: ("client_id", "username", "private_key"),
}
_REFUSALS = {
    Grant.CLIENT_CREDENTIALS: "the client credentials; check client_id and client_secret, and that the app allows this flow",
    Grant.REFRESH_TOKEN: "the refresh token; reconnect the connector so that it gets a new one",
    Grant.JWT_BEARER: (
        "the signed assertion; check client_id and username, that the app holds the certificate of the private key, and that "
        "the user is approved for the app"
    ),
}
_CLIENT_ERRORS = ("invalid_client", "invalid_client_id", "unauthorized_client")


class TokenRefused(AuthenticationError):
    """The token endpoint says no. `code`: the `error` of its answer."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def token_error(answer: Answer) -> IntegrationError | None:
    """What the token endpoint's answer means. Its error_description is not passed on: it may quote what was sent."""
    if answer.status in (400, 401, 403) and answer.content_type == "application/json":
        body = answer.json()
        code = body.get("error") if isinstance(body, dict) else None
        code = code if isinstance(code, str) and re.fullmatch(r"\w{1,60}", code) else "no error code"
        if code in ("server_error", "temporarily_unavailable"):
            return SystemUnavailable(f"{answer.system} cannot issue a token at the moment ({code}).", answer.wait)
        return TokenRefused(f"{answer.system} issues no token ({code}).", code)
    return status_error(answer)


class StoredSecret(httpx.Auth):
    """Puts stored credentials on each request: what `place` does with a request and the credentials `names`.

    They are loaded when they are first needed, and once more after an answer 401: somebody may have changed them meanwhile.
    Raises ConfigurationError naming one that is missing.
    """

    def __init__(self, system: str, store: CredentialStore, names: Sequence[str], place: "Place") -> None:
        self.system = system
        self.store = store
        self.names = tuple(names)
        self.place = place
        self._held: list[str] | None = None

    def secrets(self) -> list[str]:
        """The credentials, in the order of their names."""
        if self._held is None:
            found = self.store.load()
            missing = [name for name in self.names if not found.get(name)]
            if missing:
                raise ConfigurationError(
                    f"The connector to {self.system} has no {' and no '.join(missing)}: complete its credentials."
                )
            self._held = [found[name] for name in self.names]
        return self._held

    def changed(self) -> bool:
        """Load them again; whether they are others than before."""
        before, self._held = self._held, None
        return self.secrets() != before

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        plain = request.url
        self.place(request, *self.secrets())
        response = yield request
        if response.status_code == 401 and self.changed():
            request.url = plain
            self.place(request, *self.secrets())
            yield request


Place: TypeAlias = Callable[..., None]  # (request, *secrets)


def in_header(name: str, prefix: str = "") -> Place:
    def place(request: httpx.Request, key: str) -> None:
        request.headers[name] = prefix + key

    return place


def in_query(name: str) -> Place:
    def place(request: httpx.Request, key: str) -> None:
        request.url = request.url.copy_set_param(name, key)

    return place


def as_basic(request: httpx.Request, username: str, password: str) -> None:
    """RFC 7617, in UTF-8."""
    token = b64encode(f"{username}:{password}".encode()).decode()
    request.headers["Authorization"] = f"Basic {token}"


class OAuth(httpx.Auth):
    """Puts a bearer token on requests. The token is fetched when it is missing, and once more after an answer 401: by one of
    the threads that share this, while the others wait for it.

    `token_url` gets the credentials; `audience` is the `aud` of an assertion; `extra` is what else the form says (scope,
    resource). `client`: whether client_id and client_secret go into the form or into a header (RFC 6749, 2.3.1). Raises
    AuthenticationError when the system refuses, ConfigurationError naming a credential that is missing.
    """

    def __init__(
        self,
        http: Http,
        store: CredentialStore,
        token_url: str,
        audience: str,
        *,
        extra: Mapping[str, str] | None = None,
        client: Literal["post", "basic"] = "post",
    ) -> None:
        self.extra = dict(extra or {})
        self.client = client
        self.http = http
        self.store = store
        self.token_url = token_url
        self.audience = audience
        self._reply: Mapping[str, Any] | None = None
        self._lock = threading.Lock()

    def reply(self) -> Mapping[str, Any]:
        """The token endpoint's answer (access_token, and what the vendor adds), asked for when there is none yet."""
        with self._lock:
            if self._reply is None:
                self._reply = self._fetched()
            return self._reply

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        reply = self.reply()
        request.headers["Authorization"] = f"Bearer {reply['access_token']}"
        response = yield request
        if response.status_code == 401:
            with self._lock:
                if self._reply is reply:  # else another thread has had a new one meanwhile
                    self._reply = None
            request.headers["Authorization"] = f"Bearer {self.reply()['access_token']}"
            yield request

    def _fetched(self) -> Mapping[str, Any]:
        credentials = self.store.load()
        grant = grant_of(self.http.system, credentials)
        if grant is Grant.REFRESH_TOKEN:
            return self._refreshed()
        return self._asked(grant, credentials)

    def _refreshed(self) -> Mapping[str, Any]:
        """One process refreshes at a time: where refresh tokens rotate, the second one's would be dead already."""
        with self.store.exclusive() as held:
            given = held.load()
            try:
                reply = self._asked(Grant.REFRESH_TOKEN, given)
            except TokenRefused:
                now = held.load()
                if now.get("refresh_token") == given.get("refresh_token"):
                    raise
                given, reply = now, self._asked(Grant.REFRESH_TOKEN, now)  # reconnected meanwhile
            rotated = reply.get("refresh_token")
            if rotated and rotated != given["refresh_token"]:
                held.store({"refresh_token": str(rotated)})
        return reply

    def _asked(self, grant: Grant, credentials: Mapping[str, str]) -> Mapping[str, Any]:
        system = self.http.system
        missing = [name for name in _NEEDED[grant] if not credentials.get(name)]
        if missing:
            raise ConfigurationError(
                f"The connector to {system} has no {' and no '.join(missing)}, which the grant {grant.value} needs: "
                "complete its credentials."
            )
        try:
            form, auth = self._form(grant, credentials) | self.extra, None
            if self.client == "basic":
                named = (form.pop("client_id", credentials["client_id"]), form.pop("client_secret", ""))
                auth = httpx.BasicAuth(*(quote_plus(one) for one in named))
            answer = self.http.post_form(self.token_url, form, token_error, auth=auth)
        except TokenRefused as refused:
            about = _REFUSALS[grant] if refused.code not in _CLIENT_ERRORS else "the app; check client_id and client_secret"
            raise TokenRefused(f"{system} refuses {about} ({refused.code}).", refused.code) from None
        reply = answer.json()
        if not isinstance(reply, dict) or not isinstance(reply.get("access_token"), str):
            raise AuthenticationError(f"{system} answered the token request without a token; check the connector's URL.")
        return reply

    def _form(self, grant: Grant, credentials: Mapping[str, str]) -> dict[str, str]:
        if grant is Grant.JWT_BEARER:
            return {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": self._assertion(credentials)}
        names = ("client_id", "client_secret", "refresh_token") if grant is Grant.REFRESH_TOKEN else _NEEDED[grant]
        return {"grant_type": grant.value} | {name: credentials[name] for name in names if credentials.get(name)}

    def _assertion(self, credentials: Mapping[str, str]) -> str:
        claims = {
            "iss": credentials["client_id"],
            "sub": credentials["username"],
            "aud": self.audience,
            "exp": int((self.http.now() + _ASSERTION_LIFE).timestamp()),
            "jti": str(uuid4()),
        }
        try:
            key = RSAKey.import_key(credentials["private_key"])
            return jwt.encode({"alg": "RS256"}, claims, key)
        except (JoseError, ValueError, TypeError):
            raise ConfigurationError(
                f"The private_key of the connector to {self.http.system} is no RSA key in PEM form; store it again, with its "
                "BEGIN and END lines and without a passphrase."
            ) from None


def grant_of(system: str, credentials: Mapping[str, str]) -> Grant:
    """Raises ConfigurationError for a grant that there is not."""
    named = credentials.get("grant")
    if named:
        if named not in list(Grant):
            raise ConfigurationError(
                f"The connector to {system} names a grant that there is not{suggestion(named, list(Grant))}"
            )
        return Grant(named)
    if credentials.get("private_key"):
        return Grant.JWT_BEARER
    return Grant.REFRESH_TOKEN if credentials.get("refresh_token") else Grant.CLIENT_CREDENTIALS
