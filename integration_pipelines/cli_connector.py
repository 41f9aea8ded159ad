"""`integration connector` and `integration mapping`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector_resources.errors import ConfigurationError
from integration_pipelines import cli_output
from integration_pipelines.cli_store import JSON, TENANT, Store, opened_store
from integration_pipelines.settings import load

if TYPE_CHECKING:
    from uuid import UUID

    from connector_resources.conformance_trial import Held
    from integration_pipelines.store.connectors import ConnectorRow
    from integration_pipelines.store.database import Scope
    from integration_pipelines.store.mappings import MappingRow


@click.group()
def connector() -> None:
    """Connectors: the systems that are configured."""


@connector.command("list")
@TENANT
@JSON
def connector_list(tenant_name: str | None, json: bool) -> None:
    """Every connector of a tenant, and how its grant stands."""
    from integration_pipelines.store import call_budget, connectors

    with opened_store() as store, store.database.tenant(store.tenant(tenant_name)) as scope:
        made = call_budget.made_on(scope, datetime.now(UTC).date())
        rows = []
        for row in connectors.every(scope):
            calls, counted, whole = made.get(row.id) or (0, None, None)
            limit = call_budget.limit_of(row.configuration)
            numbers = {"calls_today": calls, "calls_per_day": limit, "system_calls": counted, "system_limit": whole}
            rows.append({**vars(row), "state": row.state, **numbers, "calls": _calls(calls, limit, counted, whole)})
    columns = {"id": "id", "code": "code", "name": "name", "type": "type", "url": "address", "authentication_method": "by"}
    grant = {"state": "state", "grant_expires_at": "grant expires", "last_used_at": "last used"}
    spent = ("calls_today", "calls_per_day", "system_calls", "system_limit") if json else ("calls",)
    columns |= {"is_active": "active"} | grant | dict.fromkeys(spent, "calls today")
    cli_output.show(rows, columns, json=json)


def _calls(calls: int, limit: int | None, used: int | None, whole: int | None) -> str:
    """12 of 5,000; and what the other side says of its own limit."""
    own = f"{calls:,} of {limit:,}" if limit else f"{calls:,}"
    return own if used is None else f"{own}; the system counts {used:,} of {whole:,}"


@connector.command("create")
@click.argument("name")
@click.option("--type", "connector_type", required=True, help="One of `integration connector types`.")
@click.option("--url", required=True)
@click.option("--auth", default="oauth2", show_default=True, help="oauth2, api_key, basic, certificate or none")
@click.option("--credentials", type=click.File("rb"), help="A JSON file, or - for standard input; not with --auth none.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="The type's own settings, and calls_per_day for any; no secrets.",
)
@TENANT
def connector_create(
    name: str,
    connector_type: str,
    url: str,
    auth: str,
    credentials: Any | None,
    settings: tuple[str, ...],
    tenant_name: str | None,
) -> None:
    """Configure a system. Credentials are encrypted before they are stored.

    \b
    integration connector create "Our org" --type salesforce --url https://acme.my.salesforce.com --credentials secret.json
    """
    import orjson

    from connector_resources.conformance_trial import Held
    from integration_pipelines.store import connectors, tenants

    if (credentials is None) != (auth == "none"):
        raise click.UsageError(
            "Missing option '--credentials'." if credentials is None else "--auth none takes no credentials."
        )
    try:
        secret = orjson.loads(credentials.read()) if credentials else {}
        texts = {str(key): str(value) for key, value in secret.items() if value is not None}
    except (orjson.JSONDecodeError, AttributeError):
        raise ConfigurationError('The credentials must be one JSON object, like {"client_id": "…"}.') from None
    with opened_store() as store:
        tenant = store.tenant(tenant_name)
        with store.database.tenant(tenant) as scope:
            row = connectors.create(
                scope,
                name=name,
                connector_type=connector_type,
                url=url,
                authentication_method=auth,
                credentials=texts,
                configuration=_pairs(settings),
                user=tenants.first_user(scope),
            )
            _taken_by_its_type(store, tenant, row, Held(texts))
    click.echo(f"Connector {row.id} ({row.code}) is stored; `integration connector test {row.id}` tries it.")


@connector.command("set")
@click.argument("number", type=int)
@click.argument("settings", nargs=-1, required=True, metavar="NAME=VALUE...")
@TENANT
def connector_set(number: int, settings: tuple[str, ...], tenant_name: str | None) -> None:
    """Change a connector's settings; NAME= takes one away. Runs that begin from now on have them.

    \b
    integration connector set 1 calls_per_day=20000 reserve_calls=
    """
    from integration_pipelines.store import connectors, tenants

    changed = {name: None if value == "" else value for name, value in _pairs(settings).items()}
    with opened_store() as store:
        tenant = store.tenant(tenant_name)
        with store.database.tenant(tenant) as scope:
            row = connectors.configure(scope, number, changed, user=tenants.first_user(scope))
            _taken_by_its_type(store, tenant, row)
    told = ", ".join(f"{name}={value}" for name, value in sorted(row.configuration.items())) or "none"
    click.echo(f"Settings of connector {row.id} ({row.code}): {told}")


def _taken_by_its_type(store: Store, tenant: "UUID", row: "ConnectorRow", credentials: "Held | None" = None) -> None:
    """Raises ConfigurationError for settings or a way to sign in that the type cannot take: within the transaction, so that
    nothing is stored then."""
    from integration_pipelines.orchestration.resources import ConnectorResource
    from integration_pipelines.orchestration.session import utc_now

    with ConnectorResource(load(), utc_now).open(store.database, tenant, row, credentials):
        pass


def _pairs(settings: tuple[str, ...]) -> dict[str, Any]:
    """Whole numbers, true and false, and what is written in brackets as JSON; all else is text."""
    pairs = [one.partition("=") for one in settings]
    wrong = next((name for name, equals, _ in pairs if not equals or not name), None)
    if wrong is not None:
        raise click.UsageError(f"The setting '{wrong}' must be like NAME=VALUE.")
    return {name: _value(value) for name, _, value in pairs}


def _value(text: str) -> Any:
    import orjson

    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return found if isinstance(found, int | dict | list) else text


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
    click.echo(cli_output.plain(f"{row.name} answers; we are {health.account} there."))
    for name, value in health.detail.items():
        click.echo(cli_output.plain(f"  {name}: {value}"))


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
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file.name} is not UTF-8 text; save it as UTF-8.") from None
    with opened_store() as store, store.database.tenant(store.tenant(tenant_name)) as scope:
        row = store_mapping(scope, text, file.name, "cli")
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
