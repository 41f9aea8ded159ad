"""The command `integration`. Exit code 0: done · 1: it failed, with one sentence why · 2: the command was used wrongly."""

import base64
import secrets
import shlex
import signal
from typing import Any

import click

from connector_resources.errors import IntegrationError
from integration_pipelines.cli_alerts import alert, alert_channel
from integration_pipelines.cli_authorize import connector
from integration_pipelines.cli_connector import mapping
from integration_pipelines.cli_output import plain
from integration_pipelines.cli_people import api_key, user
from integration_pipelines.cli_server import code_server, daemon, up, web
from integration_pipelines.cli_sync import sync
from integration_pipelines.settings import load


class Group(click.Group):
    """Our errors are sentences for people: no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except IntegrationError as problem:
            raise click.ClickException(plain(str(problem))) from None


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="erp-integration")
def main() -> None:
    """Keeps an ERP's records and the records of the systems around it in step.

    \b
    A first look:          integration demo
    An installation:       integration migrate; integration tenant create acme
    A sync, by hand:       integration sync plan 1; integration sync run 1
    What happened:         integration sync history; integration sync errors 1
    Who may come in:       integration user list; integration api-key list
    Who hears of failures: integration alert-channel list; integration alert list

    Settings come from the environment (README.md lists them); without DATABASE_URL an embedded PostgreSQL under
    INTEGRATION_HOME (default ./var) is used.
    """


main.add_command(up)
main.add_command(code_server)
main.add_command(daemon)
main.add_command(web)
main.add_command(connector)
main.add_command(mapping)
main.add_command(sync)
main.add_command(user)
main.add_command(api_key)
main.add_command(alert_channel)
main.add_command(alert)


@main.command()
@click.option("--keep", is_flag=True, help="Leave the Dagster UI serving when it is over, for a look.")
@click.option("--accounts", default=5000, show_default=True, help="How many accounts the sandbox starts with.")
@click.option("--contacts", default=12000, show_default=True, help="How many contacts.")
@click.option("--port", default=3000, show_default=True, help="Port of the Dagster UI with --keep.")
def demo(keep: bool, accounts: int, contacts: int, port: int) -> None:
    """Sync a Salesforce sandbox into the reference ERP, three times, and check every number.

    \b
    integration demo
    integration demo --keep        then look at http://127.0.0.1:3000
    """
    from integration_pipelines.demo import run_demo

    if not run_demo(load(), accounts=accounts, contacts=contacts, keep=keep, port=port):
        raise SystemExit(1)


@main.command()
def migrate() -> None:
    """Make the tables, or bring them up to date. Safe to run again.

    \b
    DATABASE_URL=postgresql://app@db.example.com/integration integration migrate
    """
    from integration_pipelines.orchestration.launch import dagster_instance
    from integration_pipelines.store.database import shown
    from integration_pipelines.store.installation import migrate_all, open_installation

    with open_installation(load()) as installation:
        revision = migrate_all(installation)
        with dagster_instance(installation):  # makes Dagster's tables, before several processes try to at once
            pass
        where = shown(installation.database_url)
        click.echo(f"{where} is up to date{f': it has revision {revision} now' if revision else ', nothing was missing'}.")


@main.command()
def env() -> None:
    """Print the environment that Dagster's own commands need, and keep the embedded database running for them.

    \b
    eval "$(integration env)"
    dagster dev -w workspace.yaml
    integration stop
    """
    from integration_pipelines.store.installation import migrate_all, open_installation, prepare_dagster_home

    with open_installation(load(), stay=True) as installation:
        migrate_all(installation)
        prepare_dagster_home(installation)
        for name, value in installation.environment().items():
            click.echo(f"export {name}={shlex.quote(value)}")


@main.command()
def stop() -> None:
    """Stop the embedded database that `integration env` keeps running, once nobody uses it any more."""
    from integration_pipelines.store.embedded import Embedded

    home = load().home
    if not (home / "postgres").exists():
        click.echo(f"There is no embedded database under {home}.")
        return
    stopped = Embedded(home).close(stop_staying=True)
    click.echo("Stopped." if stopped else "Others still use it; it stops with the last of them.")


@main.command()
@click.option(
    "--type",
    "kind",
    type=click.Choice(["salesforce", "rest", "soap", "graphql"]),
    default="salesforce",
    show_default=True,
    help="The last three are one made-up shop, for the connector types sandbox-rest, sandbox-soap and sandbox-graphql.",
)
@click.option("--port", default=8080, show_default=True, help="0 chooses a free one.")
@click.option("--tls", is_flag=True, help="Serve HTTPS; the root certificate's file is printed.")
@click.option("--rotate", is_flag=True, help="Refresh tokens are good for one use (the shop's always are).")
@click.option("--json", "for_programs", is_flag=True, help="Print address and credentials as JSON.")
def sandbox(kind: str, port: int, tls: bool, rotate: bool, for_programs: bool) -> None:
    """Serve a stand-in of another system on this machine until Ctrl-C.

    \b
    integration sandbox --port 8080
    integration sandbox --type rest --port 8081
    integration sandbox --tls --json > sandbox.json
    """
    from connector_resources.sandbox import Sandbox
    from connector_resources.sandbox.generic import ShopSandbox
    from integration_pipelines import cli_output

    def ready(opened: Sandbox | ShopSandbox) -> None:
        told = {"url": opened.url, "ca_file": str(opened.ca_file) if opened.ca_file else None, **opened.credentials}
        if for_programs:
            cli_output.as_json(told)
        else:
            click.echo("\n".join(f"{name}: {value}" for name, value in told.items() if value and name != "private_key"))
            click.echo("Ctrl-C ends it. With --json every credential is printed.")

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if kind == "salesforce":
            Sandbox(port, tls, load().home, rotate=rotate).run(ready)
        else:
            ShopSandbox(port, tls, load().home).run(ready)
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)


@main.group()
def tenant() -> None:
    """Tenants."""


@tenant.command("create")
@click.argument("name")
@click.option("--email", default="admin@localhost", show_default=True, help="The first administrator.")
def tenant_create(name: str, email: str) -> None:
    """Make a tenant, with its key, roles and first administrator.

    \b
    integration tenant create acme --email it@acme.example
    """
    from integration_pipelines.cli_store import opened_store
    from integration_pipelines.store import tenants

    with opened_store() as store:
        click.echo(f"Tenant {name} has the id {tenants.create(store.database, name, email)}.")


@main.group()
def key() -> None:
    """The master key that protects all credentials."""


@key.command("new")
def key_new() -> None:
    """Print a new key for INTEGRATION_MASTER_KEY."""
    click.echo(base64.b64encode(secrets.token_bytes(32)).decode())


@key.command("rotate")
def key_rotate() -> None:
    """Wrap every tenant's key with a new master key. Records are not touched, running syncs go on.

    With the key in INTEGRATION_MASTER_KEY, give the new one in INTEGRATION_NEXT_MASTER_KEY and exchange the two afterwards.
    With the key in a file, a new one is made.
    """
    from connector_resources.errors import ConfigurationError
    from integration_pipelines.cli_store import opened_store

    settings = load()
    with opened_store() as store:
        master = store.database.master
        old = master.current()
        if master.in_file:
            new = master.prepare()
        elif settings.next_master_key is not None:
            new = settings.next_master_key
        else:
            raise ConfigurationError(
                "INTEGRATION_NEXT_MASTER_KEY is not set; put the new key there (`integration key new` makes one)."
            )
        count = store.database.rewrap(old, new)
        if master.in_file:
            master.promote()
            click.echo(f"The keys of {count} tenants are wrapped anew; {master.file} holds the new master key.")
        else:
            click.echo(f"The keys of {count} tenants are wrapped anew. Now set INTEGRATION_MASTER_KEY to the new key.")
