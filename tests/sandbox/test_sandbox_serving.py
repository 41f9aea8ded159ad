"""Ports, threads and TLS."""

import signal
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from connector_resources.errors import ConfigurationError
from connector_resources.sandbox import Sandbox, serve


def test_a_port_that_is_taken_is_named(sandbox: Sandbox) -> None:
    with pytest.raises(ConfigurationError, match=f"Port {sandbox.port} is taken: stop what uses it"):
        serve(sandbox.port)


def test_a_port_is_free_again_when_the_sandbox_has_stopped() -> None:
    with Sandbox(accounts=1, contacts=1) as first:
        port = first.port
        httpx.get(f"{first.url}/services/data", trust_env=False)
    with Sandbox(port, accounts=1, contacts=1) as second:
        assert httpx.get(f"{second.url}/services/data", trust_env=False).status_code == 200


def test_serve_prints_nothing_tells_when_it_is_ready_and_ends_when_interrupted(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys\n"
        "from connector_resources.sandbox import serve\n"
        "serve(0, home=pathlib.Path(sys.argv[1]), ready=lambda s: (pathlib.Path(sys.argv[1]) / 'url').write_text(s.url))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        place = tmp_path / "url"
        waiting = threading.Event()
        while not (place.exists() and place.read_text()):
            assert process.poll() is None
            waiting.wait(0.02)
        assert httpx.get(f"{place.read_text()}/services/data", trust_env=False).status_code == 200
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert (output, process.returncode) == (b"", 0)


def test_with_tls_only_who_trusts_the_root_connects(tmp_path: Path) -> None:
    with Sandbox(tls=True, home=tmp_path, accounts=1, contacts=1) as sandbox:
        assert sandbox.ca_file == tmp_path / "sandbox-ca.pem"
        assert sandbox.url.startswith("https://localhost:")
        trusting = ssl.create_default_context(cafile=sandbox.ca_file)
        for url in (sandbox.url, f"https://127.0.0.1:{sandbox.port}"):
            assert httpx.get(f"{url}/services/data", verify=trusting, trust_env=False).status_code == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{sandbox.url}/services/data", trust_env=False)
        assert (tmp_path / "sandbox-server.pem").stat().st_mode & 0o077 == 0


def test_the_root_passes_the_strict_checks_of_newer_pythons(tmp_path: Path) -> None:
    with Sandbox(tls=True, home=tmp_path, accounts=1, contacts=1) as sandbox:
        strict = ssl.create_default_context(cafile=sandbox.ca_file)
        strict.verify_flags |= ssl.VERIFY_X509_STRICT
        assert httpx.get(f"{sandbox.url}/services/data", verify=strict, trust_env=False).status_code == 200


def test_many_clients_at_once_make_each_record_once(sandbox: Sandbox) -> None:
    headers = {"Authorization": f"Bearer {sandbox.state.open_session()}"}

    def write(name: str) -> None:
        with httpx.Client(base_url=f"{sandbox.url}/services/data/v67.0/", headers=headers, trust_env=False) as client:
            for number in range(20):
                client.patch(f"sobjects/Account/ERP_Id__c/{number}", json={"Name": name}).raise_for_status()

    threads = [threading.Thread(target=write, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sandbox.state.records["Account"]) == 50
