"""Whether a run's process lives is told by its lock, no more by its history."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("DROP FUNCTION failed_runs(uuid[], timestamptz)")
