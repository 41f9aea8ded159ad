"""`integration user` and `integration api-key` as a person types them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result

from connector_resources.errors import NotSignedIn
from integration_pipelines.cli import main
from integration_pipelines.store import api_keys, people, sessions
from integration_pipelines.store.database import Database
from integration_pipelines.store.sign_in import sign_in

ANN, PASSWORD = "ann@acme.example", "correct horse battery staple"


def run(*arguments: str, code: int = 0, given: str | None = None) -> Result:
    result = CliRunner().invoke(main, list(arguments), input=given)
    assert result.exit_code == code, result.output
    return result


def told(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def entered(database: Database, password: str, email: str = ANN) -> people.Principal:
    now = datetime.now(UTC)
    return sessions.principal(database, sign_in(database, email, password, address="::1", now=now).token, now)


@pytest.fixture(autouse=True)
def acme(environment: object) -> None:
    assert environment
    run("tenant", "create", "acme")


def test_a_password_is_asked_for_twice_and_never_shown(database: Database) -> None:
    result = run("user", "create", ANN, "--role", "auditor", given=f"{PASSWORD}\n{PASSWORD}\n")
    assert f"{ANN}, may sign in." in result.output
    assert PASSWORD not in result.output
    found = entered(database, PASSWORD)
    assert (found.role, found.operator) == ("auditor", False)


def test_a_generated_password_is_shown_once_and_works(database: Database) -> None:
    made = told("user", "create", "Ops@Acme.example", "--operator", "--generate")
    assert (made["email"], len(made["password"])) == ("ops@acme.example", 24)
    found = entered(database, made["password"], made["email"])
    assert (found.role, found.operator) == ("engineer", True)
    again = run("user", "password", "ops@acme.example", "--generate").output.strip().splitlines()[-1].strip()
    assert entered(database, again, "ops@acme.example").user_id == made["id"]
    with pytest.raises(NotSignedIn):
        entered(database, made["password"], made["email"])


def test_users_are_listed_for_people_and_for_programs(database: Database) -> None:
    told("user", "create", ANN, "--generate")
    entered(database, told("user", "password", ANN, "--generate")["password"])
    admin, ann = told("user", "list")
    assert (admin["email"], admin["has_password"], admin["last_seen_at"]) == ("admin@localhost", False, None)
    assert (ann["email"], ann["role"], ann["is_active"], ann["is_operator"]) == (ANN, "engineer", True, False)
    assert ann["last_seen_at"] is not None
    assert "operator" in run("user", "list").output


def test_an_inactive_user_is_kept_out(database: Database) -> None:
    password = told("user", "create", ANN, "--generate")["password"]
    assert "can no longer sign in" in run("user", "deactivate", ANN).output
    with pytest.raises(NotSignedIn):
        entered(database, password)
    assert [user["is_active"] for user in told("user", "list")] == [True, False]


def test_a_key_is_shown_once_listed_and_revoked(database: Database) -> None:
    told("user", "create", ANN, "--generate")
    made = told("api-key", "create", "nightly report", "--user", ANN, "--days", "90")
    now = datetime.now(UTC)
    assert api_keys.principal(database, made["key"], now).email == ANN
    with pytest.raises(NotSignedIn):
        api_keys.principal(database, made["key"], now + timedelta(days=91))
    listed = run("api-key", "list", "--json").stdout
    assert made["key"].split("_", 2)[2] not in listed
    (row,) = json.loads(listed)
    assert (row["name"], row["email"], row["state"]) == ("nightly report", ANN, "active")
    run("api-key", "revoke", str(made["id"]))
    assert told("api-key", "list")[0]["state"] == "revoked"
    with pytest.raises(NotSignedIn):
        api_keys.principal(database, made["key"], now)
    forever = run("api-key", "create", "forever", "--user", ANN).output.strip().splitlines()[-1].strip()
    assert api_keys.principal(database, forever, now + timedelta(days=4000)).email == ANN


@pytest.mark.parametrize(
    ("arguments", "given", "sentence"),
    [
        (["user", "create", "ann"], None, "That is no e-mail address"),
        (["user", "create", ANN], "short\nshort\n", "12 to 256 characters"),
        (["user", "create", "admin@localhost", "--generate"], None, "There is a user admin@localhost already"),
        (["user", "password", ANN], None, f"There is no user {ANN}"),
        (["user", "deactivate", "admin@localhost"], None, "last active administrator"),
        (["user", "list", "--tenant", "nobody"], None, "There is no tenant 'nobody'"),
        (["api-key", "create", "x", "--user", ANN], None, f"There is no user {ANN}"),
        (["api-key", "create", " ", "--user", "admin@localhost"], None, "1 to 255 characters"),
        (["api-key", "revoke", "99"], None, "There is no API key 99"),
    ],
    ids=range(9),
)
def test_bad_input_gets_one_sentence(arguments: list[str], given: str | None, sentence: str) -> None:
    result = run(*arguments, code=1, given=given)
    assert sentence in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [["user", "create"], ["user", "create", ANN, "--role", "king"], ["api-key", "create", "x"], ["api-key", "revoke", "x"],
     ["api-key", "create", "x", "--user", ANN, "--days", "0"], ["user", "create", ANN, "--password", "x"]],
    ids=range(6),
)  # fmt: skip
def test_wrong_use_ends_with_2(arguments: list[str]) -> None:
    run(*arguments, code=2)
