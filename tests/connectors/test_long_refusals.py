"""An answer that refuses something is read no further than its beginning, whatever is behind it."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from shopping import NAMES, Safe, Visit

from connector_resources.errors import AuthenticationError, IntegrationError, SystemUnavailable
from connector_resources.sandbox.generic import ShopSandbox

MIB = 2**20


class Long(httpx.SyncByteStream):
    """Thirty MiB. `read`: bytes of it that were taken."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(30 * 16):
            self.read += MIB // 16
            yield b"x" * (MIB // 16)


def answering(connector: Any, status: int, times: int, concerns: Callable[[httpx.Request], bool] = lambda _: True) -> Long:
    """Makes the next requests that `concerns` picks be answered with this status and a long body."""
    body, left = Long(), [times]

    def meddle(request: httpx.Request, through: Callable[[httpx.Request], httpx.Response]) -> httpx.Response:
        if not concerns(request) or not left[0]:
            return through(request)
        left[0] -= 1
        return httpx.Response(status, headers={"content-type": "application/json"}, stream=body)

    connector.http.wire.meddle = meddle
    return body


def test_a_sign_in_that_is_over_is_renewed_however_long_the_answer_says_so(visit: Visit) -> None:
    connector = visit(method="oauth2")
    body = answering(connector, 401, 1, lambda request: "/rest/" in request.url.path)
    assert connector.test().account == "shop@example.org"
    assert body.read <= 2 * MIB


@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (503, SystemUnavailable)])
@pytest.mark.parametrize("method", ["api_key", "oauth2"])
def test_a_long_refusal_is_judged_by_its_status(visit: Visit, method: str, status: int, kind: type[IntegrationError]) -> None:
    connector = visit(method=method)
    body = answering(connector, status, 1 if status == 401 and method == "api_key" else 9)
    with pytest.raises(kind, match=f"status {status}"):
        connector.test()
    assert body.read <= 9 * 2 * MIB


@pytest.mark.parametrize("grant", ["client_credentials", "refresh_token"])
@pytest.mark.parametrize(("status", "kind"), [(400, IntegrationError), (503, SystemUnavailable)])
def test_a_long_refusal_of_a_token_too(
    visit: Visit, shop: ShopSandbox, grant: str, status: int, kind: type[IntegrationError]
) -> None:
    names = (*NAMES["oauth2"], *(["refresh_token"] if grant == "refresh_token" else []))
    connector = visit(method="oauth2", store=Safe(shop, names))
    body = answering(connector, status, 9, lambda request: "token" in request.url.path)
    with pytest.raises(kind, match=f"status {status}"):
        connector.test()
    assert body.read <= 9 * 2 * MIB
