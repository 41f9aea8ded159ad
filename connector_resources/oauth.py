"""OAuth 2.0 as a way to sign requests in: a token that is fetched, kept, replaced; and a refresh token that is never lost.

Refresh tokens may rotate: using one spends it, its successor comes in the answer, and a strict vendor that sees a spent one
again ends the whole grant (RFC 9700, 4.14.2). So of all processes one refreshes at a time; it notes that it is about to, and
what comes back is stored before it is used, the access token too. Another process finds that token and needs no refresh. One
that finds the note and no outcome knows that the token may be spent: where the vendor rotates, it says that a person must
reconnect, and does not try.
"""

import hashlib
import json
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx

from connector_resources.contract import CredentialStore, GrantState, RotatingCredentials
from connector_resources.errors import AnswerLost, IntegrationError, ReconnectNeeded
from connector_resources.http import Http
from connector_resources.tokens import ClientProof, Grant, TokenDoubtful, TokenEndpoint, TokenRefused, TokenUnclear, life

_GONE = ("invalid_grant", "interaction_required", "consent_required")
_NOT_KEPT = ("refresh_token", "id_token")


@dataclass(frozen=True)
class Token:
    """An access token. `reply`: the answer that it came in; `until`: when it is no longer used (None: not before a 401)."""

    reply: Mapping[str, Any]
    until: datetime | None

    @property
    def access(self) -> str:
        return str(self.reply["access_token"])

    def good(self, now: datetime) -> bool:
        return self.until is None or now < self.until

    @classmethod
    def of(cls, reply: Mapping[str, Any], now: datetime) -> "Token":
        ends = life(reply, now, "expires_in")
        kept = {name: value for name, value in reply.items() if name not in _NOT_KEPT}
        return cls(kept, ends and ends - min(timedelta(minutes=1), (ends - now) / 2))


class OAuth(httpx.Auth):
    """Puts a bearer token on requests. The token is fetched when it is missing or over, and once more after an answer 401: by
    one of the threads that share this, while the others wait for it.

    `audience`, `extra`, `client`: as in TokenEndpoint. `again`: of this vendor a refresh may be sent again whose answer was
    lost. Raises AuthenticationError when the system refuses, of which ReconnectNeeded where a person must sign in again, and
    ConfigurationError naming a credential that is missing.
    """

    def __init__(
        self,
        http: Http,
        store: CredentialStore,
        token_url: str,
        audience: str,
        *,
        extra: Mapping[str, str] | None = None,
        client: ClientProof = "post",
        again: bool = False,
    ) -> None:
        self.http = http
        self.store = store
        self.endpoint = TokenEndpoint(http, token_url, audience, extra=extra, client=client)
        self.again = again
        self._token: Token | None = None
        self._lock = threading.Lock()

    def reply(self) -> Mapping[str, Any]:
        """The token endpoint's answer (access_token, and what the vendor adds), asked for when there is no good one yet."""
        return self._current(None).reply

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token = self._current(None)
        request.headers["Authorization"] = f"Bearer {token.access}"
        response = yield request
        if response.status_code == 401:
            request.headers["Authorization"] = f"Bearer {self._current(token).access}"
            yield request

    def _current(self, refused: Token | None) -> Token:
        """A token that is not the one that was `refused`."""
        with self._lock:
            held = self._token
            if held is None or held is refused or not held.good(self.http.now()):
                self._token = self._fetched(held)
            assert self._token is not None  # noqa: S101 - it was set in this very block
            return self._token

    def _fetched(self, spent: Token | None) -> Token:
        credentials = self.store.load()
        grant = self.endpoint.grant(credentials)
        if grant is Grant.REFRESH_TOKEN:
            return self._stored(credentials, spent) or self._refreshed(spent)
        return Token.of(self.endpoint.asked(grant, credentials), self.http.now())

    def _stored(self, credentials: Mapping[str, str], spent: Token | None) -> Token | None:
        """The token that a process has stored for this very grant, if it is good and not the `spent` one."""
        text = credentials.get("access")
        kept = json.loads(text) if text else {}
        if kept.get("of") != self._mark(credentials):
            return None
        found = Token(kept["reply"], kept["until"] and datetime.fromisoformat(kept["until"]))
        return found if found.good(self.http.now()) and (spent is None or found.access != spent.access) else None

    def _refreshed(self, spent: Token | None) -> Token:
        with self.store.exclusive() as held:
            while True:  # until what was read is what the lock holds
                given = held.load()
                stored = self._stored(given, spent)
                if stored:
                    return stored
                repeatable = self.again or given.get("rotates") == "no"
                self._require_unspent(held, given, repeatable)
                held.store({"refreshing": self._mark(given)})
                if self._mark(held.load()) == self._mark(given):
                    break
            reply = self._asked(held, given, repeatable)
            held.store(*self.granted(reply, given))
            return Token.of(reply, self.http.now())

    def _require_unspent(self, held: RotatingCredentials, given: Mapping[str, str], repeatable: bool) -> None:
        if given.get("refreshing") == self._mark(given) and not repeatable:
            held.store({}, GrantState(good=False))
            raise ReconnectNeeded(
                f"A refresh of the token for {self.http.system} was interrupted before its answer was stored, so the refresh "
                "token may be spent and is not used again: reconnect the connector (integration connector authorize)."
            )

    def _asked(self, held: RotatingCredentials, given: Mapping[str, str], repeatable: bool) -> Mapping[str, Any]:
        try:
            return self.endpoint.asked(Grant.REFRESH_TOKEN, given, repeatable=repeatable)
        except (AnswerLost, TokenUnclear, TokenDoubtful):
            raise  # the note stays: the token may be spent
        except TokenRefused as refused:
            if refused.code not in _GONE:
                held.store({"refreshing": None})
                raise
            held.store({"refreshing": None}, GrantState(good=False))
            raise ReconnectNeeded(
                f"{self.http.system} refuses the refresh token ({refused.code}): reconnect the connector (integration "
                "connector authorize), or correct its credentials."
            ) from None
        except IntegrationError:
            held.store({"refreshing": None})
            raise

    def granted(self, reply: Mapping[str, Any], given: Mapping[str, str]) -> tuple[Mapping[str, str | None], GrantState]:
        """What is to be stored after this answer, beside the credentials that were `given`; and how the grant stands."""
        now = self.http.now()
        token, before = Token.of(reply, now), given.get("refresh_token")
        refresh_token = str(reply.get("refresh_token") or before)
        rotates = "yes" if given.get("rotates") == "yes" or before != refresh_token else "no"
        mark = self._mark({**given, "refresh_token": refresh_token})
        kept = {"reply": token.reply, "until": token.until and token.until.isoformat(), "of": mark}
        changed = {
            "refresh_token": refresh_token,
            "access": json.dumps(kept, default=str),
            "rotates": rotates if before else None,
            "refreshing": None,
        }
        return changed, GrantState(True, life(reply, now, "refresh_token_expires_in", "x_refresh_token_expires_in"))

    def _mark(self, credentials: Mapping[str, str]) -> str:
        """Stands for a grant, so that what was kept for another one is not taken for its."""
        named = [self.endpoint.url, credentials.get("client_id"), credentials.get("refresh_token"), self.endpoint.extra]
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
