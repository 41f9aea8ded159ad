"""What Salesforce's refusals become, and the budget of calls."""

from typing import Any

import pytest

from connector_resources.contract import Window
from connector_resources.errors import (
    AuthenticationError,
    ConfigurationError,
    ContractError,
    IntegrationError,
    NetworkError,
    QuotaReached,
    RateLimited,
    SystemUnavailable,
)
from connector_resources.salesforce.errors import CODES, CursorExpired
from connector_resources.salesforce.resource import Salesforce
from connector_resources.sandbox import Sandbox

QUERY = "SELECT Name FROM Account WHERE Name = 'S3cret'"


def refused(sandbox: Sandbox, salesforce: Salesforce, status: int, body: Any, **headers: str) -> IntegrationError:
    sandbox.faults.add("status", path="/sobjects", status=status, body=body, headers=headers, times=None)
    with pytest.raises(IntegrationError) as raised:
        salesforce.entities()
    assert "S3cret" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "REQUEST_LIMIT_EXCEEDED", QuotaReached),
        (400, "INVALID_FIELD", ConfigurationError),
        (400, "INVALID_TYPE", ConfigurationError),
        (400, "MALFORMED_QUERY", ContractError),
        (400, "QUERY_TIMEOUT", SystemUnavailable),
        (400, "UNABLE_TO_LOCK_ROW", SystemUnavailable),
        (503, "SERVER_UNAVAILABLE", SystemUnavailable),
        (403, "INSUFFICIENT_ACCESS", AuthenticationError),
        (400, "INVALID_QUERY_LOCATOR", CursorExpired),
        (403, "API_DISABLED_FOR_ORG", ConfigurationError),
        (403, "SOMETHING_NEW", AuthenticationError),
        (400, "SOMETHING_NEW", ContractError),
        (500, "SOMETHING_NEW", SystemUnavailable),
    ],
)
def test_a_refusal_says_what_happens_next_and_quotes_nothing_but_its_code(
    sandbox: Sandbox, salesforce: Salesforce, status: int, code: str, kind: type[IntegrationError]
) -> None:
    found = refused(sandbox, salesforce, status, [{"message": f"\n{QUERY}\n^\nERROR at Row:1", "errorCode": code}])
    assert type(found) is kind
    assert code in str(found)


def test_too_many_calls_at_once_are_not_taken_for_a_day_without_calls(sandbox: Sandbox, salesforce: Salesforce) -> None:
    body = [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "ConcurrentRequests (Concurrent API Requests) Limit exceeded."}]
    assert type(refused(sandbox, salesforce, 403, body)) is SystemUnavailable


def test_every_sentence_is_one_sentence_about_salesforce() -> None:
    for code, (kind, sentence) in CODES.items():
        assert sentence.split()[0] in ("refuses", "has", "lets", "does", "cannot", "finds", "serves", "took", "failed"), code
        assert not sentence.endswith(".")
        assert issubclass(kind, IntegrationError)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("No such column 'Foo__c' on entity 'Account'. If you are", "no field 'Foo__c' on Account"),
        ("No such column 'Foo' on sobject of type Account", "no field 'Foo' on Account"),
        ("Didn't understand relationship 'Ownr' in field path.", "no relationship 'Ownr'"),
        ("sObject type 'Acount' is not supported.", "no entity 'Acount'"),
    ],
)
def test_names_are_taken_from_salesforce_s_words(
    sandbox: Sandbox, salesforce: Salesforce, message: str, expected: str
) -> None:
    found = refused(sandbox, salesforce, 400, [{"message": f"{QUERY}\n{message}", "errorCode": "INVALID_FIELD"}])
    assert expected in str(found)


def test_fields_of_a_refusal_are_named_if_they_are_names(sandbox: Sandbox, salesforce: Salesforce) -> None:
    body = [{"message": "S3cret", "errorCode": "INVALID_FIELD", "fields": ["Phone", "Fax", "value S3cret!", 7, None]}]
    assert "fields Phone, Fax, 7, None" in str(refused(sandbox, salesforce, 400, body))


@pytest.mark.parametrize(
    "body", [[], {}, [None], ["S3cret"], [{"errorCode": "S3cret code"}], [{"errorCode": 7}], "S3cret", None]
)
def test_odd_error_bodies_are_judged_by_their_status(sandbox: Sandbox, salesforce: Salesforce, body: Any) -> None:
    assert "status 403" in str(refused(sandbox, salesforce, 403, body))


def test_a_page_of_html_is_named_by_status_and_type(sandbox: Sandbox, salesforce: Salesforce) -> None:
    found = refused(sandbox, salesforce, 503, "<html>S3cret maintenance</html>")
    assert isinstance(found, SystemUnavailable)
    assert "text/html, status 503" in str(found)


def test_a_rate_limit_hands_up_its_wait(sandbox: Sandbox, connect: Any) -> None:
    found = refused(sandbox, connect(), 429, [], **{"Retry-After": "120"})
    assert isinstance(found, RateLimited)
    assert found.wait == 120.0
    assert connect.waits == []


def test_a_rate_limit_without_a_wait_is_tried_again(sandbox: Sandbox, connect: Any) -> None:
    sandbox.faults.add("status", path="/sobjects", status=429)
    assert connect().entities()
    assert len(connect.waits) == 1


def test_an_empty_daily_quota_is_not_tried_again_but_waited_for(sandbox: Sandbox, connect: Any) -> None:
    salesforce = connect()
    sandbox.state.api_limit = 0
    with pytest.raises(QuotaReached, match="no calls left in the daily quota") as raised:
        salesforce.entities()
    assert raised.value.wait == 900.0
    assert connect.waits == []
    assert connect.budget.observed[-1] == (sandbox.state.api_used, 0)


@pytest.mark.parametrize("kind", ["drop", "cut"])
def test_a_page_that_breaks_off_is_read_again_and_nothing_is_lost_or_doubled(
    sandbox: Sandbox, connect: Any, kind: Any
) -> None:
    sandbox.state.insert("Account", [{"Name": f"Load {number}"} for number in range(2500)])
    salesforce = connect()
    account = salesforce.describe("Account")
    sandbox.faults.add(kind, path="/query/")
    found = [id_ for page in salesforce.read(account, ["Name"], Window()) for id_ in page.records.index]
    assert (len(found), len(set(found)), len(connect.waits)) == (2540, 2540, 1)
    sandbox.faults.add(kind, path="/query/", times=None)
    with pytest.raises(NetworkError):
        list(salesforce.read(account, ["Name"], Window()))


def test_the_budget_is_spent_by_each_call_and_told_what_salesforce_says(sandbox: Sandbox, connect: Any) -> None:
    before = sandbox.state.api_used
    salesforce = connect()
    account = salesforce.describe("Account")
    list(salesforce.read(account, ["Name"], Window()))
    assert connect.budget.spent == 2
    assert connect.budget.observed == [(before + 1, 100_000), (before + 2, 100_000)]


def test_usage_of_one_app_is_not_taken_for_that_of_the_org(sandbox: Sandbox, connect: Any) -> None:
    told = "per-app-api-usage=17/250(appName=x); api-usage=18/5000"
    sandbox.faults.add("status", path="/sobjects", status=200, body={"sobjects": []}, headers={"Sforce-Limit-Info": told})
    connect().entities()
    assert connect.budget.observed == [(18, 5000)]


def test_an_unreachable_org_is_a_network_error(connect: Any) -> None:
    with Sandbox(accounts=0, contacts=0) as gone:
        url = gone.url
    with pytest.raises(NetworkError, match="Salesforce cannot be reached at 127"):
        connect(url=url).entities()
    assert len(connect.waits) == 3
