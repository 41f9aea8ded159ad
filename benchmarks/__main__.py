"""`make bench`, and `make bench ARGS="runs data"` or `ARGS=--quick`."""

import os
import re
import signal
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import table
from benchmarks.machine import ROOT, machine
from benchmarks.size import FULL, QUICK
from benchmarks.table import HEADINGS, Row
from integration_pipelines.settings import VARIABLES

MEASUREMENTS = ("runs", "first_sync", "data", "memory", "fifty", "reload", "reading", "upserts")
RESULTS = Path(__file__).parent / "results.json"


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(MEASUREMENTS))
@click.option("--quick", is_flag=True, help="Smaller numbers, to see that it works; is neither kept nor put into the README.")
def main(names: Sequence[str], quick: bool) -> None:
    """Measure, print, and keep: benchmarks/results.json and the table in README.md.

    Measurements that are not named stay as they are there, if they were made on the same machine with the same versions."""
    for wanted in (signal.SIGINT, signal.SIGTERM):  # what was started is stopped on the way out
        signal.signal(wanted, signal.default_int_handler)
    for name in (*VARIABLES, "DAGSTER_HOME"):
        os.environ.pop(name, None)
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    console, about = Console(highlight=False, width=160), machine()
    for name, value in about.items():
        console.print(f"{name:>20}  {value}")
    done: dict[str, list[Row]] = {}
    for name in names or MEASUREMENTS:
        console.print(f"{name} …")
        done[name] = import_module(f"benchmarks.{name}").measure(QUICK if quick else FULL)
        show(console, done[name])
        if not quick:  # after each: what comes later may fail
            keep(done, about)


def show(console: Console, rows: Sequence[Row]) -> None:
    shown = Table(*HEADINGS)
    for row in rows:
        shown.add_row(*(escape(cell) for cell in row.cells()))
    console.print(shown)


def keep(done: dict[str, list[Row]], about: dict[str, str]) -> None:
    """Write the results file and the README's table."""
    before = orjson.loads(RESULTS.read_bytes()) if RESULTS.exists() else {"machine": {}, "rows": {}}
    same = {**before["machine"], "commit": ""} == {**about, "commit": ""}
    kept = before["rows"] if same else {}
    rows = {name: [row.told() for row in done[name]] if name in done else kept.get(name, []) for name in MEASUREMENTS}
    RESULTS.write_bytes(orjson.dumps({"machine": about, "rows": rows}, option=orjson.OPT_INDENT_2) + b"\n")
    text = table.markdown([table.read(told) for every in rows.values() for told in every], about)
    readme = ROOT / "README.md"
    marked = re.compile(r"(<!-- bench -->\n).*?(<!-- /bench -->)", re.DOTALL)
    readme.write_text(marked.sub(lambda match: f"{match[1]}{text}\n{match[2]}", readme.read_text("utf-8")), "utf-8")


main()
