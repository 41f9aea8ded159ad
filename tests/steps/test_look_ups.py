"""What a run reads of the database grows with its own records, whatever the planner's statistics know of their tenant."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
import sqlalchemy as sa
from notebook import World, make_world

from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database, engine

RECORDS = 1_500
MOST = 60  # rows that may be fetched of one table for each record of a run
PAGES = 10  # pages that may be looked at in one index for each record of a first run
YEAR = 100  # rows of sync_history that a run may read, however many there are
TENANTS = 12
LITTLE = 600  # rows that may be fetched of one table for a run that reads 302 records again, and changes one of them


@pytest.fixture
def owner(database_url: str) -> Iterator[sa.Engine]:
    made = engine(database_url, role=None, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    yield made
    made.dispose()


def fetched(owner: sa.Engine) -> dict[str, int]:
    """Rows read of each table so far, by index or by reading it whole."""
    with owner.connect() as connection:
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
        found = connection.exec_driver_sql(
            "SELECT relname, seq_tup_read + COALESCE(idx_tup_fetch, 0) FROM pg_stat_user_tables"
        )
        read = {name: int(count) for name, count in found}
        indexes = connection.exec_driver_sql("SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes")
        return read | {name: int(count) for name, count in indexes}


def written(world: World) -> None:
    world.book.page_size = 500
    for at in range(RECORDS):
        name = f"C{at:05}"
        world.book.write_note(
            "Client", name, Name=name, Number=name, Email=f"{name}@example.org", Phone="1", Revenue=Decimal(at)
        )


def synced(world: World, owner: sa.Engine, **counts: int) -> None:
    before = fetched(owner)
    done, _ = world.sync()
    assert done.actions | {"skip": done.skipped} == counts
    world.database.engine.dispose()  # closed connections have told what they read
    too_many = {name: count for name, now in fetched(owner).items() if (count := now - before.get(name, 0)) > MOST * RECORDS}
    assert not too_many


@pytest.mark.parametrize("analyzed", [False, True], ids=["no statistics", "statistics of another tenant"])
def test_a_tenants_records_are_looked_up_by_an_index(
    database: Database, settings: Settings, owner: sa.Engine, analyzed: bool
) -> None:
    if analyzed:
        other = make_world(database, settings, tenant="other")
        written(other)
        other.sync()
        with owner.connect() as connection:
            connection.exec_driver_sql("ANALYZE")
    world = make_world(database, settings)
    written(world)
    synced(world, owner, create=RECORDS, skip=0)
    written(world)
    for at in range(0, RECORDS, 2):
        world.book.write_note("Client", f"C{at:05}", Phone="2")
    synced(world, owner, update=RECORDS // 2, skip=RECORDS // 2)


def looked_at(owner: sa.Engine) -> dict[str, int]:
    """Pages of each index that were looked at so far."""
    with owner.connect() as connection:
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
        found = connection.exec_driver_sql("SELECT indexrelname, idx_blks_hit + idx_blks_read FROM pg_statio_user_indexes")
        return {name: int(count) for name, count in found}


def beside_others(database: Database, settings: Settings, owner: sa.Engine, **sync: str) -> World:
    """A tenant beside many, of whom one has as many records: no table is read whole."""
    for at in range(TENANTS):
        other = make_world(database, settings, tenant=f"other{at}", **sync)
        other.book.write_note("Client", "C1", Name="C1", Number="C1", Email="c1@example.org", Phone="1", Revenue=Decimal(1))
        if not at:
            written(other)
        other.sync()
    with owner.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
    return make_world(database, settings, **sync)


def few_pages(world: World, owner: sa.Engine, expected: int) -> None:
    world.database.engine.dispose()
    before = looked_at(owner)
    done, _ = world.sync()
    assert done.succeeded == expected
    world.database.engine.dispose()
    pages = {name: (now - before.get(name, 0)) / expected for name, now in looked_at(owner).items()}
    assert not {name: count for name, count in pages.items() if count > PAGES}


def test_a_look_up_costs_the_same_beside_many_other_tenants(database: Database, settings: Settings, owner: sa.Engine) -> None:
    """An index whose first column does not serve under row-level security is searched once for each of its values."""
    world = beside_others(database, settings, owner)
    written(world)
    few_pages(world, owner, RECORDS)


@pytest.mark.parametrize("made", [True, False], ids=["created", "edited"])
def test_a_look_up_on_the_way_out_costs_the_same_too(
    database: Database, settings: Settings, owner: sa.Engine, made: bool
) -> None:
    world = beside_others(database, settings, owner, direction="bidirectional")
    if made:
        world.change(
            """INSERT INTO erp.customer (name, customer_number, email, phone, active)
               SELECT 'N', 'N' || n, n || '@example.org', '1', true FROM generate_series(1, :records) AS n""",
            records=RECORDS,
        )
    else:
        written(world)
        world.sync()
        world.change("UPDATE erp.customer SET phone = '3' WHERE right(customer_number, 1)::int % 2 = 0")
    few_pages(world, owner, RECORDS if made else RECORDS // 2)


@pytest.mark.parametrize("direction", ["inbound", "bidirectional"])
def test_a_run_with_little_to_do_reads_little(
    database: Database, settings: Settings, owner: sa.Engine, direction: str
) -> None:
    world = make_world(database, settings, direction=direction)
    written(world)
    world.sync()
    world.sync()
    with owner.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
    world.book.write_note("Client", "C00001", Phone="2")
    database.engine.dispose()
    before = fetched(owner)
    done, _ = world.sync()
    assert (done.succeeded, done.skipped) == (1, 301)  # the window begins five minutes early: one record a second
    database.engine.dispose()
    read = {name: count for name, now in fetched(owner).items() if (count := now - before.get(name, 0)) > LITTLE}
    assert not read


def test_a_run_reads_little_of_what_a_year_of_runs_has_left(database: Database, settings: Settings, owner: sa.Engine) -> None:
    world = make_world(database, settings)
    world.book.write_note("Client", "C1", Name="C1", Number="C1", Email="c1@example.org", Phone="1", Revenue=Decimal(1))
    world.sync()
    with owner.connect() as connection:
        connection.exec_driver_sql(
            f"""INSERT INTO sync_history (tenant_id, sync_configuration_id, sync_direction, sync_status, run_id,
                                          field_mapping_id, config_revision, connector_revision, started_at, completed_at)
                SELECT tenant_id, sync_configuration_id, sync_direction, 'completed', gen_random_uuid(), field_mapping_id,
                       config_revision, connector_revision, now(), now()
                FROM sync_history, generate_series(1, {RECORDS})"""
        )
        connection.exec_driver_sql("ANALYZE")
    world.sync()
    world.book.write_note("Client", "C1", Phone="2")
    database.engine.dispose()
    before = fetched(owner)
    done, _ = world.sync()
    assert done.succeeded == 1
    database.engine.dispose()
    read = fetched(owner)
    assert read["sync_history"] - before["sync_history"] < YEAR
    assert read["pk_sync_history"] - before["pk_sync_history"] < YEAR
