"""Events on their way out: written in the transaction of what they announce, published by a relay later."""

from uuid import uuid4

import orjson

from integration_pipelines.events import Event
from integration_pipelines.store.database import Scope


def announce(scope: Scope, event: Event) -> None:
    """Put the event into the outbox, sealed."""
    event_id = uuid4()
    payload = orjson.dumps(event.payload(), default=str, option=orjson.OPT_UTC_Z)
    scope.run(
        """INSERT INTO outbox (tenant_id, event_id, event_name, subject, payload)
           VALUES (:tenant, :event, :name, :subject, :payload)""",
        tenant=scope.tenant,
        event=event_id,
        name=event.name,
        subject=f"sync_configurations/{event.history['sync_configuration_id']}",
        payload=scope.vault.seal(payload, "outbox", str(event_id), "payload"),
    )
