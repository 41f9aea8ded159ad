"""Memory that a run's own process needs beside an idle one: does it grow with the number of records?

Private memory (Private_Clean + Private_Dirty of smaps_rollup, proc(5)), sampled ten times a second. What the workers share
with the forkserver that they were forked from is nobody's own.
"""

import threading
import time
from pathlib import Path

from benchmarks import org
from benchmarks.house import House, Sync, house
from benchmarks.size import Size
from benchmarks.table import Reading, Row
from integration_pipelines.store import tenants

MB = 1e6
PAUSE = 0.1


def measure(size: Size) -> list[Row]:
    """Each number of records once: the largest takes minutes."""
    with org.served() as url, house() as lived_in:
        peaks = {}
        for records in (0, size.records, size.many):
            tenant = tenants.create(lived_in.database, f"memory {records}")
            sync = lived_in.sync(tenant, url, org.client(f"memory{records}", records))
            peaks[records], seconds = watched(lived_in, sync, records)
    idle, less, more = peaks[0], peaks[size.records] - peaks[0], peaks[size.many] - peaks[0]
    what, against = f"Private memory of a run over {size.many:,} records, above idle", f"over {size.records:,}"
    return [
        Row(what, Reading([more / MB], "MB"), against, Reading([less / MB], "MB"), target=1.3),
        Row("… private memory of an idle worker (an empty sync)", Reading([idle / MB], "MB")),
        Row(f"… first load of {size.many:,} records", Reading([seconds])),
    ]


def watched(lived_in: House, sync: Sync, records: int) -> tuple[int, float]:
    """The most bytes that the run's process had for itself, and the run's seconds."""
    launched = time.time()
    (run_id,) = lived_in.dagster.launch([sync.job])
    over, peak = threading.Event(), [0]

    def sample() -> None:
        pid = None
        while not over.wait(PAUSE):
            pid = pid or lived_in.dagster.worker(run_id)
            peak[0] = max(peak[0], private(pid) if pid else 0)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        run = lived_in.dagster.finished(run_id, launched)
    finally:
        over.set()
        sampler.join()
    lived_in.check(sync, processed=records, succeeded=records)
    assert peak[0], "the run's process was never seen"
    return peak[0], run.seconds


def private(pid: int) -> int:
    """Bytes; 0 for a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))
