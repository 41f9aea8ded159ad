"""Syncs of one connector run parents first."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from office import Office

from integration_pipelines.store import history, syncs, turns


def ahead(office: Office, now: datetime) -> list[str]:
    with office.database.tenant(office.tenant) as scope:
        return turns.ahead(scope, syncs.get(scope, office.syncs["Contact"].id), {"customer"}, now, me=1_000)


def test_a_parent_goes_first_while_it_is_due_or_running_and_not_otherwise(office: Office) -> None:
    now = datetime(2026, 3, 2, 10, 0, 30, tzinfo=UTC)
    assert ahead(office, now) == []
    office.change(
        """UPDATE sync_configurations SET sync_mode = 'scheduled', schedule_cron = '0 11 * * *', time_zone = 'Europe/Berlin',
           created_at = '2026-01-01' WHERE id = :id""",
        id=office.syncs["Account"].id,
    )
    assert ahead(office, now) == ["Account"]
    assert ahead(office, now + timedelta(minutes=11)) == []
    with office.database.tenant(office.tenant) as scope:
        attempt = history.open_attempt(scope, syncs.get(scope, office.syncs["Account"].id), 1, uuid4(), None, now)
    assert ahead(office, now) == ["Account"]
    with office.database.tenant(office.tenant) as scope:
        history.fail(scope, attempt.id, "Over.", now)
    assert ahead(office, now) == []


def test_of_two_that_refer_to_each_other_the_one_that_began_first_goes_first(office: Office) -> None:
    account, contact = office.syncs["Account"], office.syncs["Contact"]
    rule = '[{"source": "Id", "target": "parent_id", "reference": {"entity": "contact_person"}}]'
    office.change(
        "UPDATE field_mappings SET mappings = mappings || CAST(:rule AS jsonb) WHERE target_entity = 'customer'", rule=rule
    )
    with office.database.tenant(office.tenant) as scope:
        now = datetime.now(UTC)
        first, second = (history.open_attempt(scope, one, 1, uuid4(), None, now).id for one in (account, contact))
        assert turns.ahead(scope, contact, {"customer"}, now, me=second, due_too=False) == ["Account"]
        assert turns.ahead(scope, account, {"contact_person"}, now, me=first, due_too=False) == []


def test_a_child_waits_until_its_parent_has_ended(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    with office.database.tenant(office.tenant) as scope:
        config = syncs.get(scope, office.syncs["Account"].id)
        parent = history.open_attempt(scope, config, 1, uuid4(), None, datetime.now(UTC))
    waited = []

    def while_it_waits(seconds: float) -> None:
        waited.append(seconds)
        connection.execute(sa.text("SELECT pg_advisory_unlock_all()"))
        connection.commit()
        with office.database.tenant(office.tenant) as scope:
            history.fail(scope, parent.id, "Over.", datetime.now(UTC))

    with office.database.connection() as connection:  # the parent's process lives
        connection.execute(sa.text("SELECT pg_advisory_lock(:k)"), {"k": history.lock_key(parent.id)})
        connection.commit()
        monkeypatch.setattr("integration_pipelines.orchestration.session.time.sleep", while_it_waits)
        assert office.run("Contact").success
    assert waited == [1]
