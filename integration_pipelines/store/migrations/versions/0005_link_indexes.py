"""Indexes of links begin with what is looked for."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for side in ("external", "erp"):
        op.execute(f"ALTER TABLE identity_links DROP CONSTRAINT uq_links_{side}")
        op.execute(
            f"ALTER TABLE identity_links ADD CONSTRAINT uq_links_{side} "
            f"UNIQUE (tenant_id, {side}_id, connector_id, external_entity, erp_entity)"
        )
    op.execute("DROP INDEX idx_links_match")
    op.execute(
        "CREATE INDEX idx_links_match ON identity_links (tenant_id, match_digest, connector_id, external_entity, erp_entity)"
    )
    op.execute("CREATE INDEX idx_links_merged ON identity_links (tenant_id, merged_into) WHERE merged_into IS NOT NULL")
