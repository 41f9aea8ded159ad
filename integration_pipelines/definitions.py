"""What Dagster loads: a job for each active sync config, the schedules, and the sweeper."""

import dagster as dg

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
    jobs = [(config, sync_job(tenant, config)) for tenant, config in configs]
    schedules = [found for config, job in jobs if isinstance(config, syncs.SyncConfig) and (found := schedule_of(config, job))]
    return dg.Definitions(jobs=[job for _, job in jobs], schedules=schedules, sensors=[sweeper])
