"""Nobody makes tables beside ours but the account that migrates: before PostgreSQL 15 everybody could."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Where the schema is another account's, PostgreSQL warns and leaves it as it is; its owner can do the same by hand."""
    op.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
