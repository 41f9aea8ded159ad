"""An inbox row waits for one pair: two syncs of one external entity into different ERP entities each get their own events.

And the application may see which revision it works with, so that it can refuse one that it does not know.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("TRUNCATE inbox")  # nothing has written to it before this revision
    op.add_column("inbox", sa.Column("erp_entity", sa.String(255), nullable=False))
    op.drop_index("idx_inbox_open", "inbox")
    op.create_index(
        "idx_inbox_open",
        "inbox",
        ["tenant_id", "connector_id", "external_entity", "erp_entity"],
        postgresql_where=sa.text("status <> 'done'"),
    )
    op.execute("GRANT SELECT ON alembic_version TO integration_app")
