"""How long a token is used, whatever its answer says of that; what it does not say shows in a 401."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from shopping import NAMES, Safe, Visit

from connector_resources.sandbox.generic import ShopSandbox
from connector_resources.tokens import life

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
MISSING = "(missing)"


def answer(shop: ShopSandbox, expires_in: Any) -> dict[str, Any]:
    told = {} if expires_in == MISSING else {"expires_in": expires_in}
    return {"access_token": shop.state.session(), "token_type": "Bearer", **told}


def tokens_asked(shop: ShopSandbox) -> int:
    return sum("token" in request.target for request in shop.requests)


@pytest.mark.parametrize("grant", ["client_credentials", "refresh_token"])
@pytest.mark.parametrize("expires_in", [0, -1, "0", 0.0, None, "", "soon", True, [], MISSING], ids=repr)
def test_a_life_that_is_none_is_unknown_and_the_token_good_until_a_401(
    visit: Visit, shop: ShopSandbox, grant: str, expires_in: Any
) -> None:
    names = (*NAMES["oauth2"], *(["refresh_token"] if grant == "refresh_token" else []))
    connector = visit(method="oauth2", store=Safe(shop, names))
    shop.faults.add("status", path="token", status=200, body=answer(shop, expires_in))
    for _ in range(3):
        assert connector.test().account == "shop@example.org"
    assert tokens_asked(shop) == 1
    shop.faults.add("revoke", path="/rest/me")
    assert connector.test().account == "shop@example.org"
    assert tokens_asked(shop) == 2


def test_a_stored_token_of_unknown_life_serves_the_next_process(visit: Visit, shop: ShopSandbox) -> None:
    store = Safe(shop, (*NAMES["oauth2"], "refresh_token"))
    shop.faults.add("status", path="token", status=200, body=answer(shop, 0))
    for _ in range(2):
        visit(method="oauth2", store=store).test()
    assert tokens_asked(shop) == 1


@pytest.mark.parametrize("expires_in", [3600, "3600", " 3600 ", "3600.0", 3600.0, Decimal("3600.0")], ids=repr)
def test_a_life_in_seconds_counts_as_number_and_as_text(expires_in: Any) -> None:
    assert life({"expires_in": expires_in}, NOW, "expires_in") == NOW + timedelta(hours=1)


def test_the_first_name_that_says_something_counts() -> None:
    assert life({"refresh_token_expires_in": 0, "x_life": 60}, NOW, "refresh_token_expires_in", "x_life") == NOW + timedelta(
        minutes=1
    )
