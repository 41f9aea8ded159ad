"""`integration sync`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from connector_resources.errors import ConfigurationError
from integration_pipelines import cli_output
from integration_pipelines.cli_store import JSON, TENANT, opened_store
from integration_pipelines.settings import load

if TYPE_CHECKING:
    from integration_pipelines.store.database import Scope


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
@click.option("--direction", default="inbound", show_default=True, help="outbound, bidirectional")
@click.option("--cron", help="Five fields; makes the sync scheduled.")
@click.option("--time-zone", default="UTC", show_default=True)
@click.option("--strategy", default="last_write_wins", show_default=True, help="source_wins, target_wins, manual")
@click.option("--delete-policy", default="deactivate", show_default=True, help="propagate, ignore")
@click.option("--option", "options", multiple=True, metavar="NAME=NUMBER", help="As README.md lists them; may be repeated.")
@TENANT
def sync_create(name: str, tenant_name: str | None, cron: str | None, options: tuple[str, ...], **values: Any) -> None:
    """Keep two entities in step, as a mapping says.

    \b
    integration sync create "Accounts" --connector 1 --mapping 1 --cron "*/15 * * * *" --time-zone Europe/Berlin
    integration sync create "Accounts" --connector 1 --mapping 1 --direction bidirectional --option max_runtime_seconds=600
    """
    from integration_pipelines.store import syncs

    values["options"] = _numbers(options)
    with opened_store() as store, store.database.tenant(store.tenant(tenant_name)) as scope:
        mode = "scheduled" if cron else "manual"
        row = syncs.create(scope, name=name, cron=cron, mode=mode, actor="cli", **values)
    click.echo(f"Sync config {row.id}; `integration sync plan {row.id}` shows what it would do.")


def _numbers(options: tuple[str, ...]) -> Mapping[str, float]:
    found = {}
    for one in options:
        name, _, number = one.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise ConfigurationError(f"'{one[:60]}' is no option; write name=number, like retry_delay_seconds=60.") from None
    return found


@sync.command("schedule")
@click.argument("number", type=int)
@click.option("--cron", help="Five fields; without it the sync runs by hand only.")
@click.option("--time-zone", help="The zone of the cron expression; without it the one that the sync has.")
def sync_schedule(number: int, cron: str | None, time_zone: str | None) -> None:
    """Change when a sync runs. A server that is up follows within seconds.

    \b
    integration sync schedule 1 --cron "0 6 * * 1-5" --time-zone Europe/Berlin
    integration sync schedule 1
    """
    from integration_pipelines.store import syncs

    with _scope_of(number) as scope:
        config = syncs.reschedule(scope, number, cron, time_zone, "cli")
    click.echo(
        f"Sync config {number} runs by hand." if not cron else f"Sync config {number} runs at {cron} ({config.time_zone})."
    )


@sync.command("pause")
@click.argument("number", type=int)
def sync_pause(number: int) -> None:
    """Start a sync no more until it is resumed. A run that is under way goes on; one in the queue ends and says why.

    \b
    integration sync pause 1
    """
    from integration_pipelines.store import syncs

    with _scope_of(number) as scope:
        syncs.pause(scope, number, "cli")
    click.echo(f"Sync config {number} is paused; `integration sync resume {number}` lets it run again.")


@sync.command("resume")
@click.argument("number", type=int)
def sync_resume(number: int) -> None:
    """Let a paused sync run again. It reads everything since it last ran.

    \b
    integration sync resume 1
    """
    from integration_pipelines.store import syncs

    with _scope_of(number) as scope:
        syncs.resume(scope, number, "cli")
    click.echo(f"Sync config {number} runs again.")


@sync.command("remove")
@click.argument("number", type=int)
def sync_remove(number: int) -> None:
    """Remove a sync. Its history, links and journal stay, and so do the records in the ERP.

    \b
    integration sync remove 1
    """
    from integration_pipelines.store import syncs

    with _scope_of(number) as scope:
        syncs.remove(scope, number, "cli")
    click.echo(f"Sync config {number} is removed.")


@contextmanager
def _scope_of(number: int) -> Iterator["Scope"]:
    """A transaction of the tenant whose sync it is."""
    with opened_store() as store, store.database.tenant(store.tenant_of_sync(number)) as scope:
        yield scope


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
        "side": "side",
        "record_id": "record",
        "error_type": "type",
        "error_message": "what to do",
        "retry_count": "tried again",
    }
    cli_output.show(rows, columns | {"created_at": "since"}, json=json)


@sync.command("resend")
@click.argument("number", type=int)
@click.argument("record")
def sync_resend(number: int, record: str) -> None:
    """Let the next run create a record anew whose first creation got no answer. Look first: it must not be over there.

    
    integration sync errors 1
    integration sync resend 1 6a0c4f7e-4a55-4a5f-9d0e-0d3f2c7a1f11
    """
    from integration_pipelines.store import ledger

    with _scope_of(number) as scope:
        if not ledger.forget_doubt(scope, number, record):
            raise ConfigurationError(
                f"No creation of the record {record[:60]} is in doubt; `integration sync errors {number}`."
            )
    click.echo(f"The next run of sync config {number} creates it.")


@sync.command("release")
@click.argument("number", type=int)
def sync_release(number: int) -> None:
    """Let the next run through although it changes more records than the brake allows."""
    from integration_pipelines.store import syncs

    with opened_store() as store, store.database.tenant(store.tenant_of_sync(number)) as scope:
        syncs.release_brake(scope, number, "cli")
    click.echo(f"The next run of sync config {number} may change as much as it wants; the one after is watched again.")
