"""A person's consent: the page that asks for it, the code that it gives (PKCE), and the code that a device shows.

RFC 6749, 4.1 (authorization code); RFC 7636 (PKCE, method S256); RFC 8252, 7.3 (any port of a loopback redirect); RFC 8628
(device code). Who is signed in there is always the sandbox's one user.
"""

import base64
import hashlib
import html
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode, urlsplit

from connector_resources.sandbox.grants import Grants, TokenRefusal
from connector_resources.sandbox.salesforce.exchange import Answer, Call

_CODE_LIFE = timedelta(minutes=10)
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # RFC 8628, 6.1: no vowels, so no words


@dataclass
class Code:
    """An authorization code. It belongs to a client, a redirect and a challenge, and is good once."""

    client_id: str
    redirect: str
    challenge: str
    born: datetime


@dataclass
class Device:
    """A device that waits. `granted` None: nobody has decided yet."""

    user_code: str
    born: datetime
    granted: bool | None = None
    polled: datetime | None = None


class Consents:
    """`system` and `account`: what the page shows. `path`: where it is; the device's page is below it. `interval`:
    seconds that a device waits between two questions."""

    def __init__(
        self, grants: Grants, client_id: str, now: Callable[[], datetime], *, system: str, account: str, path: str
    ) -> None:
        self.grants = grants
        self.client_id = client_id
        self.now = now
        self.system = system
        self.account = account
        self.path = path
        self.interval = 5
        self._codes: dict[str, Code] = {}
        self._devices: dict[str, Device] = {}
        self._lock = threading.Lock()

    def answer(self, call: Call) -> Answer:
        """Either page (GET), or what a person has decided there (POST)."""
        device = call.path.rstrip("/") == f"{self.path}/device"
        if call.method == "GET":
            return self.device_page(call.params) if device else self.page(call.params)
        return self.device_decided(call.form()) if device else self.decided(call.form())

    def page(self, asked: Mapping[str, str]) -> Answer:
        """The consent page. What is wrong with the request itself is told to the person, and never redirected."""
        wrong = self._wrong(asked)
        if wrong:
            return _html(400, "Not possible", f"<p>{html.escape(wrong)}</p>")
        hidden = "".join(
            f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">' for name, value in asked.items()
        )
        scopes = "".join(f"<li>{html.escape(scope)}</li>" for scope in asked.get("scope", "api").split())
        return _html(
            200,
            "Allow access?",
            f"<p>The app <b>ERP integration</b> asks for access to <b>{html.escape(self.system)}</b> as "
            f"<b>{html.escape(self.account)}</b>:</p><ul>{scopes}</ul>"
            f'<form method="post" action="{self.path}">{hidden}'
            '<button name="decision" value="allow">Allow</button> <button name="decision" value="deny">Deny</button></form>',
        )

    def decided(self, form: Mapping[str, str]) -> Answer:
        """Back to the app, with a code or with a refusal."""
        wrong = self._wrong(form)
        if wrong:
            return _html(400, "Not possible", f"<p>{html.escape(wrong)}</p>")
        told = {"error": "access_denied", "error_description": "end-user denied authorization"}
        if form.get("decision") == "allow":
            code = secrets.token_urlsafe(32)
            with self._lock:
                challenge = form.get("code_challenge", "")
                self._codes[code] = Code(form["client_id"], form["redirect_uri"], challenge, self.now())
            told = {"code": code}
        told |= {"state": form["state"]} if "state" in form else {}
        return Answer(302, None, {"Location": f"{form['redirect_uri']}?{urlencode(told)}", "Cache-Control": "no-store"})

    def redeemed(self, form: Mapping[str, str]) -> dict[str, str | int]:
        """The refresh token for a code. Raises TokenRefusal."""
        with self._lock:
            code = self._codes.pop(form.get("code", ""), None)
        if code is None or self.now() - code.born > _CODE_LIFE or code.client_id != form.get("client_id"):
            raise TokenRefusal("invalid_grant", "expired authorization code")
        if form.get("redirect_uri") != code.redirect:
            raise TokenRefusal("redirect_uri_mismatch", "redirect_uri must match configuration")
        if not code.challenge and "client_secret" not in form:
            raise TokenRefusal("invalid_client", "an app without a secret needs a code challenge")
        if code.challenge and not secrets.compare_digest(_challenge(form.get("code_verifier", "")), code.challenge):
            raise TokenRefusal("invalid_grant", "invalid code verifier")
        return {"refresh_token": self.grants.issue(), **self.grants.told()}

    def device(self, base: str) -> dict[str, str | int]:
        """What a device shows its user, and what it asks with."""
        name, shown = secrets.token_urlsafe(32), "".join(secrets.choice(_LETTERS) for _ in range(8))
        with self._lock:
            self._devices[name] = Device(shown, self.now())
        page = f"{base}{self.path}/device"
        told: dict[str, str | int] = {
            "device_code": name,
            "user_code": shown,
            "verification_uri": page,
            "interval": self.interval,
        }
        return told | {"expires_in": int(_CODE_LIFE.total_seconds())}

    def device_page(self, asked: Mapping[str, str]) -> Answer:
        code = html.escape(asked.get("user_code", ""))
        return _html(
            200,
            "Connect a device",
            f'<form method="post" action="{self.path}/device"><p><label>The code that the device shows: '
            f'<input name="user_code" value="{code}" autocomplete="off" autofocus></label></p>'
            '<button name="decision" value="allow">Allow</button> <button name="decision" value="deny">Deny</button></form>',
        )

    def device_decided(self, form: Mapping[str, str]) -> Answer:
        with self._lock:
            named = form.get("user_code", "").strip().upper()
            device = next((one for one in self._devices.values() if one.user_code == named), None)
            if device is None:
                return _html(400, "Not possible", "<p>There is no device with this code.</p>")
            device.granted = form.get("decision") == "allow"
        return _html(200, "Done", "<p>You can close this page.</p>")

    def polled(self, name: str) -> dict[str, str | int]:
        """The refresh token, once somebody has allowed it. Raises TokenRefusal."""
        with self._lock:
            device, now = self._devices.get(name), self.now()
            if device is None or now - device.born > _CODE_LIFE:
                raise TokenRefusal("expired_token", "the device code is not known, or over")
            soon = device.polled is not None and now - device.polled < timedelta(seconds=self.interval)
            device.polled = now
            if soon:
                raise TokenRefusal("slow_down", "polled too often")
            if device.granted is None:
                raise TokenRefusal("authorization_pending", "nobody has decided yet")
            del self._devices[name]
            if not device.granted:
                raise TokenRefusal("access_denied", "end-user denied authorization")
        return {"refresh_token": self.grants.issue(), **self.grants.told()}

    def _wrong(self, asked: Mapping[str, str]) -> str | None:
        if asked.get("client_id") != self.client_id:
            return "invalid_client_id: there is no such app."
        redirect = urlsplit(asked.get("redirect_uri", ""))
        if redirect.scheme != "http" or redirect.hostname not in ("127.0.0.1", "localhost") or redirect.query:
            return "redirect_uri_mismatch: the app leads back to this machine only."
        if asked.get("response_type") != "code":
            return "unsupported_response_type: only code."
        if "code_challenge" in asked and asked.get("code_challenge_method") != "S256":
            return "invalid_request: the code challenge must be made with S256."
        return None


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _html(status: int, title: str, content: str) -> Answer:
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;background:#f3f4f6;color:#1f2937;margin:0}"
        "main{max-width:26rem;margin:12vh auto;padding:2rem 2.5rem;background:#fff;border-radius:12px;"
        "box-shadow:0 1px 4px #0002}h1{font-size:1.4rem;margin:0 0 .5rem}small{color:#6b7280}"
        "button{font:inherit;padding:.5rem 1.4rem;border-radius:8px;border:1px solid #9ca3af;background:#fff;cursor:pointer}"
        "button[value=allow]{background:#1d4ed8;border-color:#1d4ed8;color:#fff}input{font:inherit;padding:.3rem .5rem}"
    )
    body = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
        f"<main><small>Sandbox</small><h1>{title}</h1>{content}</main></html>"
    )
    return Answer(status, body, {"Cache-Control": "no-store", "Content-Security-Policy": "frame-ancestors 'none'"})
