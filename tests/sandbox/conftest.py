"""A small org on real HTTP, and a client that is signed in."""

from collections.abc import Iterator

import httpx
import pytest

from connector_resources.sandbox import Sandbox


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(accounts=30, contacts=60) as running:
        yield running


@pytest.fixture
def api(sandbox: Sandbox) -> Iterator[httpx.Client]:
    """Paths are relative to the newest version of the REST API."""
    headers = {"Authorization": f"Bearer {sandbox.state.open_session()}"}
    with httpx.Client(base_url=f"{sandbox.url}/services/data/v67.0/", headers=headers, trust_env=False) as client:
        yield client
