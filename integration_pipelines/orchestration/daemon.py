"""The daemon: Dagster's schedules, sensors, queue and run monitoring, and our upkeep and alerts beside them."""

import logging
import threading
from functools import partial

import dagster as dg
from dagster._daemon.controller import daemon_controller_from_instance

from integration_pipelines.orchestration import clock, upkeep
from integration_pipelines.orchestration.code_server import target
from integration_pipelines.orchestration.launcher import WarmRunLauncher
from integration_pipelines.orchestration.session import utc_now
from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database

_LOG = logging.getLogger("integration.daemon")


def serve(settings: Settings, database: Database, instance: dg.DagsterInstance) -> None:
    """Run until the process is interrupted. The forkserver begins to import at once, so that the first run is a warm one."""
    if isinstance(instance.run_launcher, WarmRunLauncher):
        instance.run_launcher.warm_up()
    if begun := clock.begin_anew(instance, utc_now()):
        _LOG.warning("The clock was set back. %s begin with the time that it shows now.", ", ".join(begun))
    stop = threading.Event()
    with daemon_controller_from_instance(
        instance, target(settings), heartbeat_interval_seconds=10, log_level="warning"
    ) as controller:
        workspace = controller._workspace_process_context  # the one that Dagster's own daemons share
        ours = [
            upkeep.repeat("upkeep", upkeep.INTERVAL, upkeep.Upkeep(settings, database, workspace).turn, stop),
            upkeep.repeat("alerts", upkeep.ALERT_INTERVAL, partial(upkeep.send_alerts, database), stop),
        ]
        try:
            controller.check_daemon_loop()
        finally:
            stop.set()
            for thread in ours:
                thread.join(timeout=3)
