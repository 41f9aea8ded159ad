"""Sensors: the sweeper closes what dead processes left open and keeps staging and journal within their limits."""

from datetime import timedelta

import dagster as dg

from integration_pipelines.orchestration.session import utc_now
from integration_pipelines.settings import load as load_settings
from integration_pipelines.store import history, journal_months, staging
from integration_pipelines.store.installation import open_installation

STAGING_KEPT = timedelta(hours=48)


@dg.sensor(minimum_interval_seconds=5, default_status=dg.DefaultSensorStatus.RUNNING, job_name=None)
def sweeper(_: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Histories of killed runs are closed as failed; abandoned staging is dropped; next month's journal partition is made."""
    settings = load_settings()
    with open_installation(settings) as installation:
        database = installation.database()
        try:
            now = utc_now()
            closed = history.sweep(database, now)
            dropped = staging.sweep(database, now - STAGING_KEPT)
            journal_months.keep(database, now.date(), settings.journal_months)
        finally:
            database.close()
    return dg.SkipReason(f"{len(closed)} histories of dead runs closed, staging of {dropped} runs dropped.")
