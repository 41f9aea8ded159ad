"""Pages that are numbered all the same: behind a link that counts them, or a cursor that holds a position."""

import base64

import pytest
from shopping import Visit, read

from connector_resources.errors import ConfigurationError, ContractError
from connector_resources.manifest import Paging
from connector_resources.paging import Reply, pager
from connector_resources.sandbox.generic import ShopSandbox

CURSOR = 'params: {by: cursor, limit: "{size}", cursor: "{cursor}", updated_since: "{since}"}'
LINK = ("paging: {by: cursor, next: cursor, size: 200}", "paging: {by: link, next: next, size: 50}")


def linked(way: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (CURSOR, f'params: {{by: {way}, limit: "{{size}}", updated_since: "{{since}}"}}'), LINK


@pytest.mark.parametrize("way", ["page", "offset"])
def test_no_record_is_missed_behind_links_that_count(visit: Visit, shop: ShopSandbox, way: str) -> None:
    ids = list(shop.state.records["customers"])

    def edit(page: int) -> None:
        if page in (3, 5):  # of a record that was read already: all behind it move up
            shop.state.update("customers", ids[page], {"phone": None})

    shop.state.on_page = edit
    assert set(read(visit("sandbox-rest", *linked(way)))) == set(ids)


@pytest.mark.parametrize("way", ["link", "header"])
def test_links_behind_a_record_are_followed_once(visit: Visit, shop: ShopSandbox, way: str) -> None:
    link = LINK if way == "link" else (LINK[0], "paging: {by: link, size: 50}")
    assert len(read(visit("sandbox-rest", linked(way)[0], link))) == 520
    assert len(shop.requests) == 11


@pytest.mark.parametrize(
    ("link", "steady"),
    [
        ("https://x.example/api/pn/?page=2&page_size=100", False),
        ("?_page=2&_limit=10", False),
        ("/things?page%5Bnumber%5D=2", False),
        ("/odata/Things?$skip=100", False),
        ("/things?page_size=100&cursor=cD0yMDI2", True),
        ("/things?page=eyJsYXN0IjoxMH0", True),
        ("/things?after_id=100&limit=100", True),
        ("/odata/Things?$skiptoken=100", False),
        ("/odata/Things?$skiptoken='ALFKI'", True),
        ("/odata/Things?$skiptoken=Id-100", True),
    ],
)
def test_a_link_that_counts_is_known_by_its_query(link: str, steady: bool) -> None:
    strategy = pager(Paging(by="link", next=("next",)))
    assert strategy.follow(Reply({"next": link}), ["1"]) is not None
    assert strategy.steady is steady


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ("Things?$skiptoken=100", "/odata/v4/Things?$skiptoken=100"),  # OData: the service's root is left out
        ("v4/Things?$skiptoken=100", "/odata/v4/Things?$skiptoken=100"),
        ("?page=2", "/odata/v4/Things?page=2"),
        ("/odata/v4/Things?page=2", "/odata/v4/Things?page=2"),
        ("Others?page=2", "Others?page=2"),  # begins at the connector's URL
        ("http://x.example/Things?page=2", "http://x.example/Things?page=2"),
    ],
)
def test_a_relative_link_that_names_its_own_place_leads_there(link: str, url: str) -> None:
    step = pager(Paging(by="link", next=("next",))).follow(Reply({"next": link}, path="/odata/v4/Things"), ["1"])
    assert step is not None
    assert step.url == url


def test_a_link_that_is_no_url_is_told(visit: Visit, shop: ShopSandbox) -> None:
    shop.faults.add("status", status=200, body='{"items": [{"id": "1", "name": "a"}], "next": "http://[canary"}')
    with pytest.raises(ContractError, match="names a next page whose URL is none") as refusal:
        read(visit("sandbox-rest", *linked("link")))
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize(
    ("held", "steady"), [("arrayconnection:99", False), ("customer:99", True), ("not base64 at all", True)]
)
def test_a_cursor_that_holds_a_position_is_known(held: str, steady: bool) -> None:
    cursor = held if " " in held else base64.b64encode(held.encode()).decode()
    strategy = pager(Paging(by="cursor", next=("end",)))
    assert strategy.follow(Reply({"end": cursor}), ["1"]) is not None
    assert strategy.steady is steady


def test_a_page_beyond_the_last_that_is_not_there_says_what_the_manifest_lacks(visit: Visit, shop: ShopSandbox) -> None:
    """As Django REST framework and Flask-SQLAlchemy answer it."""
    shop.faults.add("status", path=r"[?&]page=12\b", status=404, body='{"detail": "Invalid page."}', times=None)
    numbered = (CURSOR, 'params: {by: page, limit: "{size}", page: "{page}", updated_since: "{since}"}')
    with pytest.raises(ConfigurationError, match=r"That was a page behind others.* `more`"):
        read(visit("sandbox-rest", numbered, (LINK[0], "paging: {by: page, size: 50}")))
    assert len(read(visit("sandbox-rest", numbered, (LINK[0], "paging: {by: page, more: next, size: 50}")))) == 520
