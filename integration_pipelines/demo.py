"""`integration demo`: a Salesforce sandbox and the reference ERP, three rounds in and one out, every number checked.

Everything is real but the org: real HTTP and OAuth, a real PostgreSQL, real Dagster runs. It uses a home of its own and
nothing of the environment's settings.
"""

import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg
import httpx

from connector_resources.errors import ConfigurationError
from connector_resources.sandbox import Sandbox
from integration_pipelines import cli_output
from integration_pipelines.cli_connector import store_mapping
from integration_pipelines.cli_sync import progress
from integration_pipelines.orchestration.launch import dagster_instance, run_now
from integration_pipelines.settings import VARIABLES, Settings, load
from integration_pipelines.store import connectors, history, ledger, links, syncs, tenants
from integration_pipelines.store.database import Database
from integration_pipelines.store.installation import Installation, migrate_all, open_installation
from integration_pipelines.store.syncs import SyncConfig
from integration_pipelines.up import require_free, up

_MARK = "made-by-integration-demo"
_SEEDS = {"Accounts": "account-customer", "Contacts": "contact-contact_person"}
_CHANGED = 10


@dataclass
class Stage:
    """What the demo plays on."""

    sandbox: Sandbox
    database: Database
    instance: dg.DagsterInstance
    tenant: UUID
    syncs: Sequence[SyncConfig]
    outbound: Sequence[SyncConfig]


def run_demo(settings: Settings, *, accounts: int, contacts: int, keep: bool, port: int) -> bool:
    """True when every number is what it must be. Raises ConfigurationError when it cannot start."""
    for name in VARIABLES:
        os.environ.pop(name, None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if keep:
        require_free("127.0.0.1", port)
    home = _fresh_home(settings.home / "demo")
    say = cli_output.console().print
    with ExitStack() as opened:
        sandbox = opened.enter_context(Sandbox(accounts=accounts, contacts=contacts))
        say(f"Salesforce sandbox with {accounts:,} accounts and {contacts:,} contacts at {sandbox.url}")
        installation = opened.enter_context(open_installation(load({"INTEGRATION_HOME": str(home)})))
        migrate_all(installation)
        say(f"PostgreSQL and the reference ERP under {home}")
        stage = _set(opened, sandbox, installation)
        first = _round(stage, "1. Everything is new")
        second = _round(stage, "2. Nothing has changed")
        story = _change_the_org(stage)
        third = _round(stage, f"3. {_CHANGED} accounts changed, one deleted, in Salesforce")
        _change_the_erp(stage, story)
        fourth = _round(stage, "4. One customer is new in the ERP, another one has a new website", stage.outbound)
        _tell_story(stage, story)
        problems = [
            *_expect(first, "first", [(accounts, 0, 0, accounts, 0, 0), (contacts, 0, 0, contacts, 0, 0)]),
            *_expect(second, "second", [(0, 0, None, 0, 0, 0)] * 2),
            *_expect(third, "third", [(_CHANGED + 1, 0, None, 0, _CHANGED, 1), (0, 0, None, 0, 0, 0)]),
            *_expect(fourth, "fourth", [(2, 0, None, 1, 1, 0)]),
            *_arrived(stage, story),
        ]
        for problem in problems:
            say(f"[red]{problem}[/red]")
        if not problems:
            say("[green]Every number is what it must be.[/green]")
        if keep:
            up(installation.settings, "127.0.0.1", port, say)
    return not problems


def _fresh_home(home: Path) -> Path:
    if home.exists():
        if not (home / _MARK).exists():
            raise ConfigurationError(f"{home} exists and was not made by the demo; set INTEGRATION_HOME to another folder.")
        shutil.rmtree(home)
    home.mkdir(parents=True, mode=0o700)
    (home / _MARK).touch()
    return home


def _set(opened: ExitStack, sandbox: Sandbox, installation: Installation) -> Stage:
    """A tenant, the connector to the sandbox, and a sync config for each seed mapping."""
    database = installation.database()
    opened.callback(database.close)
    tenant = tenants.create(database, "demo")
    made = []
    with database.tenant(tenant) as scope:
        connector = connectors.create(
            scope,
            name="Salesforce sandbox",
            connector_type="salesforce",
            url=sandbox.url,
            authentication_method="oauth2",
            credentials={name: sandbox.credentials[name] for name in ("client_id", "client_secret")},
            configuration={"external_ids": {"Account": "ERP_Id__c"}},
            user=tenants.first_user(scope),
        )
        for name, seed in _SEEDS.items():
            file = resources.files("mappings") / "salesforce" / f"{seed}.yaml"
            row = store_mapping(scope, file.read_text(encoding="utf-8"), file.name, "demo")
            made.append(syncs.create(scope, connector_id=connector.id, name=name, mapping_id=row.id, actor="demo"))
        back = syncs.create(
            scope,
            name="Accounts, outbound",
            connector_id=connector.id,
            mapping_id=made[0].mapping_id,
            direction="outbound",
            actor="demo",
        )
    instance = opened.enter_context(dagster_instance(installation))
    return Stage(sandbox, database, instance, tenant, made, [back])


def _round(stage: Stage, title: str, configs: Sequence[SyncConfig] = ()) -> list[dict[str, Any]]:
    """Run these syncs, or both inbound ones; print and return their history rows, in that order."""
    rows: list[dict[str, Any]] = []
    for config in configs or stage.syncs:
        with progress(config.name) as advance:
            finished = run_now(stage.instance, config.id, advance)
        with stage.database.tenant(stage.tenant) as scope:
            rows += [row for row in history.latest(scope, config.id, 1) if row["run_id"] == finished.run_id]
        if finished.problem:
            cli_output.console().print(f"[red]{config.name}: {finished.problem}[/red]")
    columns = {key: heading for key, heading in cli_output.RUN_COLUMNS.items() if key != "id"}
    cli_output.show(cli_output.runs(rows), columns, json=False, title=title)
    return rows


def _expect(rows: Sequence[dict[str, Any]], round_: str, wanted: Sequence[tuple[int | None, ...]]) -> list[str]:
    """Sentences about numbers that are wrong; None in `wanted` means that any number will do."""
    keys = ("records_succeeded", "records_failed", "records_skipped", "created", "updated", "deleted")
    if len(rows) != len(wanted):
        return [f"The {round_} round left {len(rows)} history rows instead of {len(wanted)}."]
    problems = []
    for row, numbers in zip(rows, wanted, strict=True):
        for key, number in zip(keys, numbers, strict=True):
            if number is not None and row[key] != number:
                problems.append(f"{row['sync_name']}, {round_} round: {key} is {row[key]} and must be {number}.")
        if row["records_processed"] != row["records_succeeded"] + row["records_failed"] + row["records_skipped"]:
            problems.append(f"{row['sync_name']}, {round_} round: the records processed do not add up.")
    return problems


def _change_the_org(stage: Stage) -> str:
    """Ten accounts get another phone number and one without contacts is deleted, over the sandbox's own API. Returns one of
    the ten."""
    secret = {name: stage.sandbox.credentials[name] for name in ("client_id", "client_secret")}
    with httpx.Client(base_url=stage.sandbox.url, timeout=30) as client:
        told = client.post("/services/oauth2/token", data={"grant_type": "client_credentials", **secret})
        client.headers["Authorization"] = f"Bearer {told.raise_for_status().json()['access_token']}"
        api = "/services/data/v62.0"

        def ids(where: str, limit: int) -> list[str]:
            soql = f"SELECT Id FROM Account WHERE {where} ORDER BY Name LIMIT {limit}"  # noqa: S608 - SOQL of our own
            answer = client.get(f"{api}/query", params={"q": soql}).raise_for_status()
            return [row["Id"] for row in answer.json()["records"]]

        changed = ids("Phone != null", _CHANGED)
        for number, record in enumerate(changed):
            change = {"Phone": f"+49 30 901820{number:02}"}
            client.patch(f"{api}/sobjects/Account/{record}", json=change).raise_for_status()
        childless = next(
            i for i in ids("Id NOT IN (SELECT AccountId FROM Contact WHERE AccountId != null)", 100) if i not in changed
        )
        client.delete(f"{api}/sobjects/Account/{childless}").raise_for_status()
    return changed[0]


_NEW, _SITE = "Made in the ERP", "https://www.changed-in-the-erp.example"


def _change_the_erp(stage: Stage, external_id: str) -> None:
    """A bookkeeper makes a customer, and changes one whose account Salesforce has."""
    config = stage.syncs[0]
    with stage.database.tenant(stage.tenant) as scope:
        pair = links.Pair(config.connector_id, config.external_entity, config.erp_entity)
        erp_id = links.find(scope, pair, [external_id])["erp_id"].iloc[0]
        scope.run("SELECT set_config('app.actor', 'bookkeeper', true)")
        scope.run("INSERT INTO erp.customer (name, customer_number) VALUES (:name, 'DEMO-1')", name=_NEW)
        scope.run("UPDATE erp.customer SET website = :site WHERE id = CAST(:id AS uuid)", site=_SITE, id=erp_id)


def _arrived(stage: Stage, external_id: str) -> list[str]:
    """Sentences about what Salesforce does not hold and should."""
    accounts = stage.sandbox.state.records["Account"]
    new = [one for one in accounts.values() if one.get("AccountNumber") == "DEMO-1"]
    problems = (
        [] if [one["Name"] for one in new] == [_NEW] else [f"Salesforce has {len(new)} accounts DEMO-1, and must have one."]
    )
    if accounts[external_id].get("Website") != _SITE:
        problems.append(f"Account {external_id} did not get the website of its customer.")
    return problems


def _tell_story(stage: Stage, external_id: str) -> None:
    """One customer: what Salesforce holds, what the ERP holds, and what the journal tells of it."""
    say = cli_output.console().print
    config = stage.syncs[0]
    account = stage.sandbox.state.records[config.external_entity][external_id]
    with stage.database.tenant(stage.tenant) as scope:
        pair = links.Pair(config.connector_id, config.external_entity, config.erp_entity)
        erp_id = links.find(scope, pair, [external_id])["erp_id"].iloc[0]
        erp = scope.rows("SELECT * FROM erp.customer WHERE CAST(id AS text) = :id", id=erp_id)[0]
        told = ledger.story(scope, config.erp_entity, erp_id)
    say(f"\n[bold]The story of one customer[/bold]: {account['Name']} ({external_id} in Salesforce, {erp_id} in the ERP)")
    pairs = [
        ("Name", "name"),
        ("Phone", "phone"),
        ("Website", "website"),
        ("BillingCity", "billing_city"),
        ("BillingCountry", "billing_country_code"),
    ]
    pairs += [("AnnualRevenue", "annual_revenue"), ("LastModifiedDate", "updated_at")]
    cli_output.show(
        [{"field": a, "salesforce": account.get(a), "erp field": b, "erp": erp[b]} for a, b in pairs],
        {"field": "Salesforce", "salesforce": "holds", "erp field": "ERP", "erp": "holds"},
        json=False,
    )
    columns = {"when": "when", "in": "in", "action": "action", "what": "before → after"}
    cli_output.show([_told(row) for row in told], columns, json=False)


def _told(row: dict[str, Any]) -> dict[str, Any]:
    before, after = row["before"], row["after"] or {}
    if before is None:
        what = f"{len(after)} fields"
    else:
        what = ", ".join(f"{name}: {before.get(name)} → {after.get(name)}" for name in row["changed_fields"])
    side = "Salesforce" if row["side"] == "external" else "ERP"
    return {"when": row["changed_at"], "in": side, "action": row["action"], "what": what}
