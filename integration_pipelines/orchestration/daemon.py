"""The daemon: Dagster's schedules, sensors, queue and run monitoring, and our upkeep and alerts beside them."""

import logging
import threading
from functools import partial

import dagster as dg
from dagster._daemon.controller import daemon_controller_from_instance

from connector_resources.errors import ConfigurationError
from integration_pipelines.orchestration import clock, standby, upkeep
from integration_pipelines.orchestration.code_server import target
from integration_pipelines.orchestration.launcher import WarmRunLauncher
from integration_pipelines.orchestration.session import utc_now
from integration_pipelines.orchestration.standby import Leadership
from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database

_LOG = logging.getLogger("integration.daemon")


def serve(settings: Settings, database: Database, instance: dg.DagsterInstance) -> None:
    """Run until the process is interrupted; while another daemon runs with the same database, stand by. Raises
    ConfigurationError when that one was faster to take the lock that this one has lost."""
    with Leadership(database) as leadership:
        try:
            _lead(settings, database, instance, leadership)
        except KeyboardInterrupt:
            if not leadership.lost:
                raise
            raise ConfigurationError(
                "Another daemon took over while this one had lost its connection to the database; this one ends."
            ) from None


def _lead(settings: Settings, database: Database, instance: dg.DagsterInstance, leadership: Leadership) -> None:
    """The forkserver begins to import at once, so that the first run is a warm one."""
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
            upkeep.repeat("leadership", standby.POLL, leadership.keep, stop),
            upkeep.repeat("upkeep", upkeep.INTERVAL, upkeep.Upkeep(settings, database, workspace).turn, stop),
            upkeep.repeat("alerts", upkeep.ALERT_INTERVAL, partial(upkeep.send_alerts, database), stop),
        ]
        try:
            controller.check_daemon_loop()
        finally:
            stop.set()
            for thread in ours:
                thread.join(timeout=3)
