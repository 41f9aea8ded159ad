"""Schedules: one for each scheduled sync config, in the config's own time zone, running from the start."""

import dagster as dg

from integration_pipelines.model import SyncMode
from integration_pipelines.store.syncs import SyncConfig


def schedule_of(config: SyncConfig, job: dg.JobDefinition) -> dg.ScheduleDefinition | None:
    """None for a sync that runs by hand or on events."""
    if config.mode is not SyncMode.SCHEDULED or config.cron is None:
        return None
    return dg.ScheduleDefinition(
        name=f"schedule_sync_{config.id}",
        job=job,
        cron_schedule=config.cron,
        execution_timezone=config.time_zone,
        description=f"{config.name}: {config.external_entity} with {config.erp_entity}",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
