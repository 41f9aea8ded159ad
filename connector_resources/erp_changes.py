"""What has changed in the ERP since a position of its change log.

A position is a transaction number: all that transactions before it have done has been seen. The next one is the oldest
transaction that is still open, so that a row which is committed late is not skipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from connector_resources.contract import Entity
from connector_resources.erp import Erp


@dataclass(frozen=True)
class Changed:
    """`ids`: records that were made or changed; None: it is not known, so all of them. `position`: where to go on."""

    ids: Sequence[str] | None
    deleted: Sequence[str]
    position: str


def changed_since(erp: Erp, entity: Entity, position: str | None) -> Changed:
    """Each record once, by what happened to it last. A position that lies ahead is of another server (a restored backup);
    and where a table was truncated since, nobody knows what is gone."""
    statement = f"""SELECT record_id, (array_agg(action ORDER BY id DESC))[1] = 'delete' AS gone
        FROM {erp.place.schema}.change_log WHERE entity = :entity AND txid >= :since AND txid < :until
        GROUP BY record_id ORDER BY max(id)"""
    with erp.place.connect() as connection:
        horizon = connection.exec_driver_sql("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint").scalar_one()
        since = int(position) if position and position.isdigit() else None
        if since is None or since > horizon:
            return Changed(None, (), str(horizon))
        values = {"entity": entity.name, "since": since, "until": horizon}
        rows = connection.execute(sa.text(statement), values).all()
    if not all(row.record_id for row in rows):
        return Changed(None, (), str(horizon))
    ids, gone = [row.record_id for row in rows if not row.gone], [row.record_id for row in rows if row.gone]
    return Changed(ids, gone, str(horizon))
