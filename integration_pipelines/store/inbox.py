"""External records that somebody said have changed (webhooks, events). A run claims those of its pair."""

from collections.abc import Sequence

from connector_resources.errors import InvalidRecord
from connector_resources.frames import UNSTORABLE, storable
from integration_pipelines.store.database import Scope
from integration_pipelines.store.history import Attempt
from integration_pipelines.store.links import Pair

_PENDING = "connector_id = :connector AND external_entity = :external AND erp_entity = :erp AND status = 'pending'"


def arrived(
    scope: Scope, connector_id: int, external_entity: str, ids: Sequence[str], webhook_event_id: int | None = None
) -> int:
    """These records have changed over there: one row for each and each pair that an active sync config keeps of the entity.
    Returns how many rows that made; 0: no sync reads this entity. Raises InvalidRecord for a text that cannot be stored."""
    if not all(map(storable, (external_entity, *ids))):
        raise InvalidRecord(f"An id in the event, or its entity, {UNSTORABLE}; no record of ours has such a one.")
    return scope.run(
        """INSERT INTO inbox (tenant_id, connector_id, external_entity, external_id, erp_entity, webhook_event_id)
           SELECT :tenant, :connector, :external, record.id, pair.target_entity, :event
           FROM unnest(CAST(:ids AS text[])) AS record (id), (
               SELECT DISTINCT target_entity FROM sync_configurations
               WHERE connector_id = :connector AND source_entity = :external AND is_active AND deleted_at IS NULL) AS pair""",
        tenant=scope.tenant,
        connector=connector_id,
        external=external_entity,
        ids=list(dict.fromkeys(ids)),
        event=webhook_event_id,
    ).rowcount


def claim(scope: Scope, pair: Pair, attempt: Attempt | None) -> list[str]:
    """Ids of the waiting rows, each once. The rows are this attempt's from now on, as are those that it claimed in an earlier
    try; without an attempt they are only looked at."""
    values = pair.values()
    if attempt is None:
        return list(scope.run(f"SELECT DISTINCT external_id FROM inbox WHERE {_PENDING}", **values).scalars())
    claimed = f"UPDATE inbox SET status = 'claimed', sync_history_id = :history WHERE {_PENDING}"
    scope.run(claimed, history=attempt.id, **values)
    mine = "SELECT DISTINCT external_id FROM inbox WHERE sync_history_id = :history"
    return list(scope.run(mine, history=attempt.id).scalars())
