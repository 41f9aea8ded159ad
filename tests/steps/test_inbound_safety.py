"""What an inbound sync must never do, one story each: lose, double, revive, run away."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from clients import CLIENT_MAPPING
from notebook import Notebook, World, fill, make_world, now, phone

from connector_resources.contract import Entity, Field, FieldType, Page, Window
from connector_resources.errors import NetworkError
from integration_pipelines.canonical import frame, record_index
from integration_pipelines.model import SyncStatus
from integration_pipelines.settings import Settings
from integration_pipelines.steps import load as load_step
from integration_pipelines.steps.load import load
from integration_pipelines.steps.preview import preview
from integration_pipelines.store.database import Database


@pytest.fixture
def world(database: Database, settings: Settings) -> World:
    return fill(make_world(database, settings))


def position(world: World) -> datetime:
    return datetime.fromisoformat(world.rows("SELECT position FROM sync_watermarks")[0]["position"])


class Restless(Notebook):
    """A notebook in which somebody writes while it is read: after the first page, or at each read of single records."""

    def read(self, entity: Entity, fields: Sequence[str], window: Window) -> Iterator[Page]:
        for number, found in enumerate(super().read(entity, fields, window)):
            yield found
            if number == 0 and window.since is None:
                self.clock = now()
                self.write_note("Client", "C1", Phone="changed behind the reader's back")
                self.write_note("Client", "C2", Phone="changed before the reader came by")


class TestWatermark:
    def test_a_change_during_a_long_read_is_not_passed_by(self, database: Database, settings: Settings) -> None:
        world = make_world(database, settings, options={"overlap_seconds": 0})
        world.book = fill(World(**vars(world) | {"book": Restless(world.book.given)})).book
        world.book.page_size = 1
        world.sync()
        world.sync()
        assert (phone(world), phone(world, "002")) == ("changed behind the reader's back", "changed before the reader came by")

    def test_a_record_from_the_future_does_not_carry_it_away(self, world: World) -> None:
        world.book.clock = now() + timedelta(days=400)
        world.book.write_note("Client", "C3", Name="From the future")
        before = now()
        world.sync()
        assert before <= position(world) <= now()

    def test_a_run_that_breaks_leaves_it_where_it_was(self, world: World) -> None:
        world.sync()
        first = position(world)
        world.book.write_note("Client", "C1", Phone="9")
        run = world.run()

        def broken() -> Iterator[Any]:
            yield from world.planned(run)
            raise NetworkError("gone")

        with pytest.raises(NetworkError):
            load(run, broken())
        assert position(world) == first
        assert world.rows("SELECT sync_status FROM sync_history WHERE id = :id", id=run.opened.id) == [
            {"sync_status": "running"}
        ]

    def test_the_same_failing_record_does_not_hold_it_back(self, world: World) -> None:
        world.book.write_note("Client", "C3", Name="x" * 81)
        world.sync()
        assert position(world) == world.book.notes["Client"]["C3"].changed


class TestDeletedInTheErp:
    def edited(self, world: World) -> None:
        world.sync()
        world.change("DELETE FROM erp.customer WHERE customer_number = '001'")
        world.book.clock = now()
        world.book.write_note("Client", "C1", Phone="9")
        world.sync()

    def test_a_deletion_that_wins_is_not_undone_by_the_next_run(self, database: Database, settings: Settings) -> None:
        world = fill(make_world(database, settings, strategy="target_wins"))
        self.edited(world)
        world.sync()
        assert phone(world) == "gone"
        world.book.write_note("Client", "C1", Phone="10")
        world.sync()
        assert phone(world) == "gone"

    def test_under_last_write_wins_a_later_change_brings_it_back_once(self, database: Database, settings: Settings) -> None:
        world = fill(make_world(database, settings))
        world.sync()
        world.book.clock = now() - timedelta(seconds=1)
        world.book.write_note("Client", "C1", Phone="9")
        world.change("DELETE FROM erp.customer WHERE customer_number = '001'")
        world.sync()
        assert phone(world) == "gone"
        world.book.clock = now()
        world.book.write_note("Client", "C1", Phone="10")
        for _ in range(2):
            world.sync()
            assert phone(world) == "10"
        assert len(world.customers()) == 2

    def test_a_record_that_was_only_matched_and_vanished_is_made(self, database: Database, settings: Settings) -> None:
        world = make_world(database, settings, strategy="target_wins")
        world.change("INSERT INTO erp.customer (name, customer_number, active) VALUES ('Old', '001', true)")
        fill(world)
        run = world.run()
        batches = world.planned(run)
        world.change("DELETE FROM erp.customer")
        load(run, batches)
        assert (phone(world), len(world.customers())) == ("1", 2)


class TestTombstones:
    def test_one_whose_erp_record_moved_is_carried_out_although_nobody_knows_the_id_any_more(self, world: World) -> None:
        world.sync()
        world.book.remove("Client", "C1")
        run = world.run()
        batches = world.planned(run)
        world.change("UPDATE erp.customer SET notes = 'touched' WHERE customer_number = '001'")
        del world.book.notes["Client"]["C1"]
        counts, _ = load(run, batches)
        assert (counts.actions, world.customers()[0]["active"]) == ({"delete": 1}, False)

    def test_a_record_that_says_itself_that_it_is_inactive_comes_back_inactive(
        self, database: Database, settings: Settings
    ) -> None:
        mapping = CLIENT_MAPPING.replace(
            "{constant: true, target: active}",
            '{source: Email, target: active, transforms: [{map_boolean: {"true": ["yes"], "false": ["no"]}}]}',
        ).replace("  - {source: Email, target: email}\n", "")
        world = make_world(database, settings, mapping=mapping)
        world.book.write_note("Client", "C1", Name="Ada", Number="001", Email="no")
        world.sync()
        world.book.remove("Client", "C1")
        world.sync()
        world.book.write_note("Client", "C1", Phone="5")
        world.sync()
        assert (world.customers()[0]["active"], phone(world)) == (False, "5")
        world.book.write_note("Client", "C1", Email="yes")
        world.sync()
        assert world.customers()[0]["active"] is True

    def test_a_conflict_waits_although_the_other_side_has_forgotten_the_record(
        self, database: Database, settings: Settings
    ) -> None:
        world = fill(make_world(database, settings, strategy="manual"))
        world.sync()
        world.change("UPDATE erp.customer SET phone = 'erp' WHERE customer_number = '001'")
        world.book.remove("Client", "C1")
        world.sync()
        del world.book.notes["Client"]["C1"]
        world.sync()
        assert [(error["record_id"], error["error_type"]) for error in world.errors()] == [("C1", "conflict")]

    def test_an_error_of_a_record_that_is_unknown_by_now_is_closed(self, world: World) -> None:
        world.book.write_note("Client", "C3", Name="x" * 81)
        world.sync()
        del world.book.notes["Client"]["C3"]
        world.sync()
        assert world.errors() == []


class TestMatchKeys:
    def test_a_number_that_was_given_up_is_free_for_another_record(self, world: World) -> None:
        world.sync()
        world.book.write_note("Client", "C1", Number="005")
        world.sync()
        world.book.write_note("Client", "C3", Name="Heir", Number="001")
        counts, _ = world.sync()
        assert (counts.actions, counts.failed) == ({"create": 1}, 0)

    def test_a_number_that_was_taken_up_is_claimed(self, world: World) -> None:
        world.sync()
        world.book.write_note("Client", "C1", Number="005")
        world.sync()
        world.change("UPDATE erp.customer SET customer_number = 'x' WHERE customer_number = '005'")
        world.book.write_note("Client", "C3", Name="Twin", Number="005")
        counts, _ = world.sync()
        assert (counts.actions, counts.failed) == ({}, 1)

    def test_a_silent_number_keeps_its_claim_and_a_null_gives_it_up(self, world: World) -> None:
        world.sync()
        del world.book.notes["Client"]["C1"].values["Number"]
        world.book.write_note("Client", "C1", Phone="3")
        world.book.write_note("Client", "C2", Number=None)
        world.sync()
        world.book.write_note("Client", "C3", Name="Twin", Number="001")
        world.book.write_note("Client", "C4", Name="Heir", Number="002")
        counts, _ = world.sync()
        assert (counts.actions, counts.failed, world.errors()[0]["record_id"]) == ({"create": 1}, 1, "C3")


class TestSetAside:
    def test_a_record_that_keeps_moving_is_set_aside_and_the_rest_goes_on(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.sync()
        world.book.write_note("Client", "C1", Phone="9")
        world.book.write_note("Client", "C2", Phone="9")
        afresh = load_step._planned_afresh

        def hurried(*given: Any) -> Any:
            fresh = afresh(*given)
            world.change("UPDATE erp.customer SET notes = now()::text WHERE customer_number = '001'")
            return fresh

        with monkeypatch.context() as patched:
            patched.setattr(load_step, "_planned_afresh", hurried)
            run = world.run()
            batches = world.planned(run)
            world.change("UPDATE erp.customer SET notes = 'moved' WHERE customer_number = '001'")
            counts, status = load(run, batches)
        assert (counts.actions, counts.failed, status) == ({"update": 1}, 1, SyncStatus.PARTIAL)
        assert world.errors()[0]["error_message"].startswith("It keeps changing while it is written")
        world.sync()
        assert (phone(world), world.errors()) == ("9", [])

    def test_retries_are_counted_and_one_row_stays_open(self, world: World) -> None:
        world.book.write_note("Client", "C3", Name="x" * 81)
        for _ in range(3):
            world.sync()
        rows = world.rows("SELECT retry_count, is_resolved, resolved_at IS NOT NULL AS at FROM sync_errors ORDER BY id")
        assert rows == [
            {"retry_count": 0, "is_resolved": True, "at": True},
            {"retry_count": 1, "is_resolved": True, "at": True},
            {"retry_count": 2, "is_resolved": False, "at": False},
        ]

    def test_an_error_is_closed_when_the_record_is_deleted_or_is_what_it_was(self, world: World) -> None:
        world.sync()
        world.book.write_note("Client", "C1", Name="x" * 81)
        world.book.write_note("Client", "C3", Name="y" * 81)
        world.sync()
        assert len(world.errors()) == 2
        world.book.write_note("Client", "C1", Name="Ada Ltd")
        world.book.remove("Client", "C3")
        counts, _ = world.sync()
        assert (counts.skipped, world.errors()) == (3, [])

    def test_an_id_that_is_too_long_to_be_kept_is_set_aside(self, world: World) -> None:
        world.book.write_note("Client", "C" * 300, Name="Long", Number="300")
        counts, _ = world.sync()
        assert (counts.actions, counts.failed) == ({"create": 2}, 1)


def test_a_null_that_clears_nothing_leaves_a_new_record_its_default(database: Database, settings: Settings) -> None:
    mapping = CLIENT_MAPPING.replace(
        "{constant: true, target: active}", "{source: Email, target: active, on_null: keep, transforms: [map_boolean]}"
    ).replace("  - {source: Email, target: email}\n", "")
    world = make_world(database, settings, mapping=mapping)
    world.book.write_note("Client", "C1", Name="Ada", Email=None)
    counts, _ = world.sync()
    assert (counts.actions, world.customers()[0]["active"]) == ({"create": 1}, True)


def test_the_cutting_of_pages_and_their_order_do_not_matter(database: Database, settings: Settings) -> None:
    def outcome(name: str, size: int, *, backwards: bool) -> list[dict[str, Any]]:
        world = make_world(database, settings, tenant=name)
        world.book.page_size = size
        for number in range(25):
            world.book.write_note("Client", f"C{number}", Name=f"N{number}", Number=f"{number}", Revenue=Decimal(number))
        run = world.run()
        batches = world.planned(run)
        load(run, batches[::-1] if backwards else batches)
        for number in range(1, 25, 2):
            world.book.write_note("Client", f"C{number}", Phone=f"{number}")
        run = world.run()
        batches = world.planned(run)
        load(run, batches[::-1] if backwards else batches)
        return world.customers()

    assert outcome("a", 1000, backwards=False) == outcome("b", 3, backwards=False) == outcome("c", 4, backwards=True)


def test_a_value_cannot_pretend_to_be_two(world: World) -> None:
    """Fingerprints keep apart what a separator inside a value would run together."""
    world.book.write_note("Client", "C1", Email="a\x1f=b", Phone="c")
    world.sync()
    world.book.write_note("Client", "C1", Email="a", Phone="b\x1f=c")
    counts, _ = world.sync()
    assert (counts.actions, phone(world)) == ({"update": 1}, "b\x1f=c")


def test_a_preview_shows_no_markup_of_a_record() -> None:
    shown = Field("note", FieldType.STRING, personal=False)
    table = preview(
        frame(
            {"note": pa.array(["a|b\\|c\n<img src=x> [l](javascript:1)"]), "secret": pa.array(["x"])}, record_index(["i|d"])
        ),
        [shown],
    )
    assert table.splitlines()[2:] == [r"| i\|d | a\|b\\\|c \<img src=x\> \[l\](javascript:1) | ••• |"]


@pytest.mark.parametrize("beside", [None, "002"], ids=["alone", "beside a record that is refused"])
def test_two_records_may_swap_their_numbers(world: World, beside: str | None) -> None:
    world.book.write_note("Client", "C3", Name="Cleo", Number="003")
    world.book.write_note("Client", "C4", Name="Dora", Number="004")
    world.sync()
    world.book.write_note("Client", "C3", Number="004")
    world.book.write_note("Client", "C1", Number=beside or "0011")
    world.book.write_note("Client", "C4", Number="003")
    for number in (5, 6):  # records are made in the batch of the swap, too
        world.book.write_note("Client", f"C{number}", Name="New", Number=f"00{number}")
    counts, _ = world.sync()
    assert (counts.actions, counts.failed) == ({"update": 2 if beside else 3, "create": 2}, 1 if beside else 0)
    numbers = {row["name"]: row["customer_number"] for row in world.customers()}
    assert (numbers["Cleo"], numbers["Dora"]) == ("004", "003")
    world.book.write_note("Client", "C3", Number="003")
    world.book.write_note("Client", "C4", Number="004")
    world.sync()
    numbers = {row["name"]: row["customer_number"] for row in world.customers()}
    assert (numbers["Cleo"], numbers["Dora"]) == ("003", "004")
