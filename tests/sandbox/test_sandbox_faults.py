"""Faults: each kind, when it strikes, and over HTTP."""

import httpx
import pytest

from connector_resources.errors import ConfigurationError
from connector_resources.sandbox import Sandbox


def test_a_fault_strikes_after_and_for_so_many_matching_requests(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.faults.add("status", method="GET", path="/limits$", after=1, times=2, status=503)
    assert [api.get("limits").status_code for _ in range(4)] == [200, 503, 503, 200]
    sandbox.faults.add("status", path="q=SELECT Id", status=500, times=None)
    assert api.get("query", params={"q": "SELECT Name FROM Account"}).status_code == 200
    assert [api.get("query", params={"q": "SELECT Id FROM Account"}).status_code for _ in range(3)] == [500] * 3
    sandbox.faults.clear()
    assert api.get("query", params={"q": "SELECT Id FROM Account"}).status_code == 200


def test_faults_for_the_same_requests_strike_one_after_the_other(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.faults.add("status", status=429, headers={"Retry-After": "7"})
    sandbox.faults.add("status", status=500, body=[{"message": "m", "errorCode": "UNKNOWN_EXCEPTION"}])
    sandbox.faults.add("status", status=502, body="<html>Bad gateway</html>")
    first, second, third = (api.get("limits") for _ in range(3))
    assert (first.status_code, first.headers["Retry-After"]) == (429, "7")
    assert (second.status_code, second.json()[0]["errorCode"]) == (500, "UNKNOWN_EXCEPTION")
    assert (third.status_code, third.headers["Content-Type"]) == (502, "text/html;charset=UTF-8")
    assert api.get("limits").status_code == 200


@pytest.mark.parametrize(("kind", "stored"), [("drop", 30), ("lose", 31), ("cut", 31)])
def test_a_broken_connection_before_and_after_the_work_is_done(
    sandbox: Sandbox, api: httpx.Client, kind: str, stored: int
) -> None:
    sandbox.faults.add(kind, method="POST")  # type: ignore[arg-type] # mypy does not narrow a parametrized text
    with pytest.raises(httpx.RemoteProtocolError):
        api.post("sobjects/Account", json={"Name": "x"})
    assert len(sandbox.state.records["Account"]) == stored
    [request] = sandbox.requests
    assert (request.method, request.status) == ("POST", 201 if kind == "cut" else None)
    assert api.get("limits").status_code == 200


def test_a_cut_answer_promises_more_than_it_sends(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.faults.add("cut")
    with api.stream("GET", "limits") as answer:
        assert (answer.status_code, int(answer.headers["Content-Length"])) == (200, 99)
        with pytest.raises(httpx.RemoteProtocolError, match="received 49 bytes, expected 99"):
            answer.read()


def test_a_revoked_session_stays_refused_until_a_new_token_is_taken(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.faults.add("revoke", after=1)
    assert [api.get("limits").status_code for _ in range(3)] == [200, 401, 401]
    form = {"grant_type": "client_credentials"} | {name: sandbox.credentials[name] for name in ("client_id", "client_secret")}
    token = api.post(f"{sandbox.url}/services/oauth2/token", data=form).json()["access_token"]
    assert api.get("limits", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_a_hidden_field_is_gone_everywhere_until_it_is_shown_again(sandbox: Sandbox, api: httpx.Client) -> None:
    def seen() -> tuple[bool, int, int]:
        described = {field["name"] for field in api.get("sobjects/Account/describe").json()["fields"]}
        query = api.get("query", params={"q": "SELECT Phone FROM Account"})
        return (
            "Phone" in described,
            query.status_code,
            api.post("sobjects/Account", json={"Name": "x", "Phone": "1"}).status_code,
        )

    fault = sandbox.faults.add("hide", sobject="Account", field="Phone")
    assert seen() == (False, 400, 400)
    sandbox.faults.remove(fault)
    assert seen() == (True, 200, 201)


def test_a_slow_answer_comes_late(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.faults.add("delay", seconds=0.3)
    with pytest.raises(httpx.ReadTimeout):
        api.get("limits", timeout=0.1)
    assert api.get("limits").status_code == 200


def test_faults_and_requests_over_http(sandbox: Sandbox, api: httpx.Client) -> None:
    faults, requests = f"{sandbox.url}/_sandbox/faults", f"{sandbox.url}/_sandbox/requests"
    assert api.post(faults, json=[{"kind": "status", "status": 503, "path": "/limits"}]).status_code == 201
    assert api.get("limits").status_code == 503
    assert [(fault["seen"], fault["fired"]) for fault in api.get(faults).json()] == [(1, 1)]
    api.get("query", params={"q": "SELECT Id FROM User LIMIT 1"}, headers={"Sforce-Call-Options": "client=me"})
    assert api.get(requests).json() == [
        {"method": "GET", "target": "/services/data/v67.0/limits", "status": 503, "client": ""},
        {
            "method": "GET",
            "target": "/services/data/v67.0/query?q=SELECT Id FROM User LIMIT 1",
            "status": 200,
            "client": "me",
        },
    ]
    assert (api.delete(faults).status_code, api.delete(requests).status_code) == (204, 204)
    assert (api.get(faults).json(), api.get(requests).json()) == ([], [])
    for wrong in ({"kind": "nope"}, {"kind": "status", "nope": 1}, {}, {"kind": "drop", "path": "("}, {"kind": "hide"}):
        assert api.post(faults, json=wrong).status_code == 400
    assert api.get(f"{sandbox.url}/_sandbox/nope").status_code == 404


def test_a_wrong_fault_is_refused_by_name(sandbox: Sandbox) -> None:
    with pytest.raises(ConfigurationError, match="no fault of kind 'explode'; there is status, delay"):
        sandbox.faults.add("explode")  # type: ignore[arg-type] # the point of the test
