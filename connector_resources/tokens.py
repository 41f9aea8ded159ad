"""The token endpoint of OAuth 2.0: what is asked for, how we say who we are, and what its answers mean.

RFC 6749 (grants, client authentication, error answers), RFC 7523 (signed assertions, as a grant and to say who we are).
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, TypeAlias
from urllib.parse import quote_plus
from uuid import uuid4

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from connector_resources.answers import Answer, status_error
from connector_resources.errors import (
    AuthenticationError,
    ConfigurationError,
    ContractError,
    IntegrationError,
    SystemUnavailable,
)
from connector_resources.http import Http
from connector_resources.lined_yaml import suggestion

ClientProof: TypeAlias = Literal["post", "basic", "private_key_jwt"]

_ASSERTION_LIFE = timedelta(minutes=2)  # vendors take three at most, and clocks differ
_ASSERTED = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


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
_SENT = {
    Grant.CLIENT_CREDENTIALS: ("client_id", "client_secret"),
    Grant.REFRESH_TOKEN: ("client_id", "client_secret", "refresh_token"),
    Grant.JWT_BEARER: (),
}
_REFUSALS = {
    Grant.CLIENT_CREDENTIALS: "the client credentials; check client_id and client_secret, and that the app allows this flow",
    Grant.REFRESH_TOKEN: "the refresh token; reconnect the connector so that it gets a new one",
    Grant.JWT_BEARER: (
        "the signed assertion; check client_id and username, that the app holds the certificate of the private key, and that "
        "the user is approved for the app"
    ),
}
_PASSING = ("server_error", "temporarily_unavailable", "unknown_error")  # the last one is Salesforce's "retry your request"
_CLIENT_ERRORS = ("invalid_client", "invalid_client_id", "unauthorized_client")


class TokenRefused(AuthenticationError):
    """The token endpoint says no. `code`: the `error` of its answer."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class TokenUnclear(AuthenticationError):
    """The token endpoint says yes, and no token can be read from its answer."""


class TokenDoubtful(SystemUnavailable):
    """A gateway answers for the token endpoint: what was asked for may have been done (RFC 9110, 15.6.3 and 15.6.5)."""


def token_error(answer: Answer) -> IntegrationError | None:
    """What the token endpoint's answer means. Its error_description is not passed on: it may quote what was sent."""
    body = _json(answer) if answer.status in (200, 400, 401, 403) else None
    if isinstance(body, dict) and (answer.status != 200 or body.get("error")):  # GitHub and others refuse with status 200
        code = body.get("error")
        code = code if isinstance(code, str) and re.fullmatch(r"\w{1,60}", code) else "no error code"
        if code in _PASSING:
            return SystemUnavailable(f"{answer.system} cannot issue a token at the moment ({code}).", answer.wait)
        return TokenRefused(f"{answer.system} issues no token ({code}).", code)
    problem = status_error(answer)
    return TokenDoubtful(str(problem), answer.wait) if problem and answer.status in (502, 504) else problem


def _json(answer: Answer) -> Any:
    """The body, if it is JSON."""
    try:
        return answer.json() if answer.content_type == "application/json" else None
    except ContractError:
        return None


class TokenEndpoint:
    """Where tokens come from.

    `url` gets the credentials; `audience` is the `aud` of an assertion that stands for a user; `extra` is what else each form
    says (scope, resource). `client`: whether client_id and client_secret go into the form or into a header (RFC 6749, 2.3.1),
    or an assertion signed with the private_key takes the secret's place (RFC 7523, 2.2).
    """

    def __init__(
        self, http: Http, url: str, audience: str, *, extra: Mapping[str, str] | None = None, client: ClientProof = "post"
    ) -> None:
        self.http = http
        self.url = url
        self.audience = audience
        self.extra = dict(extra or {})
        self.client = client

    def asked(self, grant: Grant, credentials: Mapping[str, str], *, repeatable: bool = True) -> Mapping[str, Any]:
        """The answer to a request of this grant: access_token, and what the vendor adds.

        Raises TokenRefused, TokenUnclear, ConfigurationError naming a credential that is missing, and what `Http` raises
        (AnswerLost where the request may have been carried out)."""
        system = self.http.system
        missing = [name for name in self._needed(grant) if not credentials.get(name)]
        if missing:
            raise ConfigurationError(
                f"The connector to {system} has no {' and no '.join(missing)}, which the grant {grant.value} needs: "
                "complete its credentials."
            )
        try:
            return self.exchanged(self.form(grant, credentials), credentials, repeatable=repeatable)
        except TokenRefused as refused:
            about = _REFUSALS[grant] if refused.code not in _CLIENT_ERRORS else self._app()
            raise TokenRefused(f"{system} refuses {about} ({refused.code}).", refused.code) from None

    def exchanged(
        self, form: Mapping[str, str], credentials: Mapping[str, str], *, repeatable: bool = False
    ) -> Mapping[str, Any]:
        """The answer to this form, in which we say who we are."""
        answer = self.sent(self.url, form, credentials, repeatable=repeatable)
        try:
            reply = answer.json()
        except ContractError:
            reply = None
        if not isinstance(reply, dict) or not isinstance(reply.get("access_token"), str):
            raise TokenUnclear(f"{self.http.system} answered the token request without a token; check the connector's URL.")
        return reply

    def sent(self, url: str, form: Mapping[str, str], credentials: Mapping[str, str], *, repeatable: bool = False) -> Answer:
        """What an endpoint of the authorization server answers to this form, in which we say who we are."""
        form, auth = dict(form), None
        if self.client == "basic":
            named = (form.pop("client_id", credentials["client_id"]), form.pop("client_secret", ""))
            auth = httpx.BasicAuth(*(quote_plus(one) for one in named))
        elif self.client == "private_key_jwt":
            form.pop("client_secret", None)
            signed = self._signed(credentials, subject=credentials["client_id"], audience=self.url)
            form |= {"client_assertion_type": _ASSERTED, "client_assertion": signed}
        return self.http.post_form(url, form, token_error, auth=auth, repeatable=repeatable)

    def form(self, grant: Grant, credentials: Mapping[str, str]) -> dict[str, str]:
        """What a request of this grant says, beside how we say who we are. A refresh names no scope: what was granted is what
        is had, and one that was asked for and not granted would be refused (RFC 6749, 6)."""
        if grant is Grant.JWT_BEARER:
            signed = self._signed(credentials, subject=credentials["username"], audience=self.audience)
            asked = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": signed}
        else:
            asked = {"grant_type": grant.value} | {name: credentials[name] for name in _SENT[grant] if credentials.get(name)}
        return asked | {name: text for name, text in self.extra.items() if name != "scope" or grant is not Grant.REFRESH_TOKEN}

    def grant(self, credentials: Mapping[str, str]) -> Grant:
        """How a token is asked for with these credentials. Raises ConfigurationError for a grant that there is not."""
        named = credentials.get("grant")
        if named:
            if named not in list(Grant):
                raise ConfigurationError(
                    f"The connector to {self.http.system} names a grant that there is not{suggestion(named, list(Grant))}"
                )
            return Grant(named)
        if credentials.get("private_key") and self.client != "private_key_jwt":
            return Grant.JWT_BEARER
        return Grant.REFRESH_TOKEN if credentials.get("refresh_token") else Grant.CLIENT_CREDENTIALS

    def _needed(self, grant: Grant) -> tuple[str, ...]:
        if self.client != "private_key_jwt":
            return _NEEDED[grant]
        return (*(name for name in _NEEDED[grant] if name not in ("client_secret", "private_key")), "private_key")

    def _app(self) -> str:
        if self.client == "private_key_jwt":
            return "the app; check client_id, and that the app holds the public key of the private_key"
        return "the app; check client_id and client_secret"

    def _signed(self, credentials: Mapping[str, str], *, subject: str, audience: str) -> str:
        now = self.http.now()
        claims = {
            "iss": credentials["client_id"],
            "sub": subject,
            "aud": audience,
            "iat": int(now.timestamp()),
            "exp": int((now + _ASSERTION_LIFE).timestamp()),
            "jti": str(uuid4()),
        }
        header = {"alg": "RS256"} | ({"kid": credentials["key_id"]} if credentials.get("key_id") else {})
        try:
            return jwt.encode(header, claims, RSAKey.import_key(credentials["private_key"]))
        except (JoseError, ValueError, TypeError):
            raise ConfigurationError(
                f"The private_key of the connector to {self.http.system} is no RSA key in PEM form; store it again, with its "
                "BEGIN and END lines and without a passphrase."
            ) from None


def life(reply: Mapping[str, Any], now: datetime, *names: str) -> datetime | None:
    """The instant that an answer names in seconds from now, as number or text, under the first of these names that it has.

    None, which is unknown, for anything else, and for zero or less: vendors that say so mean that it has no end, or do not
    know. Taken at their word, a token would be over before its first use, and each call would ask for another one."""
    for name in names:
        seconds = str(reply.get(name, "")).strip()
        if re.fullmatch(r"\d{1,9}(\.\d+)?", seconds) and float(seconds) > 0:
            return now + timedelta(seconds=float(seconds))
    return None
