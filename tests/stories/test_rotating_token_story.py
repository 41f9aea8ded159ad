"""Two processes, one refresh token that is good for one use, and a vendor that ends the grant when it sees a spent one."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from connector_resources.contract import GrantState
from connector_resources.sandbox import Sandbox
from integration_pipelines.store import connectors, tenants
from integration_pipelines.store.connectors import ConnectorRow, StoredCredentials
from integration_pipelines.store.database import Database

ROUNDS = 50
KILLED = (7, 8, 20, 33, 49)

WORKER = '''
import contextlib, json, os, pathlib, signal, sys, uuid
from datetime import UTC, datetime
from connector_resources.contract import Given
from connector_resources.errors import ReconnectNeeded
from connector_resources.salesforce.resource import Salesforce
from integration_pipelines.store.connectors import StoredCredentials
from integration_pipelines.store.database import Database
from integration_pipelines.store.master_key import MasterKey

url, master, tenant, number, place = sys.argv[1:]
stored = StoredCredentials(Database(url, MasterKey(None, pathlib.Path(master))), uuid.UUID(tenant), int(number))


class Doomed:
    """Kills its process when the answer of a refresh is to be stored."""

    def __init__(self, held, die):
        self.held, self.die, self.load = held, die, held.load

    def store(self, changed, state=None):
        if self.die and changed.get("access"):
            os.kill(os.getpid(), signal.SIGKILL)
        self.held.store(changed, state)


class Watched:
    die = False
    load = staticmethod(stored.load)

    @contextlib.contextmanager
    def exclusive(self):
        with stored.exclusive() as held:
            yield Doomed(held, self.die)


watched = Watched()
opened = Salesforce(Given(place, "oauth2", watched, lambda: datetime.now(UTC)))
print("ready", flush=True)
for line in sys.stdin:
    watched.die = json.loads(line)
    try:
        opened.entities()
        print("ok", flush=True)
    except ReconnectNeeded as problem:
        print(problem, flush=True)
'''


class Worker:
    def __init__(self, database: Database, row: ConnectorRow, tenant: UUID, url: str) -> None:
        command = [sys.executable, "-c", WORKER, database.url, str(database.master.file), str(tenant), str(row.id), url]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def told(self) -> str:
        """The next line; nothing when it was killed."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def go(self, die: bool) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(die) + "\n")
        self.process.stdin.flush()

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            assert stream
            stream.close()
        self.process.wait()


@pytest.fixture
def org() -> Iterator[Sandbox]:
    with Sandbox(accounts=1, contacts=1, rotate=True) as running:
        yield running


@pytest.fixture
def tenant(database: Database) -> UUID:
    return tenants.create(database, "acme")


@pytest.fixture
def row(database: Database, tenant: UUID, org: Sandbox) -> ConnectorRow:
    credentials = {name: org.credentials[name] for name in ("client_id", "refresh_token")}
    with database.tenant(tenant) as scope:
        return connectors.create(
            scope,
            name="Org",
            connector_type="salesforce",
            url=org.url,
            authentication_method="oauth2",
            credentials=credentials,
            user=tenants.first_user(scope),
        )


@contextmanager
def staffed(database: Database, row: ConnectorRow, tenant: UUID, url: str) -> Iterator[list[Worker]]:
    workers = [Worker(database, row, tenant, url) for _ in "12"]
    try:
        assert [worker.told() for worker in workers] == ["ready", "ready"]
        yield workers
    finally:
        for worker in workers:
            worker.close()


def test_two_processes_share_one_rotating_token_and_never_use_a_spent_one(
    database: Database, tenant: UUID, row: ConnectorRow, org: Sandbox
) -> None:
    def standing() -> ConnectorRow:
        with database.tenant(tenant) as scope:
            return connectors.get(scope, row.id)

    deaths = 0
    with staffed(database, row, tenant, org.url) as workers:
        for number in range(ROUNDS):
            org.state.revoke_tokens()
            refreshed = org.grants.refreshed
            for worker in workers:
                worker.go(die=number in KILLED)
            answers = [worker.told() for worker in workers]
            assert org.grants.refreshed == refreshed + 1
            if number not in KILLED:
                assert answers == ["ok", "ok"]
                assert standing().state == "ok"
                continue
            killed = answers.index("")
            assert "is not used again: reconnect the connector" in answers[1 - killed]
            assert standing().state.startswith("reconnect needed since ")
            deaths += workers[killed].process.wait() == -signal.SIGKILL
            workers[killed].close()
            workers[killed] = Worker(database, row, tenant, org.url)
            assert workers[killed].told() == "ready"
            with database.tenant(tenant) as scope:
                again = {"refresh_token": org.grants.issue()}
                connectors.reconnect(scope, row.id, again, GrantState(True), user=tenants.first_user(scope))
    assert deaths == len(KILLED)
    assert org.grants.reused == 0
    assert StoredCredentials(database, tenant, row.id).load()["rotates"] == "yes"
    assert standing().revision == 1 + len(KILLED)  # a person's doing, not a refresh's
