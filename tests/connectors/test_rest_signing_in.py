"""Signing in as a manifest says."""

import pytest
from shopping import Safe, Visit, read

from connector_resources.errors import (
    AuthenticationError,
    ConfigurationError,
)
from connector_resources.sandbox.generic import ShopSandbox


@pytest.mark.parametrize("method", ["api_key", "basic", "oauth2"])
def test_credentials_that_change_in_the_middle_of_a_read_are_fetched_again(
    visit: Visit, shop: ShopSandbox, method: str
) -> None:
    shop.faults.add("revoke", path="/rest/customers", after=1)
    assert len(read(visit(method=method))) == 520


@pytest.mark.parametrize(
    ("sign_in", "place"),
    [("in: query, name: api_key", "api_key="), ("in: bearer", ""), ('in: header, name: Authorization, prefix: "Bearer "', "")],
)
def test_an_api_key_goes_where_the_manifest_says(visit: Visit, shop: ShopSandbox, sign_in: str, place: str) -> None:
    assert visit("sandbox-rest", ("in: header, name: X-Api-Key", sign_in)).test().account == "shop@example.org"
    assert place in shop.requests[0].target


@pytest.mark.parametrize("client", ["basic", "post"])
def test_the_token_request_carries_the_client_as_the_manifest_says(visit: Visit, client: str) -> None:
    assert visit("sandbox-rest", ("client: basic", f"client: {client}"), method="oauth2").test()


def test_a_refresh_asks_for_no_scope_and_the_rotated_token_is_kept(visit: Visit, shop: ShopSandbox) -> None:
    store = Safe(shop, (), {name: shop.credentials[name] for name in ("client_id", "client_secret", "refresh_token")})
    spent = store.changed["refresh_token"]
    assert visit(method="oauth2", store=store).test()
    assert store.changed["refresh_token"] == shop.credentials["refresh_token"] != spent


def test_credentials_that_are_refused_or_missing_are_named_and_not_shown(visit: Visit, shop: ShopSandbox) -> None:
    with pytest.raises(
        AuthenticationError, match=r"Sandbox shop refuses the credentials.*\(unauthorized, status 401"
    ) as refusal:
        visit(store=Safe(shop, (), {"api_key": "canary"})).test()
    assert "canary" not in str(refusal.value)
    with pytest.raises(ConfigurationError, match="has no username and no password"):
        visit(method="basic", store=Safe(shop, ())).test()
    with pytest.raises(ConfigurationError, match="is signed in to with api_key or basic or oauth2, not with certificate"):
        visit(method="certificate", store=Safe(shop, ()))


def test_an_api_that_is_open_to_everybody_is_asked_without_credentials(visit: Visit, shop: ShopSandbox) -> None:
    opened = visit(
        "sandbox-rest", ("auth:\n", "auth:\n  none: {}\n"), method="none", store=Safe(shop, ("no such credential",))
    )
    with pytest.raises(AuthenticationError, match="Sandbox shop refuses the credentials"):  # as it should: it is not open
        opened.test()
    [asked] = shop.requests
    assert asked.status == 401
