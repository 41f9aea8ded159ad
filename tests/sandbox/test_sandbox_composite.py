"""Several requests in one, records refused one by one, and row locks."""

import threading
from typing import Any

import httpx
import pytest

from connector_resources.sandbox import Sandbox

V = "/services/data/v67.0"


def account(**fields: Any) -> dict[str, Any]:
    return {"attributes": {"type": "Account"}, **fields}


def request(name: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
    return {"referenceId": name, "method": method, "url": f"{V}/{path}"} | ({} if body is None else {"body": body})


def composed(api: httpx.Client, *requests: dict[str, Any], all_or_none: bool = False) -> list[tuple[int, Any]]:
    answer = api.post("composite", json={"allOrNone": all_or_none, "compositeRequest": list(requests)})
    assert answer.status_code == 200, answer.text
    return [(one["httpStatusCode"], one["body"]) for one in answer.json()["compositeResponse"]]


def test_a_subrequest_uses_what_an_earlier_one_made_and_all_are_one_call(sandbox: Sandbox, api: httpx.Client) -> None:
    before = sandbox.state.api_used
    made, child, shown = composed(
        api,
        request("new", "POST", "composite/sobjects", {"records": [account(Name="A")]}),
        request("child", "POST", "sobjects/Contact", {"LastName": "x", "AccountId": "@{new[0].id}"}),
        request("seen", "GET", "query?q=SELECT+Account.Name+FROM+Contact+WHERE+Id='@{child.id}'"),
    )
    assert (made[0], child[0], shown[0]) == (200, 201, 200)
    assert shown[1]["records"][0]["Account"]["Name"] == "A"
    assert sandbox.state.api_used == before + 1


def test_a_failed_subrequest_stops_those_that_need_it(api: httpx.Client) -> None:
    wrong, needing, other = composed(
        api,
        request("bad", "POST", "sobjects/Account", {}),
        request("child", "POST", "sobjects/Contact", {"LastName": "x", "AccountId": "@{bad.id}"}),
        request("good", "POST", "sobjects/Account", {"Name": "x"}),
    )
    assert [wrong[0], needing[0], other[0]] == [400, 400, 201]
    assert needing[1][0]["errorCode"] == "PROCESSING_HALTED"


def test_all_or_none_of_a_composite_takes_everything_back(sandbox: Sandbox, api: httpx.Client) -> None:
    requests = [request("a", "POST", "sobjects/Account", {"Name": "x"}), request("b", "POST", "sobjects/Account", {})]
    assert [status for status, _ in composed(api, *requests, all_or_none=True)] == [400, 400]
    assert len(sandbox.state.records["Account"]) == 30


def test_a_composite_has_25_subrequests_at_most_5_of_them_queries(api: httpx.Client) -> None:
    for path, count in (("limits", 26), ("query?q=SELECT+Id+FROM+User", 6)):
        requests = [request(f"r{number}", "GET", path) for number in range(count)]
        answer = api.post("composite", json={"compositeRequest": requests})
        assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, "LIMIT_EXCEEDED")


def test_a_body_with_an_unknown_field_is_refused_as_a_whole(sandbox: Sandbox, api: httpx.Client) -> None:
    answer = api.post("composite/sobjects", json={"records": [account(Name="x"), account(Name="y", Nope=1)]})
    assert len(sandbox.state.records["Account"]) == 30
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, "INVALID_FIELD")


def test_a_key_that_is_twice_in_one_call_is_refused_twice(api: httpx.Client) -> None:
    records = [account(ERP_Id__c=key, Name="x") for key in ("K-1", "k-1", "K-2")]
    results = api.patch("composite/sobjects/Account/ERP_Id__c", json={"records": records}).json()
    assert [result["success"] for result in results] == [False, False, True]
    assert results[0]["errors"][0]["statusCode"] == "DUPLICATE_VALUE"


def test_an_external_id_that_is_not_unique_can_be_ambiguous(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.state.insert("Account", [{"Name": name, "Legacy_Id__c": "L"} for name in "ab"])
    assert api.patch("sobjects/Account/Legacy_Id__c/L", json={"Name": "c"}).status_code == 300
    [result] = api.patch("composite/sobjects/Account/Legacy_Id__c", json={"records": [account(Legacy_Id__c="L")]}).json()
    assert result["errors"][0]["statusCode"] == "DUPLICATE_EXTERNAL_ID"
    described = {field["name"]: field for field in api.get("sobjects/Account/describe").json()["fields"]}
    assert [(described[name]["externalId"], described[name]["unique"]) for name in ("Legacy_Id__c", "ERP_Id__c")] == [
        (True, False),
        (True, True),
    ]


@pytest.mark.parametrize("code", ["UNABLE_TO_LOCK_ROW", "DUPLICATES_DETECTED", "FIELD_CUSTOM_VALIDATION_EXCEPTION"])
def test_a_record_can_be_refused_by_one_of_its_values(sandbox: Sandbox, api: httpx.Client, code: str) -> None:
    sandbox.faults.add("refuse", sobject="Account", field="Name", value="bad", code=code, times=2)
    answer = api.post("sobjects/Account", json={"Name": "bad"})
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, code)
    results = api.post("composite/sobjects", json={"records": [account(Name="good"), account(Name="bad")]}).json()
    assert [result["success"] for result in results] == [True, False]
    assert results[1]["errors"][0]["statusCode"] == code
    assert api.post("sobjects/Account", json={"Name": "bad"}).status_code == 201  # twice, as it was told


def test_what_a_slow_write_holds_nobody_else_gets(sandbox: Sandbox, api: httpx.Client) -> None:
    one, other = sandbox.state.insert("Account", [{"Name": "a"}, {"Name": "b"}])
    sandbox.faults.add("hold", method="POST", seconds=1)
    slow = threading.Thread(target=api.post, args=("sobjects/Contact",), kwargs={"json": {"LastName": "x", "AccountId": one}})
    slow.start()
    while not any(request.method == "POST" for request in sandbox.requests):
        slow.join(0.01)
    answers = [api.patch(f"sobjects/Account/{id_}", json={"Phone": "1"}) for id_ in (one, other)]
    slow.join()
    assert (answers[0].status_code, answers[0].json()[0]["errorCode"]) == (400, "UNABLE_TO_LOCK_ROW")
    assert answers[1].status_code == 204
    assert api.patch(f"sobjects/Account/{one}", json={"Phone": "1"}).status_code == 204


def test_prices_and_lines_follow_the_rules_of_price_books(sandbox: Sandbox, api: httpx.Client) -> None:
    product = api.post("sobjects/Product2", json={"Name": "New", "IsActive": True}).json()["id"]
    standard, partners = sandbox.state.records["Pricebook2"]
    price = {"Product2Id": product, "UnitPrice": 10, "IsActive": True}
    refused = api.post("sobjects/PricebookEntry", json={**price, "Pricebook2Id": partners})
    assert refused.json()[0]["errorCode"] == "STANDARD_PRICE_NOT_DEFINED"
    entry = api.post("sobjects/PricebookEntry", json={**price, "Pricebook2Id": standard}).json()["id"]
    assert api.post("sobjects/PricebookEntry", json={**price, "Pricebook2Id": partners}).status_code == 201
    again = api.post("sobjects/PricebookEntry", json={**price, "Pricebook2Id": standard})
    assert again.json()[0]["errorCode"] == "DUPLICATE_VALUE"
    moved = api.patch(f"sobjects/PricebookEntry/{entry}", json={"Product2Id": product})
    assert moved.json()[0]["errorCode"] == "INVALID_FIELD_FOR_INSERT_UPDATE"
    order = next(iter(sandbox.state.records["Order"]))
    line = {"OrderId": order, "PricebookEntryId": entry, "Quantity": 3, "UnitPrice": 9.5}
    made = api.post("sobjects/OrderItem", json=line).json()["id"]
    assert api.get(f"sobjects/OrderItem/{made}").json()["TotalPrice"] == 28.5
    api.delete(f"sobjects/Order/{order}")
    assert api.get(f"sobjects/OrderItem/{made}").status_code == 404


def test_an_amount_that_products_make_is_not_written_while_the_rest_is(sandbox: Sandbox, api: httpx.Client) -> None:
    opportunities, lines = (sandbox.state.records[name] for name in ("Opportunity", "OpportunityLineItem"))
    of_products = next(line["OpportunityId"] for line in lines.values())
    total = opportunities[of_products]["Amount"]
    assert api.patch(f"sobjects/Opportunity/{of_products}", json={"Amount": 1, "NextStep": "Call"}).status_code == 204
    assert (opportunities[of_products]["Amount"], opportunities[of_products]["NextStep"]) == (total, "Call")
    new = {"Name": "Bare", "StageName": "Prospecting", "CloseDate": "2026-01-31", "Amount": 5}
    bare = api.post("sobjects/Opportunity", json=new).json()["id"]
    assert api.patch(f"sobjects/Opportunity/{bare}", json={"Amount": 7}).status_code == 204
    assert opportunities[bare]["Amount"] == 7


def test_orders_and_their_lines_have_numbers_that_never_come_twice(sandbox: Sandbox, api: httpx.Client) -> None:
    orders, lines = sandbox.state.records["Order"], sandbox.state.records["OrderItem"]
    fields = ("AccountId", "EffectiveDate", "Status", "Pricebook2Id")
    new = {name: next(iter(orders.values()))[name] for name in fields} | {"Status": "Draft"}
    order = api.post("sobjects/Order", json=new).json()["id"]
    entry = next(one["PricebookEntryId"] for one in lines.values())
    line = {"OrderId": order, "PricebookEntryId": entry, "Quantity": 2, "UnitPrice": 5}
    numbers = []
    for _ in range(2):
        made = api.post("sobjects/OrderItem", json=line).json()["id"]
        numbers.append(lines[made]["OrderItemNumber"])
        assert orders[order]["TotalAmount"] == 10
        api.delete(f"sobjects/OrderItem/{made}")
        assert orders[order]["TotalAmount"] == 0
        sandbox.state.records["OrderItem"].pop(made)  # the recycle bin is emptied
    for records, name in ((orders, "OrderNumber"), (lines, "OrderItemNumber")):
        found = [one[name] for one in records.values()]
        assert len(found) == len(set(found))
    assert len({*numbers, *(one["OrderItemNumber"] for one in lines.values())}) == len(lines) + 2


@pytest.mark.parametrize(("halt", "last"), [(False, 201), (True, 412)])
def test_a_batch_answers_each_request_by_itself_and_counts_it(
    sandbox: Sandbox, api: httpx.Client, halt: bool, last: int
) -> None:
    before = sandbox.state.api_used
    asked: list[dict[str, Any]] = [
        {"method": "POST", "url": "v67.0/sobjects/Account", "richInput": {"Name": "A"}},
        {"method": "GET", "url": f"{V}/query?q=SELECT+Id+FROM+Account+WHERE+Name='A'"},
        {"method": "POST", "url": "v67.0/sobjects/Account", "richInput": {}},
        {"method": "POST", "url": "v67.0/composite/batch", "richInput": {"batchRequests": []}},
        {"method": "POST", "url": "v67.0/sobjects/Account", "richInput": {"Name": "B"}},
    ]
    answer = api.post("composite/batch", json={"haltOnError": halt, "batchRequests": asked}).json()
    assert [one["statusCode"] for one in answer["results"]] == [201, 200, 400, 412 if halt else 400, last]
    assert answer["hasErrors"] is True
    assert answer["results"][1]["result"]["records"][0]["Id"] == answer["results"][0]["result"]["id"]
    assert sandbox.state.api_used == before + (3 if halt else 5)


@pytest.mark.parametrize("body", [{}, {"batchRequests": []}, {"batchRequests": [{}] * 26}, {"batchRequests": ["x"]}])
def test_a_batch_that_is_none_is_refused(api: httpx.Client, body: dict[str, Any]) -> None:
    assert api.post("composite/batch", json=body).status_code == 400
