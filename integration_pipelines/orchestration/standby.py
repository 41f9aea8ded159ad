"""One daemon at a time for a database: two would start each schedule's run twice, and go beyond the queue's limits.

Whoever holds an advisory lock is the one; the others stand by, and one of them takes over when that one ends, however it ends:
the lock goes with its connection.
"""

import logging
import os
import signal
import time
from typing import Self

import sqlalchemy as sa

from connector_resources.errors import NetworkError
from integration_pipelines.store.database import Database, explained

POLL = 1.0
HANDOVER = 5.0  # seconds in which a daemon whose connection broke has noticed that another one holds the lock
_KEY = 0x1E6A714
_LOG = logging.getLogger("integration.daemon")


class Leadership:
    """Within the block this process is the one. `keep` is to be called every POLL seconds meanwhile; once it has found that
    another process was faster, `lost` is true and this one is interrupted."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.lost = False
        self._lock: sa.Connection | None = None

    def __enter__(self) -> Self:
        if not self._take():
            _LOG.warning("Another daemon works with this database. This one stands by, and takes over when that one ends.")
            while not self._taken_later():
                time.sleep(POLL)
            _LOG.warning("The other daemon has ended. This one takes over.")
        return self

    def __exit__(self, *exc: object) -> None:
        self._release()

    def keep(self) -> None:
        """Raises NetworkError while the database is away: then there is no other daemon either."""
        if self.lost or self._held():
            return
        if self._take():
            _LOG.warning("The connection that holds the daemon's lock broke off; the lock is taken again.")
            return
        self.lost = True
        os.kill(os.getpid(), signal.SIGTERM)

    def _taken_later(self) -> bool:
        try:
            if not self._take():
                return False
            time.sleep(HANDOVER)
            return self._held()
        except NetworkError as problem:
            _LOG.warning("%s Trying again.", problem)
            return False

    def _take(self) -> bool:
        with explained(self.database.url):
            connection = self.database.engine.connect()
            if connection.execute(sa.text("SELECT pg_try_advisory_lock(:k)"), {"k": _KEY}).scalar():
                connection.commit()
                self._lock = connection
                return True
            connection.close()
            return False

    def _held(self) -> bool:
        try:
            with explained(self.database.url):
                if self._lock is not None:
                    self._lock.execute(sa.text("SELECT 1"))
                    self._lock.commit()
        except NetworkError:
            self._release()
        return self._lock is not None

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.invalidate()  # ends the connection, and with it the lock
            self._lock.close()
            self._lock = None
