"""The command line as a person types it."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from connector_resources.sandbox import Sandbox
from integration_pipelines.cli import main
from integration_pipelines.settings import VARIABLES, load
from integration_pipelines.store.database import Database
from integration_pipelines.store.master_key import MasterKey
from integration_pipelines.store.migrate import create_database

MAPPING = resources.files("mappings") / "salesforce" / "account-customer.yaml"


@pytest.fixture(autouse=True)
def home(server: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INTEGRATION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DAGSTER_DATABASE_URL", create_database(server, "dagster_runs"))
    return tmp_path / "home"


def run(*arguments: str, code: int = 0, given: str | None = None) -> Result:
    result = CliRunner().invoke(main, list(arguments), input=given)
    assert result.exit_code == code, result.output
    return result


def told(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(accounts=40, contacts=10) as opened:
        yield opened


@pytest.fixture
def configured(sandbox: Sandbox, tmp_path: Path) -> Sandbox:
    run("tenant", "create", "acme")
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps(sandbox.credentials))
    url = sandbox.url
    run("connector", "create", "Our org", "--type", "salesforce", "--url", url, "--credentials", str(secret))
    run("mapping", "store", str(MAPPING))
    run("sync", "create", "Accounts", "--connector", "1", "--mapping", "1", "--cron", "*/15 * * * *")
    return sandbox


@pytest.mark.usefixtures("configured")
def test_from_nothing_to_a_synced_account() -> None:
    assert "Our org answers" in run("connector", "test", "1").output
    assert told("connector", "list")[0]["code"] == "our-org"
    assert told("sync", "list")[0]["cron"] == "*/15 * * * *"
    plan = told("sync", "plan", "1")
    assert (plan["counts"]["create"], len(plan["changes"])) == (40, 20)
    (ran,) = told("sync", "run", "1")
    assert (ran["records_succeeded"], ran["created"]) == (40, 40)
    assert told("sync", "plan", "1")["counts"]["create"] == 0
    assert told("sync", "history")[0]["sync_status"] == "completed"
    assert "completed" in run("sync", "history", "1").output
    assert "Nothing to show." in run("sync", "errors", "1").output


def test_records_that_were_set_aside_are_told_with_what_to_do(configured: Sandbox) -> None:
    configured.state.insert("Account", [{"Name": "x" * 300}])
    run("sync", "run", "1")
    (error,) = told("sync", "errors", "1")
    assert error["error_type"] == "validation"
    assert "is longer than" in error["error_message"]
    assert told("sync", "errors", "1", "--run", "1")[0]["record_id"] == error["record_id"]


def test_a_failed_run_ends_with_1_and_one_sentence(configured: Sandbox) -> None:
    configured.faults.add("status", path="/query", status=200, headers={"Content-Type": "text/html"}, body="<p>", times=None)
    result = run("sync", "run", "1", code=1)
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("configured")
def test_the_brake_is_released() -> None:
    assert "may change as much as it wants" in run("sync", "release", "1").output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sync", "run", "99"], "There is no sync config 99"),
        (["sync", "plan", "99"], "There is no sync config 99"),
        (["connector", "test", "99"], "There is no connector 99"),
        (["sync", "create", "X", "--connector", "1", "--mapping", "1", "--cron", "every day"], "is no cron expression"),
        (["sync", "create", "X", "--connector", "1", "--mapping", "1", "--time-zone", "Mars/Olympus"], "no time zone"),
        (["sync", "create", "X", "--connector", "9", "--mapping", "1"], "There is no connector 9"),
        (["tenant", "create", "acme"], "There is a tenant 'acme' already"),
        (["connector", "list", "--tenant", "nobody"], "There is no tenant 'nobody'"),
    ],
)
@pytest.mark.usefixtures("configured")
def test_bad_input_gets_one_sentence(arguments: list[str], sentence: str) -> None:
    result = run(*arguments, code=1)
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_a_bad_mapping_is_refused_naming_the_line(tmp_path: Path) -> None:
    run("tenant", "create", "acme")
    bad = tmp_path / "bad.yaml"
    bad.write_text(MAPPING.read_text(encoding="utf-8").replace("target: website", "target: webside"))
    result = run("mapping", "store", str(bad), code=1)
    line = next(n for n, text in enumerate(bad.read_text().splitlines(), start=1) if "webside" in text)
    assert f"bad.yaml, line {line}" in result.stderr
    assert "did you mean 'website'?" in result.stderr
    bad.write_bytes(b"source_entity: Caf\xe9\n")
    assert "bad.yaml is not UTF-8 text; save it as UTF-8." in run("mapping", "store", str(bad), code=1).stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--auth", "none", "--credentials", "-"], "--auth none takes no credentials."),
        (["--auth", "api_key"], "Missing option '--credentials'."),
    ],
)
def test_credentials_are_given_where_there_is_something_to_sign_in_with(options: list[str], sentence: str) -> None:
    create = ["connector", "create", "X", "--type", "salesforce", "--url", "https://x.example"]
    assert sentence in run(*create, *options, code=2).stderr


@pytest.mark.usefixtures("configured")
def test_a_type_that_needs_credentials_is_not_signed_in_to_without() -> None:
    create = ["connector", "create", "X", "--type", "salesforce", "--url", "https://x.example", "--auth", "none"]
    assert "Salesforce is signed in to with oauth2, not with none" in run(*create, code=1).stderr


@pytest.mark.parametrize("arguments", [["sync", "frob"], ["sync", "run"], ["sync", "run", "x"], ["frob"]])
def test_wrong_use_ends_with_2(arguments: list[str]) -> None:
    run(*arguments, code=2)


def test_every_command_has_help() -> None:
    for group in ([], ["sync"], ["connector"], ["mapping"], ["tenant"], ["key"], ["user"], ["api-key"]):
        assert "Usage:" in run(*group, "--help").output


@pytest.mark.usefixtures("configured")
def test_a_wrong_master_key_is_one_clear_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTEGRATION_MASTER_KEY", run("key", "new").output.strip())
    result = run("connector", "list", code=1)
    assert "The database was encrypted with master key" in result.stderr
    assert (home / "master.key").exists()


@pytest.mark.usefixtures("configured")
def test_rotating_the_key_in_the_file_changes_no_record(home: Path, database_url: str) -> None:
    old = (home / "master.key").read_text()
    assert "The keys of 1 tenants are wrapped anew" in run("key", "rotate").output
    assert (home / "master.key").read_text() != old
    assert "Our org answers" in run("connector", "test", "1").output
    database = Database(database_url, MasterKey(None, home / "master.key"))
    database.check_master_key()
    database.close()


@pytest.mark.usefixtures("configured")
def test_rotating_the_key_of_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = base64.b64encode(bytes.fromhex((home / "master.key").read_text())).decode()
    following = run("key", "new").output.strip()
    monkeypatch.setenv("INTEGRATION_MASTER_KEY", key)
    assert "INTEGRATION_NEXT_MASTER_KEY is not set" in run("key", "rotate", code=1).stderr
    monkeypatch.setenv("INTEGRATION_NEXT_MASTER_KEY", following)
    run("key", "rotate")
    monkeypatch.setenv("INTEGRATION_MASTER_KEY", following)
    monkeypatch.delenv("INTEGRATION_NEXT_MASTER_KEY")
    assert "Our org answers" in run("connector", "test", "1").output


def test_a_database_without_tables_says_what_to_run(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", create_database(server, "empty_store"))
    assert "Run `integration migrate`" in run("connector", "list", code=1).stderr
    assert "is up to date" in run("migrate").output
    assert "nothing was missing" in run("migrate").output


def test_a_database_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("DATABASE_URL", f"postgresql://app:canary-password@127.0.0.1:{closed.getsockname()[1]}/x")
        result = run("connector", "list", code=1)
    assert "cannot be used" in result.stderr
    assert "canary-password" not in result.output


def test_production_demands_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTEGRATION_ENV", "production")
    assert "INTEGRATION_MASTER_KEY is not set" in run("connector", "list", code=1).stderr


def clean_environment(**extra: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in VARIABLES and not k.startswith("DAGSTER")}
    return kept | extra


def test_the_environment_for_dagster_keeps_one_embedded_database_until_stop(tmp_path: Path) -> None:
    environment = clean_environment(INTEGRATION_HOME=str(tmp_path / "own"))

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "integration_pipelines", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    exported = command("env")
    assert {line.split("=")[0] for line in exported.splitlines()} == {
        "export INTEGRATION_HOME",
        "export DATABASE_URL",
        "export DAGSTER_HOME",
        "export DAGSTER_DATABASE_URL",
    }
    pid = tmp_path / "own" / "postgres" / "data" / "postmaster.pid"
    started = pid.read_text()
    command("tenant", "create", "acme")
    assert pid.read_text() == started
    assert command("stop") == "Stopped.\n"
    assert not pid.exists()


def test_the_sandbox_serves_until_it_is_told_to_stop_and_names_a_taken_port(tmp_path: Path) -> None:
    environment = clean_environment(INTEGRATION_HOME=str(tmp_path / "own"), PYTHONUNBUFFERED="1")
    command = [sys.executable, "-m", "integration_pipelines", "sandbox", "--port"]
    with subprocess.Popen([*command, "0"], env=environment, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        url = serving.stdout.readline().strip().removeprefix("url: ")
        taken = subprocess.run([*command, url.rsplit(":", 1)[1]], env=environment, capture_output=True, text=True, check=False)
        assert (taken.returncode, "is taken" in taken.stderr) == (1, True)
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(10) == 0


def test_the_demo_checks_every_number_and_leaves_no_process(tmp_path: Path) -> None:
    environment = clean_environment(INTEGRATION_HOME=str(tmp_path / "own"))
    command = [sys.executable, "-m", "integration_pipelines", "demo", "--accounts", "60", "--contacts", "90"]
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Every number is what it must be." in done.stdout
    assert not (tmp_path / "own" / "demo" / "postgres" / "data" / "postmaster.pid").exists()


def test_the_demo_refuses_a_folder_that_it_did_not_make(home: Path) -> None:
    (home / "demo").mkdir(parents=True)
    assert "was not made by the demo" in run("demo", code=1).stderr
    assert load({"INTEGRATION_HOME": str(home)}).home == home


@pytest.mark.usefixtures("configured")
def test_a_sync_is_rescheduled_paused_resumed_and_removed() -> None:
    assert "runs at 0 6 * * 1-5 (Europe/Berlin)" in run(
        "sync", "schedule", "1", "--cron", "0 6 * * 1-5", "--time-zone", "Europe/Berlin"
    ).output  # fmt: skip
    assert "no cron expression" in run("sync", "schedule", "1", "--cron", "x", code=1).output
    listed = json.loads(run("sync", "list", "--json").output)[0]
    assert (listed["mode"], listed["cron"], listed["time_zone"]) == ("scheduled", "0 6 * * 1-5", "Europe/Berlin")
    assert "runs by hand" in run("sync", "schedule", "1").output
    run("sync", "pause", "1")
    assert json.loads(run("sync", "list", "--json").output)[0]["is_active"] is False
    run("sync", "resume", "1")
    run("sync", "remove", "1")
    assert json.loads(run("sync", "list", "--json").output) == []
    assert "There is no sync config 1" in run("sync", "pause", "1", code=1).output


@pytest.mark.usefixtures("configured")
def test_options_of_a_sync_are_numbers_within_their_limits() -> None:
    made = ("sync", "create", "More", "--connector", "1", "--mapping", "1")
    run(*made, "--option", "max_runtime_seconds=600", "--option", "retry_delay_seconds=5")
    for option, sentence in (
        ("max_runtime_seconds=1", "goes from 10 to"), ("colour=1", "has no option 'colour'"), ("x=y", "write name=number")
    ):  # fmt: skip
        assert sentence in run(*made, "--option", option, code=1).output
