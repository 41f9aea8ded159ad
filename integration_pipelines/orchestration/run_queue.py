"""Dagster's queue of runs, looked into more often than its configuration can say."""

from dagster._core.run_coordinator import QueuedRunCoordinator


class RunQueue(QueuedRunCoordinator):
    """Twice a second: the setting takes whole seconds, and then a launch waits for half of one on average."""

    @property
    def dequeue_interval_seconds(self) -> float:  # type: ignore[override] # the daemon takes any number
        return 0.5
