"""`integration alert-channel` and `integration alert` as a person types them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from mailroom import CANARY, Clock, Receiver, fail_for_good, receiver
from notebook import World, make_world

from integration_pipelines.cli import main
from integration_pipelines.operations.alerts import send_due
from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database


def run(*arguments: str, code: int = 0, given: str | None = None) -> Result:
    result = CliRunner().invoke(main, list(arguments), input=given)
    assert result.exit_code == code, result.output
    assert CANARY not in result.output
    return result


def told(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


@pytest.fixture
def inbox() -> Iterator[Receiver]:
    with receiver() as opened:
        yield opened


@pytest.fixture(autouse=True)
def world(environment: Settings, database: Database) -> World:
    return make_world(database, environment)


def test_an_address_is_asked_for_and_never_shown(inbox: Receiver) -> None:
    result = run("alert-channel", "add", "ops", given=f"{inbox.address}\n")
    assert "Alerts go to channel 'ops' (json://127.0.0.1) too." in result.output
    (row,) = told("alert-channel", "list")
    assert (row["name"], row["address"]) == ("ops", "json://127.0.0.1")
    assert "json://127.0.0.1" in run("alert-channel", "list").output


def test_an_address_is_read_from_standard_input(inbox: Receiver) -> None:
    made = json.loads(run("alert-channel", "add", "ops", "-", "--json", given=f"{inbox.address}\n").stdout)
    assert made == {"name": "ops", "address": "json://127.0.0.1"}
    assert "has taken the message" in run("alert-channel", "test", "ops").output
    assert inbox.titles == ["Test of an alert channel"]


def test_an_address_on_the_command_line_is_refused_and_not_repeated(inbox: Receiver) -> None:
    assert "the address is no argument" in run("alert-channel", "add", "ops", inbox.address, code=2).output
    assert told("alert-channel", "list") == []


def test_a_test_that_fails_says_why(inbox: Receiver) -> None:
    run("alert-channel", "add", "ops", "-", given=inbox.address)
    inbox.status = 403
    result = run("alert-channel", "test", "ops", code=1)
    assert result.stderr == "Error: Channel 'ops' did not take it: it answered with status 403.\n"


def test_a_removed_channel_is_gone(inbox: Receiver) -> None:
    run("alert-channel", "add", "ops", "-", given=inbox.address)
    assert "Nothing is sent to channel 'ops' any more." in run("alert-channel", "remove", "ops").output
    assert told("alert-channel", "list") == []


def test_alerts_are_listed_sent_or_not(world: World, inbox: Receiver) -> None:
    assert "Nothing to show." in run("alert", "list").output
    run("alert-channel", "add", "ops", "-", given=inbox.address)
    fail_for_good(world)
    assert [(row["kind"], row["state"]) for row in told("alert", "list")] == [("failed", "waiting")]
    assert list(send_due(world.database, Clock())) == [True]
    (row,) = told("alert", "list")
    assert (row["sync_name"], row["state"], row["tries"], row["problem"]) == ("client-customer", "sent", 1, None)
    assert "client-customer" in run("alert", "list", "--limit", "1").output


@pytest.mark.parametrize(
    ("arguments", "given", "sentence"),
    [
        (["alert-channel", "add", "ops", "-"], f"syslog://{CANARY}", "write one like mailtos://"),
        (["alert-channel", "add", "ops", "-"], "", "Alerts cannot be sent to this address"),
        (["alert-channel", "add", " ", "-"], "json://x", "1 to 255 printable characters"),
        (["alert-channel", "test", "ops"], None, "There is no alert channel 'ops' in this tenant"),
        (["alert-channel", "remove", "ops"], None, "There is no alert channel 'ops' in this tenant"),
        (["alert", "list", "--tenant", "nobody"], None, "There is no tenant 'nobody'"),
    ],
    ids=range(6),
)
def test_bad_input_gets_one_sentence(arguments: list[str], given: str | None, sentence: str) -> None:
    result = run(*arguments, code=1, given=given)
    assert sentence in result.stderr
    assert "Traceback" not in result.output
