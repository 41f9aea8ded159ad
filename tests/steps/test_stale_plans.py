"""Plans that are older than what they meet: re-executions, tries of a load, new mapping versions."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from clients import CLIENT_MAPPING
from notebook import World, fill, make_world, new_mapping, now, phone

from connector_resources.errors import ConfigurationError, NetworkError
from integration_pipelines.model import SyncStatus
from integration_pipelines.settings import Settings
from integration_pipelines.steps.load import load
from integration_pipelines.steps.run import Run
from integration_pipelines.store import history, syncs
from integration_pipelines.store.database import Database


@pytest.fixture
def world(database: Database, settings: Settings) -> World:
    return fill(make_world(database, settings))


class TestStalePlans:
    def test_a_value_that_was_taken_back_does_not_return(self, world: World) -> None:
        """A, then B, then A again: the second run finds nothing new, and so leaves no trace at the link."""
        world.sync()
        world.book.write_note("Client", "C1", Phone="B")
        stale = world.run()
        batches = world.planned(stale)
        world.book.write_note("Client", "C1", Phone="1")
        world.sync()
        load(stale, batches)
        assert phone(world) == "1"

    def test_a_tombstone_of_a_record_that_came_back_buries_nothing(self, world: World) -> None:
        world.sync()
        world.book.remove("Client", "C1")
        stale = world.run()
        batches = world.planned(stale)
        world.book.write_note("Client", "C1")
        world.sync()
        load(stale, batches)
        assert all(row["active"] for row in world.customers())

    def test_a_record_that_was_set_aside_then_and_is_well_now_is_not_set_aside_again(self, world: World) -> None:
        world.sync()
        world.book.write_note("Client", "C1", Name="x" * 81)
        stale = world.run()
        batches = world.planned(stale)
        world.book.write_note("Client", "C1", Name="Short")
        world.sync()
        load(stale, batches)
        assert world.errors() == []

    def test_a_run_of_an_earlier_mapping_version_is_refused(self, world: World) -> None:
        stale = world.run()
        new_mapping(world, CLIENT_MAPPING.replace("source: Phone", "source: Phone, transforms: [trim]"))
        with pytest.raises(ConfigurationError, match="pinned to an earlier mapping version"):
            reopened(world, stale)

    def test_a_re_execution_reads_nothing_again_that_is_done(self, world: World) -> None:
        world.book.page_size = 1
        run = world.run()
        batches = world.planned(run)

        def dying() -> Iterator[Any]:
            yield batches[0]
            raise NetworkError("gone")

        with pytest.raises(NetworkError):
            load(run, dying())
        again = reopened(world, run)
        reads = len(world.book.reads)
        counts, status = load(again, batches)
        assert (counts.actions, counts.skipped, status) == ({"create": 1}, 1, SyncStatus.COMPLETED)
        assert (len(world.customers()), world.book.reads[reads:]) == (2, [])

    def test_a_load_that_is_tried_again_counts_each_record_once(self, world: World) -> None:
        world.book.page_size = 1
        world.book.write_note("Client", "C0", Name="x" * 81)
        run = world.run()
        batches = world.planned(run)

        def dying() -> Iterator[Any]:
            yield from batches[:2]
            raise NetworkError("gone")

        with pytest.raises(NetworkError):
            load(run, dying())
        counts, _ = load(run, batches)
        row = world.rows("SELECT * FROM sync_history")[0]
        assert (row["records_processed"], row["records_succeeded"], row["records_failed"]) == (3, 2, 1)
        assert (counts.processed, counts.succeeded, counts.failed) == (3, 2, 1)
        assert world.errors()[0]["retry_count"] == 0


def reopened(world: World, run: Run) -> Run:
    """The re-execution of a run, as its launcher opens it."""
    with world.database.tenant(world.tenant) as scope:
        history.fail(scope, run.opened.id, "It died.", now())
        config = syncs.get(scope, world.config.id)
        attempt = history.open_attempt(scope, config, 1, uuid4(), run.opened.run_id, now())
    assert attempt.attempt_number == 2
    return Run(world.database, world.tenant, config, run.mapping, world.book, run.source, run.erp, run.target, now, attempt)


class TestNewMappingVersion:
    @pytest.mark.parametrize("strategy", ["manual", "source_wins", "target_wins", "last_write_wins"])
    def test_unedited_pairs_have_no_conflict_and_get_what_the_new_rules_change(
        self, database: Database, settings: Settings, strategy: str
    ) -> None:
        """Also those that nobody has touched since the watermark passed them."""
        world = fill(make_world(database, settings, strategy=strategy))
        world.book.clock += timedelta(days=30)
        world.book.write_note("Client", "C3", Name="Cleo", Number="003", Phone="3")
        world.sync()
        text = CLIENT_MAPPING.replace(
            "{source: Phone, target: phone}", '{source: Phone, target: phone, transforms: [{pad_left: {width: 3, by: "0"}}]}'
        )
        new_mapping(
            world, text.replace("  - {source: Email, target: email}\n", "") + "  - {constant: trade, target: industry}\n"
        )
        counts, _ = world.sync()
        assert (counts.actions, counts.failed) == ({"update": 3}, 0)
        fields = world.rows("SELECT DISTINCT changed_fields FROM sync_record_changes WHERE action = 'update'")
        assert [row["changed_fields"] for row in fields] == [["phone", "industry"]]
        assert [phone(world, n) for n in ("001", "002", "003")] == ["001", "002", "003"]
        assert world.customers()[0]["email"] == "ada@example.org"
        again, _ = world.sync()
        assert (again.succeeded, again.processed) == (0, 1)  # the window is the ordinary one again

    @pytest.mark.parametrize("edited", [False, True])
    @pytest.mark.parametrize("strategy", ["manual", "source_wins", "target_wins"])
    def test_a_deletion_in_the_erp_stands_where_only_the_mapping_has_changed_since(
        self, database: Database, settings: Settings, strategy: str, edited: bool
    ) -> None:
        world = make_world(database, settings, direction="bidirectional", strategy=strategy, delete_policy="propagate")
        fill(world).sync()
        world.change("DELETE FROM erp.customer WHERE customer_number = '001'")
        if edited:
            world.book.write_note("Client", "C1", Phone="edited over there")
        new_mapping(world, CLIENT_MAPPING + "  - {constant: trade, target: industry}\n")
        world.sync()
        wins, parks = edited and strategy == "source_wins", edited and strategy == "manual"
        assert bool(world.errors()) == parks
        assert phone(world, "001") == ("edited over there" if wins else "gone")
        assert world.book.notes["Client"]["C1"].deleted is not (wins or parks)
