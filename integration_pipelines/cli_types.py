"""`integration connector types` and what belongs to writing a connector type: its manifest's schema."""

import json as json_
from collections.abc import Mapping
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from connector_resources.errors import ConfigurationError
from integration_pipelines import cli_output
from integration_pipelines.cli_connector import connector
from integration_pipelines.cli_store import JSON, TENANT, opened_store
from integration_pipelines.settings import load

if TYPE_CHECKING:
    from connector_resources.contract import Connector, Entity

_ABILITIES = {
    "delta_read": "changes",
    "deletes": "deletions",
    "bulk_read": "bulk",
    "write": "writes",
    "idempotency": "a repeat is known by",
    "conditional_write": "versions",
    "batch_size": "batch",
    "concurrency": "at once",
    "webhooks": "webhooks",
}
_MOST_ENTITIES = 10


@connector.command("types")
@JSON
def connector_types(json: bool) -> None:
    """Every connector type: ours, manifests, and those of other packages; and what each can do.

    \b
    INTEGRATION_MANIFESTS=manifests integration connector types
    """
    from connector_resources.registry import connector_types as types

    rows, wrong = [], []
    for one in types(load().manifests).values():
        try:
            rows.append({"type": one.name, "origin": one.origin, **vars(one.load().capabilities)})
        except ConfigurationError as problem:
            wrong.append(str(problem))
    columns = {"type": "type", "origin": "from", **_ABILITIES}
    cli_output.show(rows, columns, json=json)
    for sentence in wrong:
        click.echo(sentence, err=True)


@connector.command("schema")
def connector_schema() -> None:
    """Print the JSON Schema of manifests, for editors.

    \b
    integration connector schema > manifest.schema.json
    """
    from connector_resources.manifest_grammar import published

    cli_output.as_json(published())


@connector.command("new")
@click.argument("name")
@click.option("--kind", type=click.Choice(["rest", "soap", "graphql", "python"]), default="rest", show_default=True)
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), default=".", help="Where to write (default: here)."
)
def connector_new(name: str, kind: str, folder: Path) -> None:
    """Write a new connector type and its conformance test. It works against the sandbox as it is.

    \b
    integration connector new my-shop --kind rest
    """
    from connector_resources.skeletons import skeleton

    files = {folder / file: text for file, text in skeleton(name, kind).items()}
    standing = next((path for path in files if path.exists()), None)
    if standing:
        raise ConfigurationError(f"{standing} is there already; give another name, or another --folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
        click.echo(f"Wrote {path}.")


@connector.command("check")
@click.argument("number", type=int)
@click.option("--entity", "entities", multiple=True, help="What to read; may be given several times (default: all).")
@click.option("--write", "written", metavar="ENTITY", help="Try writing, too: makes records of it, and deletes them again.")
@click.option("--sample", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="JSON: the fields of one record.")
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Leave out older records (in UTC).")
@TENANT
@JSON
def connector_check(
    number: int,
    entities: tuple[str, ...],
    written: str | None,
    sample: Path | None,
    since: Any,
    tenant_name: str | None,
    json: bool,
) -> None:
    """Try everything that a connector must be able to do, on its real endpoint. Changes nothing without --write.

    It begins with the sign-in, and ends there where that fails.

    \b
    integration connector check 1 --entity customer
    integration connector check 1 --write customer --sample customer.json
    """
    from connector_resources.conformance import Trial, Verdict, conform, sample_of
    from integration_pipelines.orchestration.resources import ConnectorResource
    from integration_pipelines.orchestration.session import utc_now
    from integration_pipelines.store import connectors

    if (written is None) != (sample is None):
        raise click.UsageError("--write needs --sample, a JSON file with the fields of one record, and the other way round.")
    start = since.replace(tzinfo=UTC) if since else None
    rows = []
    with opened_store() as store:
        tenant = store.tenant(tenant_name)
        with store.database.tenant(tenant) as scope:
            row = connectors.get(scope, number)

        def opened() -> "Connector":
            return ConnectorResource(load(), utc_now).open(store.database, tenant, row)

        with opened() as connecting:
            connecting.test()
            described = {name: connecting.describe(name) for name in _chosen(entities, written, connecting)}
        with Console(stderr=True).status("…") as shown:
            for name, entity in described.items():
                values = _sample(sample, entity, sample_of) if sample and name == written else None
                for found in conform(Trial(opened, name, values, start)):
                    rows.append({"entity": name, **vars(found)})
                    shown.update(f"{len(rows)} checks; {escape(name)}: {found.name}: {found.verdict}")
    cli_output.show(rows, {"entity": "entity", "name": "check", "verdict": "verdict", "sentence": "what was seen"}, json=json)
    if written is None and not json:
        click.echo("Writing was not tried: `--write ENTITY --sample FILE` makes records to try it, and deletes them again.")
    if any(one["verdict"] == Verdict.FAILED for one in rows):
        raise SystemExit(1)


def _chosen(entities: tuple[str, ...], written: str | None, connecting: "Connector") -> list[str]:
    named = list(dict.fromkeys([*entities, *([written] if written else [])]))
    if named:
        return named
    every = list(connecting.entities())
    if len(every) > _MOST_ENTITIES:
        raise ConfigurationError(f"The connector knows {len(every)} entities; name those to check with --entity.")
    return every


def _sample(file: Path, entity: "Entity", sample_of: Any) -> Mapping[str, Any]:
    try:
        values = json_.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ConfigurationError(f"{file} must hold one JSON mapping: field → value.")
    found: Mapping[str, Any] = sample_of(entity, values)
    return found


__all__ = ["connector"]
