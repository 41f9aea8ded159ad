"""How the grant of a connector stands: whether a person must reconnect it, when it ends, when it was last used."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    for column in ("reconnect_since", "grant_expires_at", "last_used_at"):
        op.execute(f"ALTER TABLE connectors ADD COLUMN {column} TIMESTAMPTZ")
