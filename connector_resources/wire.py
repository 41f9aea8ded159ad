"""The connection under an Http: where it may lead, and a place to stand between, where the conformance suite loses answers."""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import httpcore
import httpx

from connector_resources.egress import Egress

Pass: TypeAlias = Callable[[httpx.Request], httpx.Response]
Meddle: TypeAlias = Callable[[httpx.Request, Pass], httpx.Response]


class Wire(httpx.BaseTransport):
    """Hands requests on; `meddle`, if there is one, decides what becomes of each."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self.inner = inner
        self.meddle: Meddle | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self.meddle(request, self.inner.handle_request) if self.meddle else self.inner.handle_request(request)

    def close(self) -> None:
        self.inner.close()


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
                return self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
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
