"""`integration connector`, `integration mapping` and `integration sync`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from connector_resources.errors import ConfigurationError
from integration_pipelines import cli_output
from integration_pipelines.settings import load

if TYPE_CHECKING:
    from integration_pipelines.store.database import Database, Scope
    from integration_pipelines.store.installation import Installation
    from integration_pipelines.store.mappings import MappingRow

TENANT = click.option("--tenant", "tenant_name", help="Whose; needed when there are several tenants.")
JSON = click.option("--json", "json", is_flag=True, help="For programs.")


@dataclass
class Store:
    installation: "Installation"
    database: "Database"

    def tenant(self, name: str | None) -> UUID:
        from integration_pipelines.store import tenants

        found = tenants.find(self.database, name)
        assert found is not None  # noqa: S101 - required is the default
        return found

    def tenant_of_sync(self, number: int) -> UUID:
        from integration_pipelines.store import syncs

        return syncs.tenant_of(self.database, number)


@contextmanager
def opened_store() -> Iterator[Store]:
    """The installation and its store; an embedded database that is new gets its tables first."""
    from integration_pipelines.store.installation import migrate_all, open_installation

    with open_installation(load()) as installation:
        if installation.embedded is not None:
            migrate_all(installation)
        database = installation.database()
        try:
            yield Store(installation, database)
        finally:
            database.close()


@click.group()
def connector() -> None:
    """Connectors: the systems that are configured."""


@connector.command("list")
@TENANT
@JSON
def connector_list(tenant_name: str | None, json: bool) -> None:
    """Every connector of a tenant."""
    from integration_pipelines.store import connectors

    with opened_store() as store, store.database.tenant(store.tenant(tenant_name)) as scope:
        rows = [vars(row) for row in connectors.every(scope)]
    columns = {"id": "id", "code": "code", "name": "name", "type": "type", "url": "address", "authentication_method": "by"}
    cli_output.show(rows, columns | {"is_active": "active"}, json=json)


@connector.command("create")
@click.argument("name")
@click.option("--type", "connector_type", required=True, help="salesforce")
@click.option("--url", required=True)
@click.option("--auth", default="oauth2", show_default=True, help="oauth2, api_key, basic or certificate")
@click.option("--credentials", type=click.File("rb"), required=True, help="A JSON file, or - for standard input.")
@TENANT
def connector_create(name: str, connector_type: str, url: str, auth: str, credentials: Any, tenant_name: str | None) -> None:
    """Configure a system. Credentials are encrypted before they are stored.

    \b
    integration connector create "Our org" --type salesforce --url https://acme.my.salesforce.com --credentials secret.json
    """
    import orjson

    from connector_resources.registry import connector_class
    from integration_pipelines.store import connectors, tenants

    connector_class(connector_type)
    try:
        secret = orjson.loads(credentials.read())
        texts = {str(key): str(value) for key, value in secret.items() if value is not None}
    except (orjson.JSONDecodeError, AttributeError):
        raise ConfigurationError('The credentials must be one JSON object, like {"client_id": "…"}.') from None
    with opened_store() as store, store.database.tenant(store.tenant(tenant_name)) as scope:
        row = connectors.create(
            scope,
            name=name,
            connector_type=connector_type,
            url=url,
            authentication_method=auth,
            credentials=texts,
            user=tenants.first_user(scope),
        )
    click.echo(f"Connector {row.id} ({row.code}) is stored; `integration connector test {row.id}` tries it.")


@connector.command("test")
@click.argument("number", type=int)
@TENANT
def connector_test(number: int, tenant_name: str | None) -> None:
    """Prove that a connector's credentials work."""
    from integration_pipelines.orchestration.resources import ConnectorResource
    from integration_pipelines.orchestration.session import utc_now
    from integration_pipelines.store import connectors

    with opened_store() as store:
        tenant = store.tenant(tenant_name)
        with store.database.tenant(tenant) as scope:
            row = connectors.get(scope, number)
        with ConnectorResource(load(), utc_now).open(store.database, tenant, row) as opened:
            health = opened.test()
    click.echo(f"{row.name} answers; we are {health.account} there.")
    for name, value in health.detail.items():
        click.echo(f"  {name}: {value}")


@click.group()
def mapping() -> None:
    """Field mappings."""


@mapping.command("store")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@TENANT
def mapping_store(file: Path, tenant_name: str | None) -> None:
    """Check a mapping file and store it as the next version of its name.

    \b
    integration mapping store mappings/salesforce/account-customer.yaml
    """
    with opened_store() as store, store.database.tenant(store.tenant(tenant_name)) as scope:
        row = store_mapping(scope, file.read_text(encoding="utf-8"), file.name, "cli")
    click.echo(f"Mapping {row.id}: {row.mapping_name}, version {row.version}.")


def store_mapping(scope: "Scope", text: str, name: str, actor: str) -> "MappingRow":
    """Store a mapping, written as YAML, as the next version of its name, once it fits the ERP's catalogue. Raises
    ConfigurationError naming the line; `name` is the file's."""
    from connector_resources.catalogue import load_catalogue
    from integration_pipelines.steps.mapping import check, parse_yaml
    from integration_pipelines.store import mappings

    definition = parse_yaml(text, name)
    entities = {key: stored.entity for key, stored in load_catalogue(load().erp_catalogue).items()}
    if definition.target_entity not in entities:
        raise ConfigurationError(f"{name}: the ERP has no entity '{definition.target_entity}'.")
    check(definition, entities[definition.target_entity], None, entities)
    rules, functions = definition.to_json()
    return mappings.store(
        scope,
        mapping_name=definition.mapping_name,
        source_entity=definition.source_entity,
        target_entity=definition.target_entity,
        mappings=rules,
        transformation_functions=functions,
        actor=actor,
    )


@click.group()
def sync() -> None:
    """Sync configurations, their runs and what went wrong in them."""


@sync.command("list")
@TENANT
@JSON
def sync_list(tenant_name: str | None, json: bool) -> None:
    """Every sync configuration of a tenant."""
    from integration_pipelines.store import syncs

    with opened_store() as store, store.database.tenant(store.tenant(tenant_name)) as scope:
        rows = [vars(row) for row in syncs.every(scope)]
    columns = {
        "id": "id",
        "name": "name",
        "connector_id": "connector",
        "external_entity": "external entity",
        "erp_entity": "ERP entity",
        "direction": "direction",
        "mode": "mode",
        "cron": "cron",
        "time_zone": "zone",
        "mapping_version": "mapping version",
    }
    cli_output.show(rows, columns | {"is_active": "active"}, json=json)


@sync.command("create")
@click.argument("name")
@click.option("--connector", "connector_id", type=int, required=True)
@click.option("--mapping", "mapping_id", type=int, required=True)
@click.option("--cron", help="Five fields; makes the sync scheduled.")
@click.option("--time-zone", default="UTC", show_default=True)
@click.option("--strategy", default="last_write_wins", show_default=True, help="source_wins, target_wins, manual")
@click.option("--delete-policy", default="deactivate", show_default=True, help="propagate, ignore")
@TENANT
def sync_create(name: str, tenant_name: str | None, cron: str | None, **values: Any) -> None:
    """Keep two entities in step, as a mapping says.

    \b
    integration sync create "Accounts" --connector 1 --mapping 1 --cron "*/15 * * * *" --time-zone Europe/Berlin
    """
    from integration_pipelines.store import syncs

    with opened_store() as store, store.database.tenant(store.tenant(tenant_name)) as scope:
        mode = "scheduled" if cron else "manual"
        row = syncs.create(scope, name=name, cron=cron, mode=mode, actor="cli", **values)
    click.echo(f"Sync config {row.id}; `integration sync plan {row.id}` shows what it would do.")


@sync.command("run")
@click.argument("number", type=int)
@JSON
def sync_run(number: int, json: bool) -> None:
    """Run a sync now, as a Dagster run, and show what it did. Exit code 1 when it failed.

    \b
    integration sync run 1
    """
    from integration_pipelines.orchestration.launch import bury_dead_runs, dagster_instance, run_now
    from integration_pipelines.store import history

    with opened_store() as store, dagster_instance(store.installation) as instance:
        tenant = store.tenant_of_sync(number)
        bury_dead_runs(store.installation, instance)
        with progress(f"sync {number}", quiet=json) as advance:
            finished = run_now(instance, number, advance)
        with store.database.tenant(tenant) as scope:
            rows = [r for r in history.latest(scope, number, 20) if r["run_id"] == finished.run_id]
    cli_output.show(cli_output.runs(rows), cli_output.RUN_COLUMNS, json=json)
    if not finished.success:
        raise click.ClickException(finished.problem or "The run failed.")


@contextmanager
def progress(what: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A line that tells which of the five ops has ended."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[step]}"),
        TimeElapsedColumn(),
        console=cli_output.console(),
        transient=True,
        disable=quiet or not cli_output.console().is_terminal,
    )
    with shown:
        task = shown.add_task(what, total=5, step="extract …")
        following = {"extract": "validate …", "validate": "map …", "map": "resolve …", "resolve": "load …", "load": "done"}

        def advance(step: str) -> None:
            shown.update(task, advance=1, step=following.get(step, step))

        yield advance


@sync.command("plan")
@click.argument("number", type=int)
@click.option("--limit", default=20, show_default=True, help="How many changes to list.")
@JSON
def sync_plan(number: int, limit: int, json: bool) -> None:
    """Show what a run would do, and write nothing. It reads both sides, so it costs the same calls as a run."""
    from integration_pipelines.orchestration.launch import plan

    with opened_store() as store:
        store.tenant_of_sync(number)
        found = plan(load(), number, limit)
    if json:
        cli_output.as_json(vars(found))
        return
    cli_output.show([found.counts], {name: name for name in found.counts}, json=False)
    if found.changes:
        cli_output.show(found.changes, {name: name for name in found.changes[0]}, json=False)


@sync.command("history")
@click.argument("number", type=int, required=False)
@click.option("--limit", default=20, show_default=True)
@TENANT
@JSON
def sync_history(number: int | None, limit: int, tenant_name: str | None, json: bool) -> None:
    """The latest runs, of one sync or of all."""
    from integration_pipelines.store import history

    with opened_store() as store:
        tenant = store.tenant_of_sync(number) if number is not None else store.tenant(tenant_name)
        with store.database.tenant(tenant) as scope:
            rows = history.latest(scope, number, limit)
    columns = cli_output.RUN_COLUMNS | {"started_at": "started"}
    if json or any(row["error_message"] for row in rows):
        columns |= {"error_message": "reason"}
    cli_output.show(cli_output.runs(rows), columns, json=json)


@sync.command("errors")
@click.argument("number", type=int)
@click.option("--run", "history_id", type=int, help="The errors of this run (see `history`), resolved or not.")
@click.option("--limit", default=50, show_default=True)
@JSON
def sync_errors(number: int, history_id: int | None, limit: int, json: bool) -> None:
    """Records that were set aside and still wait, with the reason. They are tried again by each run."""
    from integration_pipelines.store import rejects

    with opened_store() as store, store.database.tenant(store.tenant_of_sync(number)) as scope:
        rows = rejects.latest(scope, number, history_id=history_id, limit=limit)
    columns = {
        "sync_history_id": "run",
        "record_id": "record",
        "error_type": "type",
        "error_message": "what to do",
        "retry_count": "tried again",
    }
    cli_output.show(rows, columns | {"created_at": "since"}, json=json)


@sync.command("release")
@click.argument("number", type=int)
def sync_release(number: int) -> None:
    """Let the next run through although it changes more records than the brake allows."""
    from integration_pipelines.store import syncs

    with opened_store() as store, store.database.tenant(store.tenant_of_sync(number)) as scope:
        syncs.release_brake(scope, number, "cli")
    click.echo(f"The next run of sync config {number} may change as much as it wants; the one after is watched again.")
