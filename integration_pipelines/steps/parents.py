"""Parents that records refer to, found by identity links; of two that could be meant none is chosen."""

from collections.abc import Mapping, Sequence
from typing import Any

from integration_pipelines.model import Side
from integration_pipelines.steps.mapping import Reference
from integration_pipelines.steps.run import Run
from integration_pipelines.store import links
from integration_pipelines.store.database import Scope

Parents = Mapping[str, str | None]  # as store.links.parents has them


def parents(run: Run, scope: Scope, reference: Reference, ids: Sequence[str], side: Side = Side.EXTERNAL) -> Parents:
    return links.parents(scope, run.config.connector_id, reference.erp_entity, reference.external_entity, ids, side)


def without_parent(reference: Reference, value: str, known: Parents, side: Side = Side.EXTERNAL) -> tuple[str, dict[str, Any]]:
    """Why this id has no parent (the end of a sentence that names it), and the details of the error."""
    if value in known:
        way = f"`reference: {{entity: {reference.erp_entity}, external: NAME}}`"
        return f"is linked with records of several external entities; say in the mapping which one is meant: {way}.", {}
    waits = {"erp_entity": reference.erp_entity, "external_id" if side is Side.EXTERNAL else "erp_id": value}
    named = {"external_entity": reference.external_entity} if reference.external_entity else {}
    return "is not linked yet; this heals itself once that one is synced.", {"waits_for": waits | named}
