"""Many syncs due at once: what is gained side by side, whether every limit holds, and whether anybody waits for a crowd."""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from threading import Event, Thread

from benchmarks import org
from benchmarks.house import House, Run, Sync, house
from benchmarks.size import Size
from benchmarks.table import Reading, Row
from integration_pipelines.settings import load
from integration_pipelines.store import tenants

CALL = 50  # milliseconds
PER_CONNECTOR = 1
MAPPINGS = ("account-customer", "account-vendor")
"""Two syncs of each connector, so that its limit is one that can be broken."""


def measure(size: Size) -> list[Row]:
    """Takes minutes, so each is done once; the same number of syncs, of other tenants, one after another and all at once."""
    limits = load({"INTEGRATION_MAX_RUNS_PER_CONNECTOR": str(PER_CONNECTOR)})
    with org.served() as url, house(INTEGRATION_MAX_RUNS_PER_CONNECTOR=str(PER_CONNECTOR)) as lived_in:
        alone = [lived_in.run(sync, succeeded=size.small).seconds for sync in furnished(lived_in, url, "alone", size)]
        due = furnished(lived_in, url, "due", size)
        runs = lived_in.dagster.run(*(sync.job for sync in due))
        for sync in due:
            lived_in.check(sync, succeeded=size.small)
        idle, waits, crowd = fairness(lived_in, url, size)
    together = max(run.ended for run in runs) - runs[0].launched
    what = f"{len(due)} first syncs of {size.small:,} records due at once, {CALL} ms a vendor call"
    made = [Row(what, Reading([together]), "one after another", Reading([sum(alone)]), target=0.6)]
    for name, tag, limit in (
        ("overall", "", limits.max_runs),
        ("through one connector", "integration/connector", limits.max_runs_per_connector),
        ("of one tenant", "integration/tenant", limits.max_runs_per_tenant),
    ):
        most = max(at_once(group) for group in grouped(runs, tag))
        made.append(
            Row(f"… the most runs at once {name}", Reading([most], "runs"), "limit", Reading([limit], "runs"), target=1)
        )
    waited = (
        f"A tenant's only run, from launch to start, while another tenant has {len(due)} queued: the longest of {len(waits)}"
    )
    return [
        *made,
        Row(waited, Reading([max(waits)]), "with nobody there", Reading(idle)),
        Row("… which take", Reading([crowd])),
    ]


def furnished(lived_in: House, url: str, name: str, size: Size, number: int = 0) -> list[Sync]:
    """Syncs of so many tenants (usually those of the size), with as many connectors each, and two syncs a connector."""
    made = []
    number = number or size.tenants
    for at in range(number):
        tenant = tenants.create(lived_in.database, f"{name}{at}")
        for each in range(size.connectors * size.tenants // number):
            client = org.client(f"{name}{at}-{each}", size.small, CALL)
            made.append(lived_in.sync(tenant, url, client, mapping=MAPPINGS[0]))
            made.append(lived_in.another(made[-1], MAPPINGS[1]))
    return made


def fairness(lived_in: House, url: str, size: Size) -> tuple[list[float], list[float], float]:
    """Waits of single runs with nobody else there, waits while one tenant has them all queued, and how long those take."""
    crowd = furnished(lived_in, url, "crowd", size, number=1)
    client = org.client("single", size.small, CALL)
    singles = [
        lived_in.sync(tenants.create(lived_in.database, f"single{at}"), url, client) for at in range(2 * size.repetitions)
    ]
    idle = [wait(lived_in.run(sync)) for sync in singles[: size.repetitions]]
    runs: list[Run] = []
    queued = Event()

    def all_of_them() -> None:
        launched = time.time()
        ids = lived_in.dagster.launch([sync.job for sync in crowd])
        queued.set()
        runs.extend(lived_in.dagster.finished(run_id, launched) for run_id in ids)

    launching = Thread(target=all_of_them)
    launching.start()
    queued.wait(60)
    waits = [wait(lived_in.run(sync)) for sync in singles[size.repetitions :] if launching.is_alive()]
    launching.join()
    return idle, waits, max(run.ended for run in runs) - runs[0].launched


def wait(run: Run) -> float:
    return run.started - run.launched


def grouped(runs: Iterable[Run], tag: str) -> Sequence[list[Run]]:
    """By the value of a tag; all of them where there is none."""
    found = defaultdict(list)
    for run in runs:
        found[run.tags.get(tag, "")].append(run)
    return list(found.values())


def at_once(runs: Iterable[Run]) -> int:
    """The most that were between their start and their end at the same instant."""
    moments = [moment for run in runs for moment in ((run.started, 1), (run.ended, -1))]
    now = most = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    return most
