"""A record that is linked costs fewer look-ups.

Match keys are looked up by tenant. Under row-level security a condition serves an index only where it can tell nothing of
other tenants' rows (is leakproof), and `-connector_id` can: the index that began with it was searched once for each connector
of the installation, or read whole.

Two foreign keys cost a look-up a row, and other constraints say the same: a row's tenant is the one whose key wraps it, and a
link's mapping is that of the run in sync_history which wrote it.
"""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.execute("DROP INDEX idx_links_match")
    op.execute("CREATE INDEX idx_links_match ON identity_links (tenant_id, match_digest) WHERE match_digest IS NOT NULL")
    op.execute("ALTER TABLE data_keys DROP CONSTRAINT fk_data_keys_tenant_id")
    op.execute("ALTER TABLE identity_links DROP CONSTRAINT fk_identity_links_tenant_id_field_mapping_id")
