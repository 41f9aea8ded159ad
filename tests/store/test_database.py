"""A driver's failures, turned into sentences."""

import pytest
import sqlalchemy as sa
from psycopg.errors import DiskFull

from connector_resources.errors import NetworkError
from integration_pipelines.store.database import explained


def test_a_full_disk_is_called_one_and_is_worth_another_try() -> None:
    with (
        pytest.raises(NetworkError, match=r"postgresql://app@db/store has no room left on its disk; make room there\.$"),
        explained("postgresql://app:canary@db/store"),
    ):
        raise sa.exc.OperationalError("INSERT", {}, DiskFull("could not extend file"))
