"""When a failed run is tried again, and when people are told instead."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from clients import CLIENT_MAPPING
from mailroom import NOON, attempt, fail, fail_for_good, succeed
from notebook import World, make_world

from integration_pipelines.settings import Settings
from integration_pipelines.store import alerts, history, retries, staging, syncs
from integration_pipelines.store.database import Database
from integration_pipelines.store.history import Attempt
from integration_pipelines.store.retries import AfterFailure
from integration_pipelines.store.staging import Staging

CLOSED = NOON + timedelta(minutes=1)


@pytest.fixture
def world(database: Database, settings: Settings) -> World:
    return make_world(database, settings)


def delay(world: World, made: Attempt) -> float | None:
    """Seconds from the end of a failed attempt to its retry."""
    (row,) = world.rows("SELECT retry_at, completed_at FROM sync_history WHERE id = :id", id=made.id)
    return None if row["retry_at"] is None else (row["retry_at"] - row["completed_at"]).total_seconds()


def kinds(world: World) -> list[str]:
    return [row["kind"] for row in world.rows("SELECT kind FROM alerts ORDER BY id")]


def looked(world: World, made: Attempt) -> Any:
    with world.database.tenant(world.tenant) as scope:
        return retries.look(scope, made.id)


def test_three_retries_each_after_four_times_the_delay_give_or_take_a_fifth(world: World) -> None:
    chains = []
    for _ in range(8):
        first = fail(world)
        chains.append([delay(world, made) for made in (first, *(fail(world, first.run_id) for _ in range(3)))])
    for number, expected in enumerate((60, 240, 960)):
        found = [chain[number] or 0 for chain in chains]
        assert all(0.8 * expected <= seconds <= 1.2 * expected for seconds in found)
        assert len(set(found)) > 1
    assert {chain[3] for chain in chains} == {None}


def test_an_attempt_that_waited_for_calls_is_no_failure(world: World) -> None:
    first = attempt(world)
    for day in range(1, 4):
        made = first if day == 1 else attempt(world, first.run_id)
        with world.database.tenant(world.tenant) as scope:
            history.postpone(scope, made.id, "No calls left.", NOON, NOON + timedelta(days=day))
    failed = fail(world, first.run_id)
    assert 48 <= (delay(world, failed) or 0) <= 72
    assert kinds(world) == []


def test_staging_is_kept_for_a_run_that_waits_is_in_the_queue_or_reads_it(world: World) -> None:
    first, staged = attempt(world), Staging(world.database, world.tenant)
    staged.put(first.run_id, "extract", 0, 0, b"x")

    def dropped() -> int:
        return staging.sweep(world.database, datetime.now(UTC) - timedelta(days=2))

    world.change("UPDATE staged_batches SET created_at = now() - interval '3 days'")
    assert dropped() == 0
    with world.database.tenant(world.tenant) as scope:
        history.postpone(scope, first.id, "No calls left.", NOON, NOON + timedelta(days=3))
    assert dropped() == 0
    with world.database.tenant(world.tenant) as scope:
        retries.taken(scope, first.id)
    assert dropped() == 0
    again = attempt(world, first.run_id)
    world.change("UPDATE staged_batches SET created_at = now() - interval '3 days'")
    assert dropped() == 0
    with world.database.tenant(world.tenant) as scope:
        history.fail(scope, again.id, "Over.", NOON, AfterFailure.NOTHING)
    assert dropped() == 1


def test_a_sync_may_have_a_first_delay_of_its_own(database: Database, settings: Settings) -> None:
    world = make_world(database, settings, options={"retry_delay_seconds": 3600})
    first = fail(world)
    assert 2880 <= (delay(world, first) or 0) <= 4320
    assert 4 * 2880 <= (delay(world, fail(world, first.run_id)) or 0) <= 4 * 4320


def test_a_chain_of_failures_is_told_once_when_its_third_retry_has_failed(world: World) -> None:
    first = fail(world)
    fail(world, first.run_id)
    fail(world, first.run_id)
    assert kinds(world) == []
    last = fail(world, first.run_id)
    assert world.rows("SELECT sync_history_id, kind FROM alerts") == [{"sync_history_id": last.id, "kind": "failed"}]
    fail_for_good(world)
    assert kinds(world) == ["failed"]


def test_what_a_person_has_ended_is_neither_tried_again_nor_told(world: World) -> None:
    assert delay(world, fail(world, after=AfterFailure.NOTHING)) is None
    assert kinds(world) == []


def test_what_a_person_must_repair_is_told_at_once_and_not_tried_again(world: World) -> None:
    assert delay(world, fail(world, after=AfterFailure.ALERT)) is None
    assert kinds(world) == ["failed"]


def test_four_failures_in_a_row_are_told_whoever_started_them(world: World) -> None:
    for _ in range(3):
        assert delay(world, fail(world)) is not None
    assert kinds(world) == []
    assert delay(world, fail(world)) is not None
    assert kinds(world) == ["failed"]


def test_failures_before_a_success_do_not_count(world: World) -> None:
    for _ in range(3):
        fail(world)
    succeed(world)
    fail(world)
    assert kinds(world) == []


def test_a_run_that_sets_all_records_aside_is_told_at_once(world: World) -> None:
    made = attempt(world)
    with world.database.tenant(world.tenant) as scope:
        history.count(scope, made, failed=3)
        assert history.complete(scope, world.config, made, CLOSED) == "failed"
    assert kinds(world) == ["failed"]
    assert delay(world, made) is None


def test_recovery_is_told_once_for_each_outage_and_never_without_one(world: World) -> None:
    succeed(world)
    assert kinds(world) == []
    for _ in range(2):
        fail_for_good(world)
        succeed(world)
        succeed(world)
    assert kinds(world) == ["failed", "recovered", "failed", "recovered"]


def test_a_run_that_lost_some_records_is_a_recovery_too(world: World) -> None:
    fail_for_good(world)
    made = attempt(world)
    with world.database.tenant(world.tenant) as scope:
        history.count(scope, made, failed=1, succeeded=1)
        assert history.complete(scope, world.config, made, CLOSED) == "partial"
    assert kinds(world) == ["failed", "recovered"]


def test_the_outage_of_one_sync_is_not_that_of_another(world: World) -> None:
    other = world.second_sync(CLIENT_MAPPING.replace("client-customer", "other"))
    fail_for_good(world)
    succeed(other)
    assert kinds(world) == ["failed"]
    fail_for_good(other)
    assert kinds(world) == ["failed", "failed"]


def test_a_retry_is_due_from_its_time_on_until_it_is_taken(world: World) -> None:
    made = fail(world)
    at = CLOSED + timedelta(seconds=delay(world, made) or 0)
    assert retries.due(world.database, at - timedelta(seconds=1)) == []
    assert retries.due(world.database, at) == [(world.tenant, made.id)]
    assert looked(world, made) == made.run_id
    with world.database.tenant(world.tenant) as scope:
        retries.taken(scope, made.id)
    assert retries.due(world.database, at + timedelta(days=1)) == []
    assert looked(world, made) is None


def test_a_retry_that_a_clock_which_ran_ahead_has_planned_is_due_at_once(world: World) -> None:
    made = fail(world, at=NOON + timedelta(hours=3))
    assert retries.due(world.database, NOON) == [(world.tenant, made.id)]


def test_a_run_that_waits_a_day_for_calls_is_not_due_before(world: World) -> None:
    made, until = attempt(world), NOON + timedelta(hours=24)
    with world.database.tenant(world.tenant) as scope:
        history.postpone(scope, made.id, "No calls left.", NOON, until)
    assert retries.due(world.database, NOON) == retries.due(world.database, until - timedelta(seconds=1)) == []
    assert retries.due(world.database, until) == [(world.tenant, made.id)]


def test_an_alert_waits_an_hour_at_most_whatever_the_clock_said(world: World) -> None:
    fail_for_good(world)
    ((_, alert),) = alerts.due(world.database, datetime.now(UTC) + timedelta(minutes=1))
    now = datetime.now(UTC) + timedelta(minutes=1)
    with world.database.tenant(world.tenant) as scope:
        assert alerts.take(scope, alert, now + timedelta(days=1)) is not None
        alerts.settle(scope, alert, [], "Nobody answers.", now)
    assert alerts.due(world.database, now) == [(world.tenant, alert)]
    with world.database.tenant(world.tenant) as scope:
        assert alerts.take(scope, alert, now) is not None
        assert alerts.take(scope, alert, now) is None
    assert alerts.due(world.database, now) == []


def test_nothing_is_tried_again_when_the_sync_has_run_since(world: World) -> None:
    made = fail(world)
    later = attempt(world)
    assert looked(world, made) is None
    with world.database.tenant(world.tenant) as scope:
        history.fail(scope, later.id, "Gone.", CLOSED)
    assert looked(world, made) is None
    assert looked(world, later) == later.run_id


@pytest.mark.parametrize("change", [syncs.pause, syncs.remove], ids=["paused", "removed"])
def test_nothing_is_tried_again_while_the_sync_is_paused_or_removed(world: World, change: Any) -> None:
    made = fail(world)
    with world.database.tenant(world.tenant) as scope:
        change(scope, world.config.id, "test")
    assert looked(world, made) is None


def test_only_runs_without_a_history_row_are_named(world: World) -> None:
    made, unknown = attempt(world), uuid4()
    assert retries.without_history(world.database, [made.run_id, unknown]) == {unknown}


def test_alerts_of_every_tenant_are_due_and_each_with_its_tenant(world: World, database: Database, settings: Settings) -> None:
    other = make_world(database, settings, tenant="globex")
    fail_for_good(world)
    fail_for_good(other)
    (mine,), (theirs,) = world.rows("SELECT id, due_at FROM alerts"), other.rows("SELECT id, due_at FROM alerts")
    assert alerts.due(database, theirs["due_at"]) == [(world.tenant, mine["id"]), (other.tenant, theirs["id"])]
    assert alerts.due(database, mine["due_at"] - timedelta(seconds=1)) == []
    with database.tenant(other.tenant) as scope:
        assert alerts.take(scope, mine["id"], theirs["due_at"]) is None
    assert alerts.due(database, theirs["due_at"])[0] == (world.tenant, mine["id"])


def test_the_list_of_alerts_says_what_became_of_each(world: World) -> None:
    fail_for_good(world)
    succeed(world)
    with world.database.tenant(world.tenant) as scope:
        newest, oldest = alerts.latest(scope)
        alerts.settle(scope, newest["id"], [7], None, NOON)
        alerts.drop(scope, oldest["id"], "Nobody is there.")
        found = alerts.latest(scope)
    assert [(row["kind"], row["state"], row["sent_at"], row["problem"]) for row in found] == [
        ("recovered", "sent", NOON, None),
        ("failed", "not sent", None, "Nobody is there."),
    ]
    assert (newest["state"], newest["sync_name"], newest["sync_id"]) == ("waiting", "client-customer", world.config.id)
