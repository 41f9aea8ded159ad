"""Who calls: API key (header or parameter), user name and password, or a token of the token endpoint."""

import secrets
from base64 import b64decode
from urllib.parse import parse_qsl, unquote_plus

from connector_resources.sandbox.generic.shop import Refusal, Shop
from connector_resources.sandbox.salesforce.exchange import Answer, Call

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
    """The token endpoint (RFC 6749): client credentials, and a refresh token that is good for one use."""
    form = dict(parse_qsl(call.body.decode("utf-8", "replace")))
    scheme, _, given = call.headers.get("authorization", "").partition(" ")
    client = (form.get("client_id", ""), form.get("client_secret", ""))
    if scheme == "Basic":
        name, password = _basic(given)
        client = (unquote_plus(name), unquote_plus(password))
    known = shop.credentials
    if client != (known["client_id"], known["client_secret"]):
        return Answer(401, {"error": "invalid_client"}, _NO_STORE)
    if form.get("grant_type") == "refresh_token":
        with shop.lock:
            if not _same(form.get("refresh_token", ""), known["refresh_token"]):
                return Answer(400, {"error": "invalid_grant"}, _NO_STORE)
            known["refresh_token"] = secrets.token_urlsafe(24)
        rotated = {"refresh_token": known["refresh_token"]}
    elif form.get("grant_type") == "client_credentials":
        rotated = {}
    else:
        return Answer(400, {"error": "unsupported_grant_type"}, _NO_STORE)
    return Answer(200, {"access_token": shop.session(), "token_type": "Bearer", "expires_in": 3600, **rotated}, _NO_STORE)


def _same(given: str, known: str) -> bool:
    return bool(given) and secrets.compare_digest(given.encode(), known.encode())


def _basic(token_: str) -> tuple[str, str]:
    try:
        name, _, password = b64decode(token_).decode().partition(":")
    except ValueError:
        return "", ""
    return name, password
