"""What every manifest's connector owes, whatever it speaks: budget, rates, certificates, honest capabilities."""

import datetime
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from shopping import Visit, manifest_text, read

from connector_resources.conformance import Held
from connector_resources.contract import Given
from connector_resources.errors import ConfigurationError, NetworkError, RateLimited
from connector_resources.manifest_parse import parse
from connector_resources.rates import Rate, Rates
from connector_resources.registry import manifest_class
from connector_resources.sandbox.generic import ShopSandbox
from connector_resources.sandbox.tls import make_certificates

NOW = datetime.datetime(2026, 11, 25, 12, tzinfo=UTC)


@dataclass
class Purse:
    left: int
    spent: int = 0

    def spend(self, calls: int = 1) -> None:
        if self.spent + calls > self.left:
            raise RateLimited("The reserve of calls is reached.", 60.0)
        self.spent += calls

    def observe(self, used: int, limit: int) -> None:
        raise AssertionError((used, limit))

    def close(self) -> None: ...


@pytest.mark.parametrize("name", ["sandbox-rest", "sandbox-soap", "sandbox-graphql"])
def test_each_call_is_paid_from_the_budget_and_none_goes_out_without(visit: Visit, shop: ShopSandbox, name: str) -> None:
    method = "api_key"
    for purse in (Purse(100), Purse(2)):
        shop.faults.forget_requests()
        shop.faults.add("status", status=503)
        kind: Any = manifest_class(parse(f"{name}.yaml", manifest_text(name, ("size: 200", "size: 60"))))
        given = Given(shop.url, method, Held({"api_key": shop.credentials["api_key"]}), visit.now, budget=purse)
        with kind(given, sleep=visit.waits.append) as connector:
            if purse.left == 100:
                assert len(read(connector)) == 520
            else:
                with pytest.raises(RateLimited, match="reserve"):
                    read(connector)
        assert len(shop.requests) == purse.spent


@dataclass
class Hand:
    """A clock that only sleeping moves."""

    slept: list[float] = field(default_factory=list)

    def now(self) -> datetime.datetime:
        return NOW + timedelta(seconds=sum(self.slept))


@pytest.mark.parametrize(
    ("rates", "calls", "seconds"),
    [((), 50, 0.0), ((Rate(5, 1.0),), 5, 0.0), ((Rate(5, 1.0),), 10, 1.0), ((Rate(10, 1.0), Rate(20, 60.0)), 30, 30.0)],
    ids=["none", "a burst", "beyond it", "the stricter of two"],
)
def test_calls_wait_until_their_rate_allows_them(rates: tuple[Rate, ...], calls: int, seconds: float) -> None:
    hand = Hand()
    kept = Rates(rates, hand.now, hand.slept.append)
    for _ in range(calls):
        kept.spend()
    assert sum(hand.slept) == pytest.approx(seconds, abs=1e-6)


def test_calls_that_come_slowly_enough_do_not_wait() -> None:
    hand = Hand()
    kept = Rates([Rate(1, 1.0)], hand.now, hand.slept.append)
    for _ in range(5):
        kept.spend()
        hand.slept.append(1.0)
    assert hand.slept == [1.0] * 5


def _certificate(name: str) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime.now(UTC) - timedelta(days=1)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=10))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip
    return built.public_bytes(serialization.Encoding.PEM).decode(), pem.decode()


class _Who(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        shown: Any = self.connection
        ((_, name),) = shown.getpeercert()["subject"][0]
        body = f'{{"account": "{name}"}}'.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as its base has it
        pass


@contextmanager
def asking_for_certificates(home: Path, trusted: str) -> Iterator[tuple[str, str]]:
    """URL and CA file of a server that only talks to who shows the trusted certificate."""
    root, server = make_certificates(home)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=trusted)
    with HTTPServer(("127.0.0.1", 0), _Who) as served:
        served.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that is refused is what we want
        served.socket = context.wrap_socket(served.socket, server_side=True)
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"https://localhost:{served.server_port}", str(root)
        finally:
            served.shutdown()
            thread.join()


def test_a_client_certificate_signs_in(tmp_path: Path) -> None:
    text = manifest_text("sandbox-rest", ("  basic: {}\n", "  certificate: {}\n"))
    kind = manifest_class(parse("sandbox-rest.yaml", text))
    ours, stranger = _certificate("integration"), _certificate("stranger")

    def given(certificate: str, key: str) -> Given:
        held = Held({"certificate": certificate, "private_key": key})
        return Given(url, "certificate", held, lambda: datetime.datetime.now(UTC), ca_file=root)

    with asking_for_certificates(tmp_path, ours[0]) as (url, root):
        with kind(given(*ours)) as connector:
            assert connector.test().account == "integration"
        with pytest.raises(ConfigurationError, match="are no PEM texts that belong together"):
            kind(given(ours[0], stranger[1]))
        waits: list[float] = []
        made: Any = kind
        with made(given(*stranger), sleep=waits.append) as connector, pytest.raises(NetworkError):
            connector.test()


def test_credentials_of_a_certificate_that_are_missing_are_named() -> None:
    kind = manifest_class(parse("sandbox-rest.yaml", manifest_text("sandbox-rest", ("  basic: {}\n", "  certificate: {}\n"))))
    with pytest.raises(ConfigurationError, match="has no private_key"):
        kind(Given("https://localhost:1", "certificate", Held({"certificate": "x"}), lambda: NOW))
