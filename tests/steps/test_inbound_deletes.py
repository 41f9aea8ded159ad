"""Inbound sync: deletions, the brake, references and documents that are closed."""

from datetime import timedelta
from typing import Any

import pytest
from clients import PERSON_MAPPING
from notebook import World, fill, make_world, phone

from connector_resources.errors import BrakePulled
from integration_pipelines.model import SyncStatus
from integration_pipelines.settings import Settings
from integration_pipelines.store import syncs
from integration_pipelines.store.database import Database

CREATED = {"create": 2}


@pytest.fixture
def world(database: Database, settings: Settings) -> World:
    return fill(make_world(database, settings))


def ada(world: World) -> dict[str, Any]:
    return world.customers()[0]


class TestDeletes:
    def test_deactivate_is_the_default_and_a_comeback_reactivates(self, world: World) -> None:
        world.sync()
        world.book.remove("Client", "C1")
        counts, _ = world.sync()
        assert (counts.actions, ada(world)["active"]) == ({"delete": 1}, False)
        again, _ = world.sync()
        assert again.actions == {}
        world.book.write_note("Client", "C1")
        world.sync()
        assert ada(world)["active"] is True

    def test_propagate_deletes_and_a_comeback_creates_anew(self, database: Database, settings: Settings) -> None:
        world = fill(make_world(database, settings, delete_policy="propagate"))
        world.sync()
        world.book.remove("Client", "C1")
        counts, _ = world.sync()
        assert (counts.actions, len(world.customers())) == ({"delete": 1}, 1)
        world.book.write_note("Client", "C1")
        counts, _ = world.sync()
        assert (counts.actions, len(world.customers())) == ({"create": 1}, 2)
        assert len(world.rows("SELECT 1 FROM identity_links")) == 2

    def test_ignore_leaves_the_record(self, database: Database, settings: Settings) -> None:
        world = fill(make_world(database, settings, delete_policy="ignore"))
        world.sync()
        world.book.remove("Client", "C1")
        counts, _ = world.sync()
        assert (counts.actions, ada(world)["active"]) == ({}, True)

    def test_a_deletion_of_what_never_arrived_is_skipped(self, world: World) -> None:
        world.book.remove("Client", "C1")
        counts, _ = world.sync()
        assert (counts.actions, counts.skipped) == ({"create": 1}, 1)

    @pytest.mark.parametrize(("strategy", "active"), [("source_wins", False), ("target_wins", True)])
    def test_delete_against_edit_is_a_conflict(
        self, database: Database, settings: Settings, strategy: str, active: bool
    ) -> None:
        world = fill(make_world(database, settings, strategy=strategy))
        world.sync()
        world.change("UPDATE erp.customer SET phone = 'erp' WHERE customer_number = '001'")
        world.book.remove("Client", "C1")
        world.sync()
        assert ada(world)["active"] is active

    def test_delete_against_edit_parks_under_manual(self, database: Database, settings: Settings) -> None:
        world = fill(make_world(database, settings, strategy="manual"))
        world.sync()
        world.change("UPDATE erp.customer SET phone = 'erp' WHERE customer_number = '001'")
        world.book.remove("Client", "C1")
        counts, _ = world.sync()
        assert (counts.failed, ada(world)["active"]) == (1, True)
        assert world.errors()[0]["error_type"] == "conflict"

    @pytest.mark.parametrize(("strategy", "count"), [("source_wins", 2), ("target_wins", 1)])
    def test_a_change_of_what_the_erp_deleted_is_a_conflict(
        self, database: Database, settings: Settings, strategy: str, count: int
    ) -> None:
        world = fill(make_world(database, settings, strategy=strategy))
        world.sync()
        world.change("DELETE FROM erp.customer WHERE customer_number = '001'")
        world.book.write_note("Client", "C1", Phone="9")
        world.sync()
        assert len(world.customers()) == count

    def test_a_merge_over_there_parks_both_pairs_until_one_erp_record_is_given_up(self, world: World) -> None:
        world.sync()
        world.book.write_note("Client", "C2", Phone="merged")
        world.book.remove("Client", "C1", merged_into="C2")
        counts, _ = world.sync()
        assert (counts.actions, counts.failed, phone(world, "002")) == ({}, 2, "2")
        world.book.write_note("Client", "C2", Phone="later")
        counts, _ = world.sync()
        assert (counts.actions, counts.failed, phone(world, "002")) == ({}, 2, "2")
        assert world.rows("SELECT DISTINCT state FROM identity_links") == [{"state": "parked"}]
        world.change("UPDATE erp.customer SET active = false WHERE customer_number = '001'")
        world.sync()
        world.sync()
        assert (world.errors(), phone(world, "002"), ada(world)["active"]) == ([], "later", False)

    def test_a_merge_over_there_parks_the_pair(self, world: World) -> None:
        world.sync()
        world.book.remove("Client", "C1", merged_into="C2")
        counts, _ = world.sync()
        assert (counts.failed, ada(world)["active"]) == (1, True)
        assert world.rows("SELECT state, merged_into FROM identity_links WHERE external_id = 'C1'") == [
            {"state": "parked", "merged_into": "C2"}
        ]

    def test_the_brake_stops_before_the_first_write_and_a_release_lets_one_run_through(self, world: World) -> None:
        for number in range(20):
            world.book.write_note("Client", f"D{number}", Name=f"Client {number}")
        world.sync()
        for number in range(10):
            world.book.remove("Client", f"D{number}")
        world.book.write_note("Client", "C1", Phone="9")
        with pytest.raises(
            BrakePulled, match=r"would delete or deactivate 10 of the 22 known customer records, more than the 20%"
        ):
            world.sync()
        assert (ada(world)["phone"], sum(row["active"] for row in world.customers())) == ("1", 22)
        with world.database.tenant(world.tenant) as scope:
            syncs.release_brake(scope, world.config.id, "test")
        counts, _ = world.sync()
        assert counts.actions == {"delete": 10, "update": 1}
        assert world.rows("SELECT brake_released_at FROM sync_configurations") == [{"brake_released_at": None}]


class TestReferences:
    def test_a_child_waits_for_its_parent_and_heals_itself(self, world: World) -> None:
        people = world.second_sync(PERSON_MAPPING)
        world.book.write_note("Person", "P1", Surname="Lovelace", ClientId="C1")
        world.book.write_note("Person", "P2", Surname="Alone", ClientId=None)
        counts, status = people.sync()
        assert (counts.actions, counts.failed, status) == ({"create": 1}, 1, SyncStatus.PARTIAL)
        assert people.errors()[0]["error_type"] == "mapping"
        reads = len(world.book.reads)
        world.book.clock += timedelta(days=1)
        world.book.write_note("Person", "P3", Surname="Later", ClientId=None)
        people.sync()
        assert [read for read in world.book.reads[reads:] if isinstance(read, list)] == []  # still no parent: no call for it
        world.sync()
        people.sync()
        assert people.errors() == []
        row = world.rows("SELECT c.name FROM erp.contact_person p JOIN erp.customer c ON c.id = p.customer_id")
        assert row == [{"name": "Ada Ltd"}]

    def test_posted_documents_are_never_changed(self, database: Database, settings: Settings) -> None:
        mapping = """
mapping_name: client-order
source_entity: Client
target_entity: sales_order
mappings:
  - {source: Number, target: order_number, match: true}
  - {source: Name, target: customer_reference}
  - {constant: "8e2d3c0a-0000-4000-8000-000000000001", target: customer_id}
  - {constant: draft, target: status, owner: erp}
  - {constant: "2026-01-01", target: order_date, owner: erp}
  - {constant: EUR, target: currency_code}
"""
        world = fill(make_world(database, settings, mapping=mapping))
        world.change(
            "INSERT INTO erp.customer (id, name, active) VALUES ('8e2d3c0a-0000-4000-8000-000000000001', 'Parent', true)"
        )
        world.sync()
        world.change("UPDATE erp.sales_order SET status = 'closed' WHERE order_number = '001'")
        world.book.write_note("Client", "C1", Name="Other reference")
        counts, _ = world.sync()
        assert counts.failed == 1
        assert "is closed for changes, and customer_reference differs" in world.errors()[0]["error_message"]
        rows = world.rows("SELECT customer_reference FROM erp.sales_order WHERE order_number = '001'")
        assert rows == [{"customer_reference": "Ada Ltd"}]
