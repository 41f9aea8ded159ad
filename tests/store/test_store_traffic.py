"""What passes through the store: staged batches, events, audit rows, the inbox, and the journal's months."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from notebook import World, make_world

from connector_resources.errors import ContractError, InvalidRecord
from integration_pipelines.events import SyncFailed
from integration_pipelines.settings import Settings
from integration_pipelines.store import audit, history, inbox, journal_months, outbox, staging, tenants
from integration_pipelines.store.database import Database, engine
from integration_pipelines.store.links import Pair
from integration_pipelines.store.staging import Staging

RUN = uuid4()


@pytest.fixture
def tenant(database: Database) -> UUID:
    return tenants.create(database, "acme")


@pytest.fixture
def staged(database: Database, tenant: UUID) -> Staging:
    return Staging(database, tenant)


def put(staged: Staging, attempt: int, batches: Sequence[bytes], *, complete: bool = True, run: UUID = RUN) -> None:
    staged.begin(run, "extract", attempt)
    for position, content in enumerate(batches):
        staged.put(run, "extract", attempt, position, content)
    if complete:
        staged.complete(run, "extract", attempt, len(batches))


def test_batches_come_back_in_order(staged: Staging) -> None:
    put(staged, 0, [b"%d" % n for n in range(12)])
    assert list(staged.read(RUN, "extract")) == [b"%d" % n for n in range(12)]


def test_nothing_is_as_good_as_something(staged: Staging) -> None:
    put(staged, 0, [])
    assert list(staged.read(RUN, "extract")) == []


def test_an_attempt_is_not_seen_before_it_is_complete(staged: Staging) -> None:
    put(staged, 0, [b"half"], complete=False)
    with pytest.raises(ContractError, match=r"The staged batches of extract in run .* are gone"):
        list(staged.read(RUN, "extract"))


def test_a_retry_does_not_show_what_the_first_attempt_left(staged: Staging) -> None:
    put(staged, 0, [b"old", b"older"], complete=False)
    put(staged, 1, [b"new"])
    assert list(staged.read(RUN, "extract")) == [b"new"]
    put(staged, 2, [b"half"], complete=False)
    assert list(staged.read(RUN, "extract")) == [b"new"]
    put(staged, 1, [b"once more"])
    assert list(staged.read(RUN, "extract")) == [b"once more"]


def test_batches_are_sealed_in_their_place(staged: Staging, database: Database, tenant: UUID) -> None:
    put(staged, 0, [b"canary-one", b"canary-two"])
    with database.tenant(tenant) as scope:
        assert all(b"canary" not in content for content in scope.run("SELECT content FROM staged_batches").scalars())
        scope.run(
            "UPDATE staged_batches SET content = (SELECT content FROM staged_batches WHERE position = 1) WHERE position = 0"
        )
    with pytest.raises(Exception, match=r"staged_batches/.*/0 cannot be decrypted"):
        list(staged.read(RUN, "extract"))


def test_batches_that_were_dropped_while_they_are_read_are_a_sentence(staged: Staging) -> None:
    put(staged, 0, [b"a", b"b"])
    reading = staged.read(RUN, "extract")
    assert next(reading) == b"a"
    staged.drop(RUN)
    with pytest.raises(ContractError, match="are gone"):
        next(reading)


def test_dropping_a_run_leaves_other_runs_and_tenants(staged: Staging, database: Database) -> None:
    other = Staging(database, tenants.create(database, "other"))
    later = uuid4()
    for where, run in ((staged, RUN), (staged, later), (other, RUN)):
        put(where, 0, [b"x"], run=run)
    staged.drop(RUN)
    assert [list(where.read(run, "extract")) for where, run in ((staged, later), (other, RUN))] == [[b"x"], [b"x"]]
    with pytest.raises(ContractError):
        list(staged.read(RUN, "extract"))


def test_the_sweeper_drops_what_is_old_in_every_tenant(staged: Staging, database: Database, tenant: UUID) -> None:
    other = Staging(database, tenants.create(database, "other"))
    fresh = uuid4()
    for where, run in ((staged, RUN), (staged, fresh), (other, RUN)):
        put(where, 0, [b"x"], run=run)
    for one in (tenant, other.tenant):
        with database.tenant(one) as scope:
            scope.run("UPDATE staged_batches SET created_at = now() - interval '2 days' WHERE run_id = :r", r=RUN)
    assert staging.sweep(database, datetime.now(UTC) - timedelta(days=1)) == 2
    assert list(staged.read(fresh, "extract")) == [b"x"]
    assert staging.sweep(database, datetime.now(UTC) - timedelta(days=1)) == 0


def test_an_event_is_sealed_in_the_outbox_and_leaves_with_its_transaction(database: Database, tenant: UUID) -> None:
    event = SyncFailed({"sync_configuration_id": 7, "at": datetime(2026, 1, 1, tzinfo=UTC)}, "canary", 2)
    with pytest.raises(RuntimeError), database.tenant(tenant) as scope:
        outbox.announce(scope, event)
        raise RuntimeError
    with database.tenant(tenant) as scope:
        assert scope.run("SELECT count(*) FROM outbox").scalar() == 0
        outbox.announce(scope, event)
        row = scope.rows("SELECT * FROM outbox")[0]
        opened = scope.vault.open(row["payload"], "outbox", str(row["event_id"]), "payload")
    assert (row["event_name"], row["subject"], row["published_at"]) == ("SyncFailedEvent", "sync_configurations/7", None)
    assert b"canary" not in row["payload"]
    assert opened == (
        b'{"history":{"sync_configuration_id":7,"at":"2026-01-01T00:00:00Z"},"error_message":"canary","attempt_number":2}'
    )


def test_an_audit_row_says_who_did_what_to_what(database: Database, tenant: UUID) -> None:
    with database.tenant(tenant) as scope:
        audit.record(scope, "users/1", "key.rotate", "tenants/x", {"count": 2}, succeeded=False)
        audit.record(scope, "system", "nothing.said", "x")
        rows = scope.rows("SELECT actor, action, subject, detail, succeeded FROM audit_log ORDER BY id DESC LIMIT 2")
    found: list[Any] = [tuple(row.values()) for row in rows]
    assert found == [
        ("system", "nothing.said", "x", None, True),
        ("users/1", "key.rotate", "tenants/x", {"count": 2}, False),
    ]


@pytest.fixture
def world(database: Database, settings: Settings) -> World:
    return make_world(database, settings)


def test_a_run_claims_the_waiting_ids_of_its_pair_each_once(world: World) -> None:
    pair = Pair(world.connector_id, "Client", "customer")
    with world.database.tenant(world.tenant) as scope:
        assert inbox.arrived(scope, world.connector_id, "Client", ["C1", "C2"]) == 2
        assert inbox.arrived(scope, world.connector_id, "Client", ["C1"]) == 1
        assert inbox.arrived(scope, world.connector_id, "Person", ["P1"]) == 0  # no sync reads it
        assert sorted(inbox.claim(scope, pair, None)) == ["C1", "C2"]
        attempt = history.open_attempt(scope, world.config, 1, uuid4(), None, datetime.now(UTC))
        assert sorted(inbox.claim(scope, pair, attempt)) == ["C1", "C2"]
        assert sorted(inbox.claim(scope, pair, attempt)) == ["C1", "C2"]  # the same run, once more
        later = history.open_attempt(scope, world.config, 1, uuid4(), None, datetime.now(UTC))
        assert inbox.claim(scope, pair, later) == []
    rows = world.rows("SELECT external_id, status, sync_history_id FROM inbox ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [
        ("C1", "claimed", attempt.id),
        ("C2", "claimed", attempt.id),
        ("C1", "claimed", attempt.id),
    ]


@pytest.mark.parametrize("event", [("Client", ["C1", "C\0"]), ("Client", ["\ud800"]), ("Cli\0ent", ["C1"])])
def test_an_event_that_cannot_be_stored_is_refused_with_a_sentence(world: World, event: tuple[str, list[str]]) -> None:
    with world.database.tenant(world.tenant) as scope:
        with pytest.raises(InvalidRecord, match="An id in the event, or its entity, has a character that cannot be stored"):
            inbox.arrived(scope, world.connector_id, *event)
        assert inbox.arrived(scope, world.connector_id, "Client", ["C1"]) == 1


def test_two_syncs_of_one_external_entity_do_not_take_each_others_events(world: World) -> None:
    """One partner over there may be a customer and a vendor here."""
    world.change(
        """INSERT INTO sync_configurations (tenant_id, connector_id, sync_name, source_entity, target_entity, sync_direction,
               sync_mode, field_mappings)
           SELECT tenant_id, connector_id, 'Vendors', source_entity, 'vendor', sync_direction, sync_mode, field_mappings
           FROM sync_configurations WHERE id = :id""",
        id=world.config.id,
    )
    customers, vendors = (Pair(world.connector_id, "Client", entity) for entity in ("customer", "vendor"))
    with world.database.tenant(world.tenant) as scope:
        assert inbox.arrived(scope, world.connector_id, "Client", ["C1", "C1"]) == 2
        attempt = history.open_attempt(scope, world.config, 1, uuid4(), None, datetime.now(UTC))
        assert inbox.claim(scope, customers, attempt) == ["C1"]
        assert inbox.claim(scope, vendors, None) == ["C1"]
        history.complete(scope, world.config, attempt, datetime.now(UTC))
        assert inbox.claim(scope, customers, None) == []
        assert inbox.claim(scope, vendors, None) == ["C1"]


def months(database: Database) -> list[str]:
    statement = """SELECT right(inhrelid::regclass::text, 7) FROM pg_inherits
                   WHERE inhparent = 'sync_record_changes'::regclass ORDER BY 1"""
    with engine(database.url, role=None, poolclass=sa.NullPool).connect() as connection:
        return list(connection.exec_driver_sql(statement).scalars())


def spelled(day: date) -> str:
    return f"{day:%Y_%m}"


def test_the_end_of_a_month_skips_no_month(database: Database) -> None:
    today = date.today()  # noqa: DTZ011 - the server refuses months far from its own today
    ends = [day for n in range(200) if (day := today + timedelta(days=n)).day == 31 and day.month in (1, 3, 5, 8, 10, 12)]
    last = ends[0]
    journal_months.keep(database, last, 120)
    expected = {
        spelled(last),
        *(spelled(date(last.year + (last.month + n) // 12, (last.month + n) % 12 + 1, 1)) for n in (0, 1)),
    }
    assert expected <= set(months(database))


def test_months_are_made_once_and_dropped_when_their_time_is_over(database: Database) -> None:
    today = date.today()  # noqa: DTZ011 - as above
    long_ago = today - timedelta(days=200)
    with database.directory() as connection:
        connection.execute(sa.text("SELECT add_journal_month(:d)"), {"d": long_ago})
    before = months(database)
    assert spelled(long_ago) in before
    journal_months.keep(database, today, 12)
    assert months(database) == before
    journal_months.keep(database, today, 2)
    assert months(database) == [name for name in before if name != spelled(long_ago)]
    journal_months.keep(database, today, 1200)
    assert spelled(today) in months(database)


def test_the_application_cannot_drop_the_months_of_these_days(database: Database) -> None:
    before = months(database)
    with database.directory() as connection:
        connection.execute(sa.text("SELECT drop_journal_before('2999-01-01')")).all()
    assert set(before[-3:]) <= set(months(database))


def test_two_tenants_share_a_connection_and_nothing_else(database: Database) -> None:
    one, two = (tenants.create(database, name) for name in ("one", "two"))
    seen: dict[UUID, Any] = {}
    for tenant in (one, two, one):
        with database.tenant(tenant) as scope:
            seen[tenant] = scope.run("SELECT array_agg(DISTINCT tenant_id::text) FROM users").scalar()
    assert seen == {one: [str(one)], two: [str(two)]}
