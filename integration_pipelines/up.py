"""`integration up`: a whole installation on one machine, in four processes, supervised.

A child that dies is started again, at growing delays. When the supervisor itself is killed, the children notice it by the end
of the pipe that they have as standard input, and stop; runs that are under way go on, and whoever starts next finds them.
"""

import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from connector_resources.errors import ConfigurationError
from integration_pipelines.settings import Settings, inherited
from integration_pipelines.store import people
from integration_pipelines.store.installation import Installation, migrate_all, open_installation, prepare_dagster_home

CHILDREN = ("code-server", "daemon", "web")
PATIENCE = 7.0
"""Seconds that processes get to stop by themselves; after that they are killed."""
CALM = 60.0
"""A child that has lived for so many seconds is restarted at once when it dies, not later and later."""
_LOG = logging.getLogger("integration.up")


@dataclass
class Child:
    """One supervised process."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    deaths: int = 0
    due: float = field(default=0.0)

    def start(self) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter
            self.command, env=dict(self.environment), stdin=subprocess.PIPE, start_new_session=True
        )
        self.started = time.monotonic()

    def look(self) -> None:
        """Start it again when it has died and its delay is over."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            self.deaths = 1 if now - self.started > CALM else self.deaths + 1
            delay = min(30.0, 0.5 * 2 ** (self.deaths - 1))
            _LOG.warning("%s died (exit code %s); it starts again in %.1f s", self.name, self.process.returncode, delay)
            self.process, self.due = None, now + delay
        if self.process is None and now >= self.due:
            self.start()


def up(settings: Settings, host: str, port: int, say: Callable[[str], None]) -> None:
    """Until Ctrl-C or SIGTERM. Raises ConfigurationError where it cannot start."""
    for wanted in (signal.SIGINT, signal.SIGTERM):
        signal.signal(wanted, signal.default_int_handler)
    with ExitStack() as opened:
        opened.enter_context(_alone(settings.home))
        require_free(host, port)
        installation = opened.enter_context(open_installation(settings))
        migrate_all(installation)
        prepare_dagster_home(installation)
        settings.code_socket.unlink(missing_ok=True)
        first = _first_sign_in(installation)
        environment = inherited(installation.environment())
        opened.callback(_end_runs, environment["DAGSTER_HOME"])
        children = opened.enter_context(_children(environment, host, port))
        try:
            url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104 - how it is reached from here
            announced = False
            while True:
                if installation.embedded is not None and installation.embedded.revive():
                    _LOG.warning("the embedded PostgreSQL had died; it runs again")
                for child in children:
                    child.look()
                    if not (settings.code_socket.exists() or announced or settings.code_server):
                        break  # without the code server, which comes first, the others would begin with a failure
                if not announced and _ready(url):
                    announced = True
                    say(f"Ready: {url}/dagster")
                    if first is not None:
                        say(f"Sign in as {first.email} with the password {first.password} (it is not shown again).")
                    say("Ctrl-C stops everything.")
                time.sleep(0.2)
        except KeyboardInterrupt:
            say("Stopping …")
            for wanted in (signal.SIGINT, signal.SIGTERM):
                signal.signal(wanted, signal.SIG_IGN)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One supervisor for each home."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"Another `integration up` runs with the home {home}; stop it, or set INTEGRATION_HOME to another folder."
            ) from None
        yield


def require_free(host: str, port: int) -> None:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as problem:
            raise ConfigurationError(
                f"Port {port} on {host} cannot be used ({problem.strerror}); choose another one with --port."
            ) from None


def _first_sign_in(installation: Installation) -> people.FirstSignIn | None:
    database = installation.database()
    try:
        return people.ensure_operator(database)
    finally:
        database.close()


@contextmanager
def _children(environment: Mapping[str, str], host: str, port: int) -> Iterator[list[Child]]:
    options = {"web": ["--host", host, "--port", str(port)]}
    base = [sys.executable, "-P", "-m", "integration_pipelines"]  # -P: the working folder is no place to import from
    made = [Child(name, [*base, name, "--supervised", *options.get(name, [])], environment) for name in CHILDREN]
    try:
        yield made
    finally:
        _end({child.process.pid for child in made if child.process is not None}, group=True)
        for child in made:
            if child.process is not None:
                child.process.wait()


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=1).is_success
    except httpx.HTTPError:
        return False


def _end_runs(dagster_home: str) -> None:
    """Runs under way are interrupted: they close their history, and are tried again when the installation is up again."""
    _end(_workers(dagster_home), group=False)


def _workers(dagster_home: str) -> set[int]:
    """The forkserver of this installation and the runs' processes: they share the environment that it was started with."""
    mark = f"DAGSTER_HOME={dagster_home}".encode()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ours = b"multiprocessing.forkserver" in (folder / "cmdline").read_bytes() and mark in (
                folder / "environ"
            ).read_bytes().split(b"\0")
        except OSError:  # it is gone, or somebody else's
            continue
        if ours:
            found.add(int(folder.name))
    return found


def _end(pids: set[int], *, group: bool) -> None:
    """SIGTERM, some patience, SIGKILL. `group`: the processes that they have started too."""
    kill = os.killpg if group else os.kill
    for wanted in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            try:
                kill(pid, wanted)
            except ProcessLookupError:
                continue
        until = time.monotonic() + PATIENCE / 2
        while time.monotonic() < until and any(_alive(pid) for pid in pids):
            time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
