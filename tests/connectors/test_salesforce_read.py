"""Reading records of the Salesforce stand-in over real HTTP."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote_plus

import pandas as pd
import pyarrow as pa
import pytest

from connector_resources.contract import Page, Window
from connector_resources.errors import ConfigurationError, ContractError, SystemUnavailable
from connector_resources.frames import unstorable
from connector_resources.salesforce import soql
from connector_resources.salesforce.resource import Salesforce
from connector_resources.sandbox import Sandbox

NOON = datetime(2026, 1, 31, 12, 0, 0, 123_000, tzinfo=UTC)


def ids(pages: Iterable[Page]) -> list[str]:
    return [str(id_) for page in pages for id_ in page.records.index]


def one(page: Page, id_: str) -> dict[str, Any]:
    row = page.records.loc[id_]
    return {str(name): None if pd.isna(value) else value for name, value in row.items()}


def add(sandbox: Sandbox, *rows: dict[str, Any], at: datetime = NOON) -> list[str]:
    return sandbox.state.insert("Account", rows, at)


def test_three_thousand_records_of_one_instant_are_read_once_over_pages_and_found_again(
    sandbox: Sandbox, salesforce: Salesforce
) -> None:
    expected = add(sandbox, *({"Name": f"Load {number}"} for number in range(3000)))
    account = salesforce.describe("Account")
    pages = list(salesforce.read(account, ["Name"], Window(since=NOON)))
    assert len(pages) == 2
    assert sorted(found := [i for i in ids(pages) if i in set(expected)]) == sorted(expected)
    assert len(set(found)) == 3000
    again = ids(salesforce.read(account, ["Name"], Window(since=pages[0].marks["modified"].iloc[0])))
    assert set(expected) <= set(again)


def test_records_come_in_the_order_in_which_they_changed(salesforce: Salesforce) -> None:
    [page] = salesforce.read(salesforce.describe("Account"), ["Name"], Window())
    assert page.marks["modified"].is_monotonic_increasing
    assert len(page.records) == 40


def test_the_window_begins_at_its_instant_and_not_after_it(sandbox: Sandbox, salesforce: Salesforce) -> None:
    [before] = add(sandbox, {"Name": "before"}, at=NOON - timedelta(milliseconds=1))
    [at] = add(sandbox, {"Name": "at"})
    found = ids(salesforce.read(salesforce.describe("Account"), ["Name"], Window(since=NOON + timedelta(microseconds=999))))
    assert at in found
    assert before not in found


def test_values_keep_zeros_cents_letters_dates_and_nulls(sandbox: Sandbox, salesforce: Salesforce) -> None:
    row = {
        "Name": "Žluťoučký 東京 “&” O'Brien",
        "AccountNumber": "000123",
        "AnnualRevenue": 12345678901.07,
        "IsDeleted": False,
    }
    [id_] = add(sandbox, row)
    fields = ["Id", "Name", "AccountNumber", "AnnualRevenue", "NumberOfEmployees", "Phone", "CreatedDate", "LastActivityDate"]
    [page] = salesforce.read_ids(salesforce.describe("Account"), fields, [id_])
    assert list(page.records.columns) == fields
    assert one(page, id_) == {
        "Id": id_,
        "Name": row["Name"],
        "AccountNumber": "000123",
        "AnnualRevenue": Decimal("12345678901.07"),
        "NumberOfEmployees": None,
        "Phone": None,
        "CreatedDate": NOON,
        "LastActivityDate": None,
    }
    assert str(page.records["AnnualRevenue"].dtype) == "decimal128(38, 2)[pyarrow]"
    assert page.absent is None
    mark = page.marks.loc[id_]
    assert (mark["version"], mark["modified"]) == ("2026-01-31T12:00:00.123+0000", NOON)


def answering(sandbox: Sandbox, **values: str) -> None:
    """The next query answers one record whose values are these JSON texts."""
    parts = {"Id": '"001000000000001AAA"', "SystemModstamp": '"2026-01-31T12:00:00.000+0000"', "IsDeleted": "false"}
    record = ",".join(f'"{name}":{text}' for name, text in (parts | {"MasterRecordId": "null"} | values).items())
    body = f'{{"totalSize":1,"done":true,"records":[{{{record}}}]}}'
    sandbox.faults.add("status", path="query", status=200, headers={"Content-Type": "application/json"}, body=body)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("99999999999999.99", "99999999999999.99"), ("1.5E8", "150000000.00"), ("7", "7.00"), ("33.33333333333", "33.33")],
)
def test_a_number_never_passes_through_a_float(sandbox: Sandbox, salesforce: Salesforce, sent: str, kept: str) -> None:
    account = salesforce.describe("Account")
    answering(sandbox, AnnualRevenue=sent)
    [page] = salesforce.read(account, ["AnnualRevenue"], Window())
    assert str(page.records["AnnualRevenue"].iloc[0]) == kept


@pytest.mark.parametrize(
    ("field", "sent"),
    [
        ("AnnualRevenue", '"4711"'),
        ("NumberOfEmployees", "1.5"),
        ("Name", "4711"),
        ("CreatedDate", '"4711"'),
    ],
)
def test_a_value_of_another_type_than_described_stops_the_read(
    sandbox: Sandbox, salesforce: Salesforce, field: str, sent: str
) -> None:
    account = salesforce.describe("Account")
    answering(sandbox, **{field: sent})
    with pytest.raises(ContractError, match=rf"Account\.{field} that is no \w+") as raised:
        list(salesforce.read(account, [field], Window()))
    assert "4711" not in str(raised.value)


@pytest.mark.parametrize("sign", ["\\u0000", "\\ud800"])
def test_a_text_that_cannot_be_stored_does_not_stop_the_read(sandbox: Sandbox, salesforce: Salesforce, sign: str) -> None:
    answering(sandbox, Name=f'"a{sign}"')
    [page] = salesforce.read(salesforce.describe("Account"), ["Name"], Window())
    assert list(unstorable(pa.array(page.records["Name"]))) == [True]


def test_a_field_that_was_asked_for_and_does_not_come_is_no_null(sandbox: Sandbox, salesforce: Salesforce) -> None:
    account = salesforce.describe("Account")
    answering(sandbox)
    with pytest.raises(ContractError, match="Salesforce left the field Phone of Account out"):
        list(salesforce.read(account, ["Phone"], Window()))


def test_a_civil_date_stays_that_day(sandbox: Sandbox, salesforce: Salesforce) -> None:
    [id_] = sandbox.state.insert("Contact", [{"LastName": "Müller", "Birthdate": "1970-03-29"}])
    [page] = salesforce.read_ids(salesforce.describe("Contact"), ["Birthdate"], [id_])
    assert one(page, id_) == {"Birthdate": date(1970, 3, 29)}


def test_a_parent_s_field_comes_under_its_path_and_is_null_without_a_parent(sandbox: Sandbox, salesforce: Salesforce) -> None:
    [parent] = add(sandbox, {"Name": "Parent", "AnnualRevenue": 1.1})
    [child] = add(sandbox, {"Name": "Child", "ParentId": parent})
    paths = ["Parent.Name", "Parent.AnnualRevenue", "Parent.Owner.Username", "Owner.Username"]
    [page] = salesforce.read_ids(salesforce.describe("Account"), paths, [parent, child])
    owner = sandbox.credentials["username"]
    assert list(page.records.columns) == paths
    assert list(one(page, child).values()) == ["Parent", Decimal("1.10"), owner, owner]
    assert list(one(page, parent).values()) == [None, None, None, owner]


def test_deleted_and_merged_records_come_as_tombstones(sandbox: Sandbox, salesforce: Salesforce) -> None:
    kept, lost, gone = add(sandbox, {"Name": "kept"}, {"Name": "lost"}, {"Name": "gone"})
    sandbox.state.merge("Account", kept, [lost])
    sandbox.state.delete("Account", [gone])
    account = salesforce.describe("Account")
    [page] = salesforce.read(account, ["Name"], Window(since=NOON + timedelta(days=1)))
    marks = page.marks
    assert [bool(marks["deleted"][id_]) for id_ in (kept, lost, gone)] == [False, True, True]
    assert marks["merged_into"][lost] == kept
    assert marks["merged_into"][[kept, gone]].isna().all()
    [living] = salesforce.read(account, ["Name"], Window(since=NOON + timedelta(days=1), deleted=False))
    assert not {lost, gone} & set(living.records.index)


def test_ids_of_fifteen_characters_and_many_and_unknown_ones(sandbox: Sandbox, salesforce: Salesforce) -> None:
    expected = add(sandbox, *({"Name": f"Load {number}"} for number in range(900)))
    sandbox.state.delete("Account", expected[:1])
    account = salesforce.describe("Account")
    asked = [expected[0][:15], *expected, "001000000000009AAA", "no id", "'; --", ""]
    sandbox.faults.forget_requests()
    pages = list(salesforce.read_ids(account, list(account.names), asked))
    assert sorted(ids(pages)) == sorted(expected)
    assert bool(pages[0].marks["deleted"][expected[0]]) is True
    assert len(pages) == len(sandbox.requests) > 1
    assert list(salesforce.read_ids(account, ["Name"], [])) == []


def test_urls_of_reads_by_id_stay_short_enough_for_proxies(salesforce: Salesforce) -> None:
    account = salesforce.describe("Account")
    chunks = list(soql.id_chunks([f"001{number:012d}" for number in range(5000)], "SELECT Id FROM Account WHERE Id IN ()"))
    lengths = [len(quote_plus(soql.select(account.name, ["Id"], soql.one_of("Id", chunk)))) for chunk in chunks]
    assert 7_000 < max(lengths) < 8_000
    assert sum(map(len, chunks)) == 5000


def test_records_that_change_during_a_read_are_neither_lost_nor_read_twice(sandbox: Sandbox, salesforce: Salesforce) -> None:
    expected = add(sandbox, *({"Name": f"Load {number}"} for number in range(3000)))
    pages = salesforce.read(salesforce.describe("Account"), ["Name"], Window(since=NOON))
    first = next(pages)
    changed = [next(iter(first.records.index)), expected[-1]]
    sandbox.state.update("Account", {id_: {"Name": "changed"} for id_ in changed})
    found = ids([first, *pages])
    assert set(expected) <= set(found)
    assert len(found) == len(set(found))


def test_an_expired_cursor_goes_on_where_nothing_can_be_missed(sandbox: Sandbox, salesforce: Salesforce) -> None:
    early = add(sandbox, *({"Name": f"Early {number}"} for number in range(1000)))
    late = [
        id_ for number in range(40) for id_ in add(sandbox, *[{"Name": "x"}] * 100, at=NOON + timedelta(seconds=number + 1))
    ]
    pages = salesforce.read(salesforce.describe("Account"), ["Name"], Window(since=NOON))
    found = ids([next(pages)])
    sandbox.state.expire_cursors()
    sandbox.faults.forget_requests()
    found += ids(pages)
    assert set(early + late) <= set(found)
    assert len(found) < len(early + late) + 200
    targets = [request.target for request in sandbox.requests]
    assert any("SystemModstamp >= 2026-01-31T12:00:10.123Z" in target for target in targets)


def test_records_touched_while_the_cursor_expires_do_not_hide_those_behind_them(
    sandbox: Sandbox, salesforce: Salesforce
) -> None:
    batches = [add(sandbox, *[{"Name": "x"}] * 1000, at=NOON + timedelta(seconds=number)) for number in range(5)]
    pages = salesforce.read(salesforce.describe("Account"), ["Name"], Window(since=NOON))
    found = ids([next(pages)])
    sandbox.state.update("Account", {id_: {"Name": "touched"} for id_ in batches[2] + batches[3]})
    found += ids([next(pages)])  # shows instants of now
    sandbox.state.expire_cursors()
    found += ids(pages)
    assert {id_ for batch in batches for id_ in batch} <= set(found)


def test_a_cursor_that_always_expires_ends_the_read(sandbox: Sandbox, salesforce: Salesforce) -> None:
    add(sandbox, *({"Name": f"Load {number}"} for number in range(2500)))
    body = [{"message": "invalid query locator", "errorCode": "INVALID_QUERY_LOCATOR"}]
    sandbox.faults.add("status", path="/query/", status=400, body=body, times=None)
    with pytest.raises(SystemUnavailable, match="drops the cursor of each query over Account"):
        list(salesforce.read(salesforce.describe("Account"), ["Name"], Window(since=NOON)))


def test_a_next_page_elsewhere_is_not_followed(sandbox: Sandbox, salesforce: Salesforce) -> None:
    account = salesforce.describe("Account")
    body = {"totalSize": 1, "done": False, "records": [], "nextRecordsUrl": "https://evil.example/services/data/x"}
    sandbox.faults.add("status", path="queryAll", status=200, body=body)
    with pytest.raises(ContractError, match="next page that is not one of its API"):
        list(salesforce.read(account, ["Name"], Window()))


@pytest.mark.parametrize("path", ["Phon", "Id FROM User--", "Name, Phone", "Parent.Nam", "Paren.Name", "Name.Id", ""])
def test_a_wrong_field_is_named_before_anything_is_read(sandbox: Sandbox, salesforce: Salesforce, path: str) -> None:
    account = salesforce.describe("Account")
    sandbox.faults.forget_requests()
    with pytest.raises(ConfigurationError, match=r"Salesforce has no (field|relationship) '"):
        salesforce.read(account, ["Name", path], Window())
    assert sandbox.requests == []


def test_a_field_that_went_away_is_named(sandbox: Sandbox, salesforce: Salesforce) -> None:
    account = salesforce.describe("Account")
    sandbox.faults.add("hide", sobject="Account", field="Phone")
    with pytest.raises(ConfigurationError, match="no field 'Phone' on Account"):
        list(salesforce.read(account, ["Name", "Phone"], Window()))


def test_too_many_fields_for_a_query_is_said_so() -> None:
    with pytest.raises(ConfigurationError, match="2000 fields of Account"):
        soql.select("Account", [f"Field_{number}__c" for number in range(2000)])


def test_texts_in_a_query_are_escaped_and_names_are_checked(sandbox: Sandbox, salesforce: Salesforce) -> None:
    nasty = "O'Brien \\' OR Name != '\n\t"
    [id_] = add(sandbox, {"Name": nasty})
    query = soql.select("Account", ["Id"], soql.equal("Name", nasty))
    assert [row["Id"] for row in salesforce._api.get("query", {"q": query})["records"]] == [id_]
    for name in ("Account WHERE", "Account'", "1st", "a..b", ""):
        with pytest.raises(ConfigurationError, match="cannot be a name"):
            soql.name(name)


@pytest.mark.parametrize("special", ["'", "\\", "\n", "\r", "\t", "\b", "\f"])
def test_one_special_text_among_many_is_escaped(special: str) -> None:
    texts = ["a b", f"x{special}y", "ü%&"]
    assert soql.one_of("Name", texts) == f"Name IN ({','.join(map(soql.literal, texts))})"
    assert soql.literal(texts[1]) != f"'{texts[1]}'"
