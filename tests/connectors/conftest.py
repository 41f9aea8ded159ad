"""A Salesforce stand-in on real HTTP, and connectors to it that need not wait."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from orgs import KEYS
from shopping import Visit

from connector_resources.contract import Given, GrantState
from connector_resources.salesforce.resource import Salesforce
from connector_resources.sandbox import Sandbox
from connector_resources.sandbox.generic import ShopSandbox


@dataclass
class MemoryStore:
    """A CredentialStore that writes down what happens, in order. `queued`: what later loads find, one after the other."""

    credentials: dict[str, str]
    events: list[str] = field(default_factory=list)
    queued: list[dict[str, str]] = field(default_factory=list)
    on_store: Callable[[], None] = lambda: None
    states: list[GrantState] = field(default_factory=list)

    def load(self) -> Mapping[str, str]:
        self.events.append("load")
        found = dict(self.credentials)
        if self.queued:
            self.credentials = self.queued.pop(0)
        return found

    @contextmanager
    def exclusive(self) -> Iterator["MemoryStore"]:
        self.events.append("lock")
        yield self
        self.events.append("unlock")

    def store(self, changed: Mapping[str, str | None], state: GrantState | None = None) -> None:
        self.events.append(f"store {', '.join(changed) or 'nothing'}{'' if state is None or state.good else ': reconnect'}")
        merged = {**self.credentials, **changed}
        self.credentials = {name: value for name, value in merged.items() if value is not None}
        self.states += [state] if state else []
        self.on_store()


@dataclass
class Budget:
    spent: int = 0
    observed: list[tuple[int, int]] = field(default_factory=list)

    def spend(self, calls: int = 1) -> None:
        self.spent += calls

    def observe(self, used: int, limit: int) -> None:
        self.observed.append((used, limit))

    def close(self) -> None: ...


@dataclass
class Connect:
    """Makes connectors to the sandbox. `waits`: seconds that they would have slept."""

    sandbox: Sandbox
    waits: list[float] = field(default_factory=list)
    budget: Budget = field(default_factory=Budget)
    opened: list[Salesforce] = field(default_factory=list)

    def credentials(self, *names: str, **others: str) -> dict[str, str]:
        return {name: self.sandbox.credentials[name] for name in names} | others

    def store(self, *names: str, **others: str) -> MemoryStore:
        return MemoryStore(self.credentials(*names, **others))

    def __call__(
        self, store: MemoryStore | None = None, url: str = "", ca_file: str | None = None, **configuration: Any
    ) -> Any:
        given = Given(
            url=url or self.sandbox.url,
            authentication_method="oauth2",
            credentials=store or self.store("client_id", "client_secret"),
            now=lambda: datetime.now(UTC),
            budget=self.budget,
            configuration=configuration,
            ca_file=ca_file,
        )
        self.opened.append(Salesforce(given, sleep=self.waits.append))
        return self.opened[-1]


@pytest.fixture(scope="session")
def running_sandbox() -> Iterator[Sandbox]:
    with Sandbox(accounts=40, contacts=10) as running:
        yield running


@pytest.fixture
def sandbox(running_sandbox: Sandbox) -> Iterator[Sandbox]:
    """The org as it was at first, whatever the test does to it."""
    before, limit = running_sandbox.state.copied(), running_sandbox.state.api_limit
    user = running_sandbox.state.user_id
    running_sandbox.faults.forget_requests()
    yield running_sandbox
    running_sandbox.faults.clear()
    running_sandbox.state.jobs.clear()
    running_sandbox.state.records, running_sandbox.state.api_limit = before, limit
    running_sandbox.state.user_id = user


@pytest.fixture
def connect(sandbox: Sandbox) -> Iterator[Connect]:
    made = Connect(sandbox)
    yield made
    for connector in made.opened:
        connector.close()


@pytest.fixture
def salesforce(connect: Connect) -> Salesforce:
    """A connector to the sandbox, signed in with client credentials."""
    connector: Salesforce = connect()
    return connector


@pytest.fixture(scope="session")
def running_shop() -> Iterator[ShopSandbox]:
    with ShopSandbox(customers=520, orders=30) as running:
        yield running


@pytest.fixture
def shop(running_shop: ShopSandbox) -> Iterator[ShopSandbox]:
    """The shop as it was at first, whatever the test does to it."""
    running_shop.faults.forget_requests()
    yield running_shop
    running_shop.faults.clear()
    running_shop.state.restore()


@pytest.fixture
def visit(shop: ShopSandbox) -> Iterator[Visit]:
    made = Visit(shop)
    yield made
    for connector in made.opened:
        connector.close()


@pytest.fixture
def keyed(connect: Any) -> Salesforce:
    """A connector whose creates are upserts."""
    connector: Salesforce = connect(external_ids=KEYS)
    return connector
