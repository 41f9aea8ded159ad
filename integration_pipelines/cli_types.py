"""`integration connector types` and what belongs to writing a connector type: its manifest's schema."""

from integration_pipelines import cli_output
from integration_pipelines.cli_connector import connector
from integration_pipelines.cli_store import JSON
from integration_pipelines.settings import load


@connector.command("types")
@JSON
def connector_types(json: bool) -> None:
    """Every connector type: ours, manifests, and those of other packages; and what each can do.

    \b
    INTEGRATION_MANIFESTS=manifests integration connector types
    """
    from connector_resources.registry import connector_types as types

    rows = []
    for one in types(load().manifests).values():
        able = one.load().capabilities
        rows.append({"type": one.name, "origin": one.origin, **vars(able)})
    columns = {
        "type": "type",
        "origin": "from",
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
    cli_output.show(rows, columns, json=json)


@connector.command("schema")
def connector_schema() -> None:
    """Print the JSON Schema of manifests, for editors.

    \b
    integration connector schema > manifest.schema.json
    """
    from connector_resources.manifest_grammar import published

    cli_output.as_json(published())


__all__ = ["connector"]
