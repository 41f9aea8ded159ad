"""Signing in to the Salesforce stand-in: each grant, tokens that end, refresh tokens that rotate."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import RSAKey

from connector_resources.contract import Given, Window
from connector_resources.errors import (
    AuthenticationError,
    ConfigurationError,
    IntegrationError,
    NetworkError,
    ReconnectNeeded,
    SystemUnavailable,
)
from connector_resources.salesforce.api import _trusted
from connector_resources.salesforce.resource import Salesforce
from connector_resources.sandbox import Sandbox
from connector_resources.tokens import Grant

GRANTS = [
    ("client_id", "client_secret"),
    ("client_id", "refresh_token"),
    ("client_id", "client_secret", "refresh_token"),
    ("client_id", "username", "private_key"),
]
TOKEN = "/services/oauth2/token"


def tokens_asked(sandbox: Sandbox) -> int:
    return sum(request.target == TOKEN for request in sandbox.requests)


@pytest.mark.parametrize("names", GRANTS)
def test_each_grant_signs_in_once_and_the_token_is_shared(sandbox: Sandbox, connect: Any, names: tuple[str, ...]) -> None:
    salesforce = connect(connect.store(*names))
    health = salesforce.test()
    salesforce.describe("Account")
    assert health.account == sandbox.credentials["username"]
    assert tokens_asked(sandbox) == 1
    assert len(sandbox.requests) == 4  # token, versions, test, describe


def test_health_tells_where_we_are_and_how_many_calls_are_left(sandbox: Sandbox, connect: Any) -> None:
    detail = connect().test().detail
    assert detail == {
        "organization": sandbox.state.id,
        "api_version": "62.0",
        "instance": sandbox.url,
        "calls_in_24_hours": f"{sandbox.state.api_used} of {sandbox.state.api_limit}",
    }


def test_a_named_grant_goes_before_what_the_credentials_hold(connect: Any) -> None:
    held = connect.store("client_id", "client_secret", grant="client_credentials", private_key="none", refresh_token="none")
    assert connect(held).test().account
    with pytest.raises(ConfigurationError, match="names a grant that there is not; did you mean 'jwt_bearer'"):
        connect(connect.store(grant="jwt_bearr")).test()


@pytest.mark.parametrize(
    ("grant", "missing"),
    [
        ("client_credentials", "client_secret"),
        ("refresh_token", "refresh_token"),
        ("jwt_bearer", "username and no private_key"),
    ],
)
def test_a_missing_credential_is_named(connect: Any, grant: str, missing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"has no {missing}, which the grant {grant} needs"):
        connect(connect.store("client_id", grant=grant)).test()


def test_wrong_credentials_are_refused_and_never_quoted(sandbox: Sandbox, connect: Any) -> None:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    cases: list[tuple[dict[str, str], str]] = [
        (connect.credentials("client_id", client_secret="S3cret"), "check client_id and client_secret"),
        (connect.credentials("client_secret", client_id="S3cret"), "check client_id and client_secret"),
        (connect.credentials("client_id", refresh_token="S3cret"), r"refuses the refresh token \(invalid_grant\): reconnect"),
        (connect.credentials("client_id", "private_key", username="S3cret"), "the user is approved"),
        (connect.credentials("client_id", "username", private_key=key.decode()), "certificate of the private key"),
    ]
    for credentials, expected in cases:
        store = connect.store()
        store.credentials = credentials
        with pytest.raises(AuthenticationError, match=expected) as raised:
            connect(store).test()
        assert not any(value in str(raised.value) for value in credentials.values())
    assert tokens_asked(sandbox) == len(cases)


def test_a_private_key_that_is_none_is_said_so_without_its_text(connect: Any) -> None:
    with pytest.raises(ConfigurationError, match="no RSA key in PEM form") as raised:
        connect(connect.store("client_id", "username", private_key="-----BEGIN S3cret-----")).test()
    assert "S3cret" not in str(raised.value)


def test_a_secret_in_salesforce_s_own_words_is_not_passed_on(sandbox: Sandbox, connect: Any) -> None:
    body = {"error": "invalid_grant", "error_description": "the token S3cret is bad"}
    sandbox.faults.add("status", path=TOKEN, status=400, body=body)
    with pytest.raises(AuthenticationError) as raised:
        connect().test()
    shown: BaseException | None = raised.value
    while shown is not None:
        assert "S3cret" not in str(shown)
        shown = shown.__context__


def test_a_token_that_ends_during_a_read_is_replaced_and_nothing_is_lost(sandbox: Sandbox, connect: Any) -> None:
    expected = sandbox.state.insert("Account", [{"Name": f"Load {number}"} for number in range(4500)])
    salesforce = connect()
    account = salesforce.describe("Account")
    pages = salesforce.read(account, ["Name"], Window())
    found = list(next(pages).records.index)
    sandbox.state.revoke_tokens()
    for page in pages:
        found += list(page.records.index)
    assert set(expected) <= set(found)
    assert len(found) == len(set(found))
    assert tokens_asked(sandbox) == 2


def test_a_session_that_is_refused_twice_is_an_authentication_error(sandbox: Sandbox, connect: Any) -> None:
    sandbox.faults.add("revoke", path="/sobjects", times=None)
    with pytest.raises(AuthenticationError, match="INVALID_SESSION_ID"):
        connect().entities()
    assert tokens_asked(sandbox) == 2
    assert connect.waits == []


def rotating(sandbox: Sandbox, **more: Any) -> None:
    reply = {"access_token": sandbox.state.open_session(), "instance_url": sandbox.url, "id": "x/00D/005", **more}
    sandbox.faults.add("status", path=TOKEN, status=200, body=reply)


def test_a_rotated_refresh_token_is_stored_before_the_access_token_is_used(sandbox: Sandbox, connect: Any) -> None:
    rotating(sandbox, refresh_token="rotated")
    store = connect.store("client_id", "refresh_token")
    seen: list[list[str]] = []
    store.on_store = lambda: seen.append([request.target for request in sandbox.requests])
    connect(store).entities()
    assert seen == [[], [TOKEN]]
    assert store.credentials["refresh_token"] == "rotated"
    assert store.events[3:] == ["store refreshing", "load", "store refresh_token, access, rotates, refreshing", "unlock"]
    assert "refreshing" not in store.credentials


def test_a_token_that_another_run_has_stored_is_used_without_a_refresh(sandbox: Sandbox, connect: Any) -> None:
    store = connect.store("client_id", "refresh_token")
    for _ in range(3):
        assert connect(store).entities()
    assert tokens_asked(sandbox) == 1
    sandbox.state.revoke_tokens()
    first, second = connect(store), connect(store)
    assert first.entities() and second.entities()
    assert tokens_asked(sandbox) == 2


def test_a_stored_token_of_another_grant_is_not_used(sandbox: Sandbox, connect: Any) -> None:
    store = connect.store("client_id", "refresh_token")
    connect(store).entities()
    store.credentials["refresh_token"] = sandbox.grants.issue()
    connect(store).entities()
    assert tokens_asked(sandbox) == 2


def test_a_token_that_is_about_to_end_is_replaced_before_it_is_refused(sandbox: Sandbox, connect: Any) -> None:
    rotating(sandbox, expires_in="90", refresh_token="rotated", x_refresh_token_expires_in=8_640_000)
    store = connect.store("client_id", "refresh_token")
    connect(store).entities()
    assert 99 < (store.states[-1].expires - connect().given.now()).total_seconds() / 86_400 < 100
    store.credentials["refresh_token"] = sandbox.grants.issue()
    kept = json.loads(store.credentials["access"])
    store.credentials["access"] = json.dumps(kept | {"until": "2020-01-01T00:00:00+00:00"})
    connect(store).entities()
    assert [request.status for request in sandbox.requests if "sobjects" in request.target] == [200, 200]
    assert tokens_asked(sandbox) == 2


def test_a_refresh_uses_what_another_process_stored_meanwhile(sandbox: Sandbox, connect: Any) -> None:
    store = connect.store("client_id", refresh_token="used up")
    store.queued = [connect.credentials("client_id", "refresh_token")]
    assert connect(store).entities()
    assert tokens_asked(sandbox) == 1


def test_credentials_that_change_before_the_request_are_the_ones_that_are_sent(sandbox: Sandbox, connect: Any) -> None:
    stale = {"client_id": sandbox.credentials["client_id"], "refresh_token": "used up"}
    store = connect.store(**stale)
    store.queued = [stale, connect.credentials("client_id", "refresh_token")]
    assert connect(store).entities()
    assert tokens_asked(sandbox) == 1


def test_a_refused_refresh_token_is_kept_and_heals_when_it_is_taken_again(sandbox: Sandbox, connect: Any) -> None:
    store = connect.store("client_id", "refresh_token")
    sandbox.faults.add("status", path=TOKEN, status=400, body={"error": "invalid_grant"})
    with pytest.raises(ReconnectNeeded, match=r"refuses the refresh token \(invalid_grant\): reconnect the connector"):
        connect(store).entities()
    assert store.credentials == connect.credentials("client_id", "refresh_token")
    assert connect(store).entities()
    assert [state.good for state in store.states] == [False, True]


def test_a_token_request_is_tried_again_on_its_own(sandbox: Sandbox, connect: Any) -> None:
    sandbox.faults.add("status", path=TOKEN, status=503, times=2)
    assert connect().entities()
    sandbox.faults.add("drop", path=TOKEN, times=None)
    sandbox.faults.forget_requests()
    with pytest.raises(NetworkError, match="broke off during /services/oauth2/token"):
        connect().entities()
    assert tokens_asked(sandbox) == 4


@pytest.mark.parametrize(
    ("status", "body", "kind", "expected"),
    [
        (503, "<html>down</html>", SystemUnavailable, "text/html"),
        (400, {"error": "temporarily_unavailable"}, SystemUnavailable, "temporarily_unavailable"),
        (400, {"error": "S3cret value!"}, AuthenticationError, "no error code"),
        (200, {"token": "S3cret"}, AuthenticationError, "without a token"),
        (200, ["S3cret"], AuthenticationError, "without a token"),
        (404, "<html>S3cret</html>", ConfigurationError, "check the connector's URL"),
    ],
)
def test_odd_answers_of_the_token_endpoint(
    sandbox: Sandbox, connect: Any, status: int, body: Any, kind: type[IntegrationError], expected: str
) -> None:
    sandbox.faults.add("status", path=TOKEN, status=status, body=body, times=None)
    with pytest.raises(kind, match=expected) as raised:
        connect().entities()
    assert "S3cret" not in str(raised.value)


def test_the_assertion_names_the_login_url_and_ends_within_three_minutes(sandbox: Sandbox, connect: Any) -> None:
    salesforce = connect(connect.store("client_id", "username", "private_key"), login_url="https://login.salesforce.com/")
    form = salesforce._api.oauth.endpoint.form(Grant.JWT_BEARER, connect.credentials("client_id", "username", "private_key"))
    claims = jwt.decode(form["assertion"], RSAKey.import_key(sandbox.credentials["private_key"])).claims
    assert claims["aud"] == "https://login.salesforce.com"
    assert 0 < claims["exp"] - salesforce.given.now().timestamp() < 180


@pytest.mark.parametrize(
    ("instance", "trusted"),
    [
        ("https://acme.my.salesforce.com", True),
        ("https://acme--dev.sandbox.my.salesforce.com/", True),
        ("https://eu1.force.com", True),
        ("https://login.example:8443", True),
        ("http://acme.my.salesforce.com", False),
        ("https://salesforce.com.evil.example", False),
        ("https://evilsalesforce.com", False),
        ("https://evil.example/.salesforce.com", False),
        ("https://a@acme.my.salesforce.com", False),
        ("https://login.example", False),
        ("", False),
        ("https://[", False),
    ],
)
def test_the_token_goes_to_no_stranger(instance: str, trusted: bool) -> None:
    assert _trusted(instance, "https://login.example:8443") is trusted


def test_calls_stay_at_the_configured_url_when_the_token_names_a_stranger(sandbox: Sandbox, connect: Any) -> None:
    rotating(sandbox, instance_url="http://127.0.0.1:1")
    assert "Account" in connect().entities()


def test_other_methods_than_oauth2_are_refused(connect: Any) -> None:
    given = Given("https://a.example", "basic", connect.store(), connect().given.now)
    with pytest.raises(ConfigurationError, match="with oauth2, not with basic"):
        Salesforce(given)


def test_the_newest_version_up_to_the_configured_one_is_used(sandbox: Sandbox, connect: Any) -> None:
    connect(api_version="99.0").entities()
    connect(api_version=40).entities()
    assert [r.target for r in sandbox.requests if r.target.endswith("sobjects")] == [
        "/services/data/v67.0/sobjects",
        "/services/data/v40.0/sobjects",
    ]


def test_retired_and_odd_versions_are_refused_with_those_that_stand(sandbox: Sandbox, connect: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no longer has version 20\.0 .* offers 31\.0 to 67\.0: set api_version"):
        connect(api_version="20.0").entities()
    sandbox.faults.add("status", path="/sobjects", status=410)
    with pytest.raises(ConfigurationError, match=r"no longer has version 62\.0 .* offers 31\.0 to 67\.0: set api_version"):
        connect().entities()
    with pytest.raises(ConfigurationError, match=r"api_version of a Salesforce connector must be like 62\.0"):
        connect(api_version="newest")


def test_one_spare_call_for_the_version_a_connector(sandbox: Sandbox, connect: Any) -> None:
    salesforce = connect()
    salesforce.entities()
    salesforce.entities()
    assert [request.target for request in sandbox.requests].count("/services/data") == 1
