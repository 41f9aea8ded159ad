"""Tokens: the three grants, sessions that end, and the SOAP login."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from connector_resources.sandbox import Sandbox

JWT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def _token(sandbox: Sandbox, auth: tuple[str, str] | None = None, /, **form: str) -> httpx.Response:
    return httpx.post(f"{sandbox.url}/services/oauth2/token", data=form, auth=auth, trust_env=False)


def _works(sandbox: Sandbox, token: str) -> bool:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{sandbox.url}/services/data/v67.0/limits", headers=headers, trust_env=False).status_code == 200


def _assertion(sandbox: Sandbox, private_key: str | None = None, **changes: Any) -> str:
    claims = {
        "iss": sandbox.credentials["client_id"],
        "sub": sandbox.credentials["username"],
        "aud": sandbox.url,
        "exp": 4_000_000_000,
    } | changes
    key = serialization.load_pem_private_key((private_key or sandbox.credentials["private_key"]).encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "RS256"}, claims)]
    head = b".".join(parts)
    signature = base64.urlsafe_b64encode(key.sign(head, padding.PKCS1v15(), hashes.SHA256())).rstrip(b"=")
    return (head + b"." + signature).decode()


def _errors(answer: httpx.Response) -> str:
    assert answer.status_code == 400
    assert set(answer.json()) == {"error", "error_description"}
    error: str = answer.json()["error"]
    return error


@pytest.mark.parametrize("basic", [True, False])
def test_client_credentials_open_a_session(sandbox: Sandbox, basic: bool) -> None:
    client = (sandbox.credentials["client_id"], sandbox.credentials["client_secret"])
    form = {} if basic else {"client_id": client[0], "client_secret": client[1]}
    answer = _token(sandbox, client if basic else None, grant_type="client_credentials", **form)
    reply = answer.json()
    assert answer.status_code == 200
    assert set(reply) == {"access_token", "instance_url", "id", "token_type", "issued_at", "signature", "scope"}
    assert reply["instance_url"] == sandbox.url
    assert _works(sandbox, reply["access_token"])


def test_a_refresh_token_opens_a_session(sandbox: Sandbox) -> None:
    form = {"client_id": sandbox.credentials["client_id"], "refresh_token": sandbox.credentials["refresh_token"]}
    assert _works(sandbox, _token(sandbox, grant_type="refresh_token", **form).json()["access_token"])
    assert _errors(_token(sandbox, grant_type="refresh_token", **form | {"refresh_token": "other"})) == "invalid_grant"


def test_a_signed_assertion_opens_a_session(sandbox: Sandbox) -> None:
    answer = _token(sandbox, grant_type=JWT, assertion=_assertion(sandbox))
    assert _works(sandbox, answer.json()["access_token"])


def test_an_assertion_for_the_public_login_host_is_taken_as_well(sandbox: Sandbox) -> None:
    assertion = _assertion(sandbox, aud="https://login.salesforce.com")
    assert _token(sandbox, grant_type=JWT, assertion=assertion).status_code == 200


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"aud": "https://elsewhere.example"}, "invalid_grant"),
        ({"sub": "nobody@sandbox.example"}, "invalid_grant"),
        ({"exp": 1_000_000_000}, "invalid_grant"),
        ({"exp": None}, "invalid_grant"),
        ({"iss": "other"}, "invalid_client_id"),
    ],
)
def test_an_assertion_with_a_wrong_claim_is_refused(sandbox: Sandbox, changes: dict[str, Any], error: str) -> None:
    assert _errors(_token(sandbox, grant_type=JWT, assertion=_assertion(sandbox, **changes))) == error


def test_an_assertion_signed_by_another_key_is_refused(sandbox: Sandbox) -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = stranger.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    assert _errors(_token(sandbox, grant_type=JWT, assertion=_assertion(sandbox, pem))) == "invalid_grant"
    assert _errors(_token(sandbox, grant_type=JWT, assertion="no.jwt")) == "invalid_grant"


def test_wrong_clients_and_unknown_grants_are_refused(sandbox: Sandbox) -> None:
    client_id = sandbox.credentials["client_id"]
    form = {"grant_type": "client_credentials", "client_id": client_id}
    assert _errors(_token(sandbox, **form, client_secret="wrong")) == "invalid_client"
    assert _errors(_token(sandbox, **form)) == "invalid_client"
    assert _errors(_token(sandbox, grant_type="client_credentials", client_id="x", client_secret="y")) == "invalid_client_id"
    assert _errors(_token(sandbox, grant_type="password")) == "unsupported_grant_type"


def test_a_revoked_session_is_refused_until_a_new_token_is_taken(sandbox: Sandbox, api: httpx.Client) -> None:
    assert api.get("limits").status_code == 200
    sandbox.state.revoke_tokens()
    answer = api.get("limits")
    assert answer.status_code == 401
    assert answer.json() == [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
    assert _works(sandbox, sandbox.state.open_session())


def test_a_session_ends_by_itself() -> None:
    clock = [datetime(2026, 7, 1, tzinfo=UTC)]
    with Sandbox(accounts=1, contacts=1, now=lambda: clock[0]) as sandbox:
        token = sandbox.state.open_session()
        assert _works(sandbox, token)
        clock[0] += timedelta(seconds=sandbox.state.session_seconds)
        assert not _works(sandbox, token)


def test_secrets_differ_from_start_to_start(sandbox: Sandbox) -> None:
    other = Sandbox(accounts=1, contacts=1).credentials
    assert all(other[name] != value for name, value in sandbox.credentials.items() if name != "username")


def test_identity_tells_who_the_token_belongs_to(sandbox: Sandbox, api: httpx.Client) -> None:
    identity = api.get(f"{sandbox.url}/services/oauth2/userinfo").json()
    assert identity["preferred_username"] == sandbox.credentials["username"]
    assert identity["organization_id"].startswith("00D")
    assert api.get(identity["sub"]).json() == identity


def test_soap_login_opens_a_session_with_the_right_password_only(sandbox: Sandbox) -> None:
    def login(password: str) -> httpx.Response:
        body = (
            '<se:Envelope xmlns:se="http://schemas.xmlsoap.org/soap/envelope/"><se:Body>'
            '<login xmlns="urn:partner.soap.sforce.com">'
            f"<username>{sandbox.credentials['username']}</username><password>{password}</password></login></se:Body></se:Envelope>"
        )
        return httpx.post(f"{sandbox.url}/services/Soap/u/59.0", content=body, trust_env=False)

    good, bad = login(sandbox.credentials["password"]), login("wrong")
    assert _works(sandbox, good.text.partition("<sessionId>")[2].partition("</sessionId>")[0])
    assert bad.status_code == 500
    assert "INVALID_LOGIN" in bad.text
