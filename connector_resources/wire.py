"""The connection under an Http: where it may lead, and a place to stand between, where the conformance suite loses answers."""

import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import httpcore
import httpx

from connector_resources.egress import Egress

Pass: TypeAlias = Callable[[httpx.Request], httpx.Response]
Meddle: TypeAlias = Callable[[httpx.Request, Pass], httpx.Response]
LONGEST = 600.0  # seconds for a whole answer, head and body


class Wire(httpx.BaseTransport):
    """Hands requests on; `meddle`, if there is one, decides what becomes of each."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self.inner = inner
        self.meddle: Meddle | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self.meddle(request, self.inner.handle_request) if self.meddle else self.inner.handle_request(request)

    def close(self) -> None:
        self.inner.close()


class Bounded(httpcore.NetworkStream):
    """A connection on which no answer takes longer than LONGEST, counted from the last piece of its request. A time-out is for
    one piece: a head that drips, or "103 Early Hints" without end, would go on for ever."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._end = time.monotonic() + LONGEST

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if time.monotonic() > self._end:
            raise httpcore.ReadTimeout("The answer takes too long.")
        return self._inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)
        self._end = time.monotonic() + LONGEST

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return Bounded(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class Guarded(httpcore.NetworkBackend):
    """Connects to no address but those that `egress` allows."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            addresses = self._egress.addresses(host, port)
        except (OSError, UnicodeError):
            addresses = ()
        problem: Exception = httpcore.ConnectError("The name cannot be resolved.")
        for address in addresses:
            try:
                return Bounded(self._inner.connect_tcp(address, port, timeout, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                problem = failed
        raise problem


def guarded(transport: httpx.HTTPTransport, egress: Egress) -> httpx.HTTPTransport:
    """The transport, whose connections keep to `egress`. httpx has no argument for what its pool connects with."""
    transport._pool._network_backend = Guarded(egress)
    return transport


def layers(response: httpx.Response) -> int:
    """How many compressions an answer's body is under. One makes a piece from the network a thousand times as long at most; of
    two, some kilobytes fill the memory before anybody can look at their length."""
    named = response.headers.get_list("content-encoding", split_commas=True)
    return sum(one.strip().lower() in ("gzip", "deflate") for one in named)
