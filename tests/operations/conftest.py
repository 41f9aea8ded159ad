"""A tenant with a sync, and where its alerts may go: a real HTTP receiver and a real mail server."""

from collections.abc import Iterator

import pytest
from mailroom import Clock, MailServer, Receiver, mail_server, receiver
from notebook import World, make_world

from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database


@pytest.fixture
def world(database: Database, settings: Settings) -> World:
    return make_world(database, settings)


@pytest.fixture
def inbox() -> Iterator[Receiver]:
    with receiver() as opened:
        yield opened


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with mail_server() as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()
