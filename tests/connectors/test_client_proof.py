"""Who asks for a token: a secret in the form or a header, or an assertion signed with a private key (RFC 7523)."""

import json
from base64 import urlsafe_b64decode
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from shopping import Safe, Visit

from connector_resources.consent import device_flow
from connector_resources.errors import AnswerLost, AuthenticationError, ConfigurationError, ReconnectNeeded
from connector_resources.sandbox.generic import ShopSandbox


def told(code: str) -> dict[str, Any]:
    """An answer of a token endpoint that refuses."""
    return {"status": 400, "body": json.dumps({"error": code}), "headers": {"Content-Type": "application/json"}}


DENIED = told("access_denied")
SIGNED = ("client: basic", "client: private_key_jwt")


def signing(visit: Visit, *names: str, **given: str) -> Any:
    store = Safe(visit.shop, ("client_id", *names), {"private_key": visit.shop.state.private_key, **given})
    return visit("sandbox-rest", SIGNED, method="oauth2", store=store)


def sent(connector: Any) -> list[dict[str, str]]:
    """The forms that the token endpoint gets, from now on."""
    forms: list[dict[str, str]] = []

    def look(request: httpx.Request, through: Any) -> httpx.Response:
        if request.url.path == "/oauth/token":
            forms.append(dict(parse_qsl(request.content.decode())))
        answer: httpx.Response = through(request)
        return answer

    connector.http.wire.meddle = look
    return forms


def test_a_signed_assertion_takes_the_place_of_the_secret(visit: Visit, shop: ShopSandbox) -> None:
    connector = signing(visit, "client_secret", key_id="k1")
    forms = sent(connector)
    assert connector.test().account == "shop@example.org"
    (form,) = forms
    assert form["grant_type"] == "client_credentials"
    assert "client_secret" not in form
    header, claims = (json.loads(urlsafe_b64decode(part + "==")) for part in form["client_assertion"].split(".")[:2])
    assert (header["alg"], header["kid"]) == ("RS256", "k1")
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("app", "app", f"{shop.url}/oauth/token")
    assert 0 < claims["exp"] - claims["iat"] <= 180


def test_each_request_is_signed_anew(visit: Visit, shop: ShopSandbox) -> None:
    connector = signing(visit)
    connector.test()
    shop.state.end_sessions()
    connector.test()
    assert len(shop.state.assertions) == 2


def test_a_refresh_token_goes_with_a_signed_assertion_too(visit: Visit, shop: ShopSandbox) -> None:
    assert signing(visit, "refresh_token").test()
    assert shop.state.grants.refreshed == 1


@pytest.mark.parametrize("twice", [True, False])
def test_a_refresh_without_an_answer_is_sent_again_only_where_the_manifest_allows_it(
    visit: Visit, shop: ShopSandbox, twice: bool
) -> None:
    shop.faults.add("drop", path="/oauth/token")
    store = Safe(shop, ("client_id", "client_secret", "refresh_token"))
    manifest = ("client: basic", f"client: basic\n    refresh_twice: {str(twice).lower()}")
    connector = visit("sandbox-rest", manifest, method="oauth2", store=store)
    if twice:
        assert connector.test()
    else:
        with pytest.raises(AnswerLost):
            connector.test()
        with pytest.raises(ReconnectNeeded):
            connector.test()


def test_an_assertion_of_another_key_is_refused_and_nothing_is_quoted(visit: Visit) -> None:
    stranger = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(AuthenticationError, match="check client_id, and that the app holds the public key") as raised:
        signing(visit, private_key=stranger.decode()).test()
    assert "PRIVATE" not in str(raised.value)


@pytest.mark.parametrize("key", ["", "-----BEGIN S3cret-----"])
def test_a_private_key_that_is_missing_or_none_is_said_so(visit: Visit, key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no private_key, which the grant|no RSA key in PEM form") as raised:
        signing(visit, private_key=key).test()
    assert "S3cret" not in str(raised.value)


@pytest.mark.parametrize("client", ["post", "basic", "private_key_jwt"])
def test_an_app_says_who_it_is_when_it_asks_for_a_devices_code(visit: Visit, shop: ShopSandbox, client: str) -> None:
    store = Safe(shop, ("client_id", "client_secret"), {"private_key": shop.state.private_key})
    connector = visit("sandbox-rest", ("client: basic", f"client: {client}"), method="oauth2", store=store)
    shop.faults.add("status", path="/oauth/token", **DENIED)
    with pytest.raises(AuthenticationError, match="access_denied"):
        device_flow(connector.consent(), lambda _, __: None)


@pytest.mark.parametrize(
    ("fault", "waits"),
    [
        ({"kind": "status", **told("authorization_pending")}, [5.0, 5.0]),
        ({"kind": "status", **told("authorization_pending"), "status": 200}, [5.0, 5.0]),
        ({"kind": "status", **told("slow_down")}, [5.0, 10.0]),
        ({"kind": "status", "status": 503}, [5.0, 10.0]),
        ({"kind": "drop"}, [5.0, 10.0]),
    ],
    ids=["pending", "pending, as some say it", "slow down", "503", "no answer"],
)
def test_a_device_asks_until_somebody_has_decided(
    visit: Visit, shop: ShopSandbox, fault: dict[str, Any], waits: list[float]
) -> None:
    store = Safe(shop, ("client_id", "client_secret"))
    consent = visit("sandbox-rest", method="oauth2", store=store).consent()
    shop.state.consents.interval = 5
    shop.faults.add(path="/oauth/token", times=1, **fault)
    shop.faults.add("status", path="/oauth/token", after=1, **DENIED)
    with pytest.raises(AuthenticationError, match="access_denied"):
        device_flow(consent, lambda _, __: None)
    assert visit.waits == waits


def test_a_device_gives_up_when_its_code_is_over(visit: Visit, shop: ShopSandbox) -> None:
    consent = visit("sandbox-rest", method="oauth2", store=Safe(shop, ("client_id", "client_secret"))).consent()
    shop.faults.add("status", path="/oauth/token", status=503, times=None)
    with pytest.raises(AuthenticationError, match="nobody typed the code in time"):
        device_flow(consent, lambda _, __: None)
    assert len(visit.waits) < 12
