"""Reading the ERP: types kept, windows inclusive, pages in order, unknown ids simply missing."""

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import pyarrow as pa
import pytest
import sqlalchemy as sa
from erp_tables import by_id, create, pages, records, reference_erp, version, write

from connector_resources import erp as erp_module
from connector_resources.erp import Erp
from connector_resources.errors import ConfigurationError
from integration_pipelines.store import tenants
from integration_pipelines.store.database import Database

INVOICE = {
    "invoice_number": "00017",
    "status": "draft",
    "currency_code": "EUR",
    "invoice_date": date(2026, 3, 31),
    "total_amount": Decimal("90071992547409.93"),
}


@pytest.fixture
def customer(erp: Erp) -> str:
    return create(erp, "customer", customer_number="007", name="Ada", active=True)


def test_every_type_comes_back_as_it_went(erp: Erp, customer: str) -> None:
    invoice = create(erp, "invoice", customer_id=customer, **INVOICE)
    described = erp.describe("invoice")
    (page,) = erp.read_ids(described, [*INVOICE, "customer_id", "updated_at"], [invoice])
    found = records([page])[invoice]
    assert {name: found[name] for name in INVOICE} == INVOICE
    assert found["customer_id"] == customer
    assert found["updated_at"].tzinfo is not None
    assert pa.array(page.records["total_amount"]).type == pa.decimal128(38, 2)
    assert pa.array(page.records["invoice_date"]).type == pa.date32()
    assert pa.array(page.records["updated_at"]).type == pa.timestamp("us", "UTC")
    assert page.records.index.name == "id"


def test_instants_integers_booleans_and_null_come_back_as_they_went(erp: Erp) -> None:
    moment = datetime(2026, 3, 29, 1, 59, 59, 123456, tzinfo=UTC)
    entry = create(
        erp,
        "journal_entry",
        entry_number="0",
        status="draft",
        entry_date=date(1999, 12, 31),
        currency_code="EUR",
        posted_at=moment,
        reversal=False,
        exchange_rate=Decimal("0.0000000001"),
        description=None,
    )
    account = create(erp, "account", account_number="0010", name="Cash", account_type="asset", active=True)
    line = create(
        erp, "journal_entry_line", journal_entry_id=entry, line_number=2**40, account_id=account, debit=Decimal("-0.01")
    )
    found = by_id(erp, "journal_entry", ["posted_at", "reversal", "exchange_rate", "description", "entry_date"], entry)[entry]
    assert found == {
        "posted_at": moment,
        "reversal": False,
        "exchange_rate": Decimal("1E-10"),
        "description": None,
        "entry_date": date(1999, 12, 31),
    }
    assert by_id(erp, "journal_entry_line", ["line_number", "debit", "credit"], line)[line] == {
        "line_number": 2**40,
        "debit": Decimal("-0.01"),
        "credit": None,
    }


@pytest.mark.parametrize(
    "text", ["00123", " padded ", "", 'quo"ted', "a,b", "line\nbreak\r\n", "\\.", "\\N", "NULL", "ünï 🎉", "100%", "{}", ":x"]
)
def test_text_comes_back_letter_by_letter(erp: Erp, text: str) -> None:
    customer = create(erp, "customer", customer_number="1", name=text, active=True)
    assert by_id(erp, "customer", ["name"], customer)[customer]["name"] == text


def test_null_and_the_empty_text_are_two_things(erp: Erp) -> None:
    customer = create(erp, "customer", customer_number="1", name="x", active=True, email="", phone=None)
    assert by_id(erp, "customer", ["email", "phone"], customer)[customer] == {"email": "", "phone": None}


def test_a_window_begins_at_its_instant_and_not_after_it(erp: Erp, customer: str) -> None:
    later = create(erp, "customer", customer_number="008", name="Bob", active=True)
    moments = {record: found["updated_at"] for record, found in records(pages(erp, "customer", ["updated_at"])).items()}
    assert list(moments) == [customer, later]
    assert list(records(pages(erp, "customer", [], since=moments[later]))) == [later]
    assert list(records(pages(erp, "customer", [], since=moments[customer]))) == [customer, later]
    assert pages(erp, "customer", [], since=datetime(2999, 1, 1, tzinfo=UTC)) == []


def test_pages_ascend_and_hold_each_record_once(erp: Erp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erp_module, "PAGE", 4)
    ids = erp.new_ids(erp.describe("customer"), 10)
    write(
        erp,
        "customer",
        *(("create", i, None, {"customer_number": str(n), "name": "x", "active": True}) for n, i in enumerate(ids)),
    )
    found = pages(erp, "customer", ["updated_at"])
    assert [len(page.records) for page in found] == [4, 4, 2]
    moments = [moment for page in found for moment in pa.array(page.marks["modified"]).to_pylist()]
    assert moments == sorted(moments)
    assert sorted(records(found)) == sorted(ids)
    assert sorted(by_id(erp, "customer", [], *ids)) == sorted(ids)


def test_marks_tell_version_and_modification(erp: Erp, customer: str) -> None:
    (page,) = pages(erp, "customer", ["updated_at"])
    assert list(page.marks.columns) == ["version", "modified", "deleted", "merged_into"]
    assert page.marks["version"].iloc[0] == version(erp, "customer", customer)
    assert pa.array(page.marks["modified"]).to_pylist() == pa.array(page.records["updated_at"]).to_pylist()
    assert page.absent is None


@pytest.mark.parametrize(
    "unknown", ["5e1b6d2c-0f3a-4c55-9d0e-2f6f2a6f7b10", "abc", "", "7", "00000000-0000-0000-0000-00000000000g", "' OR true --"]
)
def test_an_id_that_nobody_knows_is_missing(erp: Erp, customer: str, unknown: str) -> None:
    assert list(by_id(erp, "customer", ["name"], unknown, customer)) == [customer]


def test_reading_inside_a_transaction_leaves_it_usable(database: Database, tenant: UUID, erp: Erp, customer: str) -> None:
    with database.tenant(tenant) as scope:
        inside = erp.within(scope.connection)
        assert list(records(pages(inside, "customer", ["name"]))) == [customer]
        assert write(inside, "customer", ("update", customer, None, {"name": "Eve"}))[0]["outcome"] == "done"
        assert scope.rows("SELECT name FROM erp.customer")[0]["name"] == "Eve"
    assert by_id(erp, "customer", ["name"], customer)[customer]["name"] == "Eve"


def test_another_tenants_records_are_not_read(database: Database, erp: Erp, customer: str) -> None:
    other = reference_erp(database, tenants.create(database, "other"))
    assert list(records(pages(erp, "customer", ["name"]))) == [customer]
    assert pages(other, "customer", ["name"]) == []
    assert by_id(other, "customer", ["name"], customer) == {}


def test_a_field_that_is_not_there_is_named(erp: Erp) -> None:
    with pytest.raises(
        ConfigurationError, match=r"The ERP's customer \(module sales\) has no field 'emial'; did you mean 'email'\?"
    ):
        pages(erp, "customer", ["emial"])


def test_an_entity_that_is_not_there_is_named(erp: Erp) -> None:
    with pytest.raises(ConfigurationError, match=r"The ERP has no entity 'custmer'; did you mean 'customer'\?"):
        erp.describe("custmer")
    assert "customer" in erp.entities()


def test_a_table_that_was_never_made_is_named(database: Database, erp: Erp) -> None:
    owner = sa.create_engine(sa.make_url(database.url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    with owner.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE erp.customer RENAME COLUMN id TO other")
    with pytest.raises(ConfigurationError, match=r'The ERP has no column id in "erp"\."customer".*run `integration migrate`'):
        by_id(erp, "customer", [], str(uuid4()))


def test_the_connection_test_tells_who_we_are(erp: Erp) -> None:
    assert erp.test().account == "integration_app"
