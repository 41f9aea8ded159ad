"""Create, update, upsert and delete, one by one and in collections, and reading single records."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from connector_resources.sandbox import Sandbox


def _error(answer: httpx.Response, status: int = 400) -> tuple[str, list[str] | None]:
    assert answer.status_code == status, answer.text
    [error] = answer.json()
    assert error["message"]
    return error["errorCode"], error.get("fields")


def _create(api: httpx.Client, sobject: str = "Account", **fields: Any) -> str:
    answer = api.post(f"sobjects/{sobject}", json=fields)
    assert answer.status_code == 201, answer.text
    assert answer.json() == {"id": answer.json()["id"], "success": True, "errors": []}
    id_: str = answer.json()["id"]
    return id_


def test_a_created_record_can_be_read_changed_and_deleted(api: httpx.Client) -> None:
    id_ = _create(api, Name="  Müller KG ", AnnualRevenue=1234.567, BillingPostalCode="01067", NumberOfEmployees=5)
    place = f"sobjects/Account/{id_}"
    record = api.get(place).json()
    assert (record["Name"], record["AnnualRevenue"], record["BillingPostalCode"]) == ("Müller KG", 1234.57, "01067")
    assert record["BillingAddress"]["postalCode"] == "01067"
    assert record["Phone"] is None
    changed = api.patch(f"sobjects/Account/{id_[:15]}", json={"Phone": "1", "NumberOfEmployees": None})
    assert (changed.status_code, changed.content) == (204, b"")
    shown = api.get(place, params={"fields": "Phone,NumberOfEmployees,Owner.Alias"}).json()
    assert (shown.pop("attributes")["type"], shown.pop("Owner")["Alias"]) == ("Account", "integrat")
    assert shown == {"Phone": "1", "NumberOfEmployees": None}
    assert api.delete(place).status_code == 204
    assert _error(api.get(place), 404)[0] == "ENTITY_IS_DELETED"
    assert _error(api.patch(place, json={"Phone": "2"}), 404)[0] == "ENTITY_IS_DELETED"
    assert _error(api.delete(place), 404)[0] == "ENTITY_IS_DELETED"


def test_each_write_has_a_later_instant_than_the_one_before(sandbox: Sandbox, api: httpx.Client) -> None:
    ids = [_create(api, Name=f"{number}") for number in range(5)]
    api.patch(f"sobjects/Account/{ids[0]}", json={"Phone": "1"})
    records = sandbox.state.records["Account"]
    stamps = [records[id_]["SystemModstamp"] for id_ in [*ids[1:], ids[0]]]
    assert stamps == sorted(set(stamps))
    assert len(stamps[0]) == len("2026-01-31T12:00:00.000+0000")
    assert records[ids[0]]["LastModifiedDate"] == records[ids[0]]["SystemModstamp"] > records[ids[0]]["CreatedDate"]


@pytest.mark.parametrize(
    ("body", "code", "fields"),
    [
        ({}, "REQUIRED_FIELD_MISSING", ["Name"]),
        ({"Name": " "}, "REQUIRED_FIELD_MISSING", ["Name"]),
        ({"Name": "x" * 256}, "STRING_TOO_LONG", ["Name"]),
        ({"Name": "x", "Nope": 1}, "INVALID_FIELD", None),
        ({"Name": "x", "CreatedDate": "2026-01-01"}, "INVALID_FIELD_FOR_INSERT_UPDATE", ["CreatedDate"]),
        ({"Name": "x", "BillingAddress": {}}, "INVALID_FIELD_FOR_INSERT_UPDATE", ["BillingAddress"]),
        ({"Name": "x", "ParentId": "x"}, "MALFORMED_ID", ["ParentId"]),
        ({"Name": "x", "ParentId": "0015500001QdZPKAA3"}, "INVALID_CROSS_REFERENCE_KEY", []),
        ({"Name": "x", "ParentId": "0035500001H9kZuAAJ"}, "FIELD_INTEGRITY_EXCEPTION", ["ParentId"]),
        ({"Name": "x", "NumberOfEmployees": "many"}, "JSON_PARSER_ERROR", None),
        ({"Name": "x", "NumberOfEmployees": 123456789}, "NUMBER_OUTSIDE_VALID_RANGE", ["NumberOfEmployees"]),
        (
            {"Name": "x", "BillingGeocodeAccuracy": "so so"},
            "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
            ["BillingGeocodeAccuracy"],
        ),
        ({"Name": {"a": 1}}, "JSON_PARSER_ERROR", None),
    ],
)
def test_a_wrong_record_is_refused_and_nothing_is_stored(
    sandbox: Sandbox, api: httpx.Client, body: dict[str, Any], code: str, fields: list[str] | None
) -> None:
    assert _error(api.post("sobjects/Account", json=body)) == (code, fields)
    assert len(sandbox.state.records["Account"]) == 30


def test_contacts_are_checked_too(api: httpx.Client) -> None:
    assert _error(api.post("sobjects/Contact", json={"FirstName": "A"})) == ("REQUIRED_FIELD_MISSING", ["LastName"])
    assert _error(api.post("sobjects/Contact", json={"LastName": "A", "Name": "A"}))[0] == "INVALID_FIELD_FOR_INSERT_UPDATE"
    assert _error(api.post("sobjects/Contact", json={"LastName": "A", "Email": "a@b"}))[0] == "INVALID_EMAIL_ADDRESS"
    assert _error(api.post("sobjects/Contact", json={"LastName": "A", "Birthdate": "soon"}))[0] == "JSON_PARSER_ERROR"
    assert _error(api.post("sobjects/User", json={"LastName": "A"}))[0] == "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"


def test_a_body_that_is_not_json_is_refused(api: httpx.Client) -> None:
    for body in (b"{", b"[]", b"", b"\xff"):
        assert _error(api.post("sobjects/Account", content=body))[0] == "JSON_PARSER_ERROR"


def test_what_is_not_there_is_not_found(api: httpx.Client) -> None:
    for url in ("sobjects/Nope", "sobjects/Account/0015500001QdZPKAA3", "sobjects/Account/nonsense", "nope"):
        assert _error(api.get(url), 404)[0] == "NOT_FOUND"
    assert _error(api.put("sobjects/Account"), 405)[0] == "METHOD_NOT_ALLOWED"


def test_upsert_creates_once_and_then_updates(sandbox: Sandbox, api: httpx.Client) -> None:
    place = "sobjects/Account/ERP_Id__c/C-1%2F7"
    first, second = (api.patch(place, json={"Name": name}) for name in ("One", "Two"))
    assert (first.status_code, first.json()["created"]) == (201, True)
    assert (second.status_code, second.json()["created"]) == (200, False)
    assert first.json()["id"] == second.json()["id"]
    assert api.get(place).json()["Name"] == "Two"
    assert sandbox.state.records["Account"][first.json()["id"]]["ERP_Id__c"] == "C-1/7"
    assert _error(api.patch(place, json={"Name": "x", "ERP_Id__c": "y"}))[0] == "INVALID_FIELD"
    assert _error(api.patch("sobjects/Account/Name/x", json={"Name": "x"}), 404)[0] == "NOT_FOUND"
    assert api.delete(place).status_code == 204
    assert _error(api.get(place), 404)[0] == "NOT_FOUND"


def test_an_external_id_is_unique_whatever_its_case(api: httpx.Client) -> None:
    id_ = _create(api, Name="a", ERP_Id__c="C-1")
    assert _error(api.post("sobjects/Account", json={"Name": "b", "ERP_Id__c": "c-1"}))[0] == "DUPLICATE_VALUE"
    assert api.patch(f"sobjects/Account/{id_}", json={"ERP_Id__c": "C-1"}).status_code == 204
    api.delete(f"sobjects/Account/{id_}")
    _create(api, Name="b", ERP_Id__c="C-1")


def test_an_ambiguous_key_lists_the_records(api: httpx.Client) -> None:
    ids = [_create(api, "Contact", LastName=name, Email="same@x.example") for name in "ab"]
    for answer in (
        api.get("sobjects/Contact/Email/same@x.example"),
        api.patch("sobjects/Contact/Email/same@x.example", json={"LastName": "c"}),
    ):
        assert answer.status_code == 300
        assert answer.json() == [f"/services/data/v67.0/sobjects/Contact/{id_}" for id_ in ids]


def test_deleting_an_account_deletes_its_contacts(api: httpx.Client) -> None:
    account = _create(api, Name="a")
    contact = _create(api, "Contact", LastName="b", AccountId=account)
    api.delete(f"sobjects/Account/{account}")
    assert _error(api.get(f"sobjects/Contact/{contact}"), 404)[0] == "ENTITY_IS_DELETED"
    assert _error(api.post("sobjects/Contact", json={"LastName": "c", "AccountId": account}))[0] == "ENTITY_IS_DELETED"


def test_collections_give_each_record_its_own_result(sandbox: Sandbox, api: httpx.Client) -> None:
    rows = [{"attributes": {"type": "Account"}, "Name": "good"}, {"attributes": {"type": "Account"}}]
    good, bad = api.post("composite/sobjects", json={"records": rows}).json()
    assert good == {"id": good["id"], "success": True, "errors": []}
    assert (bad["success"], bad["errors"][0]["statusCode"]) == (False, "REQUIRED_FIELD_MISSING")
    changes = [{"attributes": {"type": "Account"}, "id": good["id"], "Phone": "1"}]
    assert api.patch("composite/sobjects", json={"records": changes}).json()[0]["success"]
    for created in (True, False):
        upsert = {"records": [{"attributes": {"type": "Account"}, "ERP_Id__c": "1", "Name": "new"}]}
        assert api.patch("composite/sobjects/Account/ERP_Id__c", json=upsert).json()[0]["created"] is created
    found = api.post("composite/sobjects/Account", json={"ids": [good["id"], "x"], "fields": ["Phone"]}).json()
    assert (found[0]["Phone"], found[1]) == ("1", None)
    assert api.delete("composite/sobjects", params={"ids": good["id"]}).json()[0]["success"]
    assert sandbox.state.records["Account"][good["id"]]["IsDeleted"]


def test_all_or_none_takes_everything_back(sandbox: Sandbox, api: httpx.Client) -> None:
    rows = [{"attributes": {"type": "Account"}, "Name": "good"}, {"attributes": {"type": "Account"}}]
    results = api.post("composite/sobjects", json={"records": rows, "allOrNone": True}).json()
    codes = [result["errors"][0]["statusCode"] for result in results]
    assert codes == ["ALL_OR_NONE_OPERATION_ROLLED_BACK", "REQUIRED_FIELD_MISSING"]
    assert len(sandbox.state.records["Account"]) == 30


def test_a_collection_holds_two_hundred_records_at_most(api: httpx.Client) -> None:
    rows = [{"attributes": {"type": "Account"}, "Name": "x"}] * 201
    assert _error(api.post("composite/sobjects", json={"records": rows}))[0] == "EXCEEDED_ID_LIMIT"


def test_updated_and_deleted_tell_what_changed_in_whole_minutes(sandbox: Sandbox, api: httpx.Client) -> None:
    now = datetime.now(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    stretch = {"start": today.isoformat(), "end": "2100-01-01T00:00:59Z"}
    [kept, gone] = sandbox.state.insert("Account", [{"Name": "a"}, {"Name": "b"}], at=today)
    sandbox.state.delete("Account", [gone], at=today)
    found = api.get("sobjects/Account/updated/", params=stretch).json()
    assert found["ids"] == [kept]
    assert found["latestDateCovered"] <= now.strftime("%Y-%m-%dT%H:%M:%S.999+0000")
    assert found["latestDateCovered"].endswith(":00.000+0000")
    found = api.get("sobjects/Account/deleted/", params=stretch).json()
    assert [(entry["id"], entry["deletedDate"][:10]) for entry in found["deletedRecords"]] == [(gone, f"{today:%Y-%m-%d}")]
    before = found["earliestDateAvailable"]
    sandbox.state.empty_recycle_bin()
    found = api.get("sobjects/Account/deleted/", params=stretch).json()
    assert found["deletedRecords"] == []
    assert found["earliestDateAvailable"] > before


@pytest.mark.parametrize(
    "stretch",
    [
        {"start": "2020-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"},
        {"start": "2100-01-01T00:00:00Z", "end": "2100-01-01T00:00:59Z"},
        {"start": "2026-01-01T00:00:00 00:00", "end": "2100-01-01T00:00:00Z"},
        {"start": "2026-01-01T00:00:00", "end": "2100-01-01T00:00:00Z"},
    ],
)
def test_a_wrong_stretch_of_time_is_refused(api: httpx.Client, stretch: dict[str, str]) -> None:
    for which in ("updated", "deleted"):
        assert _error(api.get(f"sobjects/Account/{which}/", params=stretch))[0] == "INVALID_REPLICATION_DATE"
