"""What was written, and what is about to be: the before/after journal, write intents, and the key of each record.

Everything that we keep of one record (base, journal, intents) is sealed under that record's own key, so that it can be erased
in one stroke. Contents are JSON; long ones are compressed before they are sealed.
"""

import hashlib
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from connector_resources.sql import bytes_array, text_array
from integration_pipelines.canonical import array, extension
from integration_pipelines.model import Side
from integration_pipelines.store.database import Scope, each_wanted
from integration_pipelines.store.history import Attempt
from integration_pipelines.store.links import Pair
from integration_pipelines.store.vault import RecordKeys, record_key_id

if TYPE_CHECKING:
    import pandas as pd

_WORTH_PACKING = 1_000  # bytes: for less, zlib costs more time than the bytes it saves
_PACKED = b"x"  # what zlib begins with, and no JSON does


def subject(erp_entity: str, erp_id: str) -> str:
    """Whose key it is: the ERP record, whatever it is linked with."""
    return f"{erp_entity}/{erp_id}"


def keys_for(scope: Scope, subjects: Sequence[str]) -> RecordKeys:
    """Keys of these records, made where missing."""
    statement = each_wanted("SELECT id, subject, wrapped FROM data_keys WHERE subject = wanted.text OFFSET 0")
    found = list(scope.run(statement, wanted=text_array(list(dict.fromkeys(subjects)))))
    fresh = scope.vault.new_record_keys(sorted(set(subjects) - {row.subject for row in found}))
    ciphers = {}
    if fresh:
        made = scope.table(
            """INSERT INTO data_keys (tenant_id, subject, wrapped)
               SELECT :tenant, s, w FROM unnest(CAST(:s AS text[]), CAST(:w AS bytea[])) AS new (s, w)
               ON CONFLICT (tenant_id, subject) DO NOTHING RETURNING id, subject""",
            {"id": pa.int64(), "subject": pa.string()},
            tenant=scope.tenant,
            s=text_array(list(fresh)),
            w=bytes_array([wrapped for wrapped, _ in fresh.values()]),
        )
        if len(made) == len(fresh):
            numbers, names = (column.to_pylist() for column in made.columns)
            ciphers = {name: (number, fresh[name][1]) for number, name in zip(numbers, names, strict=True)}
        else:  # another process was faster
            found += scope.run(statement, wanted=text_array(list(fresh)))
    known = scope.vault.record_keys((row.id, row.subject, row.wrapped) for row in found)
    return RecordKeys({**known.by_subject, **ciphers})


def seal(
    scope: Scope,
    keys: RecordKeys,
    subjects: Sequence[str],
    contents: Sequence[bytes | None],
    places: Sequence[bytes],
) -> list[bytes | None]:
    """One ciphertext a record, bound to its place (`Vault.places`)."""
    packed = [zlib.compress(c, 6) if c is not None and len(c) > _WORTH_PACKING else c for c in contents]
    return scope.vault.seal_records(keys, subjects, packed, places)


def open_sealed(scope: Scope, sealed: Sequence[bytes | None], places: Sequence[bytes]) -> list[bytes | None]:
    """None where there was none, or where the record's key has been erased."""
    wanted = sorted({record_key_id(content) for content in sealed if content is not None})
    probe = "SELECT id, subject, wrapped FROM data_keys WHERE id = wanted.bigint OFFSET 0"
    rows = scope.run(each_wanted(probe, "bigint"), wanted=wanted)
    keys = scope.vault.record_keys((row.id, row.subject, row.wrapped) for row in rows)
    opened = scope.vault.open_records(keys, sealed, places)
    return [zlib.decompress(content) if content is not None and content[:1] == _PACKED else content for content in opened]


_RECORD = {Side.ERP: "erp_id", Side.EXTERNAL: "external_id"}


def journal(
    scope: Scope, attempt: Attempt, keys: RecordKeys, subjects: Sequence[str], rows: "pd.DataFrame", side: Side = Side.ERP
) -> None:
    """One row a record that was changed on that side. Columns: erp_id, external_id, action, changed_fields (JSON), before and
    after (bytes or None)."""
    sealed: dict[str, list[bytes | None]] = {}
    for column in ("before", "after"):
        content = array(rows[column])
        if content.null_count == len(content):
            sealed[column] = [None] * len(content)
            continue
        before = ("sync_record_changes", str(attempt.id), side.value)
        places = scope.vault.places(before, array(rows[_RECORD[side]]).to_pylist(), (column,))
        sealed[column] = seal(scope, keys, subjects, content.to_pylist(), places)
    digests = [
        hashlib.sha256((b or b"") + (a or b"")).digest() for b, a in zip(sealed["before"], sealed["after"], strict=True)
    ]
    contents = {name: extension(pa.array(values, pa.binary())) for name, values in {**sealed, "digest": digests}.items()}
    frame = rows[["erp_id", "external_id", "action", "changed_fields"]].assign(**contents)
    text = dict.fromkeys(("erp_id", "external_id", "action"), "text")
    scope.stage("changes", {**text, "changed_fields": "jsonb", "before": "bytea", "after": "bytea", "digest": "bytea"}, frame)
    scope.run(
        f"""INSERT INTO sync_record_changes (tenant_id, sync_history_id, side, record_id, action, external_id, erp_id,
                                             changed_fields, before, after, digest, changed_at)
            SELECT :tenant, :history, :side, {_RECORD[side]}, action, external_id, erp_id, changed_fields, before, after,
                   digest, clock_timestamp() FROM changes""",
        tenant=scope.tenant,
        history=attempt.id,
        side=side,
    )


def announce(
    scope: Scope, pair: Pair, attempt: Attempt, rows: "pd.DataFrame", payloads: Sequence[bytes], side: Side = Side.ERP
) -> None:
    """Write intents for that side, to be committed before anything is written there, each with what settles its record.
    Columns: intent (UUID), action, external_id, erp_id."""
    subjects = [subject(pair.erp_entity, erp_id) for erp_id in rows["erp_id"]]
    places = _payloads(scope, array(rows["intent"]).to_pylist())
    sealed = seal(scope, keys_for(scope, subjects), subjects, payloads, places)
    columns = {"intent": "uuid", "action": "text", "external_id": "text", "erp_id": "text", "payload": "bytea"}
    scope.stage("intents", columns, rows.assign(payload=extension(pa.array(sealed, pa.binary()))))
    scope.run(
        """INSERT INTO write_intents (id, tenant_id, sync_history_id, sync_configuration_id, side, action, external_id, erp_id,
                                      payload)
           SELECT intent, :tenant, :history, :sync, :side, action, external_id, erp_id, payload FROM intents""",
        side=side,
        tenant=scope.tenant,
        history=attempt.id,
        sync=attempt.sync_configuration_id,
    )


def _payloads(scope: Scope, intents: Sequence[str]) -> list[bytes]:
    return scope.vault.places(("write_intents",), intents, ("payload",))


def unsettled(scope: Scope, pair: Pair, side: Side = Side.ERP) -> dict[str, dict[str, Any]]:
    """Intents that were announced for that side and never settled, whichever sync config of the pair did so: id → payload
    (JSON values), and when that was (`announced`).

    A record whose key was erased since has action, external_id and erp_id only."""
    rows = scope.rows(
        """SELECT i.id::text, i.action, i.external_id, i.erp_id, i.payload, i.created_at
           FROM write_intents i JOIN sync_configurations s ON s.id = i.sync_configuration_id
           WHERE i.state = 'announced' AND i.side = :side AND s.connector_id = :connector AND s.source_entity = :external
             AND s.target_entity = :erp ORDER BY i.created_at""",
        side=side,
        **pair.values(),
    )
    opened = open_sealed(scope, [row["payload"] for row in rows], _payloads(scope, [row["id"] for row in rows]))
    plain = [{name: row[name] for name in ("action", "external_id", "erp_id")} for row in rows]
    return {
        row["id"]: (told if content is None else orjson.loads(content)) | {"announced": row["created_at"]}
        for row, told, content in zip(rows, plain, opened, strict=True)
    }


def written_by(scope: Scope, attempt: Attempt, erp_ids: Sequence[str]) -> set[str]:
    """Those of these ERP records that this very attempt has written to the external side already."""
    found = scope.run(
        """SELECT DISTINCT erp_id FROM sync_record_changes
           WHERE sync_history_id = :history AND side = 'external' AND erp_id = ANY(CAST(:ids AS text[]))""",
        history=attempt.id,
        ids=text_array(erp_ids),
    )
    return set(found.scalars())


def doubtful(scope: Scope, pair: Pair, erp_ids: Sequence[str]) -> set[str]:
    """Those of these ERP records whose creation over there may or may not have happened: nobody can tell but a person."""
    found = scope.run(
        """SELECT i.erp_id FROM write_intents i JOIN sync_configurations s ON s.id = i.sync_configuration_id
           WHERE i.state = 'unknown' AND i.action = 'create' AND i.erp_id = ANY(CAST(:ids AS text[]))
             AND s.connector_id = :connector AND s.source_entity = :external AND s.target_entity = :erp""",
        ids=text_array(erp_ids),
        **pair.values(),
    )
    return set(found.scalars())


def forget_doubt(scope: Scope, sync_id: int, erp_id: str) -> int:
    """A person has looked: what was in doubt never arrived. Returns how many intents that were."""
    return scope.run(
        """UPDATE write_intents SET state = 'abandoned', settled_at = now()
           WHERE state = 'unknown' AND erp_id = :erp_id AND sync_configuration_id = :sync""",
        erp_id=erp_id,
        sync=sync_id,
    ).rowcount


def settle_intents(scope: Scope, intents: Sequence[str], state: str) -> None:
    """confirmed, abandoned when the write never arrived, or unknown. The payload is dropped: the journal has it now."""
    scope.run(
        "UPDATE write_intents SET state = :state, settled_at = now(), payload = NULL WHERE id = ANY(CAST(:ids AS uuid[]))",
        ids=text_array(intents),
        state=state,
    )


def story(scope: Scope, erp_entity: str, erp_id: str) -> list[dict[str, Any]]:
    """All that the journal tells of one ERP record, the oldest first: when, action, fields, before and after (opened)."""
    rows = scope.rows(
        """SELECT j.sync_history_id, j.side, j.record_id, j.changed_at, j.action, j.changed_fields, j.before, j.after
           FROM sync_record_changes j JOIN sync_history h ON h.id = j.sync_history_id
           JOIN sync_configurations s ON s.id = h.sync_configuration_id
           WHERE j.erp_id = :erp_id AND s.target_entity = :entity ORDER BY j.changed_at""",
        erp_id=erp_id,
        entity=erp_entity,
    )
    told = [dict(row) for row in rows]
    for column in ("before", "after"):
        places = [
            scope.vault.place("sync_record_changes", str(row["sync_history_id"]), row["side"], row["record_id"], column)
            for row in told
        ]
        for row, content in zip(told, open_sealed(scope, [row[column] for row in told], places), strict=True):
            row[column] = None if content is None else orjson.loads(content)
    return told
