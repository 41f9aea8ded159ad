"""The definitions follow the database: one text that changes whenever a sync config that is to be loaded does."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("""
        GRANT SELECT (sync_name, source_entity, target_entity, sync_direction, sync_mode, schedule_cron, time_zone,
                      field_mappings, transformation_rules, conflict_resolution_strategy, delete_policy)
            ON sync_configurations TO integration_directory;
        CREATE FUNCTION syncs_digest() RETURNS text
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
        AS $$
            SELECT md5(COALESCE(string_agg(md5(ROW(s.id, s.tenant_id, s.connector_id, s.sync_name, s.source_entity,
                       s.target_entity, s.sync_direction, s.sync_mode, s.schedule_cron, s.time_zone, s.field_mappings,
                       s.transformation_rules, s.conflict_resolution_strategy, s.delete_policy)::text), '' ORDER BY s.id), ''))
            FROM sync_configurations s JOIN connectors c ON (c.tenant_id, c.id) = (s.tenant_id, s.connector_id)
            WHERE s.is_active AND s.deleted_at IS NULL AND c.is_active AND c.deleted_at IS NULL
        $$;
        GRANT CREATE ON SCHEMA public TO integration_directory;
        ALTER FUNCTION syncs_digest() OWNER TO integration_directory;
        REVOKE CREATE ON SCHEMA public FROM integration_directory;
        REVOKE ALL ON FUNCTION syncs_digest() FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION syncs_digest() TO integration_app;
    """)
