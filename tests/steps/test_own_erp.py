"""The ERP in a database of its own: other names, numbers as keys, no tenant column, and no transaction that spans both."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from clients import CLIENT_MAPPING
from notebook import World, make_world, now, store_sync

from connector_resources.contract import Changes, Entity
from connector_resources.errors import ConfigurationError
from integration_pipelines.orchestration.resources import ErpResource
from integration_pipelines.settings import Settings
from integration_pipelines.steps.load import load
from integration_pipelines.store import history, ledger, links, tenants
from integration_pipelines.store.database import Database, engine


@pytest.fixture
def world(database: Database, own: Settings) -> Iterator[World]:
    made = fill(make_world(database, own, delete_policy="propagate", mapping=CLIENT_MAPPING.replace(", match: true", "")))
    erp = made.erp
    yield made
    erp.close()


def fill(world: World) -> World:
    world.book.write_note("Client", "C1", Name="Ada", Number="001", Phone="1")
    world.book.write_note("Client", "C2", Name="Bela", Number="002", Phone="2")
    return world


def customers(world: World) -> list[tuple[str, str | None, bool]]:
    with world.erp.place.connect() as connection:
        rows = connection.exec_driver_sql('SELECT "Firma", telefon, aktiv FROM "Verkauf"."Kunden" ORDER BY "Nr"')
        return [(row[0], row[1], row[2]) for row in rows]


def stories(world: World) -> list[list[str]]:
    """What the journal tells of each ERP record, in the order of their numbers."""
    with world.database.tenant(world.tenant) as scope:
        ids = sorted(int(i) for i in scope.run("SELECT DISTINCT erp_id FROM sync_record_changes").scalars())
        return [[row["action"] for row in ledger.story(scope, "customer", str(i))] for i in ids]


def test_migrate_makes_the_change_log_and_the_applied_intents_there(world: World) -> None:
    with world.erp.place.connect() as connection:
        made = connection.exec_driver_sql(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'integration'"
        )
        assert sorted(made.scalars()) == ["applied_intents", "change_log"]


def test_records_arrive_under_other_names_and_number_themselves(world: World) -> None:
    counts, _ = world.sync()
    assert counts.actions == {"create": 2}
    assert customers(world) == [("Ada", "1", True), ("Bela", "2", True)]
    again, _ = world.sync()
    assert again.succeeded == 0
    assert {row["erp_id"] for row in world.rows("SELECT erp_id FROM identity_links")} == {"1", "2"}


def test_last_write_wins_by_the_change_log_of_that_database(world: World) -> None:
    world.sync()
    with world.erp.place.connect() as connection:
        connection.exec_driver_sql("""UPDATE "Verkauf"."Kunden" SET telefon = 'erp' WHERE "Kunden-Nr" = '001'""")
    world.book.write_note("Client", "C1", Phone="earlier")
    world.sync()
    assert customers(world)[0][1] == "erp"
    world.book.clock = now()
    world.book.write_note("Client", "C1", Phone="later")
    world.sync()
    assert customers(world)[0][1] == "later"


class Killed(BaseException):
    """The process ends here."""


def dies_before_the_write(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    def write(_entity: Entity, _changes: Changes) -> Any:
        raise Killed

    monkeypatch.setattr(world.erp, "write", write)


def dies_after_the_erp_has_committed(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    original = world.erp.write

    def write(entity: Entity, changes: Changes) -> Any:
        original(entity, changes)
        raise Killed

    monkeypatch.setattr(world.erp, "write", write)


def dies_before_the_settlement_is_committed(monkeypatch: pytest.MonkeyPatch, _world: World) -> None:
    def count(*_: Any, **__: Any) -> None:
        raise Killed

    monkeypatch.setattr(history, "count", count)


def change_everything(world: World) -> None:
    """A create, an update and a delete are due."""
    world.book.write_note("Client", "C1", Phone="11")
    world.book.remove("Client", "C2")
    world.book.write_note("Client", "C3", Name="Cleo", Number="003", Phone="3")


def crash(world: World, monkeypatch: pytest.MonkeyPatch, dies: Callable[[pytest.MonkeyPatch, World], None]) -> None:
    run = world.run()
    batches = world.planned(run)
    with monkeypatch.context() as patched:
        dies(patched, world)
        with pytest.raises(Killed):
            load(run, batches)


def came_out_right(world: World) -> None:
    assert customers(world) == [("Ada", "11", True), ("Cleo", "3", True)]
    found = stories(world)
    assert sorted(found) == [["create"], ["create", "delete"], ["create", "update"]]
    assert world.rows("SELECT count(*) FROM write_intents WHERE state = 'announced' OR payload IS NOT NULL") == [{"count": 0}]
    (confirmed,) = world.rows("SELECT count(*) FROM write_intents WHERE state = 'confirmed'")
    assert confirmed["count"] == sum(map(len, found))
    for row in world.rows("SELECT * FROM sync_history"):
        assert row["records_processed"] == row["records_succeeded"] + row["records_failed"] + row["records_skipped"]
    (succeeded,) = world.rows("SELECT sum(records_succeeded)::int AS n FROM sync_history")
    assert succeeded["n"] == sum(map(len, found))


@pytest.mark.parametrize(
    "dies", [dies_before_the_write, dies_after_the_erp_has_committed, dies_before_the_settlement_is_committed]
)
def test_after_a_crash_nothing_is_lost_doubled_or_journaled_twice(
    world: World, monkeypatch: pytest.MonkeyPatch, dies: Callable[[pytest.MonkeyPatch, World], None]
) -> None:
    world.sync()
    change_everything(world)
    crash(world, monkeypatch, dies)
    world.sync()
    came_out_right(world)
    again, _ = world.sync()
    assert again.succeeded == 0


def test_the_journal_of_a_recovered_write_has_its_before_and_after(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.sync()
    world.book.write_note("Client", "C1", Phone="11")
    crash(world, monkeypatch, dies_after_the_erp_has_committed)
    world.sync()
    with world.database.tenant(world.tenant) as scope:
        made, changed = ledger.story(scope, "customer", "1")
    assert changed["before"]["phone"] == made["after"]["phone"] == "1"
    assert changed["after"]["phone"] == "11"


def test_a_recovered_write_knows_how_the_erp_spells_it(world: World, erp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine(erp_url, role=None, poolclass=sa.NullPool).begin() as owner:
        owner.exec_driver_sql(
            """CREATE FUNCTION spell() RETURNS trigger LANGUAGE plpgsql
               AS $$ BEGIN NEW.telefon := '+' || ltrim(NEW.telefon, '+'); RETURN NEW; END $$;
               CREATE TRIGGER spell BEFORE INSERT OR UPDATE ON "Verkauf"."Kunden" FOR EACH ROW EXECUTE FUNCTION spell()"""
        )
    world.change("UPDATE sync_configurations SET conflict_resolution_strategy = 'target_wins'")
    world.sync()
    for phone, dies in (("11", dies_after_the_erp_has_committed), ("22", dies_before_the_settlement_is_committed)):
        world.book.write_note("Client", "C1", Phone=phone)
        crash(world, monkeypatch, dies)
        world.sync()
        assert customers(world)[0][1] == f"+{phone}"
    with world.database.tenant(world.tenant) as scope:
        assert [row["after"]["phone"] for row in ledger.story(scope, "customer", "1")] == ["+1", "+11", "+22"]
    world.book.write_note("Client", "C1", Phone="33")
    world.sync()
    assert customers(world)[0][1] == "+33"


def test_another_sync_of_the_pair_settles_what_a_dead_one_announced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    other = store_sync(
        world.database,
        world.tenant,
        world.connector_id,
        CLIENT_MAPPING.replace(", match: true", "").replace("client-customer", "other"),
    )
    crash(world, monkeypatch, dies_after_the_erp_has_committed)
    second = replace(world, config=other)
    counts, _ = second.sync()
    second.erp.close()
    assert (counts.succeeded, counts.failed) == (2, 0)
    assert customers(world) == [("Ada", "1", True), ("Bela", "2", True)]
    world.sync()
    assert (len(customers(world)), len(stories(world))) == (2, 2)


def test_a_key_that_was_erased_after_the_crash_makes_no_duplicate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    crash(world, monkeypatch, dies_after_the_erp_has_committed)
    world.change("DELETE FROM data_keys WHERE subject = 'customer/1'")
    world.sync()
    assert customers(world) == [("Ada", "1", True), ("Bela", "2", True)]
    assert world.rows("SELECT count(*) FROM write_intents WHERE state = 'announced'") == [{"count": 0}]
    world.book.write_note("Client", "C1", Phone="9")
    world.sync()
    assert customers(world)[0] == ("Ada", "9", True)


def test_a_record_that_the_erp_refuses_leaves_no_open_intent(world: World) -> None:
    world.sync()
    world.book.write_note("Client", "C1", Number="002")
    world.book.write_note("Client", "C3", Name="Cleo", Number="003", Phone="3")
    counts, _ = world.sync()
    assert (counts.actions, counts.failed) == ({"create": 1}, 1)
    assert world.rows("SELECT state, count(*) FROM write_intents GROUP BY 1 ORDER BY 1") == [
        {"state": "abandoned", "count": 1},
        {"state": "confirmed", "count": 3},
    ]


def test_an_edit_between_resolve_and_load_is_merged(world: World) -> None:
    world.sync()
    world.book.write_note("Client", "C1", Name="Ada Ltd")
    run = world.run()
    batches = world.planned(run)
    with world.erp.place.connect() as connection:
        connection.exec_driver_sql("""UPDATE "Verkauf"."Kunden" SET telefon = 'erp' WHERE "Kunden-Nr" = '001'""")
    load(run, batches)
    assert customers(world)[0] == ("Ada Ltd", "erp", True)


def test_two_tenants_without_a_tenant_column_are_refused(world: World) -> None:
    tenants.create(world.database, "globex")
    with pytest.raises(ConfigurationError, match="shared by 2 tenants, and the catalogue names no tenant_column"):
        ErpResource(world.settings, now).open(world.database, world.tenant)


KILLED = """
import os, signal, sys
from uuid import UUID
from notebook import Notebook, NoStore, World, now
from test_own_erp import change_everything, fill
from connector_resources.contract import Given
from integration_pipelines.settings import load as load_settings
from integration_pipelines.steps.load import load
from integration_pipelines.store import syncs
from integration_pipelines.store.database import Database
from integration_pipelines.store.master_key import MasterKey

settings = load_settings()
database = Database(settings.database_url, MasterKey(None, settings.home / "master.key"))
tenant, connector, sync = UUID(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with database.tenant(tenant) as scope:
    config = syncs.get(scope, sync)
book = Notebook(Given("https://notebook.invalid", "basic", NoStore(), now))
world = fill(World(database, settings, tenant, connector, config, book))
change_everything(world)
run = world.run()
batches = world.planned(run)
original = world.erp.write

def write(entity, changes):
    if sys.argv[4] == "after":
        original(entity, changes)
    os.kill(os.getpid(), signal.SIGKILL)

world.erp.write = write
load(run, batches)
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_kill_9_around_the_erp_s_commit_loses_and_doubles_nothing(world: World, own: Settings, moment: str) -> None:
    world.sync()
    change_everything(world)
    given = {
        "INTEGRATION_HOME": str(own.home),
        "DATABASE_URL": own.database_url or "",
        "ERP_DATABASE_URL": own.erp_database_url or "",
        "ERP_CATALOGUE": str(own.erp_catalogue),
        "PYTHONPATH": os.pathsep.join([*map(str, (Path(__file__).parents[1] / "support", Path(__file__).parent)), *sys.path]),
    }
    script = [sys.executable, "-c", KILLED, str(world.tenant), str(world.connector_id), str(world.config.id), moment]
    died = subprocess.run(script, env={**os.environ, **given}, capture_output=True, text=True, timeout=120, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert world.rows("SELECT DISTINCT state FROM write_intents WHERE payload IS NOT NULL") == [{"state": "announced"}]
    closed = history.sweep(world.database, now())
    assert len(closed) == 1
    world.sync()
    came_out_right(world)


def test_a_dead_run_s_link_that_somebody_made_meanwhile_is_updated_not_doubled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash(world, monkeypatch, dies_after_the_erp_has_committed)
    with world.database.tenant(world.tenant) as scope:
        assert links.find(scope, world.run(opened=False).pair, ["C1"]).empty
    world.sync()
    world.sync()
    assert len(world.rows("SELECT 1 FROM identity_links")) == 2
