"""A stock client, unchanged: simple-salesforce."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from connector_resources.sandbox import Sandbox

simple_salesforce = pytest.importorskip("simple_salesforce", reason="simple-salesforce is a development dependency")


@pytest.fixture
def org(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tls=True, home=tmp_path, accounts=30, contacts=4500) as running:  # the client always speaks https
        yield running


@pytest.fixture
def client(org: Sandbox) -> Iterator[Any]:
    with requests.Session() as session:
        session.verify = str(org.ca_file)
        session.trust_env = False
        token = org.state.open_session()
        yield simple_salesforce.Salesforce(instance_url=org.url, session_id=token, session=session)


def test_queries(client: Any) -> None:
    assert client.query("SELECT count() FROM Contact")["totalSize"] == 4500
    first = client.query("SELECT Id, Account.Name FROM Contact")
    assert (len(first["records"]), first["done"]) == (2000, False)
    second = client.query_more(first["nextRecordsUrl"], identifier_is_url=True)
    assert len(second["records"]) == 2000
    assert len({record["Id"] for record in client.query_all_iter("SELECT Id FROM Contact")}) == 4500
    assert len(client.query_all("SELECT Id FROM Contact")["records"]) == 4500
    with pytest.raises(simple_salesforce.SalesforceMalformedRequest, match="MALFORMED_QUERY"):
        client.query("SELECT FROM")


def test_records(client: Any) -> None:
    made = client.Account.create({"Name": "Made"})
    assert made["success"]
    assert client.Account.update(made["id"], {"Phone": "1"}) == 204
    assert client.Account.get(made["id"])["Phone"] == "1"
    assert client.Account.upsert("ERP_Id__c/C-1", {"Name": "Upserted"}) == 201
    assert client.Account.upsert("ERP_Id__c/C-1", {"Name": "Again"}) == 200
    assert client.Account.get_by_custom_id("ERP_Id__c", "C-1")["Name"] == "Again"
    assert client.Account.delete(made["id"]) == 204
    with pytest.raises(simple_salesforce.SalesforceResourceNotFound):
        client.Account.get(made["id"])
    [deleted] = client.query(f"SELECT IsDeleted FROM Account WHERE Id = '{made['id']}'", include_deleted=True)["records"]
    assert deleted["IsDeleted"]


def test_bulk_reads_and_writes(org: Sandbox, client: Any) -> None:
    rows = [{"Name": f"Bulk {number}", "ERP_Id__c": f"B-{number}"} for number in range(450)]
    [inserted] = client.bulk2.Account.insert(records=rows, wait=0)
    assert (inserted["numberRecordsProcessed"], inserted["numberRecordsFailed"]) == (450, 0)
    changes = [*({"Phone": "#N/A", **row} for row in rows[:2]), {"Phone": "", "Name": "", "ERP_Id__c": "B-new"}]
    [upserted] = client.bulk2.Account.upsert(records=changes, external_id_field="ERP_Id__c", wait=0)
    assert upserted["numberRecordsFailed"] == 1
    results = client.bulk2.Account.get_all_ingest_records(upserted["job_id"])
    assert [row["sf__Error"] for row in results["failedRecords"]] == [
        "REQUIRED_FIELD_MISSING:Required fields are missing: [Name]:Name --"
    ]
    assert sorted((row["ERP_Id__c"], row["sf__Created"]) for row in results["successfulRecords"]) == [
        ("B-0", "false"),
        ("B-1", "false"),
    ]
    question = "SELECT Id, Name, AnnualRevenue, Owner.Name FROM Account WHERE ERP_Id__c LIKE 'B-%'"
    pages = list(client.bulk2.Account.query(question, max_records=200, wait=0))
    assert [page.count("\n") for page in pages] == [201, 201, 51]  # each page has a header
    ids = [{"Id": line.split(",")[0].strip('"')} for page in pages for line in page.splitlines()[1:]]
    [deleted] = client.bulk2.Account.delete(records=ids, wait=0)
    assert (deleted["numberRecordsProcessed"], deleted["numberRecordsFailed"]) == (450, 0)
    assert client.query("SELECT count() FROM Account WHERE ERP_Id__c LIKE 'B-%'")["totalSize"] == 0
    with pytest.raises(simple_salesforce.SalesforceMalformedRequest, match="FEATURENOTENABLED"):
        client.bulk2.Account.hard_delete(records=[{"Id": ids[0]["Id"]}], wait=0)
    assert len(org.state.jobs) == 4


def test_descriptions_limits_and_changes(client: Any) -> None:
    assert {"Account", "Contact"} <= {entry["name"] for entry in client.describe()["sobjects"]}
    assert client.Account.describe()["name"] == "Account"
    assert client.Account.metadata()["objectDescribe"]["keyPrefix"] == "001"
    assert client.limits()["DailyApiRequests"]["Max"] == 100_000
    assert client.api_usage["api-usage"].total == 100_000
    made = client.Account.create({"Name": "Made"})["id"]
    now = datetime.now(UTC)
    stretch = (now - timedelta(hours=1), now + timedelta(minutes=2))
    assert client.Account.updated(*stretch)["ids"] == [made]
    client.Account.delete(made)
    assert [entry["id"] for entry in client.Account.deleted(*stretch)["deletedRecords"]] == [made]


def test_an_ended_session_is_told_from_other_errors(org: Sandbox, client: Any) -> None:
    org.state.revoke_tokens()
    with pytest.raises(simple_salesforce.SalesforceExpiredSession):
        client.limits()
