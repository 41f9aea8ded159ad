"""Sync configs, mapping versions and tenants: what is refused, and in which words."""

import threading
from typing import Any
from uuid import UUID, uuid4

import pytest

from connector_resources.errors import ConfigurationError
from integration_pipelines.model import ConflictStrategy, DeletePolicy, Direction, SyncMode
from integration_pipelines.store import connectors, mappings, syncs, tenants
from integration_pipelines.store.database import Database, Scope
from integration_pipelines.store.mappings import MappingRow

RULES = [{"source": "Name", "target": "name"}]


@pytest.fixture
def tenant(database: Database) -> UUID:
    return tenants.create(database, "acme")


def stored(scope: Scope, **changed: Any) -> MappingRow:
    given: dict[str, Any] = {
        "mapping_name": "account-customer",
        "source_entity": "Account",
        "target_entity": "customer",
        "mappings": RULES,
        "transformation_functions": {},
        "actor": "test",
    }
    return mappings.store(scope, **(given | changed))


def connector(scope: Scope) -> int:
    return connectors.create(
        scope,
        name="CRM",
        connector_type="notebook",
        url="https://crm.example",
        authentication_method="basic",
        credentials={},
        user=tenants.first_user(scope),
    ).id


def made(scope: Scope, **changed: Any) -> syncs.SyncConfig:
    standing = connectors.every(scope)
    given: dict[str, Any] = {
        "connector_id": standing[0].id if standing else connector(scope),
        "name": "accounts",
        "mapping_id": stored(scope).id,
        "actor": "test",
    }
    return syncs.create(scope, **(given | changed))


def test_a_sync_takes_its_entities_and_version_from_the_mapping(database: Database, tenant: UUID) -> None:
    with database.tenant(tenant) as scope:
        found = made(scope, options={"overlap_seconds": 60})
        assert (found.external_entity, found.erp_entity, found.mapping_version) == ("Account", "customer", 1)
        assert (found.direction, found.mode, found.strategy, found.delete_policy) == (
            Direction.INBOUND,
            SyncMode.MANUAL,
            ConflictStrategy.LAST_WRITE_WINS,
            DeletePolicy.DEACTIVATE,
        )
        assert (found.cron, found.time_zone, found.is_active, found.revision, found.brake_released_at) == (
            None,
            "UTC",
            True,
            1,
            None,
        )
        assert (syncs.option(found, "overlap_seconds"), syncs.option(found, "brake_deletes")) == (60, 0.2)
        assert syncs.get(scope, found.id) == found == syncs.every(scope)[0]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"direction": "both"}, "'both' is no direction; choose inbound, outbound, bidirectional"),
        ({"mode": "cron"}, "'cron' is no mode; choose scheduled, event_driven, manual"),
        ({"strategy": "newest"}, "'newest' is no conflict strategy; choose last_write_wins, source_wins, target_wins, manual"),
        ({"delete_policy": "erase"}, "'erase' is no delete policy; choose propagate, deactivate, ignore"),
        ({"mode": "scheduled"}, "A scheduled sync needs a cron expression"),
        ({"mode": "scheduled", "cron": ""}, "A scheduled sync needs a cron expression"),
        ({"cron": "* * * *"}, "is no cron expression that ever fires: it has five fields"),
        ({"cron": "* * * * * *"}, "is no cron expression"),
        ({"cron": "61 * * * *"}, "is no cron expression"),
        ({"cron": "@daily"}, "is no cron expression"),
        ({"cron": "x" * 5000}, "is no cron expression"),
        ({"cron": "0 0 30 2 *"}, "is no cron expression"),
        ({"time_zone": "Mars/Olympus"}, "There is no time zone 'Mars/Olympus'; name one like Europe/Berlin"),
        ({"time_zone": "../../etc/passwd"}, "There is no time zone"),
        ({"time_zone": ""}, "There is no time zone"),
        (
            {"options": {"overlap": 1}},
            "A sync has no option 'overlap'; there is overlap_seconds, brake_changes, brake_deletes",
        ),
        ({"options": {"overlap_seconds": -1}}, "The option overlap_seconds goes from 0 to 86400"),
        ({"options": {"brake_deletes": 1.1}}, "The option brake_deletes goes from 0 to 1"),
        ({"options": {"brake_deletes": float("nan")}}, "The option brake_deletes goes from 0 to 1"),
        ({"options": {"brake_deletes": True}}, "The option brake_deletes goes from 0 to 1"),
        ({"options": {"brake_deletes": "0.5"}}, "The option brake_deletes goes from 0 to 1"),
        ({"name": ""}, "A sync's name has 1 to 255 characters"),
        ({"name": "x" * 256}, "A sync's name has 1 to 255 characters"),
        ({"connector_id": 999}, "There is no connector 999 in this tenant"),
        ({"mapping_id": 999}, "There is no field mapping 999 in this tenant"),
    ],
)
def test_what_a_sync_cannot_be_is_one_sentence(
    database: Database, tenant: UUID, changed: dict[str, Any], sentence: str
) -> None:
    with database.tenant(tenant) as scope:
        with pytest.raises(ConfigurationError, match=sentence) as refusal:
            made(scope, **changed)
        assert syncs.every(scope) == []
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("cron", ["*/15 * * * *", "0 6 * * 1-5", "0 0 29 2 *", "5,10 0-3 1 jan mon", "0 0 l * *"])
def test_a_cron_expression_of_five_fields_is_taken(database: Database, tenant: UUID, cron: str) -> None:
    with database.tenant(tenant) as scope:
        assert made(scope, mode="scheduled", cron=cron, time_zone="Europe/Berlin").cron == cron


def test_ids_of_another_tenant_are_unknown(database: Database, tenant: UUID) -> None:
    with database.tenant(tenants.create(database, "other")) as scope:
        theirs = made(scope)
    with database.tenant(tenant) as scope:
        for changed in ({"connector_id": theirs.connector_id}, {"mapping_id": theirs.mapping_id}):
            with pytest.raises(ConfigurationError, match="in this tenant"):
                made(scope, **changed)
        for ask in (syncs.get, mappings.get, connectors.get):
            with pytest.raises(ConfigurationError, match="in this tenant"):
                ask(scope, theirs.id)
        with pytest.raises(ConfigurationError, match=f"There is no sync config {theirs.id} in this tenant"):
            syncs.release_brake(scope, theirs.id, "test")


def test_active_syncs_of_all_tenants_are_found_without_one(database: Database, tenant: UUID) -> None:
    other = tenants.create(database, "other")
    with database.tenant(tenant) as scope:
        mine, off, orphan = made(scope), made(scope), made(scope)
        scope.run("UPDATE sync_configurations SET is_active = false WHERE id = :i", i=off.id)
        scope.run("UPDATE sync_configurations SET deleted_at = now() WHERE id = :i", i=orphan.id)
    with database.tenant(other) as scope:
        theirs = made(scope)
    assert syncs.active(database) == [(tenant, mine), (other, theirs)]
    assert (syncs.tenant_of(database, mine.id), syncs.tenant_of(database, theirs.id)) == (tenant, other)
    with database.tenant(other) as scope:
        scope.run("UPDATE connectors SET is_active = false")
    assert syncs.active(database) == [(tenant, mine)]
    with pytest.raises(ConfigurationError, match="There is no sync config 999"):
        syncs.tenant_of(database, 999)


def test_releasing_the_brake_is_audited(database: Database, tenant: UUID) -> None:
    with database.tenant(tenant) as scope:
        found = made(scope)
        syncs.release_brake(scope, found.id, "users/1")
        assert syncs.get(scope, found.id).brake_released_at is not None
        assert scope.run("SELECT actor FROM audit_log WHERE action = 'sync.release_brake'").scalars().all() == ["users/1"]


def test_a_changed_mapping_is_a_new_version_and_the_old_one_stays_as_it_was(database: Database, tenant: UUID) -> None:
    with database.tenant(tenant) as scope:
        first = stored(scope)
        second = stored(scope, mappings=[*RULES, {"constant": True, "target": "active"}])
        assert (first.version, second.version, mappings.get(scope, first.id)) == (1, 2, first)
        active = scope.run("SELECT id FROM field_mappings WHERE is_active").scalars().all()
        assert active == [second.id]


@pytest.mark.parametrize("same", [{}, {"mappings": tuple(RULES)}, {"actor": "somebody else"}])
def test_an_unchanged_mapping_is_the_version_that_stands(database: Database, tenant: UUID, same: dict[str, Any]) -> None:
    with database.tenant(tenant) as scope:
        assert stored(scope, **same) == stored(scope)
        assert scope.run("SELECT count(*) FROM field_mappings").scalar() == 1
        assert scope.run("SELECT count(*) FROM audit_log WHERE action = 'mapping.store'").scalar() == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"target_entity": "vendor"},
        {"transformation_functions": {"on_null": "keep"}},
        {"mappings": [{"target": "name", "source": "Nm"}]},
    ],
)
def test_any_difference_makes_a_version(database: Database, tenant: UUID, changed: dict[str, Any]) -> None:
    with database.tenant(tenant) as scope:
        assert (stored(scope).version, stored(scope, **changed).version, stored(scope).version) == (1, 2, 3)


def test_names_and_tenants_count_apart(database: Database, tenant: UUID) -> None:
    with database.tenant(tenant) as scope:
        assert (stored(scope).version, stored(scope, mapping_name="other").version) == (1, 1)
    with database.tenant(tenants.create(database, "other")) as scope:
        assert stored(scope).version == 1


def test_a_sync_goes_on_with_the_version_it_was_made_with(database: Database, tenant: UUID) -> None:
    with database.tenant(tenant) as scope:
        found = made(scope)
        stored(scope, mappings=[*RULES, {"constant": True, "target": "active"}])
        assert syncs.get(scope, found.id).mapping_version == 1


def test_two_who_store_at_once_make_two_versions(database: Database, tenant: UUID) -> None:
    said: list[int] = []

    def store(name: str) -> None:
        with database.tenant(tenant) as scope:
            said.append(stored(scope, mappings=[{"source": name, "target": "name"}]).version)

    threads = [threading.Thread(target=store, args=(f"Field{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == [1, 2, 3, 4]


def test_a_tenant_has_roles_one_administrator_and_a_key(database: Database, tenant: UUID) -> None:
    with database.tenant(tenant) as scope:
        assert scope.run("SELECT name FROM roles ORDER BY id").scalars().all() == list(tenants.ROLES)
        user = tenants.first_user(scope)
        assert scope.rows("SELECT u.id, r.name FROM users u JOIN roles r ON r.id = u.role_id")[0] == {
            "id": user, "name": "administrator",
        }  # fmt: skip
        scope.run("UPDATE users SET is_active = false")
        with pytest.raises(ConfigurationError, match="no active administrator"):
            tenants.first_user(scope)


def test_a_tenant_is_found_by_name_or_id_or_by_being_the_only_one(database: Database) -> None:
    with pytest.raises(ConfigurationError, match="There is no tenant yet; make one with"):
        tenants.find(database)
    tenant = tenants.create(database, "  acme ")
    assert tenant == tenants.find(database) == tenants.find(database, "acme") == tenants.find(database, str(tenant).upper())
    tenants.create(database, "other")
    with pytest.raises(ConfigurationError, match="There are 2 tenants; say which one with --tenant NAME"):
        tenants.find(database)
    for unknown in ("acm", str(uuid4()), "%"):
        with pytest.raises(ConfigurationError, match="There is no tenant"):
            tenants.find(database, unknown)
        assert tenants.find(database, unknown, required=False) is None


@pytest.mark.parametrize("name", ["acme", " acme", "acme\t"])
def test_a_tenants_name_is_taken_once(database: Database, tenant: UUID, name: str) -> None:
    assert tenant
    with pytest.raises(ConfigurationError, match="There is a tenant 'acme' already"):
        tenants.create(database, name)


@pytest.mark.parametrize("name", ["", "  ", "x" * 256])
def test_a_tenant_needs_a_name(database: Database, name: str) -> None:
    with pytest.raises(ConfigurationError, match="A tenant's name has 1 to 255 characters"):
        tenants.create(database, name)
