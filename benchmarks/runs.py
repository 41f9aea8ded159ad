"""What a run costs by itself: five trivial ops, launched over GraphQL, through the queue, until finished.

Three times the same three processes (code server, web server, daemon) over the same PostgreSQL: with our launcher and queue;
with what Dagster comes with, in an environment that holds nothing else; and so again, but with a job whose module imports
what every run of ours needs. All are up at the same time, and take turns.
"""

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
from running import GraphQL, free_port, until

from benchmarks.house import Dagster
from benchmarks.machine import PEERS, ROOT
from benchmarks.size import Size
from benchmarks.table import Reading, Row
from integration_pipelines.orchestration.launcher import PRELOAD
from integration_pipelines.store.embedded import Embedded
from integration_pipelines.store.migrate import create_database

JOB = "five_ops"
BARE, FULL = "benchmarks.five_ops.job", "benchmarks.five_ops.job_of_ours"
STOCK: Mapping[str, Any] = {}
OURS: Mapping[str, Any] = {
    "run_launcher": {
        "module": "integration_pipelines.orchestration.launcher",
        "class": "WarmRunLauncher",
        "config": {"preload": [PRELOAD, BARE]},
    },
    "run_coordinator": {"module": "integration_pipelines.orchestration.run_queue", "class": "RunQueue"},
}


def measure(size: Size) -> list[Row]:
    first: dict[str, float] = {}
    later: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="integration-bench-") as folder, Embedded(Path(folder) / "home") as server:
        place, bin_ = Path(folder), Path(sys.executable).parent
        warm = [str(bin_ / "python"), "-P", "-m", "benchmarks.five_ops"]
        with (
            installation(place / "ours", server.url, bin_, OURS, warm) as ours,
            installation(place / "stock", server.url, PEERS, STOCK, [str(PEERS / "dagster-daemon")]) as stock,
            installation(place / "full", server.url, bin_, STOCK, [str(bin_ / "dagster-daemon")], FULL) as full,
        ):
            served = {"ours": ours, "stock": stock, "full": full}
            for name, dagster in served.items():
                first[name] = dagster.run(JOB)[0].seconds
            for _ in range(2 * size.repetitions):
                for name, dagster in served.items():
                    later[name].append(dagster.run(JOB)[0].seconds)
    what = "A run of 5 trivial ops, launch → finished"
    made = []
    for name, against in (("stock", "stock Dagster"), ("full", "stock Dagster, importing what a sync imports")):
        made.append(Row(what, Reading(later["ours"]), against, Reading(later[name]), target=0.25))
        made.append(Row("… the first one after the start", Reading([first["ours"]]), against, Reading([first[name]])))
    return made


@contextmanager
def installation(
    home: Path, server: str, programs: Path, settings: Mapping[str, Any], daemon: Sequence[str], module: str = BARE
) -> Iterator[Dagster]:
    """Three processes with a database of their own; ready when the daemon has begun to look at the queue."""
    home.mkdir()
    url = create_database(server, f"dagster_{home.name}").replace("postgresql://", "postgresql+psycopg2://")
    storage = {"storage": {"postgres": {"postgres_url": url}}, "telemetry": {"enabled": False}}
    (home / "dagster.yaml").write_bytes(orjson.dumps({**storage, **settings}))  # JSON is YAML
    socket, port = str(home / "code.sock"), free_port()
    common = ["--grpc-socket", socket]
    commands = [
        [str(programs / "dagster"), "api", "grpc", "-m", module, "--socket", socket, "--location-name", module],
        [str(programs / "dagster-webserver"), "-p", str(port), "--path-prefix", "/dagster", *common],
        [*daemon, "run", *common],
    ]
    environment = {**os.environ, "DAGSTER_HOME": str(home), "PYTHONPATH": str(ROOT)}
    started = []
    with (home / "log").open("w") as log:
        try:
            for command in commands:
                started.append(
                    subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=log, start_new_session=True)
                )
                until(Path(socket).exists, 60, "the code server's start")
            graphql = GraphQL(port, "none")  # stock Dagster asks for no key
            with graphql.client:
                until(lambda: _ready(graphql) or any(one.poll() is not None for one in started), 90, "the start")
                assert _ready(graphql), Path(log.name).read_text()[-3000:]
                yield Dagster(graphql, _location(graphql))
        finally:
            for process in started:
                os.killpg(process.pid, 9)
                process.wait()


def _ready(graphql: GraphQL) -> bool:
    asked = '{ instance { daemonHealth { daemonStatus(daemonType: "QUEUED_RUN_COORDINATOR") { healthy } } } }'
    try:
        return bool(graphql.ask(asked)["instance"]["daemonHealth"]["daemonStatus"]["healthy"])
    except httpx.HTTPError:
        return False


def _location(graphql: GraphQL) -> str:
    found = graphql.ask("{ workspaceOrError { ... on Workspace { locationEntries { name } } } }")
    name: str = found["workspaceOrError"]["locationEntries"][0]["name"]
    return name
