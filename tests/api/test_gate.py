"""Who gets past the gate and to the routes: operators and roles, keys and cookies, http and websockets."""

from uuid import UUID

import httpx
import pytest
from reception import Reception
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from connector_resources.errors import NetworkError
from integration_pipelines.store import api_keys, people, tenants
from integration_pipelines.store.database import Database

OPS, ANN = "ops@acme.example", "ann@acme.example"
MUTATION = {"query": "mutation { terminateRun(runId: 1) { __typename } }"}


@pytest.fixture(autouse=True)
def both(reception: Reception) -> tuple[int, int]:
    return reception.user(OPS, role="administrator", operator=True), reception.user(ANN)


@pytest.fixture
def acme(database: Database, both: tuple[int, int]) -> UUID:
    assert both
    found = tenants.find(database, "acme")
    assert found is not None
    return found


def key_of(database: Database, tenant: UUID, email: str) -> api_keys.NewKey:
    with database.tenant(tenant) as scope:
        return api_keys.create(scope, people.find(scope, email), "program", actor="test")


def program(reception: Reception, key: str | None = None) -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
    return httpx.Client(base_url=reception.url, headers=headers, trust_env=False)


def socket_to(reception: Reception, **headers: str | None) -> ClientConnection:
    sent = {"Origin": reception.url} | headers
    url = reception.url.replace("http", "ws") + "/dagster/live"
    return connect(url, additional_headers={name: value for name, value in sent.items() if value is not None}, proxy=None)


def refused_with(reception: Reception, **headers: str | None) -> int:
    with pytest.raises(InvalidStatus) as refusal:
        socket_to(reception, **headers)
    assert "application/problem+json" in refusal.value.response.headers["content-type"]
    return refusal.value.response.status_code


def test_a_stranger_with_a_browser_is_led_to_the_sign_in_page_and_back(reception: Reception) -> None:
    with reception.browser() as browser:
        answer = browser.get("/dagster/runs?q=a%2Fb&limit=5")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/sign-in?next=%2Fdagster%2Fruns%3Fq%3Da%252Fb%26limit%3D5"
        page = browser.get(answer.headers["location"])
        assert 'name="next" value="/dagster/runs?q=a%2Fb&amp;limit=5"' in page.text
        posted = browser.post("/dagster/graphql", json=MUTATION)
        assert (posted.status_code, posted.headers["location"]) == (303, "/sign-in?next=%2F")
    assert reception.inner.seen == []


@pytest.mark.parametrize("accept", ["application/json", "*/*", None])
def test_a_stranger_with_a_program_gets_a_problem_document(reception: Reception, accept: str | None) -> None:
    with program(reception) as stranger:
        for path in ("/dagster/graphql", "/me", "/operators"):
            answer = stranger.get(path, headers={"Accept": accept} if accept else {})
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
            assert answer.headers["content-type"] == "application/problem+json"
            told = answer.json()
            assert (told["type"], told["title"], told["status"]) == ("about:blank", "Unauthorized", 401)
            assert "Authorization: Bearer" in told["detail"]
    assert reception.inner.seen == []


def test_operators_pass_and_others_do_not(reception: Reception) -> None:
    with reception.signed_in(OPS) as operator:
        assert operator.get("/dagster/runs").text == "inside"
        assert operator.post("/dagster/graphql", json=MUTATION).text == "inside"
        assert operator.get("/operators").json() == OPS
    seen = list(reception.inner.seen)
    with reception.signed_in(ANN) as ann:
        page = ann.get("/dagster/runs")
        assert (page.status_code, "platform operators" in page.text) == (403, True)
        assert "default-src 'none'" in page.headers["content-security-policy"]
        fetched = ann.get("/dagster/runs", headers={"Accept": "application/json"})
        assert (fetched.status_code, fetched.json()["title"]) == (403, "Forbidden")
        assert ann.get("/operators").status_code == 403
    assert reception.inner.seen == seen


def test_routes_ask_for_the_role(reception: Reception, database: Database, acme: UUID) -> None:
    reception.user("eve@acme.example", role="auditor")
    allowed = {}
    for email in (OPS, ANN, "eve@acme.example"):
        with program(reception, key_of(database, acme, email).key) as caller:
            allowed[email] = [caller.get(path).status_code for path in ("/me", "/engineers", "/administrators", "/operators")]
    assert allowed == {
        OPS: [200, 200, 200, 200],
        ANN: [200, 200, 403, 403],
        "eve@acme.example": [200, 403, 403, 403],
    }


def test_a_key_needs_no_origin_and_dies_when_it_is_revoked(reception: Reception, database: Database, acme: UUID) -> None:
    key = key_of(database, acme, OPS)
    with program(reception, key.key) as caller:
        assert caller.post("/dagster/graphql", json=MUTATION).text == "inside"
        assert caller.post("/me").json()["by"] == "key"
        with database.tenant(acme) as scope:
            api_keys.revoke(scope, key.id, now=reception.clock(), actor="test")
        answer = caller.post("/dagster/graphql", json=MUTATION)
        assert (answer.status_code, key.key in answer.text) == (401, False)
        assert "not valid" in answer.json()["detail"]


@pytest.mark.parametrize(
    "shown",
    ["Bearer", "Bearer x", "Basic b3BzOnB3", "bearer ik_1_\xff", "ik_1_x", "", "Bearer ik_1_" + "x" * 5000],
    ids=["bare", "word", "basic", "bytes", "no-scheme", "empty", "long"],
)
def test_a_bad_key_is_not_made_good_by_a_cookie(reception: Reception, shown: str) -> None:
    with reception.signed_in(OPS) as operator:
        answer = operator.get("/dagster/runs", headers={b"Authorization": shown.encode("latin-1")})
        assert (answer.status_code, answer.json()["status"]) == (401, 401)


@pytest.mark.parametrize(
    "cookie", ["integration_session=", "integration_session=x\xff; a", "=;=;;", "integration_session=" + "x" * 5000]
)
def test_a_bad_cookie_is_no_session(reception: Reception, cookie: str) -> None:
    with program(reception) as stranger:
        assert stranger.get("/me", headers={b"Cookie": cookie.encode("latin-1")}).status_code == 401


def test_no_mutation_is_sent_by_a_foreign_page_not_even_over_get(reception: Reception) -> None:
    """What fetch sends from another port of this machine: the same site, so the cookie comes along, and no Origin."""
    with reception.signed_in(OPS) as operator:
        cookie = {"Cookie": f"integration_session={operator.cookies['integration_session']}", "Sec-Fetch-Site": "same-site"}
        with program(reception) as foreign:
            for method in ("GET", "POST", "PUT"):
                assert foreign.request(method, "/dagster/graphql", params=MUTATION, headers=cookie).status_code == 403, method
        assert reception.inner.seen == []
        assert operator.get("/dagster/graphql").text == "inside"  # a page, by its Accept


def test_an_operators_websocket_is_let_in_and_echoes(reception: Reception, database: Database, acme: UUID) -> None:
    with reception.signed_in(OPS) as operator:
        cookie = f"integration_session={operator.cookies['integration_session']}"
    key = f"Bearer {key_of(database, acme, OPS).key}"
    proofs: list[dict[str, str | None]] = [{"Cookie": cookie}, {"Origin": None, "Authorization": key}]
    for headers in proofs:
        with socket_to(reception, **headers) as opened:
            opened.send("hello")
            assert opened.recv(timeout=30) == "hello"


def test_a_websocket_is_refused_like_any_request(reception: Reception, database: Database, acme: UUID) -> None:
    cookies = {}
    for email in (OPS, ANN):
        with reception.signed_in(email) as browser:
            cookies[email] = f"integration_session={browser.cookies['integration_session']}"
    assert refused_with(reception) == 401
    assert refused_with(reception, Cookie="integration_session=x") == 401
    assert refused_with(reception, Cookie=cookies[ANN]) == 403
    assert refused_with(reception, Cookie=cookies[OPS], Origin="https://evil.example") == 403
    assert refused_with(reception, Cookie=cookies[OPS], Origin=None) == 403
    assert refused_with(reception, Authorization=f"Bearer {key_of(database, acme, ANN).key}") == 403
    assert reception.inner.seen == []


def test_an_open_websocket_ends_when_its_right_has(reception: Reception, database: Database, acme: UUID) -> None:
    key = key_of(database, acme, OPS)
    with socket_to(reception, Authorization=f"Bearer {key.key}") as opened:
        for _ in range(2):  # looked at again, and still good
            reception.clock.pass_(minutes=1)
            opened.send("hello")
            assert opened.recv(timeout=30) == "hello"
        with database.tenant(acme) as scope:
            api_keys.revoke(scope, key.id, now=reception.clock(), actor="test")
        reception.clock.pass_(minutes=1)
        opened.send("still there?")
        with pytest.raises(ConnectionClosedError) as closed:
            opened.recv(timeout=30)
    assert reception.inner.over.wait(30)
    assert reception.inner.seen == ["websocket  /dagster/live", "closed"]  # and nothing can be sent any more
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "Sign in again.")


def test_errors_of_the_framework_are_problem_documents_without_the_input(reception: Reception) -> None:
    with program(reception) as caller:
        answers = [
            caller.get("/nowhere"),
            caller.delete("/me"),
            caller.get("/number/canary"),
            caller.get("/number/0"),
        ]
    assert [answer.status_code for answer in answers] == [404, 405, 422, 500]
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert set(answer.json()) == {"type", "title", "status", "detail"}
        assert "canary" not in answer.text
        assert "ZeroDivision" not in answer.text
    assert set(answers[1].headers["allow"].split(", ")) == {"GET", "POST"}


def test_a_database_that_is_away_is_503_and_not_a_way_in(
    reception: Reception, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise NetworkError("The database at postgresql://secret-place cannot be used: no answer")

    with reception.signed_in(OPS) as operator:
        monkeypatch.setattr(database, "directory", away)
        for path in ("/dagster/runs", "/me"):
            answer = operator.get(path)
            assert (answer.status_code, "secret-place" in answer.text) == (503, False), path
    assert reception.inner.seen == []
