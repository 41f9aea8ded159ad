"""Alerts: what a tenant's administrators are told of, once when a sync has failed for good and once when it works again.

A row is written in the transaction of what it tells of; who sends it (operations/alerts.py) marks it as sent.
"""

from integration_pipelines.store.database import Scope

FAILED, RECOVERED = "failed", "recovered"


def failed(scope: Scope, history_id: int) -> None:
    """Nothing more is tried by itself. Of one outage there is one alert."""
    _record(scope, history_id, FAILED)


def recovered(scope: Scope, history_id: int) -> None:
    """The sync has ended well; told only where its failure was."""
    _record(scope, history_id, RECOVERED)


def _record(scope: Scope, history_id: int, kind: str) -> None:
    scope.run(
        """INSERT INTO alerts (tenant_id, sync_configuration_id, sync_history_id, kind)
           SELECT h.tenant_id, h.sync_configuration_id, h.id, CAST(:kind AS text) FROM sync_history h
           WHERE h.id = :id AND COALESCE((SELECT kind FROM alerts a WHERE a.sync_configuration_id = h.sync_configuration_id
                                          ORDER BY a.id DESC LIMIT 1), 'recovered') <> CAST(:kind AS text)""",
        id=history_id,
        kind=kind,
    )
