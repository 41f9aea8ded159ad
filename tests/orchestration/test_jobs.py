"""Jobs of sync configs: the same config gives the same job, so that a reload costs only what has changed."""

from uuid import uuid4

from integration_pipelines.orchestration.jobs import sync_job
from integration_pipelines.store.syncs import BrokenConfig

TENANT = uuid4()


def config(problem: str = "Its mapping is gone.", number: int = 1) -> BrokenConfig:
    return BrokenConfig(number, 1, "Accounts", problem)


def test_a_config_that_has_not_changed_keeps_its_job() -> None:
    assert sync_job(TENANT, config()) is sync_job(TENANT, config())


def test_a_config_that_has_changed_gets_another_job() -> None:
    assert sync_job(TENANT, config()) is not sync_job(TENANT, config("Its connector is gone."))
    assert sync_job(TENANT, config("Its connector is gone.")).description == "Accounts cannot run. Its connector is gone."


def test_no_two_tenants_share_a_job() -> None:
    assert sync_job(TENANT, config()) is not sync_job(uuid4(), config())
