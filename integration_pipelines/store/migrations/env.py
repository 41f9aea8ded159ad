"""Alembic's entry point. migrate.py hands the open connection in; alembic's own command line is not used."""

from alembic import context

from integration_pipelines.store import sync_tables, tables  # noqa: F401 - they describe themselves into metadata
from integration_pipelines.store.columns import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
