"""Batches on their way from one op to the next: sealed, in order, and visible only when the attempt is complete."""

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from connector_resources.errors import ContractError
from integration_pipelines.store.database import Database

_COMPLETE = -1  # position of the row that says how many batches there are; written last


class Staging:
    """Staged batches of one tenant."""

    def __init__(self, database: Database, tenant: UUID) -> None:
        self.database = database
        self.tenant = tenant

    def begin(self, run_id: UUID, step: str, attempt: int) -> None:
        with self.database.tenant(self.tenant) as scope:
            scope.run(
                "DELETE FROM staged_batches WHERE run_id = :r AND step = :s AND attempt = :a", r=run_id, s=step, a=attempt
            )

    def put(self, run_id: UUID, step: str, attempt: int, position: int, content: bytes) -> None:
        with self.database.tenant(self.tenant) as scope:
            scope.run(
                """INSERT INTO staged_batches (tenant_id, run_id, step, attempt, position, content)
                   VALUES (:t, :r, :s, :a, :p, :c)""",
                t=self.tenant,
                r=run_id,
                s=step,
                a=attempt,
                p=position,
                c=scope.vault.seal(content, *_place(run_id, step, attempt, position)),
            )

    def complete(self, run_id: UUID, step: str, attempt: int, batches: int) -> None:
        self.put(run_id, step, attempt, _COMPLETE, str(batches).encode())

    def read(self, run_id: UUID, step: str) -> Iterator[bytes]:
        """The batches of the latest complete attempt, one at a time. Raises ContractError when there is none any more."""
        with self.database.tenant(self.tenant) as scope:
            row = scope.rows(
                """SELECT attempt, content FROM staged_batches WHERE run_id = :r AND step = :s AND position = :p
                   ORDER BY attempt DESC LIMIT 1""",
                r=run_id,
                s=step,
                p=_COMPLETE,
            )
            if not row:
                raise _gone(run_id, step)
            attempt = row[0]["attempt"]
            batches = int(scope.vault.open(row[0]["content"], *_place(run_id, step, attempt, _COMPLETE)))
        for position in range(batches):
            with self.database.tenant(self.tenant) as scope:
                content = scope.run(
                    "SELECT content FROM staged_batches WHERE run_id = :r AND step = :s AND attempt = :a AND position = :p",
                    r=run_id,
                    s=step,
                    a=attempt,
                    p=position,
                ).scalar()
                if content is None:
                    raise _gone(run_id, step)
                opened = scope.vault.open(content, *_place(run_id, step, attempt, position))
            yield opened

    def waits(self, run_id: UUID) -> bool:
        """Whether this run, or one that re-executed it, goes on or is to be tried again."""
        with self.database.tenant(self.tenant) as scope:
            found = scope.run(
                """SELECT EXISTS (SELECT FROM sync_history h JOIN sync_history o
                       ON COALESCE(o.first_history_id, o.id) = COALESCE(h.first_history_id, h.id)
                       WHERE h.run_id = :r AND (o.retry_at IS NOT NULL OR o.sync_status = 'running'))""",
                r=run_id,
            ).scalar_one()
        return bool(found)

    def drop(self, run_id: UUID) -> None:
        """Everything of this run and of the runs that it re-executed."""
        with self.database.tenant(self.tenant) as scope:
            scope.run(
                """DELETE FROM staged_batches WHERE run_id = :r OR run_id IN (
                       SELECT o.run_id FROM sync_history h JOIN sync_history o
                         ON o.id = h.first_history_id OR o.first_history_id = h.first_history_id WHERE h.run_id = :r)""",
                r=run_id,
            )


def _gone(run_id: UUID, step: str) -> ContractError:
    return ContractError(
        f"The staged batches of {step} in run {run_id} are gone (they are kept for a limited time). "
        "Start the sync anew instead of re-executing this run."
    )


def _place(run_id: UUID, step: str, attempt: int, position: int) -> tuple[str, ...]:
    return ("staged_batches", str(run_id), step, str(attempt), str(position))


def sweep(database: Database, before: datetime) -> int:
    """Drop what runs that nobody re-executed have left; one that is to be tried again keeps it, however long it waits. Returns
    how many runs."""
    with database.directory() as connection:
        old = connection.execute(sa.text("SELECT run, tenant FROM old_staging(:b)"), {"b": before}).all()
    dropped = 0
    for row in old:
        staging = Staging(database, row.tenant)
        if not staging.waits(row.run):
            staging.drop(row.run)
            dropped += 1
    return dropped
