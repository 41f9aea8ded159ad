"""Reading through a REST manifest: pages, windows, types, absence, drift, sign-in; against the shop on real HTTP."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from shopping import Visit, read, rows

from connector_resources.contract import Window
from connector_resources.errors import (
    ConfigurationError,
    ContractError,
    NetworkError,
    RateLimited,
)
from connector_resources.sandbox.generic import ShopSandbox

CURSOR = 'params: {by: cursor, limit: "{size}", cursor: "{cursor}", updated_since: "{since}"}'
PAGING = "paging: {by: cursor, next: cursor, size: 200}"
WAYS: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "cursor": ((CURSOR, CURSOR), (PAGING, "paging: {by: cursor, next: cursor, size: 50}")),
    "link": (
        (CURSOR, 'params: {by: link, limit: "{size}", updated_since: "{since}"}'),
        (PAGING, "paging: {by: link, next: next, size: 50}"),
    ),
    "header": (
        (CURSOR, 'params: {by: header, limit: "{size}", updated_since: "{since}"}'),
        (PAGING, "paging: {by: link, size: 50}"),
    ),
    "offset": (
        (CURSOR, 'params: {by: offset, limit: "{size}", offset: "{offset}", updated_since: "{since}"}'),
        (PAGING, "paging: {by: offset, size: 50}"),
    ),
    "page": (
        (CURSOR, 'params: {by: page, limit: "{size}", page: "{page}", updated_since: "{since}"}'),
        (PAGING, "paging: {by: page, size: 50}"),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_paging_reaches_the_last_record(visit: Visit, shop: ShopSandbox, way: str) -> None:
    assert list(read(visit("sandbox-rest", *WAYS[way]))) == list(shop.state.records["customers"])
    assert len(shop.requests) >= 11


@pytest.mark.parametrize("way", WAYS)
def test_a_page_that_ends_exactly_at_the_last_record_is_followed_by_no_lost_one(
    visit: Visit, shop: ShopSandbox, way: str
) -> None:
    for id_ in list(shop.state.records["customers"])[100:]:
        shop.state.purge("customers", id_)
    assert len(read(visit("sandbox-rest", *WAYS[way]))) == 100


@pytest.mark.parametrize("way", WAYS)
def test_no_record_is_missed_while_others_change_under_the_read(visit: Visit, shop: ShopSandbox, way: str) -> None:
    ids = list(shop.state.records["customers"])

    def edit(page: int) -> None:
        if page in (2, 4):  # of records that were read already: all behind them move up
            shop.state.update("customers", ids[page], {"phone": None})
            shop.state.update("customers", ids[page + 40], {"phone": None})

    shop.state.on_page = edit
    assert set(read(visit("sandbox-rest", *WAYS[way]))) == set(ids)


@pytest.mark.parametrize("way", ["offset", "page"])
def test_pages_that_shift_without_a_trace_are_noticed(visit: Visit, shop: ShopSandbox, way: str) -> None:
    """By their overlap, or as two passes bring different records."""
    ids = list(shop.state.records["customers"])
    shop.state.on_page = lambda page: shop.state.purge("customers", ids[page]) if page < 6 else None
    assert set(read(visit("sandbox-rest", *WAYS[way]))) >= set(ids[6:])


def test_pages_that_are_read_again_bring_what_is_new_alone(visit: Visit, shop: ShopSandbox) -> None:
    ids = list(shop.state.records["customers"])
    shop.state.on_page = lambda page: shop.state.purge("customers", ids[0]) if page == 3 else None
    connector = visit("sandbox-rest", *WAYS["page"])
    came = [id_ for page in connector.read(connector.describe("customer"), ["name"], Window()) for id_ in page.records.index]
    assert sorted(came) == ids


@pytest.mark.parametrize("way", WAYS)
def test_a_page_that_comes_again_and_again_is_refused(visit: Visit, shop: ShopSandbox, way: str) -> None:
    records = '{"id": "1", "updated_at": "2024-01-01T00:00:00Z"}, {"id": "2", "updated_at": "2024-01-01T00:00:00Z"}'
    body = f'{{"items": [{records}], "cursor": "x", "next": "?again=1"}}'
    headers = {"Content-Type": "application/json", "Link": '<?again=1>; rel="next"'}
    shop.faults.add("status", status=200, body=body, headers=headers, times=None)
    with pytest.raises(ContractError, match="again and again"):
        read(visit("sandbox-rest", *WAYS[way]))
    assert len(shop.requests) < 4


@pytest.mark.parametrize(
    "place", ["https://evil.example/x", "http://localhost/x", "//evil.example/x", "http://me:pw@127.0.0.1/"]
)
def test_a_next_page_at_another_host_gets_no_credentials(visit: Visit, shop: ShopSandbox, place: str) -> None:
    body = f'{{"items": [], "next": "{place}"}}'
    shop.faults.add("status", status=200, body=body)
    with pytest.raises(ContractError, match="another host"):
        read(visit("sandbox-rest", *WAYS["link"]))


def test_records_at_the_very_instant_of_the_watermark_are_read(visit: Visit, shop: ShopSandbox) -> None:
    twins = ["00000004", "00000005"]  # share an instant
    moment = shop.state.records["customers"][twins[0]]["updated_at"]
    assert list(read(visit(), "customer", moment))[:2] == twins
    later = read(visit(), "customer", moment + timedelta(milliseconds=1))
    assert not set(twins) & set(later)


@pytest.mark.parametrize("form", ["iso", "seconds", "millis", "date"])
def test_a_side_that_leaves_out_the_border_is_asked_for_a_little_more(visit: Visit, shop: ShopSandbox, form: str) -> None:
    moment = datetime(2024, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)
    since = f"since: {{format: {form}, inclusive: false}}"
    shop.faults.add("status", status=200, body='{"items": []}')
    read(visit("sandbox-rest", (PAGING, f"{PAGING}\n      {since}")), "customer", moment)
    asked = {"iso": "2024-05-06T07:08:09.122Z", "seconds": "1714979288", "millis": "1714979289122", "date": "2024-05-05"}
    assert shop.requests[0].target.endswith(f"updated_since={asked[form]}")


def test_a_read_of_everything_may_have_a_start_and_names_what_it_needs(visit: Visit, shop: ShopSandbox) -> None:
    since = 'since: {format: "%Y-%m-%dT%H:%M:%S+00:00", start: 1970-01-01}'
    connector = visit("sandbox-rest", (PAGING, f"{PAGING}\n      {since}"), ("by: cursor, limit", 'fields: "{fields}", limit'))
    assert len(read(connector, "customer", None, "city", "name")) == 520
    assert "fields=id,updated_at,etag,deleted,address,name&" in shop.requests[0].target
    assert shop.requests[0].target.endswith("updated_since=1970-01-01T00:00:00+00:00")


def test_values_arrive_as_they_are(visit: Visit, shop: ShopSandbox) -> None:
    record = read(visit())["00000003"]
    assert record["code"] == "00003"
    assert record["points"] == 2**53 + 3
    assert record["balance"] == shop.state.records["customers"]["00000003"]["balance"] == Decimal("0.10")
    assert record["notes"] == shop.state.records["customers"]["00000003"]["notes"]
    assert len(record["notes"]) == 32_000
    assert record["born"] == date(1970, 1, 4)
    assert record["opened"] == shop.state.records["customers"]["00000003"]["opened"]
    assert record["opened"].utcoffset() == timedelta(0)
    assert read(visit())["00000001"]["name"] == "株式会社サンプル"


def test_null_and_absent_are_different(visit: Visit) -> None:
    found = read(visit())
    assert found["00000007"]["phone"] is None
    assert "phone" not in found["00000013"]


def test_deleted_records_come_as_deleted_or_not_at_all(visit: Visit, shop: ShopSandbox) -> None:
    shop.state.delete("customers", "00000009")
    connector = visit()
    entity = connector.describe("customer")
    pages = list(connector.read(entity, ["name"], Window()))
    gone = [str(id_) for page in pages for id_ in page.marks.index[page.marks["deleted"].astype(bool)]]
    assert gone == ["00000009"]
    assert "00000009" not in rows(connector.read(entity, ["name"], Window(deleted=False)))


def test_a_list_of_tombstones_says_what_was_deleted(visit: Visit, shop: ShopSandbox) -> None:
    shop.state.purge("customers", "00000009")
    tombs = 'tombstones: {path: /rest/deleted/customers, params: {since: "{since}"}, records: items, id: id, at: deleted_at}'
    before = "    deleted: {path: deleted}\n    fields:\n      id: {type: string"
    connector = visit("sandbox-rest", (before, before.replace("deleted: {path: deleted}", tombs)))
    last = list(connector.read(connector.describe("customer"), ["name", "phone"], Window()))[-1]
    assert (list(last.marks.index), bool(last.marks["deleted"].iloc[0])) == (["00000009"], True)
    assert last.marks["modified"].iloc[0] == shop.state.tombstones["customers"][0].at
    assert last.absent is not None
    assert last.absent.to_numpy().all()


def test_a_tombstone_without_an_id_is_refused(visit: Visit, shop: ShopSandbox) -> None:
    shop.state.purge("customers", "00000009")
    tombs = "tombstones: {path: /rest/deleted/customers, records: items, id: customer}"
    connector = visit("sandbox-rest", ("    active: active\n", f"    active: active\n    {tombs}\n"))
    with pytest.raises(ContractError, match="tells of a deleted customer without its id"):
        read(connector)


def test_a_token_is_not_asked_for_in_the_clear(visit: Visit) -> None:
    with pytest.raises(ConfigurationError, match=r"\(token_url\) must begin with https"):
        visit("sandbox-rest", ("token_url: /oauth/token", "token_url: http://login.example.com/token"), method="oauth2")


@pytest.mark.parametrize("many", ["one a call", "a list"])
def test_records_are_read_by_their_ids_and_unknown_ones_are_missing(visit: Visit, shop: ShopSandbox, many: str) -> None:
    entity = "order" if many == "one a call" else "customer"
    ids = [str(10**15 + 3), str(10**15 + 4), "7"] if entity == "order" else ["00000003", "00000004", "7"]
    connector = visit()
    described = connector.describe(entity)
    assert set(rows(connector.read_ids(described, described.names, ids))) == set(ids[:2])
    assert len(shop.requests) == (3 if entity == "order" else 1)


def test_a_refused_read_by_ids_is_an_error_of_the_manifest(visit: Visit, shop: ShopSandbox) -> None:
    shop.faults.add("status", status=422, path="ids=")
    connector = visit()
    with pytest.raises(ContractError, match="check `by_id` in the manifest"):
        list(connector.read_ids(connector.describe("customer"), ["name"], ["00000003"]))


def test_a_field_that_is_gone_is_absent_and_one_that_is_new_is_ignored(visit: Visit, shop: ShopSandbox) -> None:
    shop.faults.add("hide", sobject="customers", field="email")
    shop.faults.add("extra", sobject="customers", field="shoe_size")
    found = read(visit())
    assert not any("email" in record or "shoe_size" in record for record in found.values())


def test_a_field_of_another_type_is_refused_by_name(visit: Visit, shop: ShopSandbox) -> None:
    shop.faults.add("retype", sobject="customers", field="email")
    with pytest.raises(ContractError, match=r"A value of customer\.email is no string, which the manifest promises"):
        read(visit())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("code", "12"),
        ("code", "true"),
        ("points", '"12"'),
        ("points", "1.5"),
        ("points", "true"),
        ("points", str(2**63)),
        ("balance", "1.005"),
        ("balance", '"1,5"'),
        ("balance", "1e80"),
        ("active", '"true"'),
        ("active", "1"),
        ("born", '"2024-02-30"'),
        ("born", '"2024-01-01T00:00:00Z"'),
        ("opened", '"2024-01-01T00:00:00"'),
        ("opened", "1714979288"),
        ("id", "null"),
        ("id", "1.5"),
    ],
)
def test_a_value_is_never_bent_until_it_fits(visit: Visit, shop: ShopSandbox, field: str, value: str) -> None:
    record = '"updated_at": "2024-01-01T00:00:00Z"' + ("" if field == "id" else ', "id": "1"')
    shop.faults.add("status", status=200, body=f'{{"items": [{{{record}, "{field}": {value}}}]}}')
    with pytest.raises(ContractError, match=field):
        read(visit())


@pytest.mark.parametrize("sign", [r"\u0000", r"\ud800"])
def test_a_text_that_cannot_be_stored_does_not_stop_the_read(visit: Visit, shop: ShopSandbox, sign: str) -> None:
    record = f'"id": "1{sign}", "updated_at": "2024-01-01T00:00:00Z", "code": "a{sign}", "points": {{"a":["{sign}",1.50]}}'
    shop.faults.add("status", status=200, body=f'{{"items": [{{{record}}}]}}')
    connector = visit("sandbox-rest", ("points: {type: integer, personal: false}", "points: {type: json}"))
    [(found, values)] = read(connector, "customer", None, "code", "points").items()
    assert ["\0" in text for text in (found, values["code"])] == [True, True]
    assert values["points"] == f'{{"a":["{sign}",1.50]}}'


@pytest.mark.parametrize(
    ("declared", "value", "expected"),
    [
        ("points: {type: integer, lenient: true, personal: false}", '"0012"', 12),
        ("points: {type: string, lenient: true, personal: false}", "12.50", "12.50"),
        ("points: {type: boolean, lenient: true, personal: false}", "1", True),
        ("points: {type: decimal, scale: 4, personal: false}", '"1.5000"', Decimal("1.5000")),
        ("points: {type: instant, format: seconds}", "1714979288", datetime(2024, 5, 6, 7, 8, 8, tzinfo=UTC)),
        ("points: {type: instant, format: millis}", "1714979288000", datetime(2024, 5, 6, 7, 8, 8, tzinfo=UTC)),
        ("points: {type: instant, zone: Europe/Berlin}", '"2024-07-01T12:00:00"', datetime(2024, 7, 1, 10, tzinfo=UTC)),
        ('points: {type: instant, format: "%d.%m.%y %H", zone: UTC}', '"01.07.24 12"', datetime(2024, 7, 1, 12, tzinfo=UTC)),
        ('points: {type: date, format: "%d.%m.%Y"}', '"01.07.2024"', date(2024, 7, 1)),
        ("points: {type: json}", '{"a": [1.10, "ü"]}', '{"a":[1.10,"ü"]}'),
    ],
    ids=lambda value: value.split(",")[0] if isinstance(value, str) and value.startswith("points") else "",
)  # fmt: skip
def test_what_the_manifest_declares_is_read_exactly(
    visit: Visit, shop: ShopSandbox, declared: str, value: str, expected: Any
) -> None:
    body = f'{{"items": [{{"id": "1", "updated_at": "2024-01-01T00:00:00Z", "points": {value}}}]}}'
    shop.faults.add("status", status=200, body=body)
    connector = visit("sandbox-rest", ("points: {type: integer, personal: false}", declared))
    assert read(connector, "customer", None, "points") == {"1": {"points": expected}}


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 429, "headers": {"Retry-After": "2"}},
        {"kind": "status", "status": 429},
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 503},
        {"kind": "drop"},
        {"kind": "lose"},
        {"kind": "cut"},
        {"kind": "drip"},
    ],
    ids=lambda fault: f"{fault['kind']} {fault.get('status', '')}{' waits' if fault.get('headers') else ''}".strip(),
)
def test_a_read_survives_what_passes(visit: Visit, shop: ShopSandbox, fault: dict[str, Any]) -> None:
    shop.faults.add(**fault, path="/rest/customers", after=1)
    assert len(read(visit())) == 520


def test_faults_by_rate_strike_the_same_requests_each_time(visit: Visit, shop: ShopSandbox) -> None:
    struck = []
    for _ in range(2):
        shop.faults.clear()
        shop.faults.forget_requests()
        shop.faults.add("status", status=503, rate=0.4, seed=7, path="/rest/customers")
        assert len(read(visit("sandbox-rest", *WAYS["cursor"]))) == 520
        struck.append([request.status for request in shop.requests])
    assert struck[0] == struck[1]
    assert 503 in struck[0]


def test_a_rate_that_the_manifest_promises_is_kept_without_being_told(visit: Visit, shop: ShopSandbox) -> None:
    visit.clock = lambda: datetime(2026, 11, 25, tzinfo=UTC)
    assert len(read(visit("sandbox-rest", ("per_second: 200", "per_second: 2"), *WAYS["cursor"]))) == 520
    assert len(shop.requests) == 11
    assert sum(visit.waits) == pytest.approx(4.5)  # two at once, then two a second
    assert all(request.status == 200 for request in shop.requests)


def test_a_limit_that_does_not_end_is_handed_up_with_its_wait(visit: Visit, shop: ShopSandbox) -> None:
    shop.faults.add("status", status=429, headers={"Retry-After": "90"}, times=None)
    with pytest.raises(RateLimited) as refusal:
        read(visit())
    assert refusal.value.wait == 90


def test_nobody_there_is_a_network_error(visit: Visit) -> None:
    with ShopSandbox(customers=0, orders=0) as gone:
        url = gone.url
    with pytest.raises(NetworkError):
        visit(url=url).test()


def test_a_code_that_is_no_word_is_not_shown(visit: Visit, shop: ShopSandbox) -> None:
    shop.faults.add("status", status=400, body='{"error": {"code": "no <canary@example.org>"}}')
    with pytest.raises(ContractError) as refusal:
        visit().test()
    assert "canary" not in str(refusal.value)


def test_what_a_connector_row_configures_fills_the_requests(visit: Visit) -> None:
    connector = visit(
        "sandbox-rest", ("test: {path: /rest/me", 'test: {path: "/rest/{config.who}"'), configuration={"who": "me"}
    )
    assert connector.test()
    with pytest.raises(ConfigurationError, match=r"needs \{config\.who\}"):
        visit("sandbox-rest", ("test: {path: /rest/me", 'test: {path: "/rest/{config.who}"')).test()
