"""The commands that serve: `integration up`, and its processes one by one."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import click

from integration_pipelines.settings import Settings, load

if TYPE_CHECKING:
    import dagster as dg

    from integration_pipelines.store.database import Database

HOST = click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 for every network; put TLS before it.")
PORT = click.option("--port", default=3000, show_default=True)
SUPERVISED = click.option("--supervised", is_flag=True, hidden=True, help="Stop when standard input ends.")


@click.command()
@HOST
@PORT
def up(host: str, port: int) -> None:
    """Start a whole installation on this machine, and keep it running until Ctrl-C.

    \b
    integration up
    integration up --port 8000
    """
    from integration_pipelines.up import up as run

    _log()
    run(load(), host, port, click.echo)


@click.command("code-server")
@SUPERVISED
def code_server(supervised: bool) -> None:
    """Serve the definitions (a job for each sync config) to the daemon and the web server.

    \b
    integration code-server
    INTEGRATION_CODE_SERVER=0.0.0.0:4000 integration code-server
    """
    from integration_pipelines.orchestration.code_server import serve

    with _process(supervised) as (settings, database, _):
        serve(settings, database)


@click.command()
@SUPERVISED
def daemon(supervised: bool) -> None:
    """Run schedules, sensors and the queue, and start runs. A second one stands by until the first one ends.

    \b
    integration daemon
    """
    from integration_pipelines.orchestration.daemon import serve

    with _process(supervised) as (settings, database, instance):
        serve(settings, database, instance)


@click.command()
@HOST
@PORT
@click.option("--proxy", help="Address of the reverse proxy whose X-Forwarded-For and -Proto are believed.")
@SUPERVISED
def web(host: str, port: int, proxy: str | None, supervised: bool) -> None:
    """Serve sign-in, Dagster's UI and GraphQL under /dagster, /healthz and /readyz.

    \b
    integration web --port 3000
    integration web --host 0.0.0.0 --proxy 10.0.0.2
    """
    from integration_pipelines.server import serve

    with _process(supervised) as (settings, database, instance):
        serve(settings, database, instance, host, port, proxy)


@contextmanager
def _process(supervised: bool) -> "Iterator[tuple[Settings, Database, dg.DagsterInstance]]":
    """What each of them needs; SIGTERM and Ctrl-C end it quietly."""
    from integration_pipelines.orchestration.launch import dagster_instance
    from integration_pipelines.store.installation import open_installation

    _log()
    if supervised:
        threading.Thread(target=_end_with_supervisor, name="supervisor", daemon=True).start()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings = load()
    try:
        with (
            open_installation(settings) as installation,
            dagster_instance(installation) as instance,
            closing(installation.database()) as database,
        ):
            yield settings, database, instance
    except KeyboardInterrupt:
        logging.getLogger("integration").info("Stopped.")


def _end_with_supervisor() -> None:
    while os.read(sys.stdin.fileno(), 1024):  # ends when the supervisor does, however it ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _log() -> None:
    """Our own lines to standard error; Dagster's loggers have their own handlers."""
    ours, handler = logging.getLogger("integration"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S"))
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
