"""The daemon: Dagster's schedules, sensors, queue and run monitoring, and what we keep up beside them."""

import dagster as dg
from dagster._daemon.controller import create_daemons_from_instance, daemon_controller_from_instance

from integration_pipelines.orchestration.code_server import target
from integration_pipelines.orchestration.launcher import WarmRunLauncher
from integration_pipelines.settings import Settings


def serve(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Run until the process is interrupted. The forkserver begins to import at once, so that the first run is a warm one."""
    if isinstance(instance.run_launcher, WarmRunLauncher):
        instance.run_launcher.warm_up()
    with daemon_controller_from_instance(
        instance, target(settings), gen_daemons=create_daemons_from_instance, log_format="rich"
    ) as controller:
        controller.check_daemon_loop()
