"""No token, secret, query value, header or body in an error or a log, at DEBUG and of libraries too, whatever goes wrong."""

import importlib
import logging
import pkgutil
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import zeep
from shopping import Safe, Visit

from connector_resources.consent import CodeFlow, device_flow
from connector_resources.errors import IntegrationError
from connector_resources.quiet import SPEAKING, nothing
from connector_resources.sandbox import Sandbox
from connector_resources.sandbox.generic import ShopSandbox

CANARY = "canary-5f2e91"
_BODY = {"error": CANARY, "error_description": CANARY, "message": CANARY, "errors": [{"message": CANARY}]}
_TOLD: dict[str, str] = {"Set-Cookie": f"s={CANARY}", "WWW-Authenticate": f'Bearer realm="{CANARY}"', "X-Trace": CANARY}
FAILURES: dict[str, dict[str, Any]] = {
    **{
        f"{status}": {"kind": "status", "status": status, "body": _BODY, "headers": _TOLD}
        for status in (400, 401, 403, 429, 500)
    },
    "html": {"kind": "status", "status": 200, "body": f"<p>{CANARY}</p>", "headers": _TOLD},
    "json": {"kind": "status", "status": 200, "body": {"access_token": 7, "value": CANARY}, "headers": _TOLD},
    "redirect": {"kind": "status", "status": 302, "headers": {"Location": f"https://evil.example/{CANARY}?q={CANARY}"}},
    "drop": {"kind": "drop"},
    "cut": {"kind": "cut"},
    "lose": {"kind": "lose"},
}
METHODS: dict[str, Callable[[Visit], Any]] = {
    "key in a header": lambda visit: visit(),
    "key in the query": lambda visit: visit("sandbox-rest", ("{in: header, name: X-Api-Key}", "{in: query, name: api_key}")),
    "key as bearer": lambda visit: visit("sandbox-rest", ("{in: header, name: X-Api-Key}", "{in: bearer}")),
    "basic": lambda visit: visit(method="basic"),
    "secret in a header": lambda visit: visit(method="oauth2"),
    "secret in the form": lambda visit: visit("sandbox-rest", ("client: basic", "client: post"), method="oauth2"),
    "signed assertion": lambda visit: visit(
        "sandbox-rest",
        ("client: basic", "client: private_key_jwt"),
        method="oauth2",
        store=Safe(visit.shop, ("client_id",), {"private_key": visit.shop.state.private_key}),
    ),
    "refresh token": lambda visit: visit(
        method="oauth2", store=Safe(visit.shop, ("client_id", "client_secret", "refresh_token"))
    ),
    "graphql": lambda visit: visit("sandbox-graphql"),
    "soap": lambda visit: visit("sandbox-soap", method="oauth2"),
    "username token": lambda visit: visit("sandbox-soap", method="basic"),
}
ASKS = ("secret in a header", "secret in the form", "signed assertion", "refresh token", "graphql", "soap")
GRANTS = [("client_id", "client_secret"), ("client_id", "refresh_token"), ("client_id", "username", "private_key")]


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Every logger that there is says everything."""
    caplog.set_level(logging.DEBUG)
    for name in (*SPEAKING, "httpcore", "zeep", "connector_resources"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def require_silence(logs: pytest.LogCaptureFixture, problem: IntegrationError, secrets: list[str]) -> None:
    shown = "".join(traceback.format_exception(problem))
    for text in (str(problem), shown, logs.text):
        assert CANARY not in text
        for secret in secrets:
            assert secret not in text


def tried(act: Callable[[], Any]) -> IntegrationError:
    with pytest.raises(IntegrationError) as raised:
        act()
    return raised.value


@pytest.mark.parametrize(
    ("method", "failure"),
    [
        (method, failure)
        for method in METHODS
        for failure in FAILURES
        if failure != "json" or method in ASKS  # only a token endpoint, or GraphQL, takes this for wrong
    ],
)
def test_a_failing_call_shows_nothing(
    visit: Visit, shop: ShopSandbox, logs: pytest.LogCaptureFixture, method: str, failure: str
) -> None:
    connector = METHODS[method](visit)
    held = {**shop.credentials, "private_key": shop.state.private_key}
    shop.faults.add(times=None, **FAILURES[failure])
    problem = tried(connector.test)
    secrets = [value for name, value in held.items() if name not in ("username", "client_id")]
    require_silence(logs, problem, [*secrets, *shop.state._sessions])


@pytest.mark.parametrize("failure", [name for name in FAILURES if name != "json"])
def test_the_value_of_a_query_and_of_a_body_shows_nowhere(
    visit: Visit, shop: ShopSandbox, logs: pytest.LogCaptureFixture, failure: str
) -> None:
    shop.faults.add(times=None, **FAILURES[failure])
    http = visit().http
    for act in (
        lambda: http.get(f"{http.url}/rest/customers", params={"name": CANARY}).json(),
        lambda: http.send("POST", f"{http.url}/rest/customers", content=CANARY.encode(), headers={"X-Note": CANARY}).json(),
    ):
        require_silence(logs, tried(act), [])


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("names", GRANTS, ids="+".join)
def test_a_grant_that_fails_shows_nothing(
    sandbox: Sandbox, connect: Any, logs: pytest.LogCaptureFixture, names: tuple[str, ...], failure: str
) -> None:
    sandbox.faults.add(times=None, **FAILURES[failure])
    problem = tried(connect(connect.store(*names)).test)
    require_silence(logs, problem, [sandbox.credentials[name] for name in names if name != "username"])


@pytest.mark.parametrize("failure", FAILURES)
def test_a_consent_that_fails_shows_neither_code_nor_verifier(
    sandbox: Sandbox, connect: Any, logs: pytest.LogCaptureFixture, failure: str
) -> None:
    consent = connect(connect.store("client_id", "client_secret")).consent()
    flow = CodeFlow(consent, "http://127.0.0.1:1/callback")
    sandbox.faults.add(times=None, path="/token", **FAILURES[failure])
    told = {"state": flow.state, "code": "the-code-77aa12"}
    secrets = [flow.state, flow._verifier, told["code"], sandbox.credentials["client_secret"]]
    require_silence(logs, tried(lambda: flow.finished(told)), secrets)
    require_silence(logs, tried(lambda: flow.finished({"state": CANARY, "code": CANARY})), secrets)
    require_silence(logs, tried(lambda: flow.finished({"state": flow.state, "error": CANARY})), secrets)
    require_silence(logs, tried(lambda: device_flow(consent, lambda _, __: None)), secrets)


def test_success_shows_nothing_either(visit: Visit, shop: ShopSandbox, logs: pytest.LogCaptureFixture) -> None:
    for make in METHODS.values():
        make(visit).test()
    secrets = [value for name, value in shop.credentials.items() if name not in ("username", "client_id")]
    assert not [secret for secret in (*secrets, *shop.state._sessions, shop.url) if secret in logs.text]


def test_every_logger_of_the_libraries_is_silenced(visit: Visit) -> None:
    visit("sandbox-soap", method="oauth2").test()
    for found in pkgutil.walk_packages(zeep.__path__, "zeep."):
        if not found.name.endswith(("__main__", "asyncio", "tornado")) and ".asyncio" not in found.name:
            importlib.import_module(found.name)
    libraries = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in ("httpx", "httpcore", "zeep")]
    speaking = [name for name in libraries if isinstance(logging.root.manager.loggerDict[name], logging.Logger)]
    assert len(speaking) > 10
    assert [name for name in speaking if nothing not in logging.getLogger(name).filters and name not in ("httpcore",)] == []
