"""The daemon: Dagster's schedules, sensors, queue and run monitoring, and our upkeep and alerts beside them."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from dagster._daemon.controller import create_daemons_from_instance, daemon_controller_from_instance

from integration_pipelines.orchestration.code_server import target
from integration_pipelines.orchestration.launcher import WarmRunLauncher
from integration_pipelines.orchestration.upkeep import AlertDaemon, UpkeepDaemon
from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database


def serve(settings: Settings, database: Database, instance: dg.DagsterInstance) -> None:
    """Run until the process is interrupted. The forkserver begins to import at once, so that the first run is a warm one."""
    if isinstance(instance.run_launcher, WarmRunLauncher):
        instance.run_launcher.warm_up()

    def daemons(of: dg.DagsterInstance) -> Sequence[Any]:
        return [*create_daemons_from_instance(of), UpkeepDaemon(settings, database), AlertDaemon(database)]

    with daemon_controller_from_instance(
        instance, target(settings), gen_daemons=daemons, heartbeat_interval_seconds=10, log_level="warning"
    ) as controller:
        controller.check_daemon_loop()
