"""A whole installation under `integration up`, with tenants and syncs to measure; runs launched as programs launch them."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from running import GraphQL, Running, operator_key, until

from integration_pipelines.cli_connector import store_mapping
from integration_pipelines.orchestration.launcher import WORKER_TAG
from integration_pipelines.store import connectors, history, syncs, tenants
from integration_pipelines.store.database import Database

LOCATION = "integration_pipelines.definitions"
UNASKED = "nobody asks for it"
_LAUNCH = """mutation ($every: [ExecutionParams!]!) { launchMultipleRuns(executionParamsList: $every) { ... on
    LaunchMultipleRunsResult { launchMultipleRunsResult { __typename ... on LaunchRunSuccess { run { runId } }
    ... on Error { message } } } ... on Error { message } } }"""
_LOOK = """query ($id: ID!) { runOrError(runId: $id) { ... on Run { runId status startTime endTime tags { key value }
    stepStats { stepKey startTime endTime } } } }"""
_JOB = """query ($location: String!, $name: String!) { pipelineOrError(params: {repositoryLocationName: $location,
    repositoryName: "__repository__", pipelineName: $name}) { ... on Pipeline { name } } }"""


@dataclass(frozen=True)
class Run:
    """A finished run; instants in seconds since 1970, by the machine's one clock. `steps`: seconds of each op."""

    id: str
    launched: float
    started: float
    ended: float
    steps: Mapping[str, float]
    tags: Mapping[str, str]

    @property
    def seconds(self) -> float:
        """From before the launch was asked for to the end of the run."""
        return self.ended - self.launched


@dataclass
class Dagster:
    """One Dagster installation, over GraphQL."""

    graphql: GraphQL
    location: str = LOCATION

    def there(self, job: str) -> bool:
        return bool(self.graphql.ask(_JOB, location=self.location, name=job)["pipelineOrError"].get("name") == job)

    def launch(self, jobs: Sequence[str]) -> list[str]:
        """The new runs' ids, in order."""
        places = ({"repositoryLocationName": self.location, "repositoryName": "__repository__", "jobName": j} for j in jobs)
        asked = [{"runConfigData": {}, "selector": place} for place in places]
        told = self.graphql.ask(_LAUNCH, every=asked)["launchMultipleRuns"]
        assert all("run" in one for one in told.get("launchMultipleRunsResult", [{}])), told
        return [one["run"]["runId"] for one in told["launchMultipleRunsResult"]]

    def look(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.graphql.ask(_LOOK, id=run_id)["runOrError"]
        found["tags"] = {tag["key"]: tag["value"] for tag in found["tags"]}
        return found

    def worker(self, run_id: str) -> int | None:
        """The process of a run; None before it has begun."""
        _, _, rest = self.look(run_id)["tags"].get(WORKER_TAG, "").partition("/")
        return int(rest.partition("/")[0]) if rest else None

    def finished(self, run_id: str, launched: float, patience: float = 3600) -> Run:
        """The run, when it has ended well."""

        def ended() -> dict[str, Any] | None:
            time.sleep(0.2)  # looking costs the machine something, too; the end itself is read from the run
            found = self.look(run_id)
            return found if found["status"] in ("SUCCESS", "FAILURE", "CANCELED") else None

        found = until(ended, patience, "the run's end")
        assert found["status"] == "SUCCESS", f"run {run_id} of the job ended as {found['status']}"
        steps = {one["stepKey"]: one["endTime"] - one["startTime"] for one in found["stepStats"]}
        return Run(run_id, launched, found["startTime"], found["endTime"], steps, found["tags"])

    def run(self, *jobs: str) -> list[Run]:
        """Launched at once; finished, every one of them."""
        launched = time.time()
        return [self.finished(run_id, launched) for run_id in self.launch(jobs)]


@dataclass(frozen=True)
class Sync:
    tenant: UUID
    connector: int
    id: int

    @property
    def job(self) -> str:
        return f"sync_{self.id}"


@dataclass
class House:
    running: Running
    database: Database
    dagster: Dagster

    def sync(
        self,
        tenant: UUID,
        url: str,
        client: str,
        secret: str = UNASKED,
        mapping: str = "account-customer",
        direction: str = "inbound",
    ) -> Sync:
        """A new connector to that client's org, with one sync."""
        with self.database.tenant(tenant) as scope:
            row = connectors.create(
                scope,
                name=client,
                connector_type="salesforce",
                url=url,
                authentication_method="oauth2",
                credentials={"client_id": client, "client_secret": secret},
                configuration={"external_ids": {"Account": "ERP_Id__c"}} if direction != "inbound" else None,
                user=tenants.first_user(scope),
            )
        return self.another(Sync(tenant, row.id, 0), mapping, direction=direction)

    def another(self, beside: Sync, mapping: str, name: str = "", cron: str | None = None, direction: str = "inbound") -> Sync:
        """One more sync of the same connector."""
        file = Path(__file__).parent / f"{mapping}.yaml"
        with self.database.tenant(beside.tenant) as scope:
            row = store_mapping(scope, file.read_text("utf-8"), file.name, "bench")
            config = syncs.create(
                scope,
                connector_id=beside.connector,
                name=name or f"{mapping} {beside.connector}",
                mapping_id=row.id,
                mode="scheduled" if cron else "manual",
                direction=direction,
                cron=cron,
                actor="bench",
            )
        return Sync(beside.tenant, beside.connector, config.id)

    def run(self, sync: Sync, **counts: int) -> Run:
        """One run, launched when its job is there (`reload` tells how long that takes), and finished. `counts`: what its
        history row must say, so that nothing is fast by doing less."""
        until(lambda: self.dagster.there(sync.job), 120, "the definition")
        (run,) = self.dagster.run(sync.job)
        self.check(sync, **counts)
        return run

    def check(self, sync: Sync, **counts: int) -> None:
        with self.database.tenant(sync.tenant) as scope:
            row = history.latest(scope, sync.id, 1)[0]
        assert {name: row[f"records_{name}"] for name in counts} == counts, row

    def number(self, statement: str) -> float:
        """One number, read as the owner of the tables."""
        with self.running.owner(self.database).connect() as connection:
            return float(connection.exec_driver_sql(statement).scalar() or 0)

    def execute(self, statement: str) -> None:
        with self.running.owner(self.database).begin() as connection:
            connection.exec_driver_sql(statement)


@contextmanager
def house(**environment: str) -> Iterator[House]:
    with (
        tempfile.TemporaryDirectory(prefix="integration-bench-") as folder,
        Running(Path(folder) / "home", environment) as running,
        running.database() as database,
    ):
        graphql = GraphQL(running.port, operator_key(database))
        with graphql.client:
            yield House(running, database, Dagster(graphql))
