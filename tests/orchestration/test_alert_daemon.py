"""The daemon that sends alerts."""

from mailroom import add_channel, fail_for_good, receiver
from notebook import make_world

from integration_pipelines.orchestration.upkeep import AlertDaemon
from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database


def test_the_daemon_sends_what_is_due_and_gives_a_sign_of_life_after_each(database: Database, settings: Settings) -> None:
    worlds = [make_world(database, settings, tenant=name) for name in ("acme", "globex")]
    daemon = AlertDaemon(database)
    with receiver() as inbox:
        for world in worlds:
            add_channel(world, "ops", inbox.address)
            fail_for_good(world)
        turn = daemon.run_iteration(None)
        next(turn)
        assert len(inbox.posts) == 1
        assert list(turn) == [None]
        assert list(daemon.run_iteration(None)) == []
        assert len(inbox.posts) == 2
