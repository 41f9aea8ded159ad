"""The requirement's seven tables: every column, index and key stands in the database under its own name."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from integration_pipelines.store.database import engine

# name: column → (type, may be null, default); further columns of ours may stand beside them
INSTANT, SERIAL = "timestamp with time zone", "identity"
BASE = {"id": ("bigint", False, SERIAL), "tenant_id": ("uuid", False, None)}
STAMPS = {"created_at": (INSTANT, False, "now()"), "updated_at": (INSTANT, False, "now()")}
REQUIRED: dict[str, dict[str, tuple[str, bool, str | None]]] = {
    "connectors": BASE
    | STAMPS
    | {
        "connector_code": ("character varying(100)", False, None),
        "connector_name": ("character varying(255)", False, None),
        "connector_type": ("character varying(50)", False, None),
        "external_system_url": ("text", False, None),
        "authentication_method": ("character varying(50)", False, None),
        "credentials": ("jsonb", False, None),
        "configuration": ("jsonb", True, None),
        "is_active": ("boolean", True, "true"),
        "last_sync_at": (INSTANT, True, None),
        "created_by": ("bigint", False, None),
        "deleted_at": (INSTANT, True, None),
    },
    "sync_configurations": BASE
    | STAMPS
    | {
        "connector_id": ("bigint", False, None),
        "sync_name": ("character varying(255)", False, None),
        "source_entity": ("character varying(255)", False, None),
        "target_entity": ("character varying(255)", False, None),
        "sync_direction": ("character varying(20)", False, None),
        "sync_mode": ("character varying(20)", False, None),
        "schedule_cron": ("character varying(100)", True, None),
        "field_mappings": ("jsonb", False, None),
        "transformation_rules": ("jsonb", True, None),
        "conflict_resolution_strategy": ("character varying(50)", True, "'last_write_wins'"),
        "is_active": ("boolean", True, "true"),
    },
    "sync_history": BASE
    | {
        "sync_configuration_id": ("bigint", False, None),
        "sync_direction": ("character varying(20)", False, None),
        "sync_status": ("character varying(20)", False, "'pending'"),
        "records_processed": ("integer", True, "0"),
        "records_succeeded": ("integer", True, "0"),
        "records_failed": ("integer", True, "0"),
        "records_skipped": ("integer", True, "0"),
        "execution_time_ms": ("integer", True, None),
        "error_message": ("text", True, None),
        "data_snapshot_before": ("jsonb", True, None),
        "data_snapshot_after": ("jsonb", True, None),
        "started_at": (INSTANT, True, None),
        "completed_at": (INSTANT, True, None),
        "created_at": (INSTANT, False, "now()"),
    },
    "sync_errors": BASE
    | {
        "sync_history_id": ("bigint", False, None),
        "record_id": ("character varying(255)", False, None),
        "error_type": ("character varying(50)", False, None),
        "error_message": ("text", False, None),
        "error_details": ("jsonb", True, None),
        "record_data": ("jsonb", True, None),
        "retry_count": ("integer", True, "0"),
        "is_resolved": ("boolean", True, "false"),
        "resolved_at": (INSTANT, True, None),
        "created_at": (INSTANT, False, "now()"),
    },
    "field_mappings": BASE
    | STAMPS
    | {
        "mapping_name": ("character varying(255)", False, None),
        "source_entity": ("character varying(255)", False, None),
        "target_entity": ("character varying(255)", False, None),
        "mappings": ("jsonb", False, None),
        "transformation_functions": ("jsonb", True, None),
        "version": ("integer", True, "1"),
        "is_active": ("boolean", True, "true"),
    },
    "webhook_receivers": BASE
    | STAMPS
    | {
        "connector_id": ("bigint", False, None),
        "receiver_url": ("text", False, None),
        "event_type": ("character varying(255)", False, None),
        "authentication_token": ("character varying(255)", False, None),
        "is_active": ("boolean", True, "true"),
        "last_received_at": (INSTANT, True, None),
    },
    "webhook_events": BASE
    | {
        "webhook_receiver_id": ("bigint", False, None),
        "event_type": ("character varying(255)", False, None),
        "payload": ("jsonb", False, None),
        "processing_status": ("character varying(20)", False, "'pending'"),
        "error_message": ("text", True, None),
        "received_at": (INSTANT, False, "now()"),
        "processed_at": (INSTANT, True, None),
    },
}
INDEXES = {
    "idx_connectors_tenant": "connectors (tenant_id)",
    "idx_connectors_type": "connectors (connector_type)",
    "idx_connectors_active": "connectors (is_active)",
    "idx_sync_configs_tenant": "sync_configurations (tenant_id)",
    "idx_sync_configs_connector": "sync_configurations (connector_id)",
    "idx_sync_configs_mode": "sync_configurations (sync_mode)",
    "idx_sync_history_tenant": "sync_history (tenant_id)",
    "idx_sync_history_config": "sync_history (sync_configuration_id)",
    "idx_sync_history_status": "sync_history (sync_status)",
    "idx_sync_history_started": "sync_history (started_at)",
    "idx_sync_errors_tenant": "sync_errors (tenant_id)",
    "idx_sync_errors_history": "sync_errors (sync_history_id)",
    "idx_sync_errors_type": "sync_errors (error_type)",
    "idx_sync_errors_resolved": "sync_errors (is_resolved)",
    "idx_field_mappings_tenant": "field_mappings (tenant_id)",
    "idx_field_mappings_entities": "field_mappings (source_entity, target_entity)",
    "idx_webhook_receivers_tenant": "webhook_receivers (tenant_id)",
    "idx_webhook_receivers_connector": "webhook_receivers (connector_id)",
    "idx_webhook_events_tenant": "webhook_events (tenant_id)",
    "idx_webhook_events_receiver": "webhook_events (webhook_receiver_id)",
    "idx_webhook_events_status": "webhook_events (processing_status)",
    "idx_webhook_events_received": "webhook_events (received_at)",
}
REFERENCES = {  # child column → parent, on delete (a: no action, c: cascade)
    ("connectors", "created_by"): ("users", "a"),
    ("sync_configurations", "connector_id"): ("connectors", "c"),
    ("sync_history", "sync_configuration_id"): ("sync_configurations", "a"),
    ("sync_errors", "sync_history_id"): ("sync_history", "c"),
    ("webhook_receivers", "connector_id"): ("connectors", "a"),
    ("webhook_events", "webhook_receiver_id"): ("webhook_receivers", "a"),
}


@pytest.fixture
def connection(database_url: str) -> Iterator[sa.Connection]:
    with engine(database_url, role=None, poolclass=sa.NullPool).connect() as found:
        yield found


@pytest.mark.parametrize("table", sorted(REQUIRED))
def test_every_column_of_the_requirement_has_its_name_type_and_default(connection: sa.Connection, table: str) -> None:
    statement = """SELECT a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
            CASE WHEN a.attidentity <> '' THEN 'identity'
                 ELSE regexp_replace(pg_get_expr(d.adbin, d.adrelid), '::.*', '') END
        FROM pg_attribute a LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
        WHERE a.attrelid = CAST(:t AS regclass) AND a.attnum > 0 AND NOT a.attisdropped"""
    found = {row[0]: tuple(row[1:]) for row in connection.execute(sa.text(statement), {"t": table})}
    for column, expected in REQUIRED[table].items():
        name, null, default = found[column]
        assert (name, null, str(default).strip("'") if default else None) == (
            expected[0],
            expected[1],
            expected[2].strip("'") if expected[2] else None,
        ), column


def test_every_index_of_the_requirement_has_its_name_and_columns(connection: sa.Connection) -> None:
    statement = "SELECT indexname, regexp_replace(indexdef, '.* ON public\\.(\\w+) USING btree', '\\1') FROM pg_indexes"
    found = {row[0]: row[1] for row in connection.exec_driver_sql(statement)}
    assert {name: found.get(name) for name in INDEXES} == INDEXES


def test_every_foreign_key_of_the_requirement_is_there_within_the_tenant(connection: sa.Connection) -> None:
    statement = """SELECT conrelid::regclass::text, a.attname, confrelid::regclass::text, confdeltype::text
        FROM pg_constraint JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = ANY(conkey) WHERE contype = 'f'"""
    found = {(child, column): (parent, rule) for child, column, parent, rule in connection.exec_driver_sql(statement)
             if column != "tenant_id"}  # fmt: skip
    assert {key: found.get(key) for key in REFERENCES} == REFERENCES
    tenants = connection.exec_driver_sql(
        "SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f' AND confrelid = 'tenants'::regclass"
        " AND confdeltype = 'c'"
    ).scalars()
    assert set(REQUIRED) <= set(tenants)


def test_a_code_is_unique_among_a_tenants_connectors_that_were_not_deleted(connection: sa.Connection) -> None:
    (definition,) = connection.exec_driver_sql("SELECT indexdef FROM pg_indexes WHERE indexname = 'uq_connectors_code'").one()
    assert "UNIQUE" in definition
    assert "(tenant_id, connector_code) WHERE (deleted_at IS NULL)" in definition
