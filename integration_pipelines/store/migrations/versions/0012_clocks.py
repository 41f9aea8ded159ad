"""What was planned by a clock that ran ahead is due at once: it would wait until the right clock is there, too."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """A retry is planned when its attempt is closed, and that cannot lie ahead. An alert is tried again within an hour. A
    minute is what the clocks of two machines may differ by."""
    op.execute(
        """CREATE OR REPLACE FUNCTION due_retries(now timestamptz) RETURNS TABLE (history_id bigint, tenant uuid)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
        AS $$ SELECT id, tenant_id FROM sync_history
              WHERE retry_at IS NOT NULL AND (retry_at <= now OR completed_at > now + interval '1 minute')
              ORDER BY retry_at LIMIT 100 $$"""
    )
    op.execute(
        """CREATE OR REPLACE FUNCTION due_alerts(now timestamptz) RETURNS TABLE (alert_id bigint, tenant uuid)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
        AS $$ SELECT id, tenant_id FROM alerts
              WHERE due_at <= now OR due_at > now + interval '61 minutes' ORDER BY due_at, id LIMIT 100 $$"""
    )
