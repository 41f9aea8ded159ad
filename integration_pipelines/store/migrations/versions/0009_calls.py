"""Calls that a connector has made on a day: what its own daily limit holds against, and what people see of the use."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute(
        """CREATE TABLE connector_calls (
            tenant_id UUID NOT NULL CONSTRAINT fk_connector_calls_tenant_id REFERENCES tenants (id) ON DELETE CASCADE,
            connector_id BIGINT NOT NULL,
            day DATE NOT NULL,
            calls INTEGER NOT NULL DEFAULT 0,
            told_used INTEGER,
            told_limit INTEGER,
            CONSTRAINT pk_connector_calls PRIMARY KEY (tenant_id, connector_id, day),
            CONSTRAINT fk_connector_calls_tenant_id_connector_id FOREIGN KEY (tenant_id, connector_id)
                REFERENCES connectors (tenant_id, id) ON DELETE CASCADE)"""
    )
    op.execute("ALTER TABLE connector_calls ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE connector_calls FORCE ROW LEVEL SECURITY")
    ours = "tenant_id = (SELECT app_tenant())"
    op.execute(f"CREATE POLICY tenant ON connector_calls TO integration_app USING ({ours}) WITH CHECK ({ours})")
    op.execute("GRANT SELECT, INSERT, UPDATE ON connector_calls TO integration_app")
