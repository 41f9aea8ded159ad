"""Answers that never end: each of their pieces comes in time."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

import httpx
import pytest

from connector_resources import wire
from connector_resources.errors import NetworkError
from connector_resources.http import Http, Patience

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening


def answer(listener: socket.socket, *pieces: bytes, then: bytes = b"") -> None:
    """On one connection: a request for each of `pieces`, which is its answer, and `then` again and again."""

    def serve() -> None:
        with suppress(OSError), listener.accept()[0] as connection:
            for piece in pieces:
                connection.recv(65_536)
                connection.sendall(piece)
            while then:
                connection.sendall(then)
                time.sleep(0.01)

    threading.Thread(target=serve, daemon=True).start()


@pytest.fixture
def acme(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Http]:
    monkeypatch.setattr(wire, "LONGEST", 0.5)
    url, once = f"http://127.0.0.1:{listener.getsockname()[1]}", Patience(tries=1)
    http = Http("Acme", url, now=lambda: datetime.now(UTC), timeout=httpx.Timeout(5), patience=once)
    yield http
    http.close()


@pytest.mark.parametrize(
    ("begin", "then"),
    [
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"a"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"a"),
    ],
    ids=["hints", "head", "body"],
)
def test_an_answer_without_end_is_given_up(listener: socket.socket, acme: Http, begin: bytes, then: bytes) -> None:
    answer(listener, begin, then=then)
    with pytest.raises(NetworkError, match="did not answer /x in time"):
        acme.get(f"{acme.url}/x")


def test_a_connection_may_rest_between_answers_as_long_as_it_likes(listener: socket.socket, acme: Http) -> None:
    answer(listener, WHOLE, WHOLE)
    acme.get(f"{acme.url}/x")
    time.sleep(0.6)
    assert acme.get(f"{acme.url}/x").json() == {}
