"""What the command line prints: tables for people, JSON for programs."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click
import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


def console() -> Console:
    """Standard output. In a file or a pipe, tables may be wide."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=160)


def as_json(value: Any) -> None:
    click.echo(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2).decode())


def show(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], *, json: bool, title: str | None = None) -> None:
    """`columns`: key of a row → heading. Numbers stand to the right."""
    every = list(rows)
    if json:
        as_json([{key: row.get(key) for key in columns} for row in every])
        return
    if not every:
        click.echo("Nothing to show.")
        return
    table = Table(title=title, title_justify="left", header_style="bold", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for key, heading in columns.items():
        right = all(isinstance(row.get(key), (int, float)) or row.get(key) is None for row in every)
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in every:
        table.add_row(*(Text(plain(_text(row.get(key)))) for key in columns))  # brackets are no markup
    console().print(table)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def plain(text: str) -> str:
    """A text of another system or person for a terminal: what could move its cursor, colour it or turn it is spelt out."""
    return "".join(one if one == "\n" or unicodedata.category(one)[0] != "C" else ascii(one)[1:-1] for one in text)


RUN_COLUMNS = {
    "id": "run",
    "sync_name": "sync",
    "sync_status": "status",
    "records_processed": "processed",
    "records_succeeded": "succeeded",
    "records_failed": "failed",
    "records_skipped": "skipped",
    "created": "created",
    "updated": "updated",
    "deleted": "deleted",
    "seconds": "seconds",
}


def runs(histories: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows for RUN_COLUMNS."""
    return [
        dict(row) | {"seconds": None if row["execution_time_ms"] is None else round(row["execution_time_ms"] / 1000, 1)}
        for row in histories
    ]
