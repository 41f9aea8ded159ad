"""Runs that read the ERP: where its change log was read up to, and errors of its records."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("ALTER TABLE sync_history ADD COLUMN erp_position VARCHAR(64)")
    op.execute("CREATE INDEX idx_intents_unknown ON write_intents (erp_id) WHERE state = 'unknown'")
    op.execute("ALTER TABLE sync_errors ADD COLUMN side VARCHAR(10) DEFAULT 'external' NOT NULL")
