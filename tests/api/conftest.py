"""The server of reception.py, with its own database."""

from collections.abc import Iterator

import pytest
from reception import Reception, open_reception

from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database


@pytest.fixture
def reception(database: Database, settings: Settings) -> Iterator[Reception]:
    with open_reception(database, settings) as opened:
        yield opened
