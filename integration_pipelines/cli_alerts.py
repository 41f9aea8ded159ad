"""`integration alert-channel` and `integration alert`: who hears of syncs that have failed, and what was said."""

import sys
from datetime import UTC, datetime

import click

from integration_pipelines import cli_output
from integration_pipelines.cli_people import ACTOR
from integration_pipelines.cli_store import JSON, TENANT, opened_store


@click.group("alert-channel")
def alert_channel() -> None:
    """Where a tenant's administrators are told that a sync has failed for good, and that it works again."""


@alert_channel.command("list")
@TENANT
@JSON
def channel_list(tenant_name: str | None, json: bool) -> None:
    """Every channel of a tenant. Of an address only the beginning is shown: it may hold a secret."""
    from integration_pipelines.store import alert_channels

    with opened_store() as store, store.database.tenant(store.tenant(tenant_name)) as scope:
        rows = [{"name": c.name, "address": c.shown, "created_at": c.created_at} for c in alert_channels.every(scope)]
    cli_output.show(rows, {"name": "name", "address": "address", "created_at": "made"}, json=json)


def _dash(_: click.Context, __: click.Parameter, value: str | None) -> bool:
    if value not in (None, "-"):  # what it is must not be quoted: it is an address, most likely
        raise click.BadParameter("the address is no argument, where others would see it; it is asked for, or read from - .")
    return value is not None


@alert_channel.command("add")
@click.argument("name")
@click.argument("from_input", metavar="[-]", required=False, callback=_dash)
@TENANT
@JSON
def channel_add(name: str, from_input: bool, tenant_name: str | None, json: bool) -> None:
    """Add a channel. Its address is asked for without showing it, or read from standard input with - .

    The address is one of Apprise, https://appriseit.com/services/ :

    \b
    mailtos://user:password@example.com?to=ops@example.com      mail; ?smtp=HOST names the server
    slack://tokenA/tokenB/tokenC                                Slack, and much the same Discord, Telegram, ntfy, …
    workflows://HOST/WORKFLOW/SIGNATURE                         Microsoft Teams
    pagerduty://INTEGRATION-KEY@API-KEY                         PagerDuty, Opsgenie
    jsons://example.com/path                                    a POST of JSON to a server of yours

    \b
    integration alert-channel add ops
    integration alert-channel add ops - < address.txt
    """
    from integration_pipelines.store import alert_channels

    with opened_store() as store:
        tenant = store.tenant(tenant_name)
        address = sys.stdin.read() if from_input else click.prompt("Address", hide_input=True)
        with store.database.tenant(tenant) as scope:
            made = alert_channels.add(scope, name, address, actor=ACTOR)
    if json:
        cli_output.as_json({"name": made.name, "address": made.shown})
        return
    click.echo(
        f"Alerts go to channel '{made.name}' ({made.shown}) too. Try it with: integration alert-channel test '{made.name}'"
    )


@alert_channel.command("remove")
@click.argument("name")
@TENANT
def channel_remove(name: str, tenant_name: str | None) -> None:
    """Send nothing there any more.

    \b
    integration alert-channel remove ops
    """
    from integration_pipelines.store import alert_channels

    with opened_store() as store, store.database.tenant(store.tenant(tenant_name)) as scope:
        alert_channels.remove(scope, name, actor=ACTOR)
    click.echo(f"Nothing is sent to channel '{name}' any more.")


@alert_channel.command("test")
@click.argument("name")
@TENANT
def channel_test(name: str, tenant_name: str | None) -> None:
    """Send a message there now, and say whether it was taken.

    \b
    integration alert-channel test ops
    """
    from integration_pipelines.operations.alerts import Message, deliver
    from integration_pipelines.store import alert_channels

    with opened_store() as store, store.database.tenant(store.tenant(tenant_name)) as scope:
        found = alert_channels.find(scope, name)
    body = f"This is how alerts of the ERP integration reach you (sent by hand, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC)."
    for problem in deliver([found], Message("Test of an alert channel", body, good=True)).values():
        raise click.ClickException(problem)
    click.echo(f"Channel '{found.name}' ({found.shown}) has taken the message.")


@click.group()
def alert() -> None:
    """What was raised, and whether it was sent."""


@alert.command("list")
@click.option("--limit", default=50, show_default=True)
@TENANT
@JSON
def alert_list(limit: int, tenant_name: str | None, json: bool) -> None:
    """Alerts of a tenant, the newest first.

    \b
    integration alert list
    integration alert list --json --limit 5
    """
    from integration_pipelines.store import alerts

    with opened_store() as store, store.database.tenant(store.tenant(tenant_name)) as scope:
        rows = alerts.latest(scope, limit)
    columns = {"id": "id", "sync_id": "sync", "sync_name": "name", "kind": "kind", "created_at": "raised", "state": "state"}
    cli_output.show(rows, columns | {"sent_at": "sent", "tries": "tries", "problem": "problem"}, json=json)
