"""The brake: a run that would change too much stops before its first write."""

from typing import Any

import pytest
from notebook import World, fill, make_world, now, phone

from connector_resources.errors import BrakePulled
from integration_pipelines.settings import Settings
from integration_pipelines.store import history, syncs
from integration_pipelines.store.database import Database


@pytest.fixture
def world(database: Database, settings: Settings) -> World:
    return fill(make_world(database, settings))


class TestBrake:
    def many(self, world: World, count: int, **values: Any) -> None:
        for number in range(count):
            world.book.write_note("Client", f"D{number}", **({"Name": f"Client {number}", "Number": f"d{number}"} | values))

    def test_a_first_run_over_an_erp_that_is_in_use_is_let_through(self, database: Database, settings: Settings) -> None:
        world = make_world(database, settings)
        self.many(world, 12)
        world.change(
            "INSERT INTO erp.customer (name, customer_number, active) SELECT 'x', 'd' || n, true FROM generate_series(0, 11) n"
        )
        counts, _ = world.sync()
        assert counts.actions == {"update": 12}

    def test_changes_of_more_than_the_share_stop_and_are_named(self, world: World) -> None:
        self.many(world, 18)
        world.sync()
        self.many(world, 11, Phone="9")
        with pytest.raises(BrakePulled, match=r"would change 11 of the 20 known customer records, more than the 50%"):
            world.sync()
        assert phone(world, "d0") is None

    @pytest.mark.parametrize(("changed", "stops"), [(9, False), (10, True)])
    def test_fewer_than_ten_never_stop_a_run(self, database: Database, settings: Settings, changed: int, stops: bool) -> None:
        world = make_world(database, settings, options={"brake_changes": 0.0})
        self.many(world, 12)
        world.sync()
        self.many(world, changed, Phone="9")
        if stops:
            with pytest.raises(BrakePulled):
                world.sync()
        else:
            assert world.sync()[0].actions == {"update": 9}

    def test_exactly_the_share_is_let_through(self, world: World) -> None:
        self.many(world, 18)
        world.sync()
        self.many(world, 10, Phone="9")
        assert world.sync()[0].actions == {"update": 10}

    def test_records_that_would_be_made_anew_count(self, database: Database, settings: Settings) -> None:
        world = make_world(database, settings, strategy="source_wins")
        self.many(world, 20)
        world.sync()
        world.change("DELETE FROM erp.customer")
        self.many(world, 20, Phone="9")
        with pytest.raises(BrakePulled, match="would change 20 of the 20"):
            world.sync()

    def test_a_release_holds_for_one_run_that_ends(self, world: World) -> None:
        self.many(world, 18)
        world.sync()
        with world.database.tenant(world.tenant) as scope:
            syncs.release_brake(scope, world.config.id, "test")
        self.many(world, 18, Phone="9")
        run = world.run()
        batches = world.planned(run)
        with world.database.tenant(world.tenant) as scope:
            history.fail(scope, run.opened.id, "It died.", now())
        assert world.sync()[0].actions == {"update": 18}  # the one that died has not used it up
        self.many(world, 18, Phone="10")
        with pytest.raises(BrakePulled):
            world.sync()
        assert batches
