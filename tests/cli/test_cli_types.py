"""`integration connector new`, `check`, `types` and `schema`, as a person types them; and a manifest's first sync."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from connector_resources.manifest_parse import parse
from connector_resources.sandbox.generic import ShopSandbox
from connector_resources.sandbox.tls import make_certificates
from integration_pipelines.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INTEGRATION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shop() -> Iterator[ShopSandbox]:
    with ShopSandbox(customers=130, orders=5) as opened:
        yield opened


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    return result


def told(*arguments: str, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", code=code).stdout)


def connected(shop: ShopSandbox, home: Path, kind: str) -> None:
    secret = home / "secret.json"
    secret.write_text(json.dumps(shop.credentials))
    run("tenant", "create", "acme")
    told_by = ("--url", shop.url, "--auth", "api_key", "--credentials", str(secret))
    run("connector", "create", "Shop", "--type", kind, *told_by, "--set", "region=eu")


@pytest.mark.parametrize(
    ("kind", "auth", "setting", "sentence"),
    [
        ("stripe", "oauth2", "a=b", "is signed in to with"),
        ("salesforce", "oauth2", "concurrency=many", "concurrency"),
        ("stripes", "api_key", "a=b", "There is no connector type 'stripes'"),
    ],
)
def test_what_its_type_cannot_take_makes_no_connector(home: Path, kind: str, auth: str, setting: str, sentence: str) -> None:
    run("tenant", "create", "acme")
    secret = home / "secret.json"
    secret.write_text('{"client_id": "a", "client_secret": "b"}')
    given = ("--type", kind, "--url", "https://api.example.org", "--auth", auth, "--credentials", str(secret))
    assert sentence in run("connector", "create", "Shop", *given, "--set", setting, code=1).output
    assert told("connector", "list") == []


def test_a_connector_that_shows_a_certificate_is_made_with_one_that_can_be_used(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTEGRATION_MANIFESTS", str(home))
    text = (resources.files("connector_resources") / "manifests" / "sandbox-rest.yaml").read_text("utf-8")
    text = text.replace("name: sandbox-rest", "name: with-certificate").replace("  basic: {}\n", "  certificate: {}\n")
    (home / "with-certificate.yaml").write_text(text)
    secret = home / "secret.json"
    _, pem = make_certificates(home)
    certificate, border, key = pem.read_text().partition("-----BEGIN PRIVATE")
    run("tenant", "create", "acme")
    given = ("--type", "with-certificate", "--url", "https://api.example.org", "--auth", "certificate")
    for told_key, code in (("none", 1), (border + key, 0)):
        secret.write_text(json.dumps({"certificate": certificate, "private_key": told_key}))
        run("connector", "create", "Shop", *given, "--credentials", str(secret), "--set", "region=eu", code=code)
        assert len(told("connector", "list")) == 1 - code


def test_a_sync_through_a_manifest_fills_the_erp(shop: ShopSandbox, home: Path) -> None:
    connected(shop, home, "sandbox-rest")
    assert "Shop answers; we are shop@example.org there." in run("connector", "test", "1").output
    run("mapping", "store", str(resources.files("mappings") / "sandbox" / "customer-customer.yaml"))
    run("sync", "create", "Customers", "--connector", "1", "--mapping", "1")
    (first,) = told("sync", "run", "1")
    assert (first["created"], first["records_failed"]) == (130, 0)
    shop.state.update("customers", "00000003", {"name": "Renamed"})
    shop.state.delete("customers", "00000004")
    (second,) = told("sync", "run", "1")
    assert (second["updated"], second["deleted"], second["records_failed"]) == (1, 1, 0)


def test_a_connector_has_a_limit_of_calls_of_its_own_and_shows_what_it_has_made(shop: ShopSandbox, home: Path) -> None:
    connected(shop, home, "sandbox-rest")
    given = ("--type", "sandbox-rest", "--url", shop.url, "--auth", "api_key", "--credentials", str(home / "secret.json"))
    refused = run("connector", "create", "Less", *given, "--set", "calls_per_day=few", code=1)
    assert "calls_per_day of a connector must be a whole number of at least 1." in refused.output
    run("connector", "create", "Limited", *given, "--set", "calls_per_day=5000")
    run("connector", "test", "1")
    run("connector", "test", "2")
    unlimited, limited = told("connector", "list")
    assert (unlimited["calls_today"], unlimited["calls_per_day"]) == (1, None)
    assert (limited["calls_today"], limited["calls_per_day"]) == (1, 5000)
    assert "1 of 5,000" in run("connector", "list").output
    told_back = run("connector", "set", "2", "calls_per_day=20000", "region=eu").output
    assert told_back == "Settings of connector 2 (limited): calls_per_day=20000, region=eu\n"
    assert "must be a whole number" in run("connector", "set", "2", "calls_per_day=0", code=1).output
    assert told("connector", "list")[1]["calls_per_day"] == 20000
    assert run("connector", "set", "2", "calls_per_day=", "region=").output == "Settings of connector 2 (limited): none\n"
    assert "There is no connector 9" in run("connector", "set", "9", "region=eu", code=1).output


@pytest.mark.parametrize("kind", ["rest", "soap", "graphql", "python"])
def test_a_new_type_passes_its_own_test_against_the_sandbox(shop: ShopSandbox, home: Path, kind: str) -> None:
    run("connector", "new", "my-shop", "--kind", kind)
    (home / "secret.json").write_text(json.dumps(shop.credentials))
    given = {"MY_SHOP_URL": shop.url, "MY_SHOP_CREDENTIALS": "secret.json", "PYTHONPATH": f"{ROOT}{os.pathsep}."}
    if kind in ("rest", "soap"):
        (home / "sample.json").write_text('{"name": "Acme", "code": "007", "balance": 1.50}')
        given["MY_SHOP_SAMPLE"] = "sample.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_shop.py"]
    done = subprocess.run(command, cwd=home, env={**os.environ, **given}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_a_new_type_is_checked_through_its_connector(shop: ShopSandbox, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Wrote my-shop.yaml." in run("connector", "new", "my-shop").output
    monkeypatch.setenv("INTEGRATION_MANIFESTS", str(home))
    connected(shop, home, "my-shop")
    (home / "sample.json").write_text('{"name": "Acme", "code": "007", "balance": 1.50}')
    read = told("connector", "check", "1")
    assert {one["verdict"] for one in read} == {"passed", "not applicable"}
    before = len(shop.state.records["customers"])
    found = told("connector", "check", "1", "--write", "customer", "--sample", "sample.json", "--since", "2020-01-01")
    assert [one["name"] for one in found if one["verdict"] != "passed"] == ["a sign-in that expires is renewed"]
    live = [record for record in shop.state.records["customers"].values() if not record["deleted"]]
    assert len(live) == before


def test_a_check_that_fails_ends_with_one(shop: ShopSandbox, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("connector", "new", "my-shop")
    manifest = home / "my-shop.yaml"
    manifest.write_text(manifest.read_text().replace("updated_since:", "updated_sinze:"))
    monkeypatch.setenv("INTEGRATION_MANIFESTS", str(home))
    connected(shop, home, "my-shop")
    failed = [one for one in told("connector", "check", "1", code=1) if one["verdict"] == "failed"]
    assert [one["name"] for one in failed] == ["nothing is lost at the border of a watermark"]


def test_a_sign_in_that_is_refused_is_said_once(shop: ShopSandbox, home: Path) -> None:
    connected(shop, home, "sandbox-rest")
    shop.faults.add("status", path="/rest/me", status=401, times=None)
    ended = run("connector", "check", "1", code=1)
    assert "refuses the credentials" in ended.output
    assert len(ended.output.splitlines()) == 1
    assert len(shop.requests) == 1


def test_what_is_wrong_with_a_check_is_said(shop: ShopSandbox, home: Path) -> None:
    connected(shop, home, "sandbox-rest")
    assert "--write needs --sample" in run("connector", "check", "1", "--write", "customer", code=2).output
    (home / "sample.json").write_text("[]")
    given = ("connector", "check", "1", "--write", "customer", "--sample", "sample.json")
    assert "must hold one JSON mapping" in run(*given, code=1).output
    (home / "sample.json").write_text('{"naem": "Acme"}')
    assert "did you mean 'name'?" in run(*given, code=1).output
    (home / "sample.json").write_text('{"points": "many"}')
    assert "The sample's value of points is no integer." in run(*given, code=1).output
    assert (
        "has no entity 'custmer'; did you mean 'customer'?"
        in run("connector", "check", "1", "--entity", "custmer", code=1).output
    )


def test_a_name_that_cannot_be_one_and_a_file_that_is_there_are_refused(home: Path) -> None:
    assert "cannot be the name of a connector type" in run("connector", "new", "My Shop", code=1).output
    run("connector", "new", "my-shop")
    assert "my-shop.yaml is there already" in run("connector", "new", "my-shop", code=1).output
    (home / "secret.json").write_text("{}")
    given = ("--type", "sandbox-rest", "--url", "https://x.example", "--credentials", "secret.json", "--set", "x")
    run("tenant", "create", "acme")
    assert "must be like NAME=VALUE" in run("connector", "create", "x", *given, code=2).output
    assert parse("my-shop.yaml", (home / "my-shop.yaml").read_text()).name == "my-shop"


def test_types_and_what_they_can_do_are_listed() -> None:
    found = {one["type"]: one for one in told("connector", "types")}
    assert found["salesforce"]["origin"] == "built in"
    assert found["sandbox-rest"] | {"origin": "manifest", "write": True, "idempotency": "header"} == found["sandbox-rest"]
    assert "a repeat is known by" in run("connector", "types").output


def test_a_manifest_that_is_wrong_is_named_and_the_others_are_listed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "odd.yaml").write_text("kind: rest\nnmae: odd\n")
    monkeypatch.setenv("INTEGRATION_MANIFESTS", str(home))
    listed = run("connector", "types")
    assert "odd.yaml, line 2, nmae: unknown key 'nmae'; did you mean 'name'?" in listed.stderr
    assert "sandbox-rest" in listed.stdout


def test_the_schema_is_printed() -> None:
    assert json.loads(run("connector", "schema").stdout)["title"] == "Connector manifest"


def test_a_folder_of_manifests_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTEGRATION_MANIFESTS", "/no/such/folder")
    assert "INTEGRATION_MANIFESTS names /no/such/folder" in run("connector", "types", code=1).output
