"""The embedded PostgreSQL: one server for all processes, no port, and a way back from every kind of death."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from connector_resources.errors import ConfigurationError
from integration_pipelines.settings import load
from integration_pipelines.store.database import engine
from integration_pipelines.store.embedded import Embedded
from integration_pipelines.store.installation import open_installation

pytestmark = pytest.mark.skipif(
    "POSTGRES_BIN" in os.environ, reason="about the programs that come with us, not POSTGRES_BIN's"
)

_HOLD = """
import os, pathlib, sys
from integration_pipelines.store.embedded import Embedded
if len(sys.argv) > 2:  # not as root, who is allowed everything
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
held = Embedded(pathlib.Path(sys.argv[1]))
print(held.url, flush=True)
sys.stdin.readline()
print(held.close(), flush=True)
"""


class Other:
    """Another process with a handle."""

    def __init__(self, home: Path, *user: int) -> None:
        command = [sys.executable, "-c", _HOLD, str(home), *map(str, user)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self.said()

    def said(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def close(self) -> str:
        """ "True" when it stopped the server."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        said = self.said()
        self.process.communicate(timeout=30)
        return said

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=30)


def answer(url: str) -> object:
    with engine(url, role=None, poolclass=sa.NullPool).connect() as connection:
        return connection.exec_driver_sql("SELECT 1").scalar()


def answers(url: str) -> bool:
    try:
        return answer(url) == 1
    except sa.exc.OperationalError:
        return False


def postmaster(home: Path) -> int:
    return int((home / "postgres" / "data" / "postmaster.pid").read_text().split("\n")[0])


def kill_server(home: Path, held: Embedded) -> None:
    """As a power cut would."""
    os.kill(postmaster(home), signal.SIGKILL)
    while held._running():
        pass


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    yield folder
    if (folder / "postgres" / "data" / "PG_VERSION").exists():  # whatever a failed test left running
        Embedded(folder).close(stop_staying=True)


def test_two_processes_share_one_server_and_the_last_one_stops_it(home: Path) -> None:
    with Embedded(home) as mine:
        number = postmaster(home)
        other = Other(home)
        assert other.url == mine.url
        assert postmaster(home) == number
        assert mine.close() is False
        assert answers(mine.url)
        assert other.close() == "True"
        assert not answers(mine.url)


def test_closing_twice_is_closing_once(home: Path) -> None:
    held = Embedded(home)
    assert held.close() is True
    assert held.close() is False


def test_an_owner_that_is_killed_leaves_a_server_that_the_next_one_takes_over_and_stops(home: Path) -> None:
    other = Other(home)
    number = postmaster(home)
    other.kill()
    assert answers(other.url)
    held = Embedded(home)
    assert postmaster(home) == number
    assert held.close() is True
    assert not answers(other.url)


def test_a_server_that_is_killed_is_started_again_with_what_was_committed(home: Path) -> None:
    with Embedded(home) as held:
        with engine(held.url, role=None, poolclass=sa.NullPool).begin() as connection:
            connection.exec_driver_sql("CREATE TABLE kept AS SELECT 42 AS answer")
        kill_server(home, held)
    with Embedded(home) as held, engine(held.url, role=None, poolclass=sa.NullPool).connect() as connection:
        assert connection.exec_driver_sql("SELECT answer FROM kept").scalar() == 42


def test_a_dead_servers_number_that_another_process_has_now_does_not_matter(home: Path) -> None:
    with Embedded(home) as held:
        kill_server(home, held)
    noted = home / "postgres" / "data" / "postmaster.pid"
    noted.write_text("\n".join([str(os.getppid()), *noted.read_text().split("\n")[1:]]))
    with Embedded(home) as held:
        assert answer(held.url) == 1
        assert postmaster(home) != os.getppid()


def test_a_server_that_was_asked_to_stay_runs_on_until_it_is_told_not_to(home: Path) -> None:
    held = Embedded(home, stay=True)
    assert held.close() is False
    assert answers(held.url)
    with Embedded(home) as later:
        assert answer(later.url) == 1
    assert answers(held.url)
    assert Embedded(home).close(stop_staying=True) is True
    assert not answers(held.url)


@pytest.mark.parametrize("name", ["a" * 120, "with blank", "ünï-cödé", 'it\'s, "quoted" & 100%', "a=b?c#d"])
def test_any_folder_will_do(tmp_path: Path, name: str) -> None:
    with Embedded(tmp_path / name / "home") as held:
        assert answer(held.url) == 1
        socket_folder = held._socket_folder()
        assert len(os.fsencode(socket_folder)) < 90
        assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700


def test_the_folder_with_the_socket_and_the_one_with_the_data_are_their_owners_alone(home: Path) -> None:
    with Embedded(home) as held:
        assert stat.S_IMODE(held._socket_folder().stat().st_mode) == 0o700
        assert stat.S_IMODE(held.data.stat().st_mode) == 0o700
        assert stat.S_IMODE(held.folder.stat().st_mode) & 0o066 == 0
        assert stat.S_IMODE(home.stat().st_mode) & 0o066 == 0


def test_nothing_listens_on_a_port(home: Path) -> None:
    with Embedded(home) as held:
        with engine(held.url, role=None, poolclass=sa.NullPool).connect() as connection:
            shown = {name: connection.exec_driver_sql(f"SHOW {name}").scalar() for name in ("listen_addresses", "port")}
        assert shown == {"listen_addresses": "", "port": "5432"}
        number = postmaster(home)
        sockets = {str(f.readlink()) for f in Path(f"/proc/{number}/fd").iterdir()}
        listening = [
            line.split()[9] for kind in ("tcp", "tcp6") for line in Path("/proc/net", kind).read_text().splitlines()[1:]
        ]
        assert any(name.startswith("socket:") for name in sockets)
        assert not sockets & {f"socket:[{inode}]" for inode in listening}
        assert (held._socket_folder() / ".s.PGSQL.5432").is_socket()


def test_a_port_in_the_environment_does_not_lead_away(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    with Embedded(home) as held:
        assert answer(held.url) == 1


def test_statements_and_values_do_not_reach_the_servers_log(home: Path) -> None:
    with Embedded(home) as held:
        with engine(held.url, role=None, poolclass=sa.NullPool).begin() as connection:
            connection.exec_driver_sql("CREATE TABLE t (name text UNIQUE)")
            connection.execute(sa.text("INSERT INTO t VALUES (:n)"), {"n": "canary-value"})
            for statement in ("INSERT INTO t VALUES (:n)", "SELECT 1/0, 'canary-text'", "SELECT CAST(:n AS int)"):
                with pytest.raises(sa.exc.DBAPIError), connection.begin_nested():
                    connection.execute(sa.text(statement), {"n": "canary-value"} if ":n" in statement else {})
        log = (held.data / "server.log").read_text()
        assert "violates unique constraint" in log
        assert "canary-text" not in log
        assert "Key (name)" not in log


def test_a_folder_that_holds_something_else_is_a_sentence(home: Path) -> None:
    data = home / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "something.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"The embedded PostgreSQL under .* did not obey \(initdb\)"):
        Embedded(home)
    (data / "something.txt").unlink()


def test_a_folder_of_somebody_elses_is_refused(home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    data = home / "postgres" / "data"
    data.mkdir(parents=True)
    os.chown(data, 12345, 12345)
    with pytest.raises(ConfigurationError, match=r"belongs to somebody else; remove it or set INTEGRATION_HOME"):
        Embedded(home)


def test_a_user_who_is_not_root_can_run_it(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("the other tests have shown it already")
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    place = tmp_path / "place"
    place.mkdir(mode=0o700)
    os.chown(place, 65534, 65534)
    other = Other(place / "home", 65534)
    assert other.url.startswith("postgresql://")
    assert (place / "home" / "postgres" / "data" / "PG_VERSION").stat().st_uid == 65534
    assert other.close() == "True"


def test_an_installation_without_a_database_url_starts_one_and_takes_it_along(home: Path) -> None:
    with open_installation(load({"INTEGRATION_HOME": str(home)})) as installation:
        assert "/integration?" in installation.database_url
        assert answer(installation.database_url) == 1
        assert "/dagster?" in installation.environment()["DAGSTER_DATABASE_URL"]
        assert answer(installation.dagster_url) == 1
    assert not answers(installation.database_url)


def test_a_socket_file_that_nobody_listens_on_is_no_server(home: Path) -> None:
    with Embedded(home) as held:
        path = held._socket_folder() / ".s.PGSQL.5432"
    with socket.socket(socket.AF_UNIX) as leftover:
        leftover.bind(str(path))
    with Embedded(home) as held:
        assert answer(held.url) == 1
