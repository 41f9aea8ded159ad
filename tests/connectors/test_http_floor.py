"""The HTTP floor against a server that misbehaves: retries, waits, limits, redirects, TLS."""

import gzip
import logging
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from connector_resources.errors import (
    AnswerLost,
    AnswerTooLarge,
    ConfigurationError,
    ContractError,
    IntegrationError,
    NetworkError,
    QuotaReached,
    RateLimited,
    SystemUnavailable,
)
from connector_resources.http import Http, Patience
from connector_resources.sandbox import Sandbox

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
VERSIONS = "/services/data"


class Client:
    """An Http under a clock that only its own waits move."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.waits: list[float] = []
        self.http = Http(
            "Acme", url, now=lambda: NOW + timedelta(seconds=sum(self.waits)), sleep=self.waits.append, **settings
        )

    def get(self, path: str = VERSIONS, **settings: Any) -> Any:
        return self.http.get(self.http.url + path, **settings).json()


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def make(url: str = "", **settings: Any) -> Client:
        made.append(Client(url or sandbox.url, **settings))
        return made[-1]

    yield make
    for one in made:
        one.http.close()


def _token(acme: Client, **settings: Any) -> Any:
    return acme.http.send("POST", acme.http.url + "/services/oauth2/token", content=b"{}", **settings)


@pytest.mark.parametrize("kind", ["drop", "lose", "cut"])
def test_a_write_whose_answer_is_lost_is_sent_once(sandbox: Sandbox, client: Callable[..., Client], kind: Any) -> None:
    sandbox.faults.add(kind, times=1)
    acme = client()
    with pytest.raises(AnswerLost):
        _token(acme)
    assert acme.waits == []


def test_a_write_that_carries_a_key_is_sent_again(sandbox: Sandbox, client: Callable[..., Client]) -> None:
    sandbox.faults.add("lose", times=2)
    acme = client()
    answer = _token(acme, judge=lambda _: None, repeatable=True)
    assert (answer.status, len(acme.waits)) == (400, 2)


def test_a_keyed_write_that_may_have_arrived_stays_so_when_calls_run_out(
    sandbox: Sandbox, client: Callable[..., Client]
) -> None:
    calls_left = ["one"]

    def spend() -> None:
        if not calls_left:
            raise QuotaReached("No calls are left.", wait=9_000.0)
        calls_left.pop()

    sandbox.faults.add("lose", times=1)
    with pytest.raises(AnswerLost, match="No calls are left"):
        _token(client(), repeatable=True, spend=spend)


@pytest.mark.parametrize(("status", "waits"), [(429, 1), (503, 0), (500, 0)])
def test_a_write_is_sent_again_only_where_it_was_certainly_not_carried_out(
    sandbox: Sandbox, client: Callable[..., Client], status: int, waits: int
) -> None:
    sandbox.faults.add("status", status=status, times=1)
    acme = client()
    with pytest.raises(ContractError if status == 429 else SystemUnavailable):
        _token(acme)
    assert len(acme.waits) == waits


@pytest.mark.parametrize("kind", ["drop", "lose", "cut"])
def test_a_connection_that_breaks_off_is_tried_again(sandbox: Sandbox, client: Callable[..., Client], kind: Any) -> None:
    sandbox.faults.add(kind, times=2)
    acme = client()
    assert acme.get()[0]["version"] == "31.0"
    assert len(acme.waits) == 2


@pytest.mark.parametrize("kind", ["drop", "cut"])
def test_a_connection_that_always_breaks_off_is_a_network_error(
    sandbox: Sandbox, client: Callable[..., Client], kind: Any
) -> None:
    fault = sandbox.faults.add(kind, times=None)
    acme = client()
    with pytest.raises(NetworkError, match=r"connection to Acme at 127\.0\.0\.1 broke off during /services/data\."):
        acme.get()
    assert len(acme.waits) == 3
    assert [request.target for request in sandbox.requests] == [VERSIONS] * 4
    assert fault.fired == 4


def test_waits_grow_at_random_below_a_limit(sandbox: Sandbox, client: Callable[..., Client]) -> None:
    sandbox.faults.add("status", status=503, times=None)
    drawn = []
    for _ in range(20):
        acme = client(patience=Patience(tries=6, total=1000, longest=6))
        with pytest.raises(SystemUnavailable):
            acme.get()
        drawn.append(acme.waits)
    for waits in zip(*drawn, strict=True):
        assert len(set(waits)) == 20
    highest = [max(waits) for waits in zip(*drawn, strict=True)]
    assert all(0 < wait <= limit for wait, limit in zip(highest, (1, 2, 4, 6, 6), strict=True))
    assert highest[4] > 2


@pytest.mark.parametrize("status", [408, 420, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(sandbox: Sandbox, client: Callable[..., Client], status: int) -> None:
    sandbox.faults.add("status", status=status)
    acme = client()
    assert acme.get()
    assert len(acme.waits) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 414, 418, 304])
def test_what_stays_wrong_is_not_tried_again(sandbox: Sandbox, client: Callable[..., Client], status: int) -> None:
    sandbox.faults.add("status", status=status, body="<p>Secret page</p>")
    acme = client()
    with pytest.raises((ConfigurationError, ContractError), match=rf"^Acme .*status {status}, /services/data\)\.$") as raised:
        acme.get()
    assert acme.waits == []
    assert "Secret" not in str(raised.value)


@pytest.mark.parametrize("asked", ["7", format_datetime(NOW + timedelta(seconds=7), usegmt=True)])
def test_retry_after_is_waited_out_in_seconds_and_as_a_date(
    sandbox: Sandbox, client: Callable[..., Client], asked: str
) -> None:
    sandbox.faults.add("status", status=429, headers={"Retry-After": asked})
    acme = client()
    assert acme.get()
    assert acme.waits == [7.0]


@pytest.mark.parametrize(
    "asked",
    ["", "soon", "-1", "²", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 2026 00:00:00 +99999999999999"],
)
def test_a_retry_after_that_says_nothing_is_as_none(sandbox: Sandbox, client: Callable[..., Client], asked: str) -> None:
    sandbox.faults.add("status", status=429, headers={"Retry-After": asked})
    acme = client()
    assert acme.get()
    assert 0 <= acme.waits[0] <= 1


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimited), (503, SystemUnavailable)])
def test_a_long_wait_is_handed_up_and_not_sat_out(
    sandbox: Sandbox, client: Callable[..., Client], status: int, kind: type[RateLimited]
) -> None:
    sandbox.faults.add("status", status=status, headers={"Retry-After": "45"}, times=None)
    acme = client()
    with pytest.raises(kind) as raised:
        acme.get()
    assert (raised.value.wait, acme.waits, len(sandbox.requests)) == (45.0, [], 1)


def test_all_tries_together_have_a_time_limit(sandbox: Sandbox, client: Callable[..., Client]) -> None:
    sandbox.faults.add("status", status=503, headers={"Retry-After": "25"}, times=None)
    acme = client()
    with pytest.raises(SystemUnavailable):
        acme.get()
    assert acme.waits == [25.0, 25.0]


def test_budget_is_asked_before_each_try_and_its_refusal_stands(sandbox: Sandbox, client: Callable[..., Client]) -> None:
    sandbox.faults.add("status", status=503, times=None)
    spent: list[int] = []

    def spend() -> None:
        if len(spent) == 2:
            raise RateLimited("reserve reached", 3.0)
        spent.append(1)

    with pytest.raises(RateLimited, match="reserve"):
        client().get(spend=spend)
    assert len(sandbox.requests) == 2


def test_html_where_json_is_due_is_named_and_not_quoted(sandbox: Sandbox, client: Callable[..., Client]) -> None:
    sandbox.faults.add("status", status=200, body="<html>Sign in, dear Ms Secret</html>")
    with pytest.raises(ContractError, match="status 200 and text/html instead of JSON") as raised:
        client().get()
    assert "Secret" not in str(raised.value)


def test_an_answer_that_is_too_large_is_refused(client: Callable[..., Client]) -> None:
    with pytest.raises(ContractError, match="more than 0 MiB"):
        client(largest=500).get()


@pytest.mark.parametrize(("status", "kind"), [(200, AnswerTooLarge), (503, SystemUnavailable)])
def test_a_body_that_is_compressed_more_than_once_is_not_unfolded(
    client: Callable[..., Client], status: int, kind: type[IntegrationError]
) -> None:
    folded = gzip.compress(gzip.compress(bytes(400 * 2**20), 1))  # a few kilobytes

    class Bomb(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Encoding", "gzip, GZIP")
            self.send_header("Content-Length", str(len(folded)))
            self.end_headers()
            self.wfile.write(folded)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Bomb) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tracemalloc.start()
        try:
            with pytest.raises(kind):
                client(f"http://127.0.0.1:{server.server_port}", patience=Patience(tries=1)).get()
            assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
        finally:
            tracemalloc.stop()
            server.shutdown()


@pytest.mark.parametrize("place", ["https://evil.example/x", "//evil.example/x", "http://localhost/services/data"])
def test_a_redirect_to_another_host_is_refused(sandbox: Sandbox, client: Callable[..., Client], place: str) -> None:
    sandbox.faults.add("status", status=302, headers={"Location": place})
    with pytest.raises(ConfigurationError, match=r"redirects from 127\.0\.0\.1 to (evil\.example|localhost)"):
        client().get()


def test_a_redirect_within_the_host_is_followed_but_not_for_ever(sandbox: Sandbox, client: Callable[..., Client]) -> None:
    fault = sandbox.faults.add("status", path="/old", status=301, headers={"Location": VERSIONS})
    assert client().get("/old")[0]["version"] == "31.0"
    sandbox.faults.remove(fault)
    sandbox.faults.add("status", status=302, headers={"Location": "/again"}, times=None)
    with pytest.raises(ContractError, match="redirects without end"):
        client().get()


def test_connections_are_used_again(client: Callable[..., Client]) -> None:
    acme = client()
    [first, second] = [acme.http._client.send(acme.http._client.build_request("GET", acme.http.url + VERSIONS)) for _ in "12"]
    streams = [answer.extensions["network_stream"].get_extra_info("client_addr") for answer in (first, second)]
    assert streams[0] == streams[1]


@pytest.mark.parametrize(
    "url", ["http://example.com", "ftp://example.com", "example.com", "https://me:pw@example.com", "https://"]
)
def test_a_url_that_is_unsafe_or_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="The URL of Acme must be") as raised:
        Http("Acme", url, now=lambda: NOW)
    assert "pw" not in str(raised.value)


def test_nobody_listening_is_a_network_error_that_names_the_host(client: Callable[..., Client]) -> None:
    with Sandbox(accounts=0, contacts=0) as gone:
        url = gone.url
    with pytest.raises(NetworkError, match=r"Acme cannot be reached at 127\.0\.0\.1: check the URL"):
        client(url).get()


def test_a_slow_answer_runs_into_the_time_out(sandbox: Sandbox, client: Callable[..., Client]) -> None:
    sandbox.faults.add("delay", seconds=0.5)
    acme = client(timeout=httpx.Timeout(0.05), patience=Patience(tries=1))
    with pytest.raises(NetworkError, match="did not answer /services/data in time"):
        acme.get()


def test_logs_show_no_query(sandbox: Sandbox, client: Callable[..., Client], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client().get(params={"q": "Secret"})
    assert sandbox.requests[-1].target.endswith("q=Secret")
    assert "Secret" not in caplog.text


def test_tls_needs_a_root_that_is_trusted(tmp_path: Path, client: Callable[..., Client]) -> None:
    with Sandbox(tls=True, home=tmp_path, accounts=0, contacts=0) as secure:
        trusting = client(secure.url, ca_file=str(secure.ca_file))
        assert trusting.get()[0]["version"] == "31.0"
        stranger = client(secure.url)
        with pytest.raises(ConfigurationError, match="certificate that no trusted authority vouches for"):
            stranger.get()
        assert stranger.waits == []
        trusting.http.close()


def test_a_ca_file_that_is_none_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for file in (empty, tmp_path / "missing.pem"):
        with pytest.raises(ConfigurationError, match=f"The certificate file .*{file.name}"):
            Http("Acme", "https://example.com", now=lambda: NOW, ca_file=str(file))


def test_every_error_of_the_floor_is_one_sentence(sandbox: Sandbox, client: Callable[..., Client]) -> None:
    for status in range(300, 600, 7):
        sandbox.faults.clear()
        sandbox.faults.add("status", status=status, times=None)
        with pytest.raises(IntegrationError) as raised:
            client(patience=Patience(tries=1)).get()
        assert str(raised.value).startswith("Acme ")
        assert str(raised.value).count(". ") == 0
