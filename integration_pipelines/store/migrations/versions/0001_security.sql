-- Who may see what.
--
-- integration_app        what the product works as: sees the rows of the tenant that app.tenant_id names, and nothing without one
-- integration_directory  owns the functions below. They answer what must be known before a tenant is (which sync configs exist,
--                        whose they are) and return ids only; its columns are granted one by one.

-- Roles belong to the whole server: another database's migration may be making them at this very moment.
DO $$
DECLARE role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['integration_app', 'integration_directory'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE', role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END;
        END IF;
    END LOOP;
END $$;

GRANT integration_app, integration_directory TO CURRENT_USER;
GRANT USAGE ON SCHEMA public TO integration_app, integration_directory;

CREATE FUNCTION app_tenant() RETURNS uuid LANGUAGE sql STABLE
AS $$ SELECT NULLIF(current_setting('app.tenant_id', true), '')::uuid $$;

-- Every table with a tenant_id is one tenant's at a time; tenants itself is seen by its id.
DO $$
DECLARE t text; key text;
BEGIN
    FOR t, key IN
        SELECT c.relname, CASE c.relname WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relname <> 'alembic_version'
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I TO integration_app USING (%I = app_tenant()) WITH CHECK (%I = app_tenant())',
                       t, key, key);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO integration_app', t);
    END LOOP;
END $$;
GRANT USAGE ON SEQUENCE connectors_id_seq, sync_errors_id_seq TO integration_app;  -- ids that ciphertexts are bound to
REVOKE UPDATE, DELETE ON audit_log FROM integration_app;
REVOKE DELETE ON tenants, sync_history FROM integration_app;

-- The journal's partitions: one a month, each with the policy of its own, none granted to anybody.
-- Attached afterwards, because attaching lets others go on reading and writing.
CREATE FUNCTION add_journal_month(day date) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    first date := date_trunc('month', day)::date;
    name text := 'sync_record_changes_' || to_char(day, 'YYYY_MM');
BEGIN
    IF day NOT BETWEEN current_date - 400 AND current_date + 400 THEN
        RAISE EXCEPTION 'journal month % is too far from today', day;
    END IF;
    IF to_regclass(name) IS NOT NULL THEN RETURN NULL; END IF;
    PERFORM pg_advisory_xact_lock(hashtext('sync_record_changes'));
    IF to_regclass(name) IS NOT NULL THEN RETURN NULL; END IF;
    EXECUTE format('CREATE TABLE %I (LIKE sync_record_changes INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY tenant ON %I TO integration_app USING (tenant_id = app_tenant())', name);
    EXECUTE format('ALTER TABLE sync_record_changes ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   name, first::timestamp AT TIME ZONE 'UTC', (first + interval '1 month')::timestamp AT TIME ZONE 'UTC');
    RETURN name;
END $$;

CREATE FUNCTION drop_journal_before(day date) RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
DECLARE name text;
BEGIN
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'sync_record_changes'::regclass
          AND c.relname < 'sync_record_changes_' || to_char(LEAST(day, current_date - 28), 'YYYY_MM')
    LOOP
        EXECUTE format('DROP TABLE %I', name);
        RETURN NEXT name;
    END LOOP;
END $$;

SELECT add_journal_month((current_date + make_interval(months => n))::date) FROM generate_series(0, 2) n;

-- The directory.
GRANT SELECT (id, name) ON tenants TO integration_directory;
GRANT SELECT (id, tenant_id, connector_id, is_active, deleted_at) ON sync_configurations TO integration_directory;
GRANT SELECT (id, tenant_id, is_active, deleted_at) ON connectors TO integration_directory;
GRANT SELECT (id, tenant_id, sync_configuration_id, sync_status) ON sync_history TO integration_directory;
GRANT SELECT (tenant_id, master_key_id) ON tenant_keys TO integration_directory;
GRANT SELECT (tenant_id, run_id, created_at) ON staged_batches TO integration_directory;
CREATE POLICY directory ON tenants FOR SELECT TO integration_directory USING (true);
CREATE POLICY directory ON sync_configurations FOR SELECT TO integration_directory USING (true);
CREATE POLICY directory ON connectors FOR SELECT TO integration_directory USING (true);
CREATE POLICY directory ON sync_history FOR SELECT TO integration_directory USING (true);
CREATE POLICY directory ON tenant_keys FOR SELECT TO integration_directory USING (true);
CREATE POLICY directory ON staged_batches FOR SELECT TO integration_directory USING (true);

CREATE FUNCTION find_tenant(wanted text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$ SELECT id FROM tenants WHERE name = wanted OR id::text = lower(wanted) $$;

CREATE FUNCTION tenant_ids() RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$ SELECT id FROM tenants ORDER BY name $$;

CREATE FUNCTION active_syncs() RETURNS TABLE (sync_id bigint, tenant uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    SELECT s.id, s.tenant_id FROM sync_configurations s JOIN connectors c ON (c.tenant_id, c.id) = (s.tenant_id, s.connector_id)
    WHERE s.is_active AND s.deleted_at IS NULL AND c.is_active AND c.deleted_at IS NULL ORDER BY s.id
$$;

CREATE FUNCTION tenant_of_sync(wanted bigint) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$ SELECT tenant_id FROM sync_configurations WHERE id = wanted $$;

CREATE FUNCTION running_histories() RETURNS TABLE (history_id bigint, tenant uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$ SELECT id, tenant_id FROM sync_history WHERE sync_status = 'running' ORDER BY id $$;

CREATE FUNCTION tenants_of_master_key(key_id text) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$ SELECT tenant_id FROM tenant_keys WHERE master_key_id = key_id $$;

CREATE FUNCTION master_key_ids() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$ SELECT DISTINCT master_key_id FROM tenant_keys $$;

CREATE FUNCTION old_staging(before timestamptz) RETURNS TABLE (run uuid, tenant uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$ SELECT DISTINCT run_id, tenant_id FROM staged_batches WHERE created_at < before $$;

DO $$
DECLARE f regprocedure;
BEGIN
    GRANT CREATE ON SCHEMA public TO integration_directory;
    FOR f IN
        SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'public' AND p.proname IN ('find_tenant', 'tenant_ids', 'active_syncs', 'tenant_of_sync',
              'running_histories', 'tenants_of_master_key', 'master_key_ids', 'old_staging')
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO integration_directory', f);
    END LOOP;
    REVOKE CREATE ON SCHEMA public FROM integration_directory;
    FOR f IN
        SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'public' AND p.proname IN ('find_tenant', 'tenant_ids', 'active_syncs', 'tenant_of_sync',
              'running_histories', 'tenants_of_master_key', 'master_key_ids', 'old_staging',
              'add_journal_month', 'drop_journal_before')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO integration_app', f);
    END LOOP;
END $$;
