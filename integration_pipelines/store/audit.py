"""Who did what: one row an action. The application may add rows and read them, never change them."""

from collections.abc import Mapping
from typing import Any

import orjson

from integration_pipelines.store.database import Scope


def record(
    scope: Scope, actor: str, action: str, subject: str, detail: Mapping[str, Any] | None = None, *, succeeded: bool = True
) -> None:
    """`detail` holds ids, names of fields and counts: no secret and no value of a record."""
    scope.run(
        """INSERT INTO audit_log (tenant_id, actor, action, subject, detail, succeeded)
           VALUES (:tenant, :actor, :action, :subject, CAST(:detail AS jsonb), :succeeded)""",
        tenant=scope.tenant,
        actor=actor,
        action=action,
        subject=subject,
        detail=orjson.dumps(detail, default=str).decode() if detail is not None else None,
        succeeded=succeeded,
    )
