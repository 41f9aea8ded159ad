"""Two daemons for one database, as real processes: one works, one waits."""

import base64
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from running import until

from integration_pipelines.orchestration import standby
from integration_pipelines.store.database import Database

LOCKS = f"""FROM pg_locks WHERE locktype = 'advisory' AND objid = {standby._KEY}
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


@pytest.fixture
def daemons(database: Database, tmp_path: Path) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Two, each with a home of its own; what they say is in the files `0` and `1`."""
    with ExitStack() as opened:
        made = []
        for name in ("0", "1"):
            given = {**os.environ, "DATABASE_URL": database.url, "INTEGRATION_HOME": str(tmp_path / f"home-{name}")}
            given["INTEGRATION_MASTER_KEY"] = base64.b64encode(bytes(32)).decode()
            said = opened.enter_context((tmp_path / name).open("wb"))
            command = [sys.executable, "-m", "integration_pipelines", "daemon"]
            process = subprocess.Popen(command, env=given, cwd=tmp_path, stdout=said, stderr=said)
            opened.callback(process.wait)
            opened.callback(process.kill)
            made.append(process)
        yield made


def test_the_second_daemon_stands_by_takes_over_and_ends_when_a_third_was_faster(
    database: Database, daemons: list["subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    def said(number: int) -> str:
        return (tmp_path / str(number)).read_text()

    until(lambda: "stands by" in said(0) + said(1), 60, "a daemon that stands by")
    second = 0 if "stands by" in said(0) else 1
    first = daemons[1 - second]
    assert first.poll() is daemons[second].poll() is None
    first.send_signal(signal.SIGKILL)
    until(lambda: "This one takes over." in said(second), 60, "the other one's turn")
    with database.connection() as connection, closing(database.engine.connect()) as third:
        connection.exec_driver_sql("RESET ROLE")

        def count(what: str) -> int:
            return int(connection.execute(sa.text(f"SELECT count(*) {LOCKS} AND {what}")).scalar_one())

        waiting = threading.Thread(target=lambda: third.exec_driver_sql(f"SELECT pg_advisory_lock({standby._KEY})"))
        waiting.start()
        until(lambda: count("NOT granted") == 1, 10, "the third one's wait")
        connection.execute(sa.text(f"SELECT pg_terminate_backend(pid) {LOCKS} AND granted"))
        waiting.join()
        assert daemons[second].wait(60) == 1
        third.invalidate()
    assert "Another daemon took over while this one had lost its connection" in said(second)
    assert "Traceback" not in said(second)
