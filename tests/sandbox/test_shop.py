"""The made-up shop itself, asked by a plain HTTP client: strict where real systems are, the same under the same seed."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from connector_resources.sandbox.generic import ShopSandbox


@pytest.fixture(scope="module")
def running() -> Iterator[ShopSandbox]:
    with ShopSandbox(customers=30, orders=10) as opened:
        yield opened


@pytest.fixture
def shop(running: ShopSandbox) -> Iterator[ShopSandbox]:
    yield running
    running.faults.clear()
    running.state.restore()


@pytest.fixture
def http(shop: ShopSandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shop.url, headers={"X-Api-Key": shop.credentials["api_key"]}) as client:
        yield client


def test_the_same_seed_gives_the_same_records() -> None:
    first, second, other = (ShopSandbox(customers=20, orders=5, seed=seed).state.records for seed in (1, 1, 2))
    assert first == second != other


def test_numbers_are_sent_digit_by_digit(http: httpx.Client, shop: ShopSandbox) -> None:
    shop.state.update("customers", "00000003", {"balance": Decimal("90071992547409.93")})
    assert '"balance": 90071992547409.93,' in http.get("/rest/customers/00000003").text


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/rest/customers", {}, 422, "field_missing"),
        ("POST", "/rest/customers", {"name": "x", "shoe": 1}, 422, "unknown_field"),
        ("POST", "/rest/customers", {"name": "x", "etag": "v"}, 422, "read_only_field"),
        ("POST", "/rest/customers", {"name": 7}, 422, "wrong_type"),
        ("POST", "/rest/customers", {"name": "x", "born": "yesterday"}, 422, "unreadable_value"),
        ("POST", "/rest/customers", {"name": "x", "reference": "REF-1"}, 422, "reference_taken"),
        ("PATCH", "/rest/customers/nobody", {"name": "x"}, 404, "not_found"),
        ("GET", "/rest/nothing", None, 404, "no_such_place"),
        ("GET", "/rest/customers?updated_since=soon", None, 400, "bad_instant"),
        ("POST", "/rest/batch", {"items": 1}, 400, "bad_batch"),
    ],
)
def test_what_is_wrong_is_refused_with_a_code(
    http: httpx.Client, method: str, path: str, body: Any, status: int, code: str
) -> None:
    answer = http.request(method, path, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_key_is_good_for_one_write(http: httpx.Client, shop: ShopSandbox) -> None:
    key = {"Idempotency-Key": "k1"}
    first = http.post("/rest/customers", json={"name": "A"}, headers=key)
    assert http.post("/rest/customers", json={"name": "A"}, headers=key).json() == first.json()
    assert http.post("/rest/customers", json={"name": "B"}, headers=key).json()["error"]["code"] == "key_used_otherwise"
    assert len(shop.state.records["customers"]) == 31


def test_a_version_that_has_passed_is_refused(http: httpx.Client) -> None:
    etag = http.get("/rest/customers/00000001").headers["ETag"]
    assert http.patch("/rest/customers/00000001", json={"phone": "1"}, headers={"If-Match": etag}).status_code == 200
    assert http.patch("/rest/customers/00000001", json={"phone": "2"}, headers={"If-Match": etag}).status_code == 412


def test_more_calls_than_allowed_are_told_to_wait(shop: ShopSandbox, http: httpx.Client) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    clock, shop.state.now = shop.state.now, lambda: moment
    try:
        shop.state.calls_per_second = 2
        answers = [http.get("/rest/me") for _ in range(3)]
    finally:
        shop.state.now = clock
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["Retry-After"] == "1"


@pytest.mark.parametrize("path", ["/rest/me", "/graphql", "/soap"])
def test_nobody_comes_in_without_credentials(shop: ShopSandbox, path: str) -> None:
    body = b'<e xmlns="http://schemas.xmlsoap.org/soap/envelope/"/>' if path == "/soap" else b"{}"
    answer = httpx.request("GET" if path == "/rest/me" else "POST", shop.url + path, content=None if "rest" in path else body)
    assert answer.status_code == 401


def test_a_refresh_token_is_good_for_one_use(shop: ShopSandbox) -> None:
    form = {name: shop.credentials[name] for name in ("client_id", "client_secret", "refresh_token")}
    asked = form | {"grant_type": "refresh_token"}
    assert httpx.post(f"{shop.url}/oauth/token", data=asked).status_code == 200
    assert httpx.post(f"{shop.url}/oauth/token", data=asked).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("kind", "seen"), [("hide", None), ("retype", {"value": "00003"}), ("extra", "new")], ids=["removed", "retyped", "added"]
)
def test_the_schema_drifts_on_demand(http: httpx.Client, shop: ShopSandbox, kind: Any, seen: Any) -> None:
    field = "shoe_size" if kind == "extra" else "code"
    shop.faults.add(kind, sobject="customers", field=field)
    assert http.get("/rest/customers/00000003").json().get(field) == seen


def test_a_slow_drip_brings_the_whole_answer(http: httpx.Client, shop: ShopSandbox) -> None:
    whole = http.get("/rest/customers").text
    shop.faults.add("drip", seconds=0.001)
    assert http.get("/rest/customers").text == whole


def test_faults_by_rate_are_drawn_from_their_seed(http: httpx.Client, shop: ShopSandbox) -> None:
    drawn = []
    for seed in (1, 1, 2):
        shop.faults.clear()
        shop.faults.add("status", status=503, rate=0.5, seed=seed)
        drawn.append([http.get("/rest/me").status_code for _ in range(20)])
    assert drawn[0] == drawn[1] != drawn[2]
    assert 4 < drawn[0].count(503) < 16
