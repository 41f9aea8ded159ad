"""What Dagster loads: a job for each active sync config, the schedules, and the sweeper."""

from uuid import UUID

import dagster as dg
from dagster._check import CheckError
from dagster_shared.error import DagsterError

from integration_pipelines.orchestration.jobs import sync_job
from integration_pipelines.orchestration.schedules import schedule_of
from integration_pipelines.orchestration.sensors import sweeper
from integration_pipelines.settings import load
from integration_pipelines.store import syncs
from integration_pipelines.store.installation import open_installation


@dg.definitions
def defs() -> dg.Definitions:
    """Read when the code location is loaded; the code server does so again whenever a sync config has changed.

    One that cannot be loaded has a job that says why, and no schedule; the others are as they would be without it."""
    with open_installation(load()) as installation:
        database = installation.database()
        try:
            configs = syncs.active(database)
        finally:
            database.close()
    made = [_made(tenant, config) for tenant, config in configs]
    schedules = [schedule for _, schedule in made if schedule is not None]
    return dg.Definitions(jobs=[job for job, _ in made], schedules=schedules, sensors=[sweeper])


def _made(
    tenant: UUID, config: syncs.SyncConfig | syncs.BrokenConfig
) -> tuple[dg.JobDefinition, dg.ScheduleDefinition | None]:
    try:
        job = sync_job(tenant, config)
        return job, schedule_of(config, job) if isinstance(config, syncs.SyncConfig) else None
    except (DagsterError, CheckError, ValueError) as problem:  # Dagster is stricter here than the store
        reason = str(problem).strip().splitlines()[0]
        return sync_job(tenant, syncs.BrokenConfig(config.id, config.connector_id, config.name, reason)), None
