"""Dagster's own daemon, with the forkserver started first, as `integration daemon` does it."""

import dagster as dg
from dagster._daemon.cli import main

from integration_pipelines.orchestration.launcher import WarmRunLauncher

if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.run_launcher, WarmRunLauncher)
        instance.run_launcher.warm_up()
    main()
