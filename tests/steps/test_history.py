"""What stays of a run: the history row and its manifests, the journal, and that none of it can be read in the tables."""

import hashlib
from typing import Any
from uuid import uuid4

import orjson
import pytest
import sqlalchemy as sa
from notebook import World, make_world, now

from integration_pipelines.settings import Settings
from integration_pipelines.steps.load import load
from integration_pipelines.store import history, ledger
from integration_pipelines.store.database import Database, engine

CANARY = "canary-5f2c"


@pytest.fixture
def world(database: Database, settings: Settings) -> World:
    made = make_world(database, settings, delete_policy="propagate")
    for number in range(3):
        made.book.write_note("Client", f"C{number}", Name=f"{CANARY} {number}", Number=f"00{number}", Phone=str(number))
    return made


def erp_id(world: World, number: str = "000") -> str:
    return str(world.rows("SELECT id::text FROM erp.customer WHERE customer_number = :n", n=number)[0]["id"])


def story(world: World, record: str) -> list[dict[str, Any]]:
    with world.database.tenant(world.tenant) as scope:
        return ledger.story(scope, "customer", record)


def test_the_journal_tells_a_record_s_life_from_its_making_to_its_end(world: World) -> None:
    world.sync()
    record = erp_id(world)
    world.book.write_note("Client", "C0", Phone="9", Email=None)
    world.sync()
    world.change("UPDATE erp.customer SET email = 'erp@example.org' WHERE customer_number = '000'")
    world.book.write_note("Client", "C0", Phone="10")
    world.sync()
    world.book.clock = now()
    world.book.remove("Client", "C0")
    world.sync()
    made, changed, merged, removed = story(world, record)
    assert [row["action"] for row in (made, changed, merged, removed)] == ["create", "update", "update", "delete"]
    assert (made["before"], removed["after"]) == (None, None)
    assert {**changed["before"], **made["after"]} == changed["before"]  # what was made is what was found later
    assert changed["after"] == {**changed["before"], "phone": "9"}
    assert merged["before"] == {**changed["after"], "email": "erp@example.org"}
    assert (merged["changed_fields"], removed["before"]) == (["phone"], merged["after"])


def test_the_manifests_say_what_the_journal_holds(world: World) -> None:
    world.sync()
    world.book.write_note("Client", "C0", Phone="9")
    world.book.write_note("Client", "C3", Name="New", Number="003")
    world.book.clock = now()
    world.book.remove("Client", "C1")
    world.sync()
    row = world.rows("SELECT * FROM sync_history ORDER BY id DESC LIMIT 1")[0]
    assert row["data_snapshot_before"]["records"] == {"update": 1, "delete": 1}
    assert row["data_snapshot_after"]["records"] == {"update": 1, "create": 1}
    journal = world.rows("SELECT * FROM sync_record_changes WHERE sync_history_id = :id", id=row["id"])
    for side in ("before", "after"):
        parts = []
        for entry in sorted(journal, key=lambda e: (e["side"], e["record_id"], e["changed_at"])):
            digest = hashlib.sha256((entry["before"] or b"") + (entry["after"] or b"")).digest()
            assert digest == entry["digest"]
            parts += [digest] if entry[side] is not None else []
        assert row[f"data_snapshot_{side}"]["sha256"] == hashlib.sha256(b"".join(parts)).hexdigest()


def test_a_run_that_broke_has_manifests_of_what_it_committed(world: World) -> None:
    world.book.page_size = 1
    run = world.run()
    batches = world.planned(run)

    def dying() -> Any:
        yield batches[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(run, dying())
    with world.database.tenant(world.tenant) as scope:
        assert history.fail(scope, run.opened.id, "It died.", now())
        assert not history.fail(scope, run.opened.id, "It died.", now())
    (row,) = world.rows("SELECT * FROM sync_history")
    assert (row["records_processed"], row["records_succeeded"], row["sync_status"]) == (1, 1, "failed")
    assert row["data_snapshot_after"]["records"] == {"create": 1}


def everything_stored(settings: Settings) -> dict[str, bytes]:
    """Raw contents of every table of ours that is no part of the ERP itself, as its owner reads them."""
    owner = engine(settings.database_url or "", role=None, poolclass=sa.NullPool)
    found = {}
    with owner.connect() as connection:
        names = connection.exec_driver_sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").scalars()
        for name in list(names):
            rows = connection.exec_driver_sql(f'SELECT t::text FROM "{name}" t').scalars()
            found[name] = "\n".join(rows).encode()
    return found


def test_no_value_of_a_record_can_be_read_in_our_tables(world: World, settings: Settings) -> None:
    """Neither as it is, nor in the hexadecimal form that bytes have in a row's text, compressed or not."""
    world.sync()
    world.book.write_note("Client", "C0", Phone=CANARY)
    world.book.write_note("Client", "C1", Name=CANARY * 10)
    world.change("UPDATE erp.customer SET phone = :p WHERE customer_number = '002'", p=CANARY)
    world.sync()
    assert world.errors()
    stored = everything_stored(settings)
    for name in ("identity_links", "sync_record_changes", "sync_errors", "sync_history", "outbox"):
        assert stored[name], name
    for name, content in stored.items():
        for told in (CANARY.encode(), CANARY.encode().hex().encode()):
            assert told not in content, name
    sealed = world.rows("SELECT base FROM identity_links") + world.rows("SELECT before AS base FROM sync_record_changes")
    assert all(row["base"] is None or bytes(row["base"])[:1] == b"\x01" for row in sealed)
    assert {tuple(error["record_data"]) for error in world.errors()} == {("sealed",)}


def test_erasing_a_key_makes_base_and_journal_unreadable_and_the_next_run_copes(world: World) -> None:
    world.sync()
    record = erp_id(world)
    world.change("DELETE FROM data_keys WHERE subject = :s", s=f"customer/{record}")
    assert [(row["before"], row["after"]) for row in story(world, record)] == [(None, None)]
    world.change("UPDATE erp.customer SET email = 'erp@example.org' WHERE customer_number = '000'")
    world.book.write_note("Client", "C0", Phone="9", Email=None)
    counts, _ = world.sync()
    assert counts.actions == {"update": 1}
    (row,) = world.rows("SELECT phone, email FROM erp.customer WHERE customer_number = '000'")
    assert row == {"phone": "9", "email": "erp@example.org"}  # as at a first meeting: a null overwrites nothing
    assert (len(world.customers()), len(world.rows("SELECT 1 FROM identity_links"))) == (3, 3)
    assert [bool(row["after"]) for row in story(world, record)] == [False, True]
    again, _ = world.sync()
    assert again.succeeded == 0


def test_a_tombstone_of_an_erased_record_is_carried_out(world: World) -> None:
    world.sync()
    world.change("DELETE FROM data_keys")
    world.book.remove("Client", "C0")
    counts, _ = world.sync()
    assert (counts.actions, len(world.customers())) == ({"delete": 1}, 2)


def test_a_re_execution_is_a_row_of_its_own_that_names_the_first_and_keeps_its_pins(world: World) -> None:
    run = world.run()
    world.planned(run)
    with world.database.tenant(world.tenant) as scope:
        history.fail(scope, run.opened.id, "It died.", now())
        again = history.open_attempt(scope, world.config, 7, uuid4(), run.opened.run_id, now())
        third = history.open_attempt(scope, world.config, 8, uuid4(), run.opened.run_id, now())
        assert history.open_attempt(scope, world.config, 9, again.run_id, run.opened.run_id, now()) == again
    assert (again.attempt_number, third.attempt_number, again.connector_revision) == (2, 3, 7)
    (row,) = world.rows("SELECT position FROM sync_history WHERE id = :id", id=run.opened.id)
    assert again.position == third.position == row["position"] is not None


def test_only_a_run_that_another_one_came_after_is_overtaken(world: World) -> None:
    first = world.run()
    with world.database.tenant(world.tenant) as scope:
        again = history.open_attempt(scope, world.config, 1, uuid4(), first.opened.run_id, now())
        assert not history.overtaken(scope, first.opened)
        assert not history.overtaken(scope, again)
    second = world.run()
    with world.database.tenant(world.tenant) as scope:
        assert not history.overtaken(scope, first.opened)  # one that did nothing leaves no trace to be afraid of
    load(second, world.planned(second))
    with world.database.tenant(world.tenant) as scope:
        assert history.overtaken(scope, first.opened)
        assert history.overtaken(scope, again)
        assert not history.overtaken(scope, second.opened)


def test_the_counts_add_up_after_each_batch(world: World) -> None:
    world.book.page_size = 1
    world.book.write_note("Client", "C9", Name="x" * 81)
    run = world.run()
    batches = world.planned(run)
    seen = []

    def watched() -> Any:
        for batch in batches:
            yield batch
            row = world.rows("SELECT * FROM sync_history")[0]
            assert row["records_processed"] == row["records_succeeded"] + row["records_failed"] + row["records_skipped"]
            seen.append(row["records_processed"])

    load(run, watched())
    assert 0 == seen[0] < seen[-1]  # some batches are under way side by side
    assert seen == sorted(seen)
    assert world.rows("SELECT * FROM sync_history")[0]["records_processed"] == 4


def test_the_end_of_a_run_is_announced_once_with_its_counts(world: World) -> None:
    run = world.run()
    batches = world.planned(run)
    assert load(run, batches)[1] == load(run, batches)[1] == "completed"
    rows = world.rows("SELECT event_id::text, event_name, payload FROM outbox ORDER BY id")
    assert [row["event_name"] for row in rows] == ["SyncStartedEvent", "SyncCompletedEvent"]
    with world.database.tenant(world.tenant) as scope:
        told = orjson.loads(scope.vault.open(bytes(rows[-1]["payload"]), "outbox", rows[-1]["event_id"], "payload"))
    assert orjson.dumps(told).decode().count('"records_processed":3') >= 1


def test_the_search_for_the_canary_finds_what_is_in_clear(world: World, settings: Settings) -> None:
    world.change("UPDATE tenants SET name = :n", n=CANARY)
    assert CANARY.encode() in everything_stored(settings)["tenants"]
