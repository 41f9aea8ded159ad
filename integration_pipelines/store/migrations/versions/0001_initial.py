"""The tables, the roles, row-level security, and the functions that may look past it."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    here = Path(__file__)
    for part in ("0001_initial.sql", "0001_security.sql"):
        op.execute((here.parent / part).read_text().replace(":", "\\:"))
