"""ERP records in Salesforce: real runs, real HTTP, answers that get lost."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from administrator import Org
from office import Office, furnish

from connector_resources.salesforce.api import Api
from connector_resources.sandbox import Sandbox
from integration_pipelines.orchestration.launch import plan
from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database

ROOT = Path(__file__).parents[2]
KEYS = {"external_ids": {"Account": "ERP_Id__c", "Contact": "ERP_Id__c"}}


@pytest.fixture
def both(settings: Settings, database: Database, sandbox: Sandbox, instance: dg.DagsterInstance) -> Office:
    """The seed syncs in both directions, run once: Salesforce's records are in the ERP."""
    made = furnish(settings, database, sandbox, instance, configuration=KEYS, direction="bidirectional")
    assert made.run("Account").success
    assert made.run("Contact").success
    return made


@pytest.fixture
def org(sandbox: Sandbox) -> Iterator[Org]:
    made = Org(sandbox)
    yield made
    made.client.close()


def numbered(number: str) -> str:
    return (
        "SELECT Id, Name, Phone, BillingCountry, BillingCity, AnnualRevenue, Website FROM Account "
        f"WHERE AccountNumber = '{number}'"
    )


def insert(office: Office, number: str, name: str = "Made in the ERP") -> None:
    office.change(
        "INSERT INTO erp.customer (name, customer_number, phone, billing_country_code, annual_revenue) "
        "VALUES (:name, :number, '+4973112345', 'DE', 1234567890123.45)",
        name=name,
        number=number,
    )


def test_the_first_bidirectional_run_writes_nothing_to_salesforce(both: Office) -> None:
    assert both.last()["records_failed"] == 0
    assert both.rows("SELECT count(*) FROM sync_record_changes WHERE side = 'external'") == [{"count": 0}]
    assert both.last()["erp_position"].isdigit()
    assert both.run("Account").success
    assert (both.last()["records_succeeded"], both.last()["records_failed"]) == (0, 0)


def test_customers_and_their_contacts_become_accounts_and_contacts(both: Office, org: Org) -> None:
    insert(both, "E-0007")
    (customer,) = both.rows("SELECT id FROM erp.customer WHERE customer_number = 'E-0007'")
    both.change(
        "INSERT INTO erp.contact_person (customer_id, last_name, email, birth_date) "
        "VALUES (:c, 'Ärger', 'x@example.org', '1980-02-29')",
        c=customer["id"],
    )
    assert both.run("Account").success
    assert both.run("Contact").success
    (account,) = org.find(numbered("E-0007"))
    assert (account["Name"], account["Phone"], account["BillingCountry"]) == ("Made in the ERP", "+4973112345", "Germany")
    assert account["AnnualRevenue"] == Decimal("1234567890123.45")
    (contact,) = org.find("SELECT AccountId, LastName, Birthdate FROM Contact WHERE Email = 'x@example.org'")
    assert (contact["AccountId"], contact["LastName"], contact["Birthdate"]) == (account["Id"], "Ärger", "1980-02-29")
    for entity in ("Account", "Contact"):
        assert both.run(entity).success
        assert (both.last()["records_succeeded"], both.last()["records_failed"]) == (0, 0)


def test_a_plan_tells_which_side_it_would_write_and_writes_nothing(both: Office, org: Org) -> None:
    insert(both, "E-0007")
    (customer,) = both.rows("SELECT id FROM erp.customer WHERE customer_number = 'E-0007'")
    found = plan(both.settings, both.syncs["Account"].id)
    (change,) = found.changes
    assert (change["change"], change["in"], change["ERP id"]) == ("create", "external", str(customer["id"]))
    assert "phone" in change["fields"]
    assert org.find(numbered("E-0007")) == []
    assert both.rows("SELECT id FROM write_intents") == []


@pytest.mark.parametrize("kind", ["lose", "drop", "cut"])
def test_an_answer_that_is_lost_makes_no_second_account(both: Office, sandbox: Sandbox, org: Org, kind: Any) -> None:
    insert(both, "E-0007")
    fault = sandbox.faults.add(kind, path="/composite$", method="POST", times=1)
    assert both.run("Account").success
    assert fault.fired == 1
    assert len(org.find(numbered("E-0007"))) == 1
    assert both.last()["records_failed"] == 0


def test_an_edit_on_each_side_survives(both: Office, org: Org) -> None:
    (pair,) = both.rows("SELECT external_id, erp_id FROM identity_links WHERE external_entity = 'Account' ORDER BY id LIMIT 1")
    both.change("UPDATE erp.customer SET website = 'https://erp.example' WHERE id = CAST(:id AS uuid)", id=pair["erp_id"])
    org.edit(pair["external_id"], BillingCity="Ulm")
    assert both.run("Account").success
    (account,) = org.find(f"SELECT Website, BillingCity FROM Account WHERE Id = '{pair['external_id']}'")
    assert (account["Website"], account["BillingCity"]) == ("https://erp.example", "Ulm")
    (customer,) = both.rows("SELECT website, billing_city FROM erp.customer WHERE id = CAST(:id AS uuid)", id=pair["erp_id"])
    assert customer == {"website": "https://erp.example", "billing_city": "Ulm"}
    assert both.run("Account").success
    assert both.last()["records_succeeded"] == 0


def test_an_edit_in_the_very_second_of_our_write_is_not_taken_for_ours(
    both: Office, sandbox: Sandbox, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Salesforce's versions count whole seconds: it has the version that our write has left."""
    (pair,) = both.rows("SELECT external_id, erp_id FROM identity_links WHERE external_entity = 'Account' ORDER BY id LIMIT 1")
    both.change("UPDATE erp.customer SET website = 'https://erp.example' WHERE id = CAST(:id AS uuid)", id=pair["erp_id"])
    sandbox.state.whole_seconds = True
    send, theirs = Api.send, {"Website": "https://theirs.example", "LastModifiedById": "005000000000009AAA"}

    def edited_at_once(self: Api, method: str, path: str, *rest: Any, **named: Any) -> Any:
        answer = send(self, method, path, *rest, **named)
        if path == "composite":
            sandbox.state.update("Account", {pair["external_id"]: theirs})
            sandbox.state.records["Account"][pair["external_id"]] |= theirs
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(Api, "send", edited_at_once)
        assert both.run("Account").success
    assert both.run("Account").success
    (customer,) = both.rows("SELECT website FROM erp.customer WHERE id = CAST(:id AS uuid)", id=pair["erp_id"])
    (account,) = org.find(f"SELECT Website FROM Account WHERE Id = '{pair['external_id']}'")
    assert customer["website"] == account["Website"] == "https://theirs.example"


def test_kill_9_between_a_write_and_its_answer_makes_nothing_twice(both: Office, sandbox: Sandbox, org: Org) -> None:
    both.change(
        "INSERT INTO erp.customer (name, customer_number) SELECT 'Many ' || n, 'K-' || n FROM generate_series(1, 450) AS n"
    )
    sandbox.faults.add("hold", path="/composite$", method="POST", after=1, seconds=3.0)
    before = sum("composite" in request.target for request in sandbox.requests)
    command = [sys.executable, "-m", "integration_pipelines", "sync", "run", str(both.syncs["Account"].id)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while sum("composite" in request.target for request in sandbox.requests) < before + 2:
            assert time.monotonic() < end, "the second call was never made"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert len(org.find("SELECT Id FROM Account WHERE AccountNumber LIKE 'K-%'")) in range(200, 451)
    assert both.run("Account").success
    found = org.find("SELECT AccountNumber FROM Account WHERE AccountNumber LIKE 'K-%'")
    assert sorted(one["AccountNumber"] for one in found) == sorted(f"K-{n}" for n in range(1, 451))
    last = both.last()
    assert (last["records_failed"], last["records_processed"]) == (0, last["records_succeeded"] + last["records_skipped"])
    assert last["records_succeeded"] == 450
    assert both.run("Account").success
    assert both.last()["records_succeeded"] == 0


def test_products_and_items_are_kept_in_step(
    settings: Settings, database: Database, sandbox: Sandbox, instance: dg.DagsterInstance, org: Org
) -> None:
    text = (resources.files("mappings") / "salesforce" / "product2-item.yaml").read_text("utf-8")
    keys = {"external_ids": {"Product2": "ERP_Id__c"}}
    made = furnish(
        settings, database, sandbox, instance, mappings_={"Product2": text}, configuration=keys, direction="bidirectional"
    )
    assert made.run("Product2").success
    count = len(org.find("SELECT Id FROM Product2"))
    assert count > 0
    assert len(made.rows("SELECT 1 FROM erp.item")) + made.last()["records_failed"] == count
    made.change("INSERT INTO erp.item (item_number, name, item_type, category) VALUES ('E-1', 'Hose', 'goods', 'Spare Parts')")
    made.change("UPDATE erp.item SET active = false WHERE item_number = (SELECT max(item_number) FROM erp.item WHERE active)")
    assert made.run("Product2").success
    (hose,) = org.find("SELECT Name, Family, IsActive FROM Product2 WHERE ProductCode = 'E-1'")
    assert (hose["Name"], hose["Family"], hose["IsActive"]) == ("Hose", "Spare Parts", True)
    assert len(org.find("SELECT Id FROM Product2 WHERE IsActive = false")) == len(
        made.rows("SELECT 1 FROM erp.item WHERE NOT active")
    )
    assert made.run("Product2").success
    assert made.last()["records_succeeded"] == 0
