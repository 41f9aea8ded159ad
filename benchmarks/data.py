"""Many records of twelve columns: into the ERP with links, base and journal, against dlt's merge into a table.

Both read the same pages of the same server, and write to the same PostgreSQL server. Ours is measured from the launch over
GraphQL to the end of the run; dlt's from the beginning to the end of `pipeline.run`, without its start.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pyarrow as pa
import pyarrow.csv
import sqlalchemy as sa

from benchmarks import org
from benchmarks.house import House, Run, Sync, house
from benchmarks.machine import PEERS
from benchmarks.size import Size
from benchmarks.table import Reading, Row
from integration_pipelines.store import tenants

STEPS = ("extract", "validate", "map", "resolve", "load")
CASES = {
    "first": "first load",
    "again": "read whole again, nothing changed",
    "window": "read from the watermark on, nothing changed",
}
JOURNAL = """SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits
             WHERE inhparent = 'sync_record_changes'::regclass"""


def measure(size: Size) -> list[Row]:
    ours: dict[str, list[Run]] = {case: [] for case in CASES}
    theirs: dict[str, list[float]] = {case: [] for case in CASES}
    floors: dict[str, list[float]] = {"read": [], "copy": []}
    journal: list[float] = []
    with org.served() as url, house() as lived_in, peer(lived_in) as dlt:
        for turn in range(size.repetitions):
            client = org.client(f"data{turn}", size.records)
            org.read_all(url, client)  # the pages are made while they are read for the first time
            taken, pages = timed(partial(org.read_all, url, client))
            floors["read"].append(taken)
            floors["copy"].append(timed(copying(lived_in, pages))[0])
            before = lived_in.number(JOURNAL)
            sync = lived_in.sync(tenants.create(lived_in.database, f"data{turn}"), url, client)
            for case in CASES:
                if case == "again":
                    lived_in.execute(f"DELETE FROM sync_watermarks WHERE sync_configuration_id = {sync.id}")
                ours[case].append(one(lived_in, sync, case, size.records))
                if case == "first":
                    journal.append((lived_in.number(JOURNAL) - before) / size.records)
                theirs[case].append(dlt(turn, url, client, case))
            assert lived_in.number(f"SELECT count(*) FROM bench_{turn}.account") == size.records
    return rows(size.records, ours, theirs, floors, journal)


def rows(
    records: int,
    ours: dict[str, list[Run]],
    theirs: dict[str, list[float]],
    floors: dict[str, list[float]],
    journal: list[float],
) -> list[Row]:
    seconds = {case: Reading([run.seconds for run in runs]) for case, runs in ours.items()}
    made = []
    for case, words in CASES.items():
        target = 1.0 if case == "first" else None
        made.append(Row(f"{records:,} records, {words}", seconds[case], "dlt", Reading(theirs[case]), target))
        ops = Reading([sum(run.steps.values()) for run in ours[case]])
        made.append(Row("… its five ops alone", ops, "dlt", Reading(theirs[case])))
    made.append(Row("Read whole again, nothing changed", seconds["again"], "its own first load", seconds["first"], 0.4))
    made.append(Row("From the watermark on, nothing changed: the fixed cost", seconds["window"], target=2.0))
    what = f"{records:,} records, {CASES['first']}"
    made.append(Row(what, seconds["first"], "reading all pages with httpx", Reading(floors["read"])))
    made.append(Row(what, seconds["first"], "COPY of the same values", Reading(floors["copy"])))
    made += [Row(f"… of which {step}", Reading([run.steps[step] for run in ours["first"]])) for step in STEPS]
    made.append(Row("Journal, with its indexes, a changed record", Reading(journal, "bytes")))
    return made


def one(lived_in: House, sync: Sync, case: str, records: int) -> Run:
    """A run of ours; it must have done what the case is about."""
    match case:
        case "first":
            return lived_in.run(sync, processed=records, succeeded=records)
        case "again":
            return lived_in.run(sync, processed=records, skipped=records)
    return lived_in.run(sync, succeeded=0, failed=0)


def timed(do: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came back."""
    began = time.monotonic()
    done = do()
    return time.monotonic() - began, done


def copying(lived_in: House, pages: list[bytes]) -> Callable[[], None]:
    """The floor of writing: all values as text, in one COPY into a table without an index."""
    records = pa.Table.from_pylist([record for page in pages for record in orjson.loads(page)["records"]]).drop_columns(
        ["attributes"]
    )
    sent = BytesIO()
    pyarrow.csv.write_csv(records, sent, pyarrow.csv.WriteOptions(include_header=False))
    columns = ", ".join(f'"{name}" text' for name in records.column_names)

    def copy() -> None:
        with lived_in.running.owner(lived_in.database).begin() as connection:
            connection.execute(sa.text(f"CREATE TEMPORARY TABLE floor ({columns}) ON COMMIT DROP"))
            driver: Any = connection.connection
            with driver.cursor().copy("COPY floor FROM STDIN (FORMAT csv)") as into:
                into.write(sent.getvalue())

    return copy


@contextmanager
def peer(lived_in: House) -> Iterator[Callable[[int, str, str, str], float]]:
    """dlt in a process of its own; call it with (turn, url, client, case) for the seconds of a load."""
    folder = lived_in.running.home.parent / "dlt"
    folder.mkdir()
    socket = sa.make_url(lived_in.database.url).query["host"]
    # dlt wants a host and a password; the socket overrides the one, and nobody asks for the other
    database = f"postgresql://postgres:none@localhost:5432/integration?host={quote(str(socket))}"
    quiet = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR", "HOME": str(folder), "PATH": "/usr/bin:/bin"}
    command = [str(PEERS / "python"), str(Path(__file__).with_name("peer_dlt.py"))]
    with subprocess.Popen(command, env=quiet, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        given, said = process.stdin, process.stdout

        def load(turn: int, url: str, client: str, case: str) -> float:
            told = {"folder": str(folder), "dataset": f"bench_{turn}", "database": database, "url": url, "token": client}
            given.write(orjson.dumps({**told, "query": org.query(), "window": case != "again"}).decode() + "\n")
            given.flush()
            return float(said.readline())

        yield load
        given.close()
