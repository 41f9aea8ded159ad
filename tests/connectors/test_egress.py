"""Where connections may lead in production: no address of the network that we stand in, whatever a name is made to mean."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from connector_resources.egress import Egress
from connector_resources.errors import ConfigurationError, NetworkError
from connector_resources.http import Http, Patience
from connector_resources.sandbox import Sandbox
from connector_resources.tokens import TokenEndpoint
from integration_pipelines.orchestration.resources import ConnectorResource
from integration_pipelines.settings import load
from integration_pipelines.store.connectors import ConnectorRow
from integration_pipelines.store.database import Database

FORBIDDEN = [
    "10.1.2.3",
    "127.0.0.1",
    "127.8.9.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 - it is refused
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "198.18.0.1",
    "192.0.0.192",
    "192.88.99.1",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:a9fe:a9fe",
    "64:ff9b::a00:1",
    "2002:7f00:1::1",
    "2002:a00:1::",
    "2002:c000:c0::",
    "3fff::1",
]
PUBLIC = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:93.184.215.14", "64:ff9b::5db8:d70e"]


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tls=True, home=tmp_path, accounts=0, contacts=0) as running:
        yield running


def client(url: str, egress: Egress, ca_file: Path | None = None) -> Http:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    return Http(
        "Acme",
        url,
        now=lambda: now,
        sleep=lambda _: None,
        patience=Patience(tries=2),
        egress=egress,
        ca_file=str(ca_file) if ca_file else None,
    )


def read(url: str, egress: Egress, ca_file: Path | None = None) -> int:
    http = client(url, egress, ca_file)
    try:
        return http.get(f"{url}/services/data").status
    finally:
        http.close()


@pytest.mark.parametrize("address", FORBIDDEN)
def test_a_name_that_stands_for_an_inner_address_is_refused(address: str) -> None:
    egress = Egress(public_only=True, resolve=lambda _, __: ["93.184.215.14", address])
    with pytest.raises(ConfigurationError, match=r"shop\.example leads to an address inside a private or reserved network"):
        egress.addresses("shop.example", 443)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_name_that_stands_for_a_public_address_is_allowed(address: str) -> None:
    assert Egress(public_only=True, resolve=lambda _, __: [address]).addresses("shop.example", 443) == [address]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "2130706433", "0x7f.1", "127.1"])
def test_this_machine_is_refused_in_production_however_it_is_written(secure: Sandbox, host: str) -> None:
    with pytest.raises(ConfigurationError, match="name it in INTEGRATION_ALLOWED_HOSTS"):
        read(f"https://{host}:{secure.port}", Egress(public_only=True), secure.ca_file)
    assert secure.requests == []


def test_a_host_that_is_allowed_is_reached_and_tls_verifies_its_name(secure: Sandbox) -> None:
    allowed = Egress(public_only=True, allowed=frozenset({"localhost", "shop.example"}), resolve=lambda _, __: ["127.0.0.1"])
    assert read(secure.url, allowed, secure.ca_file) == 200
    with pytest.raises(ConfigurationError, match="shows a certificate that no trusted authority vouches for"):
        read(f"https://shop.example:{secure.port}", allowed, secure.ca_file)
    assert len(secure.requests) == 1


def test_the_address_that_was_judged_is_the_one_that_is_connected_to(secure: Sandbox) -> None:
    asked: list[str] = []

    def rebinding(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["192.0.2.1"] if len(asked) > 1 else ["127.0.0.1"]

    assert read(secure.url, Egress(resolve=rebinding), secure.ca_file) == 200
    assert asked == ["localhost"]


def test_the_next_address_is_tried_when_one_does_not_answer(secure: Sandbox) -> None:
    assert read(secure.url, Egress(resolve=lambda _, __: ["::1", "127.0.0.1"]), secure.ca_file) == 200


def test_a_name_that_stands_for_nothing_is_a_network_error() -> None:
    def nobody(_: str, __: int) -> list[str]:
        raise OSError("no such name")

    with pytest.raises(NetworkError, match=r"Acme cannot be reached at shop\.example: check the URL"):
        read("https://shop.example", Egress(public_only=True, resolve=nobody))


def test_a_token_endpoint_inside_gets_no_credentials(secure: Sandbox) -> None:
    http = client("https://shop.example", Egress(public_only=True), secure.ca_file)
    endpoint = TokenEndpoint(http, f"{secure.url}/services/oauth2/token", "x")
    with pytest.raises(ConfigurationError, match="localhost leads to an address inside"):
        endpoint.exchanged({"grant_type": "refresh_token"}, {})
    http.close()
    assert secure.requests == []


def test_a_connector_in_production_is_held_to_it_and_in_development_is_not(database: Database, secure: Sandbox) -> None:
    key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    production = {"INTEGRATION_ENV": "production", "DATABASE_URL": database.url, "INTEGRATION_MASTER_KEY": key}
    named = production | {"INTEGRATION_ALLOWED_HOSTS": "localhost"}
    row = ConnectorRow(1, "org", "Org", "salesforce", secure.url, "oauth2", {}, True, 1)
    for environment, public_only, allowed in [
        ({}, False, frozenset()),
        (production, True, frozenset()),
        (named, True, frozenset({"localhost"})),
    ]:
        resource = ConnectorResource(load(environment), lambda: datetime.now(UTC))
        with resource.open(database, uuid4(), row) as opened:
            assert opened.given.egress == Egress(public_only, allowed)
