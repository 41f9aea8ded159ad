"""One job for each active sync config, all from the same graph. A job holds the config's id and nothing else that matters:
what it reads and writes is looked up when it runs."""

from functools import lru_cache
from uuid import UUID

import dagster as dg
from dagster._core.storage.tags import MAX_RUNTIME_SECONDS_TAG

from integration_pipelines.orchestration import ops
from integration_pipelines.orchestration.resources import ConnectorResource, ErpResource
from integration_pipelines.orchestration.session import utc_now
from integration_pipelines.orchestration.staging_io import StagingIOManager
from integration_pipelines.settings import load as load_settings
from integration_pipelines.store.syncs import OPTIONS, BrokenConfig, SyncConfig, option


@dg.io_manager(config_schema={}, required_resource_keys={"sync"})
def staging(_: dg.InitResourceContext) -> StagingIOManager:
    return StagingIOManager()


@dg.resource(
    config_schema={}, description="The configured connector (a row of `connectors`); credentials are read when it connects."
)
def connector(_: dg.InitResourceContext) -> ConnectorResource:
    return ConnectorResource(load_settings(), utc_now)


@dg.resource(config_schema={}, description="The ERP: schema `erp` beside our tables, or your own database (ERP_DATABASE_URL).")
def erp(_: dg.InitResourceContext) -> ErpResource:
    return ErpResource(load_settings(), utc_now)


def job_name(sync_id: int) -> str:
    return f"sync_{sync_id}"


def sync_job(tenant: UUID, config: SyncConfig | BrokenConfig) -> dg.JobDefinition:
    """The job `sync_<id>`. That of a broken config tells in its description what is wrong, and so does a run of it."""
    if isinstance(config, BrokenConfig):
        description, limit = f"{config.name} cannot run. {config.problem}", OPTIONS["max_runtime_seconds"][0]
    else:
        description = f"{config.name}: {config.external_entity} → {config.erp_entity} ({config.direction.value})"
        limit = option(config, "max_runtime_seconds")
    return _job(config.id, str(tenant), config.connector_id, description, int(limit))


@lru_cache(maxsize=10_000)
def _job(sync_id: int, tenant: str, connector_id: int, description: str, limit: int) -> dg.JobDefinition:
    """Made once: a job's snapshot costs Dagster some milliseconds, and most jobs are the same after a reload."""
    return ops.sync.to_job(
        name=job_name(sync_id),
        description=description,
        resource_defs={"sync": ops.session_resource(sync_id), "connector": connector, "erp": erp, "staging": staging},
        executor_def=dg.in_process_executor,
        tags={
            "integration/tenant": tenant,
            "integration/connector": str(connector_id),
            "integration/sync": str(sync_id),
            MAX_RUNTIME_SECONDS_TAG: str(limit),
        },
    )


def job_named(job_name: str) -> dg.JobDefinition:
    """The same by its name: what a run's process builds."""
    return job_of(int(job_name.removeprefix("sync_")))


def job_of(sync_id: int) -> dg.JobDefinition:
    """One sync's job, for a process that runs nothing else."""
    from integration_pipelines.store import syncs
    from integration_pipelines.store.installation import open_installation

    with open_installation(load_settings()) as installation:
        database = installation.database()
        try:
            tenant = syncs.tenant_of(database, sync_id)
            with database.tenant(tenant) as scope:
                return sync_job(tenant, syncs.for_job(scope, sync_id))
        finally:
            database.close()
