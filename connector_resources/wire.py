"""The connection under an Http, and a place to stand between: the conformance suite loses answers there."""

from collections.abc import Callable
from typing import TypeAlias

import httpx

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
