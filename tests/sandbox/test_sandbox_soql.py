"""SOQL: what is found, in which order, page by page, and what is refused."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from connector_resources.sandbox import Sandbox
from connector_resources.sandbox.salesforce.periods import period

ADDRESS = {"street", "city", "state", "postalCode", "country", "latitude", "longitude", "geocodeAccuracy"}
NAMES = ["Alpha", "alpha Beta", "50% Off", "Under_score", "O'Neil", "Ünïcode"]


def _query(api: httpx.Client, text: str, resource: str = "query", **headers: str) -> dict[str, Any]:
    answer = api.get(resource, params={"q": text}, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _names(api: httpx.Client, where: str) -> list[str]:
    found = _query(api, f"SELECT Name FROM Account WHERE Site = 'soql' AND ({where}) ORDER BY Name")
    return [record["Name"] for record in found["records"]]


def _refused(api: httpx.Client, text: str) -> tuple[str, str]:
    answer = api.get("query", params={"q": text})
    assert answer.status_code == 400, answer.text
    return answer.json()[0]["errorCode"], answer.json()[0]["message"]


def _make(sandbox: Sandbox) -> list[str]:
    """Six accounts with employees 1 to 5 and null; all but the last in Berlin."""
    rows = [{"Name": name, "Site": "soql", "NumberOfEmployees": n, "BillingCity": "Berlin"} for n, name in enumerate(NAMES, 1)]
    rows[-1] |= {"NumberOfEmployees": None, "BillingCity": None}
    return sandbox.state.insert("Account", rows, at=datetime(2026, 7, 1, 12, tzinfo=UTC))


@pytest.fixture
def made(sandbox: Sandbox) -> list[str]:
    return _make(sandbox)


@pytest.fixture(scope="module")
def reading() -> Iterator[httpx.Client]:
    """A client for tests that only read: they share one org, which has the six accounts."""
    with Sandbox(accounts=30, contacts=60) as sandbox:
        _make(sandbox)
        headers = {"Authorization": f"Bearer {sandbox.state.open_session()}"}
        with httpx.Client(base_url=f"{sandbox.url}/services/data/v67.0/", headers=headers, trust_env=False) as client:
            yield client


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("Name = 'ALPHA'", ["Alpha"]),
        ("Name LIKE 'alpha%'", ["Alpha", "alpha Beta"]),
        ("Name LIKE '_lpha'", ["Alpha"]),
        (r"Name LIKE '50\% %'", ["50% Off"]),
        (r"Name LIKE '%\_%'", ["Under_score"]),
        (r"Name = 'O\'Neil'", ["O'Neil"]),
        ("Name = 'ünïcode'", ["Ünïcode"]),
        ("NumberOfEmployees = null", ["Ünïcode"]),
        ("BillingCity = ''", ["Ünïcode"]),
        ("NumberOfEmployees >= 4", ["O'Neil", "Under_score"]),
        ("NumberOfEmployees < 2", ["Alpha"]),
        ("NumberOfEmployees <> 1 AND NumberOfEmployees != null", ["50% Off", "alpha Beta", "O'Neil", "Under_score"]),
        ("BillingCity != 'Berlin'", ["Ünïcode"]),
        ("NOT BillingCity = 'berlin'", ["Ünïcode"]),
        ("NOT (NumberOfEmployees > 1)", ["Alpha", "Ünïcode"]),
        ("NumberOfEmployees IN (1, 2)", ["Alpha", "alpha Beta"]),
        ("BillingCity NOT IN ('BERLIN')", ["Ünïcode"]),
        ("Name IN ('alpha', 'o\\'neil') AND (NumberOfEmployees = 1 OR NumberOfEmployees = 5)", ["Alpha", "O'Neil"]),
        ("IsDeleted = true", []),
        ("SystemModstamp = 2026-07-01T12:00:00Z AND Name = 'Alpha'", ["Alpha"]),
        ("SystemModstamp >= 2026-07-01T14:00:00+02:00 AND Name = 'Alpha'", ["Alpha"]),
        ("SystemModstamp > 2026-07-01T12:00:00.000Z", []),
        ("Owner.Username = 'integration@sandbox.example' AND Name = 'Alpha'", ["Alpha"]),
        ("OwnerId IN (SELECT Id FROM User WHERE Alias = 'integrat') AND Name = 'Alpha'", ["Alpha"]),
    ],
)
def test_conditions_find_what_soql_finds(reading: httpx.Client, where: str, expected: list[str]) -> None:
    assert sorted(_names(reading, where)) == sorted(expected)


def test_ids_are_found_in_both_lengths(api: httpx.Client, made: list[str]) -> None:
    assert _names(api, f"Id = '{made[0][:15]}'") == _names(api, f"Id = '{made[0]}'") == ["Alpha"]


def test_order_puts_nulls_first_unless_told_otherwise(reading: httpx.Client) -> None:
    def order(by: str) -> list[int | None]:
        found = _query(reading, f"SELECT NumberOfEmployees FROM Account WHERE Site = 'soql' ORDER BY {by}")
        return [record["NumberOfEmployees"] for record in found["records"]]

    assert order("NumberOfEmployees") == [None, 1, 2, 3, 4, 5]
    assert order("NumberOfEmployees DESC NULLS LAST") == [5, 4, 3, 2, 1, None]
    assert order("BillingCity NULLS LAST, NumberOfEmployees DESC") == [5, 4, 3, 2, 1, None]
    assert order("NumberOfEmployees LIMIT 2 OFFSET 1") == [1, 2]


def test_parents_come_as_nested_records_and_are_null_when_missing(sandbox: Sandbox, api: httpx.Client) -> None:
    [account] = sandbox.state.insert("Account", [{"Name": "Parent"}])
    sandbox.state.insert("Contact", [{"LastName": "Child", "AccountId": account}, {"LastName": "Orphan"}])
    text = "SELECT Id, Name, Account.Name, Account.Owner.Alias FROM Contact WHERE Name IN ('Child', 'Orphan') ORDER BY Name"
    child, orphan = _query(api, text)["records"]
    assert child["attributes"]["url"] == f"/services/data/v67.0/sobjects/Contact/{child['Id']}"
    assert (child["Account"]["Name"], child["Account"]["Owner"]["Alias"]) == ("Parent", "integrat")
    assert child["Account"]["attributes"]["type"] == "Account"
    assert orphan["Account"] is None


def test_compound_fields_are_built_from_their_parts(sandbox: Sandbox, api: httpx.Client) -> None:
    parts = {"MailingStreet": "Weg 1", "MailingCity": "Ulm", "MailingPostalCode": "089073"}
    sandbox.state.insert("Contact", [{"FirstName": "Ann", "LastName": "Zz", "Salutation": "Dr.", **parts}])
    [found] = _query(api, "SELECT Name, MailingAddress, OtherAddress FROM Contact WHERE LastName = 'Zz'")["records"]
    assert found["Name"] == "Ann Zz"
    assert found["MailingAddress"]["postalCode"] == "089073"
    assert set(found["MailingAddress"]) == ADDRESS
    assert found["OtherAddress"] is None


def test_fields_function_selects_groups_and_wants_a_limit(reading: httpx.Client) -> None:
    def names(group: str) -> set[str]:
        return set(_query(reading, f"SELECT FIELDS({group}) FROM Account LIMIT 1")["records"][0])

    described = {field["name"] for field in reading.get("sobjects/Account/describe").json()["fields"]}
    assert names("ALL") == described | {"attributes"}
    assert names("CUSTOM") == {"ERP_Id__c", "Legacy_Id__c", "attributes"}
    assert names("STANDARD") == names("ALL") - {"ERP_Id__c", "Legacy_Id__c"}
    assert "LIMIT of at most 200" in _refused(reading, "SELECT FIELDS(ALL) FROM Account LIMIT 201")[1]


def test_aggregates(reading: httpx.Client) -> None:
    assert _query(reading, "SELECT count() FROM Account WHERE Site = 'soql'") == {"totalSize": 6, "done": True, "records": []}
    text = "SELECT COUNT(Id) total, COUNT(NumberOfEmployees), MAX(NumberOfEmployees) FROM Account WHERE Site = 'soql'"
    expected = {"attributes": {"type": "AggregateResult"}, "total": 6, "expr0": 5, "expr1": 5}
    assert _query(reading, text)["records"] == [expected]


@pytest.mark.parametrize("batch", [200, 500, 2000])
def test_pages_hold_every_record_once(sandbox: Sandbox, api: httpx.Client, batch: int) -> None:
    sandbox.state.insert("Account", ({"Name": f"N{number:05d}", "Site": "pages"} for number in range(4100)))
    text = "SELECT Name FROM Account WHERE Site = 'pages' ORDER BY Name"
    page = _query(api, text, **{"Sforce-Query-Options": f"batchSize={batch}"})
    sizes, names = [], []
    while True:
        assert page["totalSize"] == 4100
        sizes.append(len(page["records"]))
        names += [record["Name"] for record in page["records"]]
        if page["done"]:
            break
        page = api.get(sandbox.url + page["nextRecordsUrl"]).json()
    assert set(sizes[:-1]) == {batch}
    assert names == [f"N{number:05d}" for number in range(4100)]
    assert "nextRecordsUrl" not in page


def test_an_answer_keeps_its_ids_and_shows_values_of_the_moment(sandbox: Sandbox, api: httpx.Client) -> None:
    rows = [{"Name": f"N{number:05d}", "Site": "snapshot"} for number in range(2002)]
    ids = sandbox.state.insert("Account", rows)
    first = _query(api, "SELECT Name FROM Account WHERE Site = 'snapshot' ORDER BY Name")
    sandbox.state.insert("Account", [{"Name": "N99999", "Site": "snapshot"}])
    sandbox.state.update("Account", {ids[2000]: {"Name": "changed", "Site": None}})
    sandbox.state.delete("Account", [ids[2001]])
    rest = api.get(sandbox.url + first["nextRecordsUrl"]).json()
    assert [record["Name"] for record in rest["records"]] == ["changed", "N02001"]
    sandbox.state.empty_recycle_bin()
    rest = api.get(sandbox.url + first["nextRecordsUrl"]).json()
    assert [record["Name"] for record in rest["records"]] == ["changed"]


def test_an_unknown_or_expired_locator_is_refused(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.state.insert("Account", ({"Name": "x"} for _ in range(2001)))
    page = _query(api, "SELECT Id FROM Account")
    sandbox.state.expire_cursors()
    for url in (sandbox.url + page["nextRecordsUrl"], "query/01g000000000000AAA-2000", "query/nonsense"):
        answer = api.get(url)
        assert answer.status_code == 400
        assert answer.json() == [{"message": "invalid query locator", "errorCode": "INVALID_QUERY_LOCATOR"}]


def test_query_all_shows_deleted_records_and_query_does_not(sandbox: Sandbox, api: httpx.Client, made: list[str]) -> None:
    sandbox.state.delete("Account", made[:1])
    text = "SELECT Name, IsDeleted FROM Account WHERE Name = 'Alpha'"
    assert _query(api, text)["totalSize"] == 0
    assert [record["IsDeleted"] for record in _query(api, text, "queryAll")["records"]] == [True]


def test_a_merge_shows_the_survivor_and_moves_the_children(sandbox: Sandbox, api: httpx.Client, made: list[str]) -> None:
    [contact] = sandbox.state.insert("Contact", [{"LastName": "Moved", "AccountId": made[1]}])
    sandbox.state.merge("Account", made[0], [made[1]])
    [loser] = _query(api, f"SELECT MasterRecordId, IsDeleted FROM Account WHERE Id = '{made[1]}'", "queryAll")["records"]
    assert (loser["MasterRecordId"], loser["IsDeleted"]) == (made[0], True)
    assert api.get(f"sobjects/Contact/{contact}").json()["AccountId"] == made[0]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("SELECT Id FROM", "MALFORMED_QUERY", "unexpected token: '<EOF>'"),
        ("SELECT Id FROM Account WHERE Name = 'x", "MALFORMED_QUERY", "unexpected token"),
        ("SELECT Id FROM Account WHERE Name = 'a' AND Site = 'b' OR Site = 'c'", "MALFORMED_QUERY", "unexpected token: 'OR'"),
        ("SELECT Id FROM Account WHERE SystemModstamp > 2026-01-01T00:00:00 00:00", "MALFORMED_QUERY", "unexpected token"),
        ("SELECT Id FROM Account WHERE SystemModstamp > 2026-13-01T00:00:00Z", "MALFORMED_QUERY", "Invalid date"),
        ("DELETE FROM Account", "MALFORMED_QUERY", "unexpected token"),
        ("SELECT Id, Nope FROM Account", "INVALID_FIELD", "Row:1:Column:12\nNo such column 'Nope' on entity 'Account'"),
        ("SELECT Id FROM Account WHERE Nope = 1", "INVALID_FIELD", "No such column 'Nope' on entity 'Account'"),
        ("SELECT Id FROM Account ORDER BY Nope", "INVALID_FIELD", "No such column 'Nope' on entity 'Account'"),
        ("SELECT Boss.Name FROM Account", "INVALID_FIELD", "Didn't understand relationship 'Boss'"),
        ("SELECT Id, id FROM Account", "INVALID_FIELD", "duplicate field selected: Id"),
        ("SELECT Id FROM Account WHERE Description = 'x'", "INVALID_FIELD", "can not be filtered"),
        ("SELECT Id FROM Account WHERE Name = 5", "INVALID_FIELD", "must be of type string and should be enclosed in quotes"),
        ("SELECT Id FROM Account WHERE CreatedDate > 2026-01-01", "INVALID_FIELD", "must be of type datetime"),
        ("SELECT Id FROM Account WHERE Id = 'x'", "INVALID_QUERY_FILTER_OPERATOR", "invalid ID field"),
        ("SELECT Id FROM Nope", "INVALID_TYPE", "sObject type 'Nope' is not supported"),
        ("SELECT Id FROM Account OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE", "2000"),
    ],
)
def test_a_wrong_query_is_refused_in_salesforces_words(reading: httpx.Client, text: str, code: str, words: str) -> None:
    found, message = _refused(reading, text)
    assert found == code
    assert words in message


def test_a_plus_that_is_not_encoded_is_a_blank(reading: httpx.Client) -> None:
    text = "SELECT Id FROM Account WHERE SystemModstamp > 2026-01-01T00:00:00+00:00"
    encoded = quote(text)
    assert reading.get(f"query?q={encoded}").status_code == 200
    assert reading.get(f"query?q={encoded.replace('%2B', '+')}").json()[0]["errorCode"] == "MALFORMED_QUERY"


def test_a_query_that_is_too_long_for_a_uri_is_refused(reading: httpx.Client) -> None:
    text = "SELECT Id FROM Account WHERE Name IN (" + ",".join(f"'{number:0100d}'" for number in range(170)) + ")"
    assert reading.get("query", params={"q": text}).status_code == 414


def test_date_literals_in_conditions(sandbox: Sandbox, api: httpx.Client) -> None:
    now = datetime.now(UTC)
    for days in (0, 3, 40):
        sandbox.state.insert("Account", [{"Name": f"{days} days", "Site": "soql"}], at=now - timedelta(days=days))
    assert _names(api, "CreatedDate = LAST_N_DAYS:7") == ["0 days", "3 days"]
    assert _names(api, "CreatedDate < LAST_N_DAYS:7") == ["40 days"]
    assert _names(api, "CreatedDate = TODAY") == ["0 days"]
    assert _names(api, "CreatedDate >= N_DAYS_AGO:3") == ["0 days", "3 days"]


@pytest.mark.parametrize(
    ("word", "first", "end"),
    [
        ("TODAY", date(2026, 5, 13), date(2026, 5, 14)),
        ("YESTERDAY", date(2026, 5, 12), date(2026, 5, 13)),
        ("LAST_N_DAYS:2", date(2026, 5, 11), date(2026, 5, 14)),
        ("NEXT_N_DAYS:2", date(2026, 5, 14), date(2026, 5, 16)),
        ("THIS_WEEK", date(2026, 5, 10), date(2026, 5, 17)),
        ("LAST_WEEK", date(2026, 5, 3), date(2026, 5, 10)),
        ("THIS_MONTH", date(2026, 5, 1), date(2026, 6, 1)),
        ("LAST_N_MONTHS:6", date(2025, 11, 1), date(2026, 5, 1)),
        ("NEXT_N_MONTHS:2", date(2026, 6, 1), date(2026, 8, 1)),
        ("THIS_QUARTER", date(2026, 4, 1), date(2026, 7, 1)),
        ("LAST_QUARTER", date(2026, 1, 1), date(2026, 4, 1)),
        ("NEXT_YEAR", date(2027, 1, 1), date(2028, 1, 1)),
        ("LAST_90_DAYS", date(2026, 2, 12), date(2026, 5, 14)),
    ],
)
def test_a_date_literal_covers_these_days(word: str, first: date, end: date) -> None:
    assert period(word, date(2026, 5, 13)) == (first, end)


@pytest.mark.parametrize("word", ["SOMEDAY", "LAST_N_DAYS", "THIS_N_DAYS:3", "TODAY:1", "LAST_CENTURY"])
def test_other_words_are_no_date_literals(word: str) -> None:
    assert period(word, date(2026, 5, 13)) is None
