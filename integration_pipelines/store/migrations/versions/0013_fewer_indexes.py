"""Links and journal are written through fewer and smaller indexes, in which what one connector brings lies together.

A connector is one tenant's, so a link needs no tenant in its keys. Each look-up spells its connector as its own index begins;
see store/links.py.
"""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.execute(
        """ALTER TABLE identity_links DROP CONSTRAINT uq_links_external, DROP CONSTRAINT uq_links_erp,
           ADD CONSTRAINT uq_links_external UNIQUE (connector_id, external_id, external_entity, erp_entity),
           ADD CONSTRAINT uq_links_erp UNIQUE (erp_id, connector_id, external_entity, erp_entity)"""
    )
    op.execute("DROP INDEX idx_links_match, idx_links_connector, idx_changes_external")
    op.execute("CREATE INDEX idx_links_match ON identity_links ((-connector_id), match_digest)")
