"""`integration connector authorize`, as a person types it: page, redirect, device's code; and what `list` shows of it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from click.testing import CliRunner, Result

from connector_resources.sandbox import Sandbox
from connector_resources.sandbox.generic import ShopSandbox
from integration_pipelines.cli import main

AUTHORIZE = [sys.executable, "-c", "from integration_pipelines.cli import main; main()", "connector", "authorize", "1"]


@pytest.fixture(autouse=True)
def home(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INTEGRATION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATABASE_URL", database_url)
    run("tenant", "create", "acme")
    return tmp_path


@pytest.fixture
def org() -> Iterator[Sandbox]:
    with Sandbox(accounts=1, contacts=1, rotate=True) as running:
        yield running


@pytest.fixture
def shop() -> Iterator[ShopSandbox]:
    with ShopSandbox(customers=1, orders=1) as running:
        yield running


def run(*arguments: str, code: int = 0, given: str | None = None) -> Result:
    result = CliRunner().invoke(main, list(arguments), input=given)
    assert result.exit_code == code, result.output
    return result


def connect(system: Sandbox | ShopSandbox, kind: str, *names: str) -> None:
    secret = json.dumps({name: system.credentials[name] for name in names})
    run("connector", "create", "Org", "--type", kind, "--url", system.url, "--credentials", "-", given=secret)


def listed() -> Any:
    return json.loads(run("connector", "list", "--json").stdout)[0]


class Form(HTMLParser):
    """The hidden fields of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "input" and named.get("type") == "hidden":
            self.fields[str(named["name"])] = str(named["value"])


@contextmanager
def authorizing(*options: str) -> Iterator[subprocess.Popen[str]]:
    command = [*AUTHORIZE, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def shown(process: subprocess.Popen[str], pattern: str) -> str:
    """What the first line of the output that matches holds."""
    assert process.stdout
    for line in process.stdout:
        if match := re.search(pattern, line):
            return match[1]
    assert process.stderr
    raise AssertionError(process.stderr.read())


def decide(page: str, decision: str) -> str:
    """Press a button on the consent page; where the browser is sent."""
    answer = httpx.get(page, trust_env=False)
    assert "Allow access?" in answer.text
    form = Form(answer.text).fields | {"decision": decision}
    return httpx.post(page.partition("?")[0], data=form, trust_env=False).headers["location"]


@pytest.mark.parametrize("kind", ["salesforce", "sandbox-rest"])
def test_a_person_lets_a_connector_in(org: Sandbox, shop: ShopSandbox, kind: str) -> None:
    system = org if kind == "salesforce" else shop
    connect(system, kind, "client_id", "client_secret")
    system_grants = org.grants if kind == "salesforce" else shop.state.grants
    system_grants.lasts = 86_400 * 100
    with authorizing("--no-browser") as process:
        page = shown(process, r"(http\S+authorize\?\S+)")
        asked = parse_qs(urlsplit(page).query)
        assert asked["code_challenge_method"] == ["S256"]
        assert asked["redirect_uri"][0].startswith("http://127.0.0.1:")
        back = decide(page, "allow")
        stray = back.replace(asked["state"][0], "another")
        assert httpx.get(stray, trust_env=False).status_code == 400
        assert "Thank you" in httpx.get(back, trust_env=False).text
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert "Org is connected until 20" in out
    row = listed()
    assert (row["state"], row["grant_expires_at"] is None) == ("ok", False)
    assert "Org answers" in run("connector", "test", "1").output
    assert listed()["last_used_at"]
    code = parse_qs(urlsplit(back).query)["code"][0]
    everything = out + err
    assert code not in everything


def test_a_code_is_good_once_and_only_with_its_verifier(org: Sandbox) -> None:
    connect(org, "salesforce", "client_id")
    with authorizing("--no-browser") as process:
        page = shown(process, r"(http\S+authorize\?\S+)")
        back = parse_qs(urlsplit(decide(page, "allow")).query)
        redirect = parse_qs(urlsplit(page).query)["redirect_uri"][0]
        form = {
            "grant_type": "authorization_code",
            "client_id": org.credentials["client_id"],
            "code": back["code"][0],
            "redirect_uri": redirect,
            "code_verifier": "stolen",
        }
        errors = [httpx.post(f"{org.url}/services/oauth2/token", data=form, trust_env=False).json() for _ in "12"]
    assert [one["error_description"] for one in errors] == ["invalid code verifier", "expired authorization code"]


def test_a_person_who_denies_is_told_so_and_nothing_changes(org: Sandbox) -> None:
    connect(org, "salesforce", "client_id", "refresh_token")
    with authorizing("--no-browser") as process:
        back = decide(shown(process, r"(http\S+authorize\?\S+)"), "deny")
        httpx.get(back, trust_env=False)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (
        1,
        "Error: Salesforce is not connected: access was denied on the consent page; authorize again.\n",
    )
    assert "Org answers" in run("connector", "test", "1").output


@pytest.mark.parametrize(("decision", "code"), [("allow", 0), ("deny", 1)])
def test_a_device_without_a_browser_is_let_in_on_another(shop: ShopSandbox, decision: str, code: int) -> None:
    shop.state.consents.interval = 0
    connect(shop, "sandbox-rest", "client_id", "client_secret")
    with authorizing("--device") as process:
        page = shown(process, r"Open (\S+) on any machine")
        user_code = shown(process, r"^  ([A-Z]{8})$")
        typed = {"user_code": user_code.lower(), "decision": decision}
        assert "You can close this page" in httpx.post(page, data=typed, trust_env=False).text
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert ("Org is connected" in out) if code == 0 else ("not connected (access_denied)" in err)


def test_a_grant_that_was_taken_away_is_shown_until_somebody_reconnects(org: Sandbox) -> None:
    connect(org, "salesforce", "client_id", "refresh_token")
    org.grants.revoke()
    result = run("connector", "test", "1", code=1)
    assert "refuses the refresh token (invalid_grant): reconnect the connector" in result.stderr
    assert listed()["state"].startswith("reconnect needed since 20")
    assert "reconnect needed" in run("connector", "list").output


def test_a_connector_without_a_consent_page_says_so(shop: ShopSandbox) -> None:
    connect(shop, "sandbox-soap", "client_id", "client_secret")
    assert "has no consent page that the connector knows" in run("connector", "authorize", "1", code=1).stderr
    assert "has no device flow" in run("connector", "authorize", "1", "--device", code=1).stderr
    assert (
        "must lead to this machine" in run("connector", "authorize", "1", "--redirect", "https://example.com/x", code=1).stderr
    )
