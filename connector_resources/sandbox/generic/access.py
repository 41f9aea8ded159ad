"""Who calls: API key (header or parameter), user name and password, or a token of the token endpoint."""

import json
import secrets
from base64 import b64decode, urlsafe_b64decode
from urllib.parse import unquote_plus

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from connector_resources.sandbox.generic.shop import Refusal, Shop
from connector_resources.sandbox.grants import TokenRefusal
from connector_resources.sandbox.salesforce.exchange import Answer, Call

_DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
_ASSERTED = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_NO_STORE = {"Cache-Control": "no-store"}


def check(shop: Shop, call: Call) -> None:
    """Raises Refusal 401."""
    scheme, _, token = call.headers.get("authorization", "").partition(" ")
    known = shop.credentials
    if scheme == "Bearer" and (shop.valid_session(token) or _same(token, known["api_key"])):
        return
    if scheme == "Basic" and _basic(token) == (known["username"], known["password"]):
        return
    if _same(call.headers.get("x-api-key", ""), known["api_key"]) or _same(call.params.get("api_key", ""), known["api_key"]):
        return
    raise Refusal(401, "unauthorized")


def token(shop: Shop, call: Call) -> Answer:
    """The token endpoint (RFC 6749): client credentials, a refresh token that is good for one use, the code of the consent
    page, and that of a device. Who asks proves it with a secret or a signed assertion (RFC 7523), or a code's verifier."""
    form, known = _form(call), shop.credentials
    grant = form.get("grant_type")
    if not _known(shop, call, form, public=grant in ("authorization_code", _DEVICE)):
        return Answer(401, {"error": "invalid_client"}, _NO_STORE)
    more: dict[str, str | int] = {}
    try:
        match grant:
            case "refresh_token" if "scope" in form:  # none was granted, and a refresh brings no more (RFC 6749, 6)
                return Answer(400, {"error": "invalid_scope"}, _NO_STORE)
            case "refresh_token":
                with shop.lock:
                    more = shop.grants.use(form.get("refresh_token", ""))
                    known["refresh_token"] = str(more["refresh_token"])
            case "authorization_code":
                more = shop.consents.redeemed(form)
            case str() if grant == _DEVICE:
                more = shop.consents.polled(form.get("device_code", ""))
            case "client_credentials":
                pass
            case _:
                return Answer(400, {"error": "unsupported_grant_type"}, _NO_STORE)
    except TokenRefusal as refusal:
        return Answer(400, refusal.body, _NO_STORE)
    return Answer(200, {"access_token": shop.session(), "token_type": "Bearer", "expires_in": 3600, **more}, _NO_STORE)


def device(shop: Shop, call: Call) -> Answer:
    """The device endpoint (RFC 8628)."""
    if not _known(shop, call, _form(call), public=False):
        return Answer(401, {"error": "invalid_client"}, _NO_STORE)
    return Answer(200, shop.consents.device(call.base), _NO_STORE)


def _form(call: Call) -> dict[str, str]:
    """What a form says, with what its header says of the app."""
    form = call.form()
    scheme, _, given = call.headers.get("authorization", "").partition(" ")
    if scheme == "Basic":
        name, secret = map(unquote_plus, _basic(given))
        form |= {"client_id": name, "client_secret": secret}
    return form


def _known(shop: Shop, call: Call, form: dict[str, str], *, public: bool) -> bool:
    """Whether the app has proved who it is; `public`: one without a secret need not."""
    secret, known = form.get("client_secret", ""), shop.credentials
    signed = "client_assertion" in form and _asserted(shop, form, f"{call.base}/oauth/token")
    bare = public and not secret and "client_assertion" not in form
    return form.get("client_id") == known["client_id"] and (signed or bare or _same(secret, known["client_secret"]))


def _asserted(shop: Shop, form: dict[str, str], audience: str) -> bool:
    """RS256; iss and sub are the app, aud this endpoint, exp is to come, and jti comes once (RFC 7523, 3)."""
    head, _, signature = form["client_assertion"].rpartition(".")
    try:
        header, claims = (json.loads(_decoded(part)) for part in head.split("."))
        shop.public_key.verify(_decoded(signature), head.encode(), padding.PKCS1v15(), hashes.SHA256())
        fresh = shop.now().timestamp() < float(claims["exp"]) and claims["jti"] not in shop.assertions
    except (ValueError, TypeError, KeyError, InvalidSignature):
        return False
    shop.assertions.add(claims["jti"])
    mine = claims.get("iss") == claims.get("sub") == form.get("client_id") and claims.get("aud") == audience
    return header.get("alg") == "RS256" and form.get("client_assertion_type") == _ASSERTED and fresh and mine


def _decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _same(given: str, known: str) -> bool:
    return bool(given) and secrets.compare_digest(given.encode(), known.encode())


def _basic(token_: str) -> tuple[str, str]:
    try:
        name, _, password = b64decode(token_).decode().partition(":")
    except ValueError:
        return "", ""
    return name, password
