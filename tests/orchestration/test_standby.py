"""One daemon at a time for a database."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa
from running import until

from integration_pipelines.orchestration import standby
from integration_pipelines.orchestration.standby import Leadership
from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database

HOLDERS = (
    "FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "POLL", 0.01)
    monkeypatch.setattr(standby, "HANDOVER", 0.01)


@pytest.fixture
def other(database: Database, settings: Settings) -> Iterator[Leadership]:
    """That of a daemon on another machine."""
    with closing(Database(settings.database_url or "", database.master)) as apart:
        yield Leadership(apart)


def cut(database: Database) -> None:
    """The connection that holds the lock breaks off."""
    with database.directory() as connection:
        connection.exec_driver_sql("RESET ROLE")
        assert connection.execute(sa.text(f"SELECT bool_and(pg_terminate_backend(pid, 5000)) {HOLDERS}")).scalar()


def test_a_second_daemon_stands_by_says_so_and_takes_over(
    database: Database, other: Leadership, caplog: pytest.LogCaptureFixture
) -> None:
    leading, over = threading.Event(), threading.Event()

    def second() -> None:
        with other:
            leading.set()
            over.wait()

    thread = threading.Thread(target=second)
    with caplog.at_level(logging.WARNING), Leadership(database) as first:
        thread.start()
        until(lambda: "This one stands by, and takes over when that one ends." in caplog.text, 10)
        first.keep()
        assert not first.lost
        assert not leading.is_set()
    assert leading.wait(10)
    assert "This one takes over." in caplog.text
    over.set()
    thread.join()


def test_a_lock_that_was_lost_with_its_connection_is_taken_again(
    database: Database, other: Leadership, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), Leadership(database) as first:
        cut(database)
        first.keep()
        assert not first.lost
        assert "the lock is taken again" in caplog.text
        assert not other._take()


def test_who_has_lost_the_lock_to_another_daemon_is_interrupted_once(
    database: Database, other: Leadership, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda *given: ended.append(given))
    with Leadership(database) as first:
        cut(database)
        with other:
            first.keep()
            first.keep()
        first.keep()
        assert first.lost
    assert ended == [(os.getpid(), signal.SIGTERM)]
