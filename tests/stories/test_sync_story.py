"""Salesforce accounts and contacts become customers and contact persons, through real Dagster runs and real HTTP."""

import hashlib
import json
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import dagster as dg
from office import Office

from integration_pipelines.store import ledger


def test_the_first_run_creates_everything_and_the_second_writes_nothing(office: Office) -> None:
    assert office.run("Account").success
    assert office.run("Contact").success
    assert office.customers() == 60
    linked = office.rows("SELECT count(*) FROM erp.contact_person p JOIN erp.customer c ON c.id = p.customer_id")[0]["count"]
    with_account = sum(1 for contact in office.sandbox.state.records["Contact"].values() if contact.get("AccountId"))
    assert linked == with_account > 0
    calls = len(office.sandbox.requests)
    office.run("Account")
    row = office.last()
    assert (row["sync_status"], row["records_succeeded"]) == ("completed", 0)
    assert row["records_processed"] == row["records_skipped"]
    assert len(office.sandbox.requests) - calls <= 4  # token, versions, describe, one query


def test_values_arrive_as_they_are(office: Office) -> None:
    (record,) = office.sandbox.state.insert(
        "Account",
        [
            {
                "Name": "Ünïcode & Söhne",
                "AccountNumber": "00042",
                "AnnualRevenue": 1234567.89,
                "NumberOfEmployees": 7,
                "BillingCountry": "Germany",
                "BillingPostalCode": "01067",
                "Phone": "0351 4910-0",
            }
        ],
    )
    office.run()
    (row,) = office.rows(
        """SELECT c.* FROM erp.customer c JOIN identity_links l ON l.erp_id = CAST(c.id AS text)
           WHERE l.external_id = :id""",
        id=record,
    )
    assert (row["name"], row["customer_number"], row["annual_revenue"]) == ("Ünïcode & Söhne", "00042", Decimal("1234567.89"))
    assert (row["billing_country_code"], row["billing_postal_code"], row["phone"]) == ("DE", "01067", "+4935149100")


def test_a_run_leaves_history_journal_and_events_that_agree(office: Office) -> None:
    finished = office.run()
    row = office.last()
    assert row["run_id"] == finished.run_id
    assert (row["records_processed"], row["records_succeeded"], row["attempt_number"]) == (60, 60, 1)
    assert row["execution_time_ms"] > 0
    assert row["data_snapshot_before"] == {"records": {}, "sha256": None}
    assert row["data_snapshot_after"]["records"] == {"create": 60}
    digests = office.rows("SELECT digest FROM sync_record_changes ORDER BY side, record_id, changed_at")
    assert row["data_snapshot_after"]["sha256"] == hashlib.sha256(b"".join(bytes(d["digest"]) for d in digests)).hexdigest()
    events = office.rows("SELECT event_id, event_name, payload FROM outbox ORDER BY id")
    assert [event["event_name"] for event in events] == ["SyncStartedEvent", "SyncCompletedEvent"]
    with office.database.tenant(office.tenant) as scope:
        started, completed = (
            json.loads(scope.vault.open(bytes(e["payload"]), "outbox", str(e["event_id"]), "payload")) for e in events
        )
        erp_id = office.rows("SELECT erp_id FROM identity_links LIMIT 1")[0]["erp_id"]
        story = ledger.story(scope, "customer", erp_id)
    assert (started["direction"], started["config"]["id"]) == ("inbound", office.syncs["Account"].id)
    assert (completed["records_processed"], completed["records_succeeded"], completed["records_failed"]) == (60, 60, 0)
    assert completed["history"]["sync_status"] == "completed"
    assert [(told["action"], told["before"]) for told in story] == [("create", None)]
    assert story[0]["after"]["name"]
    assert office.rows("SELECT count(*) FROM staged_batches") == [{"count": 0}]
    assert office.rows("SELECT action FROM audit_log ORDER BY id DESC LIMIT 1") == [{"action": "sync.transfer"}]


def test_dagster_shows_counts_and_a_preview_without_personal_values(office: Office) -> None:
    finished = office.run()
    told: dict[str, dict[str, Any]] = defaultdict(dict)
    for record in office.instance.all_logs(str(finished.run_id)):
        event = record.dagster_event
        if event is None or event.step_key is None:
            continue
        if event.event_type == dg.DagsterEventType.HANDLED_OUTPUT:
            told[event.step_key].update(getattr(event.event_specific_data, "metadata", {}))
        elif event.event_type == dg.DagsterEventType.STEP_OUTPUT:
            told[event.step_key].update(event.step_output_data.metadata)
    outputs = {step: {name: value.value for name, value in found.items()} for step, found in told.items()}
    assert set(outputs) == {"extract", "validate", "map", "resolve", "load"}
    assert outputs["extract"]["records"] == 60
    assert outputs["load"]["created"] == 60
    preview = outputs["map"]["preview (personal fields masked)"]
    assert "•••" in preview
    names = {account["Name"] for account in office.sandbox.state.records["Account"].values()}
    assert not [name for name in names if name in preview]


def test_three_thousand_records_of_one_instant_arrive_exactly_once(office: Office) -> None:
    state = office.sandbox.state
    state.insert("Account", [{"Name": f"Twin {number}"} for number in range(3000)])
    moment = datetime(2026, 5, 1, 12, tzinfo=UTC)
    state.stamp("Account", list(state.records["Account"]), moment)
    office.run()
    assert office.last()["records_succeeded"] == 3060
    office.run()
    assert (office.customers(), office.last()["records_succeeded"]) == (3060, 0)
    assert office.rows("SELECT count(*) FROM identity_links") == [{"count": 3060}]


def test_changes_and_deletions_follow(office: Office) -> None:
    office.run()
    state = office.sandbox.state
    first, second = list(state.records["Account"])[:2]
    state.update("Account", {first: {"Name": "Renamed"}})
    state.delete("Account", [second])
    office.run()
    row = office.last()
    assert (row["records_succeeded"], row["data_snapshot_after"]["records"]) == (2, {"update": 1, "delete": 1})
    names = office.rows("SELECT name FROM erp.customer WHERE NOT active OR name = 'Renamed'")
    assert len(names) == 2
