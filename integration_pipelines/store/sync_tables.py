"""The tables that the sync semantics need: links, journal, intents, watermarks, staging, inbox, outbox, audit.

In those that have rows for each record, an index begins with what is looked for, and no policy is served by an index. Behind
columns that are alike in most rows, a planner whose statistics are not fresh takes one index for another, and reads all of it
for every look-up.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

from integration_pipelines.store.columns import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    Sealed,
    at,
    created,
    identity,
    metadata,
    tenant,
    tenant_of_parent,
    text,
    updated,
    within,
)

identity_links = sa.Table(
    "identity_links",
    metadata,
    identity(),
    tenant_of_parent(),
    Column("connector_id", BigInteger, nullable=False),
    text("external_entity", 255),
    text("external_id", 255),
    text("erp_entity", 255),
    text("erp_id", 255),
    Column("base", Sealed, nullable=False),
    Column("field_mapping_id", BigInteger, nullable=False),  # that of the run in sync_history which wrote the row
    Column("external_fingerprint", sa.LargeBinary, nullable=True),
    Column("erp_fingerprint", sa.LargeBinary, nullable=True),
    text("external_version", 255, null=True),
    text("erp_version", 255, null=True),
    Column("match_digest", sa.LargeBinary, nullable=True),
    Column("revision", BigInteger, nullable=False, server_default="1"),
    text("state", 20, default="active"),
    text("merged_into", 255, null=True),
    created(),
    updated(),
    within("connector_id", "connectors"),
    sa.UniqueConstraint("connector_id", "external_id", "external_entity", "erp_entity", name="uq_links_external"),
    sa.UniqueConstraint("erp_id", "connector_id", "external_entity", "erp_entity", name="uq_links_erp"),
    sa.Index("idx_links_match", "tenant_id", "match_digest", postgresql_where=sa.text("match_digest IS NOT NULL")),
    sa.Index("idx_links_merged", "merged_into", postgresql_where=sa.text("merged_into IS NOT NULL")),
)

# One row a changed record, in partitions of a month. The primary key is natural, so that the ciphertext can be bound to it.
sync_record_changes = sa.Table(
    "sync_record_changes",
    metadata,
    tenant_of_parent(),
    Column("sync_history_id", BigInteger, nullable=False),
    text("side", 10),
    text("record_id", 255),
    at("changed_at", nullable=False),
    text("action", 20),
    text("external_id", 255, null=True),
    text("erp_id", 255, null=True),
    Column("changed_fields", JSONB, nullable=False),
    Column("before", Sealed, nullable=True),
    Column("after", Sealed, nullable=True),
    Column("digest", sa.LargeBinary, nullable=False),
    within("sync_history_id", "sync_history"),
    sa.PrimaryKeyConstraint("sync_history_id", "side", "record_id", "changed_at", "tenant_id"),
    sa.Index("idx_changes_erp", "erp_id"),
    postgresql_partition_by="RANGE (changed_at)",
)

write_intents = sa.Table(
    "write_intents",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    tenant_of_parent(),
    Column("sync_history_id", BigInteger, nullable=False),
    Column("sync_configuration_id", BigInteger, nullable=False),
    text("side", 10),
    text("action", 20),
    text("external_id", 255, null=True),
    text("erp_id", 255, null=True),
    Column("payload", Sealed, nullable=True),
    text("state", 20, default="announced"),
    created(),
    at("settled_at"),
    within("sync_history_id", "sync_history"),
    within("sync_configuration_id", "sync_configurations"),
    sa.Index("idx_intents_unknown", "erp_id", postgresql_where=sa.text("state = 'unknown'")),
    sa.Index("idx_intents_open", "sync_configuration_id", postgresql_where=sa.text("state = 'announced'")),
)

sync_watermarks = sa.Table(
    "sync_watermarks",
    metadata,
    tenant(),
    Column("sync_configuration_id", BigInteger, nullable=False),
    text("side", 10),
    text("position"),
    Column("sync_history_id", BigInteger, nullable=False),
    updated(),
    sa.PrimaryKeyConstraint("tenant_id", "sync_configuration_id", "side"),
    within("sync_configuration_id", "sync_configurations", "CASCADE"),
    within("sync_history_id", "sync_history"),
)

staged_batches = sa.Table(
    "staged_batches",
    metadata,
    tenant(),
    Column("run_id", UUID(as_uuid=True), nullable=False),
    text("step", 100),
    Column("attempt", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("content", Sealed, nullable=False),
    created(),
    sa.PrimaryKeyConstraint("run_id", "step", "attempt", "position", "tenant_id"),
)

inbox = sa.Table(
    "inbox",
    metadata,
    identity(),
    tenant(),
    Column("connector_id", BigInteger, nullable=False),
    text("external_entity", 255),
    text("external_id", 255),
    text("erp_entity", 255),
    Column("webhook_event_id", BigInteger, nullable=True),
    Column("sync_history_id", BigInteger, nullable=True),
    text("status", 20, default="pending"),
    created(),
    at("settled_at"),
    within("connector_id", "connectors"),
    within("webhook_event_id", "webhook_events", "CASCADE"),
    within("sync_history_id", "sync_history"),
    sa.Index(
        "idx_inbox_open",
        *("tenant_id", "connector_id", "external_entity", "erp_entity"),
        postgresql_where=sa.text("status <> 'done'"),
    ),
)

outbox = sa.Table(
    "outbox",
    metadata,
    identity(),
    tenant(),
    Column("event_id", UUID(as_uuid=True), nullable=False),
    text("event_name", 100),
    text("subject", 255),
    Column("payload", Sealed, nullable=False),
    Column("txid", sa.BigInteger, nullable=False, server_default=sa.text("pg_current_xact_id()::text::bigint")),
    created(),
    at("published_at"),
    sa.UniqueConstraint("event_id"),
    sa.Index("idx_outbox_open", "id", postgresql_where=sa.text("published_at IS NULL")),
)

audit_log = sa.Table(
    "audit_log",
    metadata,
    identity(),
    tenant(),
    text("actor", 255),
    text("action", 100),
    text("subject", 255),
    Column("detail", JSONB),
    Column("succeeded", Boolean, nullable=False, server_default=sa.true()),
    created(),
    sa.Index("idx_audit_tenant", "tenant_id", "created_at"),
)

alerts = sa.Table(
    "alerts",
    metadata,
    identity(),
    tenant(),
    Column("sync_configuration_id", BigInteger, nullable=False),
    Column("sync_history_id", BigInteger, nullable=False),
    text("kind", 20),
    created(),
    Column("due_at", sa.DateTime(timezone=True), nullable=True, server_default=sa.func.now()),
    at("sent_at"),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("done_channels", sa.ARRAY(BigInteger), nullable=False, server_default="{}"),
    text("problem", null=True),
    within("sync_configuration_id", "sync_configurations"),
    within("sync_history_id", "sync_history"),
    sa.Index("idx_alerts_sync", "tenant_id", "sync_configuration_id", "id"),
    sa.Index("idx_alerts_due", "due_at", postgresql_where=sa.text("due_at IS NOT NULL")),
)

alert_channels = sa.Table(
    "alert_channels",
    metadata,
    identity(),
    tenant(),
    text("name", 255),
    Column("address", Sealed, nullable=False),
    created(),
    sa.UniqueConstraint("tenant_id", "name"),
)
