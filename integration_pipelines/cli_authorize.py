"""`integration connector authorize`: a person lets a connector in."""

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import click

from integration_pipelines.cli_output import plain
from integration_pipelines.cli_store import TENANT, Store, opened_store
from integration_pipelines.cli_types import connector
from integration_pipelines.settings import load

if TYPE_CHECKING:
    from connector_resources.consent import Consent, Granted
    from integration_pipelines.store.connectors import ConnectorRow

_PATIENCE = timedelta(minutes=10)


@connector.command("authorize")
@click.argument("number", type=int)
@click.option("--device", is_flag=True, help="For machines without a browser: type a code on another one.")
@click.option("--no-browser", is_flag=True, help="Only print the page's address.")
@click.option(
    "--redirect",
    default="http://127.0.0.1:0/callback",
    show_default=True,
    help="Where the page leads back to: a place on this machine, as the app has registered it; port 0 chooses a free one.",
)
@TENANT
def connector_authorize(number: int, device: bool, no_browser: bool, redirect: str, tenant_name: str | None) -> None:
    """Let a connector in, or let it in again when it needs to be reconnected.

    \b
    integration connector authorize 1
    integration connector authorize 1 --device
    """
    from connector_resources.consent import device_flow
    from integration_pipelines.orchestration.resources import ConnectorResource
    from integration_pipelines.orchestration.session import utc_now
    from integration_pipelines.store import connectors

    with opened_store() as store:
        tenant = store.tenant(tenant_name)
        with store.database.tenant(tenant) as scope:
            row = connectors.get(scope, number)
        with ConnectorResource(load(), utc_now).open(store.database, tenant, row) as opened:
            consent = opened.consent()
            granted = device_flow(consent, _shown) if device else _in_browser(consent, redirect, not no_browser)
        row = _stored(store, tenant, number, granted)
    ends = f" until {row.grant_expires_at:%Y-%m-%d}" if row.grant_expires_at else ""
    click.echo(f"{row.name} is connected{ends}; `integration connector test {row.id}` tries it.")


def _in_browser(consent: "Consent", redirect: str, browser: bool) -> "Granted":
    import webbrowser

    from connector_resources.consent import CodeFlow
    from connector_resources.loopback import Loopback

    with Loopback(redirect) as back:
        flow = CodeFlow(consent, back.url)
        click.echo(f"Let us in on this page:\n\n  {flow.url}\n")
        if browser:
            webbrowser.open(flow.url)
        return flow.finished(back.told(flow.state, consent.oauth.http.now, _PATIENCE))


def _shown(page: str, code: str) -> None:
    click.echo(f"Open {plain(page)} on any machine, and type this code there:\n\n  {plain(code)}\n")


def _stored(store: Store, tenant: UUID, number: int, granted: "Granted") -> "ConnectorRow":
    from integration_pipelines.store import connectors, tenants

    with store.database.tenant(tenant) as scope:
        return connectors.reconnect(scope, number, *granted, user=tenants.first_user(scope))


__all__ = ["connector"]
