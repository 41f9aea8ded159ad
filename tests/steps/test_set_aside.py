"""What waits: for a person, for the other side, for a system that is back; and how it is counted meanwhile."""

import pandas as pd
import pytest
from notebook import World, fill, make_world

from connector_resources.contract import Changes, Entity, Outcome
from connector_resources.errors import BrakePulled, SystemUnavailable
from integration_pipelines.settings import Settings
from integration_pipelines.steps.load import load
from integration_pipelines.store.database import Database


def known(world: World, count: int) -> None:
    """So many pairs that are in step."""
    for number in range(count):
        values = {"Name": f"n{number}", "Number": f"{number:03}", "Email": None, "Phone": "1", "Revenue": None}
        world.book.write_note("Client", f"C{number}", **values)
    world.sync()
    world.sync()


def links(world: World) -> dict[str, str]:
    return {row["external_id"]: row["state"] for row in world.rows("SELECT external_id, state FROM identity_links")}


@pytest.mark.parametrize("policy", ["propagate", "deactivate"])
def test_a_deletion_that_was_set_aside_is_carried_out_where_nobody_knows_the_deleted_any_more(
    database: Database, settings: Settings, policy: str
) -> None:
    world = fill(make_world(database, settings, strategy="manual", delete_policy=policy))
    world.sync()
    world.change("UPDATE erp.customer SET phone = '99' WHERE customer_number = '001'")
    world.book.remove("Client", "C1")
    world.sync()
    assert "deleted over there and edited in the ERP" in world.errors()[0]["error_message"]
    world.book.notes["Client"].pop("C1")
    world.sync()
    assert len(world.errors()) == 1
    world.change("UPDATE erp.customer SET phone = '1' WHERE customer_number = '001'")  # the edit is taken back
    world.sync()
    assert world.errors() == []
    assert links(world) == {"C1": "deleted", "C2": "active"}
    found = world.rows("SELECT active FROM erp.customer WHERE customer_number = '001'")
    assert found == ([] if policy == "propagate" else [{"active": False}])


def test_a_deletion_that_the_erp_refused_is_tried_again(database: Database, settings: Settings) -> None:
    world = fill(make_world(database, settings, delete_policy="propagate"))
    world.sync()
    world.change("INSERT INTO erp.contact_person (last_name, customer_id) SELECT 'M', id FROM erp.customer LIMIT 1")
    world.change("UPDATE erp.contact_person SET customer_id = (SELECT id FROM erp.customer WHERE customer_number = '001')")
    world.book.remove("Client", "C1")
    world.sync()
    assert "still refers to it" in world.errors()[0]["error_message"]
    world.book.notes["Client"].pop("C1")
    world.sync()
    assert len(world.errors()) == 1
    world.change("DELETE FROM erp.contact_person")
    world.sync()
    assert (world.errors(), len(world.customers())) == ([], 1)


def test_edits_that_wait_for_the_other_side_count_for_plan_and_brake(database: Database, settings: Settings) -> None:
    """A new mapping version reads all of both sides, so that every ERP record is resolved when its pair has been read."""
    world = make_world(database, settings, direction="bidirectional")
    known(world, 20)
    world.change("UPDATE erp.customer SET phone = 'ruined', email = 'same@example.org'")
    for number in range(20):
        world.book.write_note("Client", f"C{number}", Email="same@example.org")  # so that nothing is written in the ERP
    planned = [batch.plan for batch in world.planned(world.run(opened=False)) if batch.plan is not None]
    assert [action for plan in planned for action in plan["action"]] == ["skip"] * 20 + ["update"] * 20
    with pytest.raises(BrakePulled, match="would change 20 of the 20 known"):
        world.sync()
    assert world.book.writes == []


def test_a_pair_that_both_sides_change_counts_once_for_the_brake(database: Database, settings: Settings) -> None:
    world = make_world(database, settings, direction="bidirectional")
    known(world, 30)
    world.change("UPDATE erp.customer SET phone = '2' WHERE customer_number < '012'")
    for number in range(12):  # of 30: less than half
        world.book.write_note("Client", f"C{number}", Email=f"{number}@example.org")
    counts, _ = world.sync()
    assert counts.actions == {"update": 24}


def test_a_conflict_that_the_other_sides_change_may_settle_is_not_shown_before(database: Database, settings: Settings) -> None:
    world = fill(make_world(database, settings, direction="bidirectional", strategy="manual"))
    world.sync()
    world.sync()
    world.change("UPDATE erp.customer SET phone = '99' WHERE customer_number = '001'")
    world.book.write_note("Client", "C1", Email="new@example.org")
    counts, _ = world.sync()
    assert (counts.failed, world.book.notes["Client"]["C1"].values["Phone"]) == (0, "99")


def test_what_was_left_of_a_batch_is_counted_once(database: Database, settings: Settings) -> None:
    world = make_world(database, settings, direction="outbound")
    add = "INSERT INTO erp.customer (name, customer_number) VALUES (:name, :number)"
    for number, name in enumerate(("a", "b", "c", "x" * 81)):  # the last one is longer than it may be over there
        world.change(add, name=name, number=str(number))
    write, calls = world.book.write, []

    def half(entity: Entity, given: Changes) -> pd.DataFrame:
        calls.append(len(given.steps))
        if len(calls) > 1:
            raise SystemUnavailable("down")
        first, rest = (
            Changes(*(part.iloc[cut] for part in (given.records, given.written, given.steps)))
            for cut in (slice(0, 1), slice(1, None))
        )
        absent = {"outcome": Outcome.ABSENT, "id": None, "version": None, "message": "down"}
        return pd.concat([write(entity, first), pd.DataFrame(absent, index=rest.steps.index, dtype=object)])

    run = world.run()
    planned = world.planned(run)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(world.book, "write", half)
        with pytest.raises(SystemUnavailable):
            load(run, planned)
    load(run, planned)  # as the op is tried again
    (row,) = world.rows(
        "SELECT records_processed p, records_succeeded s, records_failed f, records_skipped k FROM sync_history"
    )
    assert row == {"p": 4, "s": 3, "f": 1, "k": 0}
