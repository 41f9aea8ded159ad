-- Plans that are the same whatever the statistics know of a tenant.
--
-- A planner that sees which tenant asks takes one that came after the last ANALYZE for one without rows, and reads all of that
-- tenant's rows to look up a single one. So policies compare with a subquery, whose value it does not see; and in the tables that
-- have rows for each record in a form that no index serves. What is looked up there is found by an index that begins with it.

DO $$
DECLARE
    p record;
    each CONSTANT text[] := ARRAY['identity_links', 'data_keys', 'sync_record_changes', 'write_intents', 'staged_batches'];
    ours text;
BEGIN
    FOR p IN SELECT * FROM pg_policies WHERE schemaname = 'public' AND qual LIKE '%app_tenant()%' LOOP
        ours := format('%I = (SELECT app_tenant())', CASE p.tablename WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END);
        IF p.tablename = ANY(each) OR p.tablename LIKE 'sync_record_changes_%' THEN
            ours := '(SELECT app_tenant()) IS NOT DISTINCT FROM tenant_id';
        END IF;
        EXECUTE format('ALTER POLICY %I ON %I USING (%s)', p.policyname, p.tablename, ours)
                || CASE WHEN p.with_check IS NULL THEN '' ELSE format(' WITH CHECK (%s)', ours) END;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION add_journal_month(day date) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp
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
    EXECUTE format('CREATE POLICY tenant ON %I TO integration_app USING ((SELECT app_tenant()) IS NOT DISTINCT FROM tenant_id)',
                   name);
    EXECUTE format('ALTER TABLE sync_record_changes ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   name, first::timestamp AT TIME ZONE 'UTC', (first + interval '1 month')::timestamp AT TIME ZONE 'UTC');
    RETURN name;
END $$;

-- The tenant of a link, journal row or intent is that of its connector or history row, by the composite key.
ALTER TABLE identity_links DROP CONSTRAINT fk_identity_links_tenant_id;
ALTER TABLE sync_record_changes DROP CONSTRAINT fk_sync_record_changes_tenant_id;
ALTER TABLE write_intents DROP CONSTRAINT fk_write_intents_tenant_id;

ALTER TABLE identity_links DROP CONSTRAINT uq_links_external, DROP CONSTRAINT uq_links_erp,
    DROP CONSTRAINT uq_identity_links_tenant_id_id,
    ADD CONSTRAINT uq_links_external UNIQUE (external_id, tenant_id, connector_id, external_entity, erp_entity),
    ADD CONSTRAINT uq_links_erp UNIQUE (erp_id, tenant_id, connector_id, external_entity, erp_entity);
DROP INDEX idx_links_match, idx_links_merged;
CREATE INDEX idx_links_match ON identity_links (match_digest);
CREATE INDEX idx_links_merged ON identity_links (merged_into) WHERE merged_into IS NOT NULL;
CREATE INDEX idx_links_connector ON identity_links (connector_id);

ALTER TABLE data_keys DROP CONSTRAINT uq_data_keys_tenant_id_subject,
    ADD CONSTRAINT uq_data_keys_subject_tenant_id UNIQUE (subject, tenant_id);

ALTER TABLE sync_record_changes DROP CONSTRAINT pk_sync_record_changes,
    ADD CONSTRAINT pk_sync_record_changes PRIMARY KEY (sync_history_id, side, record_id, changed_at, tenant_id);
DROP INDEX idx_changes_erp, idx_changes_external;
CREATE INDEX idx_changes_erp ON sync_record_changes (erp_id);
CREATE INDEX idx_changes_external ON sync_record_changes (external_id);

ALTER TABLE staged_batches DROP CONSTRAINT pk_staged_batches,
    ADD CONSTRAINT pk_staged_batches PRIMARY KEY (run_id, step, attempt, position, tenant_id);

DROP INDEX idx_intents_open;
CREATE INDEX idx_intents_open ON write_intents (sync_configuration_id) WHERE state = 'announced';
