"""Writing to the Salesforce stand-in when something goes wrong: lost answers, limits, locks, sessions that end."""

from datetime import UTC, datetime
from typing import Any

import pytest
from orgs import KEYS, add, calls, outcomes, stored, version
from writing import change, write

from connector_resources.contract import Outcome
from connector_resources.errors import AuthenticationError, ConfigurationError, QuotaReached
from connector_resources.salesforce.resource import Salesforce
from connector_resources.sandbox import Sandbox

COMPOSITE = r"/composite$"


@pytest.mark.parametrize(
    ("fault", "arrived"),
    [
        ({"kind": "lose"}, True),
        ({"kind": "drop"}, False),
        ({"kind": "cut"}, True),
        ({"kind": "status", "status": 503}, False),
        ({"kind": "status", "status": 500, "body": "<html>oops</html>"}, False),
    ],
    ids=["lost", "dropped", "cut", "503", "500"],
)
def test_a_write_whose_answer_is_lost_is_unknown_and_never_sent_again(
    sandbox: Sandbox, keyed: Salesforce, fault: dict[str, Any], arrived: bool
) -> None:
    account = keyed.describe("Account")
    sandbox.faults.forget_requests()
    sandbox.faults.add(path=COMPOSITE, **fault)
    [result] = write(keyed, account, change("create", Name="x"))
    assert result["outcome"] == "unknown"
    assert result["message"]
    assert calls(sandbox, "/composite") == 1
    assert len(sandbox.state.records["Account"]) == 40 + arrived


@pytest.mark.parametrize("status", [429, 403])
def test_a_write_that_was_not_taken_is_raised_and_nothing_is_written(sandbox: Sandbox, keyed: Salesforce, status: int) -> None:
    account = keyed.describe("Account")
    body = [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "TotalRequests Limit exceeded."}]
    sandbox.faults.add("status", path=COMPOSITE, status=status, body=body, headers={"Retry-After": "600"}, times=None)
    with pytest.raises(QuotaReached):
        write(keyed, account, change("create", Name="x"))
    assert len(sandbox.state.records["Account"]) == 40


def test_a_rate_limit_that_passes_is_waited_for(sandbox: Sandbox, connect: Any) -> None:
    connector = connect()
    account = connector.describe("Account")
    sandbox.faults.add("status", path=COMPOSITE, status=429, headers={"Retry-After": "7"})
    [result] = write(connector, account, change("create", Name="x"))
    assert (result["outcome"], connect.waits) == ("done", [7.0])


def test_what_was_written_before_the_calls_ran_out_is_told_and_the_rest_was_not_sent(sandbox: Sandbox, connect: Any) -> None:
    connector = connect(concurrency=1, external_ids=KEYS)
    account = connector.describe("Account")
    body = [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "TotalRequests Limit exceeded."}]
    sandbox.faults.add("status", path=COMPOSITE, after=1, status=403, body=body, headers={"Retry-After": "600"}, times=None)
    results = write(connector, account, *(change("create", Name=f"n{number}") for number in range(500)))
    assert outcomes(results) == ["done"] * 200 + ["absent"] * 300
    assert "daily quota" in results[-1]["message"]
    assert len(sandbox.state.records["Account"]) == 240


def test_only_the_reserve_is_left_of_the_days_calls(sandbox: Sandbox, connect: Any) -> None:
    sandbox.state.api_limit = sandbox.state.api_used + 50
    connector = connect(reserve_calls=50)
    with pytest.raises(QuotaReached, match=r"kept in reserve .* lower reserve_calls") as caught:
        connector.describe("Account")
        connector.describe("Contact")
    assert caught.value.wait == 900


def test_a_session_that_ends_between_two_batches_is_renewed(sandbox: Sandbox, keyed: Salesforce) -> None:
    account = keyed.describe("Account")
    sandbox.faults.add("revoke", path=COMPOSITE, after=1, times=1)
    results = write(keyed, account, *(change("create", Name=f"n{number}") for number in range(1000)))
    assert outcomes(results) == ["done"] * 1000
    assert len(sandbox.state.records["Account"]) == 1040
    assert calls(sandbox, "/oauth2/token") == 2  # one of the lanes renews it for all


def test_credentials_that_end_between_two_batches_lose_no_result(sandbox: Sandbox, connect: Any) -> None:
    store = connect.store("client_id", "client_secret")
    connector = connect(store, concurrency=1)
    account = connector.describe("Account")
    store.credentials["client_secret"] = "wrong"
    sandbox.faults.add("revoke", path=COMPOSITE, after=1)
    results = write(connector, account, *(change("create", Name=f"n{number}") for number in range(300)))
    assert outcomes(results) == ["done"] * 200 + ["absent"] * 100
    assert "client_secret" in results[-1]["message"]
    with pytest.raises(AuthenticationError):
        write(connector, account, change("create", Name="x"))


def test_records_of_one_parent_are_never_written_side_by_side(sandbox: Sandbox, connect: Any) -> None:
    """Each write holds its locks for a while: two calls with a common parent would refuse one another."""
    connector = connect(concurrency=4)
    parents = add(sandbox, *({"Name": f"p{number}"} for number in range(30)))
    contact = connector.describe("Contact")
    rows = [{"LastName": f"n{number}", "AccountId": parents[number % 30]} for number in range(900)]
    ids = add(sandbox, *rows, sobject="Contact")
    sandbox.faults.add("hold", path=COMPOSITE, seconds=0.05, times=None)
    sandbox.faults.forget_requests()
    created = write(connector, contact, *(change("create", **row) for row in rows))
    assert outcomes(created) == ["done"] * 900
    updated = write(connector, contact, *(change("update", id_, Phone="1") for id_ in ids))
    assert outcomes(updated) == ["done"] * 900
    assert connect.waits == []
    assert calls(sandbox, "/composite") > 10


def test_a_locked_record_is_tried_again_by_itself(sandbox: Sandbox, connect: Any) -> None:
    connector = connect()
    sandbox.faults.add("refuse", sobject="Account", field="Name", value="busy", code="UNABLE_TO_LOCK_ROW", times=2)
    results = write(connector, connector.describe("Account"), change("create", Name="busy"), change("create", Name="free"))
    assert outcomes(results) == ["done", "done"]
    assert connect.waits == [1.0, 2.0]


def test_a_locked_record_is_not_refused_where_the_calls_ran_out_before_it_was_tried_again(
    sandbox: Sandbox, connect: Any
) -> None:
    connector = connect(concurrency=1, external_ids=KEYS)
    sandbox.faults.add("refuse", sobject="Account", field="Name", value="n0", code="UNABLE_TO_LOCK_ROW", times=None)
    body = [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "TotalRequests Limit exceeded."}]
    sandbox.faults.add("status", path=COMPOSITE, after=1, status=403, body=body, times=None)
    account = connector.describe("Account")
    results = write(connector, account, *(change("create", Name=f"n{number}") for number in range(300)))
    assert outcomes(results) == ["absent"] + ["done"] * 199 + ["absent"] * 100
    assert connect.waits == []


def test_a_record_that_stays_locked_is_refused_and_says_what_happens(sandbox: Sandbox, connect: Any) -> None:
    connector = connect()
    [id_] = add(sandbox, {"Name": "busy"})
    sandbox.faults.add("refuse", sobject="Account", field="Name", value="busy", code="UNABLE_TO_LOCK_ROW", times=None)
    account = connector.describe("Account")
    [result] = write(connector, account, change("update", id_, version(sandbox, id_), Phone="1"))
    assert result["outcome"] == "refused"
    assert "tried again by the next run" in result["message"]
    assert connect.waits == [1.0, 2.0, 4.0]


def test_an_edit_while_a_locked_record_waits_is_not_overwritten(sandbox: Sandbox, connect: Any) -> None:
    [id_] = add(sandbox, {"Name": "busy"})

    class Editing(list[float]):
        def append(self, seconds: float) -> None:
            super().append(seconds)
            sandbox.state.update("Account", {id_: {"Phone": "theirs"}})

    connect.waits = Editing()
    connector = connect()
    sandbox.faults.add("refuse", sobject="Account", field="Name", value="busy", code="UNABLE_TO_LOCK_ROW")
    [result] = write(connector, connector.describe("Account"), change("update", id_, version(sandbox, id_), Phone="ours"))
    assert (result["outcome"], stored(sandbox, id_)["Phone"], connect.waits) == ("moved", "theirs", [1.0])


def test_a_phone_set_to_a_then_b_then_a_arrives_as_a(sandbox: Sandbox, salesforce: Salesforce) -> None:
    [id_] = add(sandbox, {"Name": "x"})
    account, seen = salesforce.describe("Account"), version(sandbox, id_)
    for phone in ("A", "B", "A"):
        [result] = write(salesforce, account, change("update", id_, seen, Phone=phone))
        assert result["outcome"] == Outcome.DONE
        seen = result["version"]
    assert stored(sandbox, id_)["Phone"] == "A"


def test_a_field_that_cannot_be_written_is_named_before_anything_is_sent(sandbox: Sandbox, salesforce: Salesforce) -> None:
    account = salesforce.describe("Account")
    sandbox.faults.forget_requests()
    with pytest.raises(ConfigurationError, match=r"Account\.CreatedDate itself"):
        write(salesforce, account, change("create", Name="x", CreatedDate=datetime(2026, 1, 1, tzinfo=UTC)))
    with pytest.raises(ConfigurationError, match=r"no field 'Nam' on Account that could be written.*Name"):
        write(salesforce, account, change("create", Nam="x"))
    assert sandbox.requests == []


def test_somebody_elses_change_right_after_ours_is_not_taken_for_ours(sandbox: Sandbox, salesforce: Salesforce) -> None:
    """The version that is read back would hide it as an echo."""
    [id_] = add(sandbox, {"Name": "x"})
    account = salesforce.describe("Account")
    other = list(sandbox.state.records["User"])[2]
    sandbox.state.user_id = other  # from here on the org notes somebody else as the author
    [result] = write(salesforce, account, change("update", id_, version(sandbox, id_), Phone="1"))
    assert (result["outcome"], result["version"]) == ("done", None)


def test_a_value_for_which_a_whole_call_is_refused_concerns_its_record_alone(salesforce: Salesforce) -> None:
    names = [f"n{at}" for at in range(20)]
    steps = [change("create", Name=name, NumberOfEmployees=3_000_000_000 if name == "n7" else 1) for name in names]
    results = write(salesforce, salesforce.describe("Account"), *steps)
    assert [name for name, one in zip(names, results, strict=True) if one["outcome"] != "done"] == ["n7"]
    assert "a whole number of more than 32 bits (JSON_PARSER_ERROR)" in results[7]["message"]
