"""Match keys are looked up by an index of their own.

Under row-level security a condition serves an index only where it can tell nothing of other tenants' rows (is leakproof), and
`-connector_id` can: the index that began with it was searched once for each connector of the installation, or read whole.
"""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.execute("DROP INDEX idx_links_match")
    op.execute("CREATE INDEX idx_links_match ON identity_links (match_digest) WHERE match_digest IS NOT NULL")
