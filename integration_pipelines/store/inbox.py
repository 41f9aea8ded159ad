"""External records that somebody said have changed (webhooks, events). A run claims those of its pair."""

from integration_pipelines.store.database import Scope
from integration_pipelines.store.history import Attempt
from integration_pipelines.store.links import Pair

_PENDING = "connector_id = :connector AND external_entity = :external AND status = 'pending'"


def claim(scope: Scope, pair: Pair, attempt: Attempt | None) -> list[str]:
    """Ids of the waiting rows, each once. The rows are this attempt's from now on, as are those that it claimed in an earlier
    try; without an attempt they are only looked at."""
    values = {"connector": pair.connector_id, "external": pair.external_entity}
    if attempt is None:
        return list(scope.run(f"SELECT DISTINCT external_id FROM inbox WHERE {_PENDING}", **values).scalars())
    claimed = f"UPDATE inbox SET status = 'claimed', sync_history_id = :history WHERE {_PENDING}"
    scope.run(claimed, history=attempt.id, **values)
    mine = "SELECT DISTINCT external_id FROM inbox WHERE sync_history_id = :history"
    return list(scope.run(mine, history=attempt.id).scalars())
