"""A whole installation as people run it: `integration up` in a home of its own, looked at from outside."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import httpx
import sqlalchemy as sa

from connector_resources.sandbox import Sandbox
from integration_pipelines.cli_connector import store_mapping
from integration_pipelines.settings import VARIABLES, load
from integration_pipelines.store import api_keys, connectors, people, syncs, tenants
from integration_pipelines.store.database import Database, engine
from integration_pipelines.store.installation import open_installation

LAUNCH = """mutation ($job: String!) { launchRun(executionParams: {runConfigData: {}, selector: {
    repositoryLocationName: "integration_pipelines.definitions", repositoryName: "__repository__", jobName: $job}})
    { __typename ... on LaunchRunSuccess { run { runId } } ... on Error { message } } }"""


_OURS = {*VARIABLES, "DAGSTER_HOME"}


def until(condition: Callable[[], Any], seconds: float = 60, what: str = "it") -> Any:
    """Wait for a condition of other processes; returns what it returned."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what} did not happen in time"
        time.sleep(0.1)
    return found


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


@dataclass
class Running:
    """`integration up` under `home`."""

    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    last_answer: str = ""

    def __enter__(self) -> Self:
        self.log = (self.home.parent / "up.log").open("a")
        self.start()
        return self

    def start(self) -> None:
        command = [sys.executable, "-m", "integration_pipelines", "up", "--port", str(self.port)]
        inherited = {name: value for name, value in os.environ.items() if name not in _OURS}
        given = {**inherited, "INTEGRATION_HOME": str(self.home), **self.environment}
        self.process = subprocess.Popen(command, env=given, cwd=self.home.parent, stdout=self.log, stderr=self.log)
        until(lambda: self.answers() or self.process.poll() is not None, 90, "the start")
        assert self.process.poll() is None, self.said()

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
        self.log.close()
        for pid in self.pids():  # what a failed test has left
            os.kill(pid, signal.SIGKILL)
        with open_installation(load({"INTEGRATION_HOME": str(self.home)})):
            pass  # the last one lets the database go

    def said(self) -> str:
        return Path(self.log.name).read_text()

    def answers(self) -> bool:
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=2)
        except httpx.HTTPError as problem:
            return self._noted(type(problem).__name__, ready=False)
        return self._noted(answer.text, ready=answer.is_success)

    def _noted(self, answer: str, *, ready: bool) -> bool:
        if answer != self.last_answer:
            self.log.write(f"/readyz: {answer}\n")
            self.log.flush()
            self.last_answer = answer
        return ready

    def pids(self, word: str = "") -> list[int]:
        """Processes of this installation, its database aside, whose command line has that word."""
        mark = f"INTEGRATION_HOME={self.home}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                    if state not in "ZX" and word in (folder / "cmdline").read_text():
                        found.append(int(folder.name))
            except OSError:
                continue
        return sorted(found)

    def kill(self, word: str) -> int:
        """kill -9 of the processes with that word; returns how many."""
        pids = self.pids(word)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return len(pids)

    @contextmanager
    def database(self) -> Iterator[Database]:
        settings = load({"INTEGRATION_HOME": str(self.home)})
        with open_installation(settings) as installation, closing(installation.database()) as database:
            yield database

    def owner(self, database: Database) -> sa.Engine:
        return engine(database.url, role=None, poolclass=sa.NullPool)


def operator_key(database: Database) -> str:
    """An API key of a platform operator."""
    tenant = tenants.find(database, "main")
    assert tenant is not None
    with database.tenant(tenant) as scope:
        return api_keys.create(scope, people.find(scope, "admin@localhost"), "test", actor="test").key


class GraphQL:
    """Dagster's GraphQL, as a program uses it."""

    def __init__(self, port: int, key: str) -> None:
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}/dagster", headers={"Authorization": f"Bearer {key}"}, timeout=60
        )

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = self.client.post("/graphql", json={"query": query, "variables": variables})
        told: dict[str, Any] = json.loads(answer.raise_for_status().text)
        assert "errors" not in told, told
        data: dict[str, Any] = told["data"]
        return data

    def launch(self, sync_id: int) -> str:
        """The new run's id."""
        told = self.ask(LAUNCH, job=f"sync_{sync_id}")["launchRun"]
        assert told["__typename"] == "LaunchRunSuccess", told
        run_id: str = told["run"]["runId"]
        return run_id

    def status(self, run_id: str) -> str:
        found = self.ask("query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }", id=run_id)
        status: str = found["runOrError"]["status"]
        return status

    def finished(self, run_id: str) -> str:
        return str(until(lambda: (s := self.status(run_id)) in ("SUCCESS", "FAILURE", "CANCELED") and s, 120, "the run's end"))


def furnish(database: Database, sandbox: Sandbox, tenant: str, **options: float) -> tuple[UUID, list[int]]:
    """A tenant with a sync of accounts and one of contacts; returns its id and theirs."""
    made = tenants.create(database, tenant)
    numbers = []
    with database.tenant(made) as scope:
        connector = connectors.create(
            scope,
            name="Org",
            connector_type="salesforce",
            url=sandbox.url,
            authentication_method="oauth2",
            credentials={name: sandbox.credentials[name] for name in ("client_id", "client_secret")},
            user=tenants.first_user(scope),
        )
        for seed in ("account-customer", "contact-contact_person"):
            file = resources.files("mappings") / "salesforce" / f"{seed}.yaml"
            row = store_mapping(scope, file.read_text("utf-8"), file.name, "test")
            config = syncs.create(
                scope, connector_id=connector.id, name=seed, mapping_id=row.id, options=options, actor="test"
            )  # fmt: skip
            numbers.append(config.id)
    return made, numbers
