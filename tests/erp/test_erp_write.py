"""Writing to the ERP: what was asked for and nothing else; a record that is refused is refused alone."""

from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from erp_tables import Row, by_id, changes, create, pages, records, reference_erp, version, write

from connector_resources.erp import Erp
from connector_resources.errors import ConfigurationError
from integration_pipelines.store import tenants
from integration_pipelines.store.database import Database


@pytest.fixture
def customer(erp: Erp) -> str:
    return create(erp, "customer", customer_number="007", name="Ada", phone="1", email="a@b", active=True)


def customers(erp: Erp, count: int) -> list[Row]:
    ids = erp.new_ids(erp.describe("customer"), count)
    return [
        ("create", record, None, {"customer_number": f"N{n}", "name": f"canary {n}", "active": True})
        for n, record in enumerate(ids)
    ]


def outcomes(found: list[dict[str, object]]) -> list[object]:
    return [row["outcome"] for row in found]


def test_a_create_answers_with_the_id_and_the_version_that_a_read_shows(erp: Erp) -> None:
    (row,) = customers(erp, 1)
    (outcome,) = write(erp, "customer", row)
    assert outcome == {"outcome": "done", "id": row[1], "version": version(erp, "customer", str(row[1])), "message": ""}


def test_an_update_writes_the_fields_it_names_and_leaves_the_others(erp: Erp, customer: str) -> None:
    other = create(erp, "customer", customer_number="008", name="Bob", phone="2", email="b@b", active=True)
    write(erp, "customer", ("update", customer, None, {"phone": None}), ("update", other, None, {"email": "c@b"}))
    assert by_id(erp, "customer", ["name", "phone", "email"], customer, other) == {
        customer: {"name": "Ada", "phone": None, "email": "a@b"},
        other: {"name": "Bob", "phone": "2", "email": "c@b"},
    }


def test_creates_that_name_different_fields_take_the_columns_defaults_for_the_others(erp: Erp) -> None:
    one, two = erp.new_ids(erp.describe("customer"), 2)
    write(
        erp,
        "customer",
        ("create", one, None, {"customer_number": "1", "name": "x"}),
        ("create", two, None, {"customer_number": "2", "name": "y", "active": False, "phone": "3"}),
    )
    assert by_id(erp, "customer", ["active", "phone"], one, two) == {
        one: {"active": True, "phone": None},
        two: {"active": False, "phone": "3"},
    }


def test_a_delete_deletes_and_a_second_one_finds_nothing(erp: Erp, customer: str) -> None:
    assert write(erp, "customer", ("delete", customer, None, {}))[0] == {
        "outcome": "done", "id": customer, "version": None, "message": "",
    }  # fmt: skip
    assert pages(erp, "customer", []) == []
    assert outcomes(write(erp, "customer", ("delete", customer, None, {}))) == ["moved"]


@pytest.mark.parametrize("action", ["update", "delete"])
def test_a_record_that_somebody_changed_in_between_is_moved_and_not_overwritten(
    erp: Erp, database: Database, tenant: UUID, customer: str, action: str
) -> None:
    seen = version(erp, "customer", customer)
    with database.tenant(tenant) as scope:
        scope.run("UPDATE erp.customer SET phone = 'theirs'")
    (outcome,) = write(erp, "customer", (action, customer, seen, {"phone": "ours"} if action == "update" else {}))
    assert (outcome["outcome"], outcome["version"]) == ("moved", None)
    assert by_id(erp, "customer", ["phone"], customer)[customer]["phone"] == "theirs"
    now = version(erp, "customer", customer)
    (outcome,) = write(erp, "customer", ("update", customer, now, {"phone": "ours"}))
    assert (outcome["outcome"], outcome["version"]) == ("done", version(erp, "customer", customer))


def test_an_update_that_writes_nothing_still_compares_the_version(erp: Erp, customer: str) -> None:
    seen = version(erp, "customer", customer)
    (outcome,) = write(erp, "customer", ("update", customer, seen, {}))
    assert (outcome["outcome"], outcome["version"]) == ("done", seen)
    assert outcomes(write(erp, "customer", ("update", customer, "1", {}))) == ["moved"]


def test_a_record_that_is_gone_is_moved(erp: Erp) -> None:
    assert outcomes(write(erp, "customer", ("update", str(uuid4()), None, {"name": "x"}))) == ["moved"]


def test_another_tenants_record_cannot_be_written(erp: Erp, database: Database, customer: str) -> None:
    other = reference_erp(database, tenants.create(database, "other"))
    assert outcomes(write(other, "customer", ("update", customer, None, {"name": "x"}))) == ["moved"]
    assert outcomes(write(other, "customer", ("delete", customer, None, {}))) == ["moved"]
    assert by_id(erp, "customer", ["name"], customer)[customer]["name"] == "Ada"


BAD: dict[str, tuple[dict[str, object], str]] = {
    "a number that is taken": ({"customer_number": "007"}, "has the same value (customer_customer_number_key)"),
    "a text that is too long": ({"name": "canary" * 100}, "a text is too long"),
    "a value that is missing": ({"name": None}, "a value is missing (name)"),
    "a character that no text may hold": ({"name": "can\x00ary"}, "SQLSTATE 22021"),
}


@pytest.mark.parametrize(("values", "reason"), BAD.values(), ids=BAD)
@pytest.mark.usefixtures("customer")
def test_one_bad_record_is_refused_alone_and_the_other_999_are_written(
    erp: Erp, values: dict[str, object], reason: str
) -> None:
    rows = customers(erp, 1000)
    rows[617][3].update(values)
    found = write(erp, "customer", *rows)
    assert [n for n, row in enumerate(found) if row["outcome"] != "done"] == [617]
    assert found[617]["outcome"] == "refused"
    assert found[617]["version"] is None
    assert str(found[617]["message"]).startswith("The ERP refuses this customer: ")
    assert reason in str(found[617]["message"])
    assert "canary" not in str(found[617]["message"])
    assert len(records(pages(erp, "customer", []))) == 1 + 999
    assert all(row["version"] for n, row in enumerate(found) if n != 617)


@pytest.mark.parametrize("parent", ["5e1b6d2c-0f3a-4c55-9d0e-2f6f2a6f7b10", "canary-no-uuid"])
def test_a_record_whose_parent_is_missing_is_refused_alone(erp: Erp, customer: str, parent: str) -> None:
    ids = erp.new_ids(erp.describe("contact_person"), 3)
    parents = [customer, parent, customer]
    rows: list[Row] = [
        ("create", i, None, {"last_name": "x", "active": True, "customer_id": c}) for i, c in zip(ids, parents, strict=True)
    ]
    found = write(erp, "contact_person", *rows)
    assert outcomes(found) == ["done", "refused", "done"]
    assert "canary" not in str(found[1]["message"])
    assert ("contact_person_customer_id_fkey" in str(found[1]["message"])) == (parent != "canary-no-uuid")


def test_two_records_of_one_batch_with_the_same_number_leave_one(erp: Erp) -> None:
    rows = customers(erp, 5)
    rows[3][3].update(customer_number="N1", phone="7")  # another set of fields, another statement
    found = write(erp, "customer", *rows)
    assert sorted(map(str, outcomes(found))) == ["done"] * 4 + ["refused"]
    assert len(records(pages(erp, "customer", []))) == 4


def test_a_refused_update_leaves_the_record_and_its_neighbours_are_written(erp: Erp, customer: str) -> None:
    other = create(erp, "customer", customer_number="008", name="Bob", active=True)
    found = write(
        erp, "customer", ("update", customer, None, {"customer_number": "008"}), ("update", other, None, {"name": "Bea"})
    )
    assert outcomes(found) == ["refused", "done"]
    assert by_id(erp, "customer", ["customer_number"], customer)[customer]["customer_number"] == "007"


def test_a_parent_that_is_still_referred_to_cannot_be_deleted(erp: Erp, customer: str) -> None:
    create(erp, "contact_person", last_name="x", active=True, customer_id=customer)
    (outcome,) = write(erp, "customer", ("delete", customer, None, {}))
    assert outcome["outcome"] == "refused"
    assert "another record of the ERP still refers to it" in outcome["message"]


def test_a_batch_may_hold_all_three_actions(erp: Erp, customer: str) -> None:
    other = create(erp, "customer", customer_number="008", name="Bob", active=True)
    (fresh,) = erp.new_ids(erp.describe("customer"), 1)
    found = write(
        erp,
        "customer",
        ("create", fresh, None, {"customer_number": "007", "name": "takes the number over", "active": True}),
        ("update", other, None, {"name": "Bea"}),
        ("delete", customer, None, {}),
    )
    assert outcomes(found) == ["done", "done", "done"]
    assert sorted(r["name"] for r in records(pages(erp, "customer", ["name"])).values()) == ["Bea", "takes the number over"]


def test_a_failure_that_is_no_records_fault_stops_the_batch(erp: Erp, database: Database) -> None:
    owner = sa.create_engine(sa.make_url(database.url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    with owner.begin() as connection:
        connection.exec_driver_sql("REVOKE INSERT ON erp.customer FROM integration_app")
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        write(erp, "customer", *customers(erp, 3))


def test_a_field_that_the_entity_lacks_is_named(erp: Erp) -> None:
    described = erp.describe("customer")
    made = changes(described, [("create", str(uuid4()), None, {"name": "x"})])
    made.records = made.records.rename(columns={"name": "nome"})
    made.written = made.written.rename(columns={"name": "nome"})
    with pytest.raises(ConfigurationError, match="The ERP's customer has no field 'nome'"):
        erp.write(described, made)


def test_new_ids_are_uuids_and_never_the_same(erp: Erp) -> None:
    ids = erp.new_ids(erp.describe("customer"), 100)
    assert len({UUID(i) for i in ids}) == 100
    assert erp.new_ids(erp.describe("customer"), 0) == []
