"""A person lets us in: in a browser on this machine (authorization code with PKCE), or on any other (device code).

RFC 6749, 4.1; RFC 7636; RFC 8252 (the redirect leads to a port of this machine); RFC 8628. What comes out is a refresh token,
with the access token that came along, to be stored.
"""

import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

import httpx

from connector_resources.contract import GrantState
from connector_resources.errors import AuthenticationError, ConfigurationError, ContractError, RetryableError
from connector_resources.http import require_safe
from connector_resources.oauth import OAuth
from connector_resources.tokens import TokenRefused, life

Granted: TypeAlias = tuple[Mapping[str, str | None], GrantState]  # what is to be stored, and how the grant stands


@dataclass(frozen=True)
class DeviceDialect:
    """What a vendor's device flow says: `asked` to begin with, then the grant's name, and how its code is called."""

    asked: Mapping[str, str] = field(default_factory=dict)
    grant_type: str = "urn:ietf:params:oauth:grant-type:device_code"
    code: str = "device_code"


@dataclass(frozen=True)
class Consent:
    """How a person lets us in to one system. `authorize_url` shows the consent page, `device_url` issues device codes; None
    where the system has no such thing. `scope`: what is asked for, where the token requests of `oauth` do not say it."""

    oauth: OAuth
    authorize_url: str | None = None
    device_url: str | None = None
    scope: str = ""
    dialect: DeviceDialect = field(default_factory=DeviceDialect)

    @property
    def system(self) -> str:
        return self.oauth.http.system

    def credentials(self) -> Mapping[str, str]:
        """Raises ConfigurationError without a client_id."""
        found = dict(self.oauth.store.load())
        if not found.get("client_id"):
            raise ConfigurationError(f"The connector to {self.system} has no client_id: complete its credentials.")
        return {name: value for name, value in found.items() if name not in ("refresh_token", "rotates")}

    @property
    def asked(self) -> Mapping[str, str]:
        """What is asked for: the scope, and what else the vendor wants to be told."""
        return {**({"scope": self.scope} if self.scope else {}), **self.oauth.endpoint.extra}

    def exchanged(self, form: Mapping[str, str]) -> Granted:
        """The grant that a code stands for. Raises TokenRefused, and ConfigurationError if it would end with the session."""
        credentials = self.credentials()
        reply = self.oauth.endpoint.exchanged({**_app(credentials), **form}, credentials)
        if not reply.get("refresh_token"):
            raise ConfigurationError(
                f"{self.system} let us in, but gave no refresh token; allow the app offline access (scope refresh_token or "
                "offline_access), then authorize again."
            )
        changed, state = self.oauth.granted(reply, credentials)
        return {**changed, "grant": "refresh_token"}, state


class CodeFlow:
    """One request for consent. `url`: the page to open; `state`: what the redirect must bring back."""

    def __init__(self, consent: Consent, redirect: str) -> None:
        if not consent.authorize_url:
            raise ConfigurationError(
                f"{consent.system} has no consent page that the connector knows; give it a refresh_token."
            )
        require_safe(consent.system, consent.authorize_url)
        self.consent = consent
        self.redirect = redirect
        self.state = secrets.token_urlsafe(32)
        self._verifier = secrets.token_urlsafe(48)
        digest = hashlib.sha256(self._verifier.encode()).digest()
        asked = {
            **consent.asked,
            "response_type": "code",
            "client_id": consent.credentials()["client_id"],
            "redirect_uri": redirect,
            "state": self.state,
            "code_challenge": urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        self.url = str(httpx.URL(consent.authorize_url).copy_merge_params(asked))

    def finished(self, told: Mapping[str, str]) -> Granted:
        """The grant, from what the redirect says. Raises AuthenticationError when the person, or the system, has refused."""
        if not secrets.compare_digest(told.get("state", "").encode(), self.state.encode()):
            raise AuthenticationError("The redirect does not belong to this request (its state is another): authorize again.")
        if "code" not in told:
            denied = told.get("error") == "access_denied"
            why = "access was denied on the consent page" if denied else "the consent page gave no code"
            raise AuthenticationError(f"{self.consent.system} is not connected: {why}; authorize again.")
        form = {
            "grant_type": "authorization_code",
            "code": told["code"],
            "redirect_uri": self.redirect,
            "code_verifier": self._verifier,
        }
        try:
            return self.consent.exchanged(form)
        except TokenRefused as refused:
            raise AuthenticationError(
                f"{self.consent.system} does not take the code of its consent page ({refused.code}); authorize again."
            ) from None


def _app(credentials: Mapping[str, str]) -> dict[str, str]:
    """What a form says of the app."""
    return {name: credentials[name] for name in ("client_id", "client_secret") if credentials.get(name)}


def device_flow(consent: Consent, show: Callable[[str, str], None]) -> Granted:
    """The grant that a person gives on another machine; `show` gets the page's address and the code to type there, at once.

    Asks as often as the system allows, less often while it gives no answer, until somebody has decided or the code is over.
    Raises AuthenticationError."""
    if not consent.device_url:
        raise ConfigurationError(f"{consent.system} has no device flow that the connector knows; authorize in a browser.")
    http, dialect = consent.oauth.http, consent.dialect
    require_safe(consent.system, consent.device_url)
    credentials = consent.credentials()
    form = {**dialect.asked, **consent.asked, **_app(credentials)}
    began: Any = consent.oauth.endpoint.sent(consent.device_url, form, credentials, repeatable=True).json()
    try:
        code, page, shown = (str(began[name]) for name in ("device_code", "verification_uri", "user_code"))
        interval = float(began.get("interval", 5))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ContractError(
            f"{consent.system} answers the device request in a form that the connector does not know."
        ) from None
    start = http.now()
    ends, slept = life(began, start, "expires_in") or start + timedelta(minutes=10), timedelta()
    show(page, shown)
    while max(http.now(), start + slept) < ends:
        http.sleep(interval)
        slept += timedelta(seconds=interval)
        try:
            return consent.exchanged({"grant_type": dialect.grant_type, dialect.code: code})
        except TokenRefused as refused:
            if refused.code == "slow_down":
                interval += 5
            elif refused.code != "authorization_pending":
                raise AuthenticationError(f"{consent.system} is not connected ({refused.code}); authorize again.") from None
        except RetryableError:
            interval = max(1.0, 2 * interval)
    raise AuthenticationError(f"{consent.system} is not connected: nobody typed the code in time; authorize again.")
