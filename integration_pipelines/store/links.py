"""Identity links: which external record is which ERP record, and what both sides last agreed on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from integration_pipelines.store.database import Scope

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Pair:
    """Which entities of which connector are linked with each other."""

    connector_id: int
    external_entity: str
    erp_entity: str

    def values(self) -> dict[str, object]:
        return {"connector": self.connector_id, "external": self.external_entity, "erp": self.erp_entity}

    def base_place(self, external_id: str) -> tuple[str, ...]:
        """What the ciphertext of a link's base is bound to."""
        return ("identity_links", str(self.connector_id), self.external_entity, external_id, self.erp_entity, "base")


_PAIR = "connector_id = :connector AND external_entity = :external AND erp_entity = :erp"
_COLUMNS = """id, external_id, erp_id, base, field_mapping_id, external_fingerprint, erp_fingerprint, external_version,
              erp_version, match_digest, revision, state"""


def find(scope: Scope, pair: Pair, external_ids: Sequence[str], *, lock: bool = False) -> "pd.DataFrame":
    """Links of these external records, indexed by external id."""
    statement = f"SELECT {_COLUMNS} FROM identity_links WHERE {_PAIR} AND external_id = ANY(:ids)"
    found = scope.frame(statement + (" ORDER BY id FOR UPDATE" if lock else ""), ids=list(external_ids), **pair.values())
    return found.set_index("external_id")


def taken(scope: Scope, pair: Pair, erp_ids: Sequence[str]) -> Mapping[str, str]:
    """Which of these ERP records are linked already: ERP id → external id."""
    rows = scope.rows(
        f"SELECT erp_id, external_id FROM identity_links WHERE {_PAIR} AND erp_id = ANY(:ids)",
        ids=list(erp_ids),
        **pair.values(),
    )
    return {row["erp_id"]: row["external_id"] for row in rows}


def claimed(scope: Scope, pair: Pair, digests: Sequence[bytes]) -> Mapping[bytes, str]:
    """Match keys that linked records hold: digest → external id."""
    rows = scope.rows(
        f"""SELECT match_digest, external_id FROM identity_links
            WHERE {_PAIR} AND match_digest = ANY(:digests) AND state <> 'deleted'""",
        digests=list(digests),
        **pair.values(),
    )
    return {bytes(row["match_digest"]): row["external_id"] for row in rows}


def merge_winners(scope: Scope, pair: Pair, external_ids: Sequence[str]) -> list[str]:
    """Those of these external records into which another one was merged that still waits for a person."""
    return list(
        scope.run(
            f"SELECT DISTINCT merged_into FROM identity_links WHERE {_PAIR} AND state = 'parked' AND merged_into = ANY(:ids)",
            ids=list(external_ids),
            **pair.values(),
        ).scalars()
    )


def parents(
    scope: Scope, connector_id: int, erp_entity: str, external_entity: str | None, external_ids: Sequence[str]
) -> Mapping[str, str]:
    """External id → ERP id of records that others refer to."""
    rows = scope.rows(
        """SELECT external_id, erp_id FROM identity_links WHERE connector_id = :connector AND erp_entity = :erp
             AND (CAST(:external AS text) IS NULL OR external_entity = :external) AND external_id = ANY(:ids)""",
        connector=connector_id,
        erp=erp_entity,
        external=external_entity,
        ids=list(external_ids),
    )
    return {row["external_id"]: row["erp_id"] for row in rows}


def known(scope: Scope, pair: Pair) -> int:
    """How many pairs are active: what the brake measures against."""
    return int(
        scope.run(f"SELECT count(*) FROM identity_links WHERE {_PAIR} AND state = 'active'", **pair.values()).scalar_one()
    )


def save(scope: Scope, pair: Pair, rows: "pd.DataFrame", field_mapping_id: int) -> None:
    """Insert new links and update those that stand; the caller holds their row locks and has compared the revisions.

    Columns: link_id (null: new), external_id, erp_id, base, external_fingerprint, erp_fingerprint, match_digest (bytes as
    "\\\\x…" text), external_version, erp_version, state."""
    binary = dict.fromkeys(("base", "external_fingerprint", "erp_fingerprint", "match_digest"), "bytea")
    text = dict.fromkeys(("external_id", "erp_id", "external_version", "erp_version", "state"), "text")
    scope.stage("links", {"link_id": "bigint", **text, **binary}, rows)
    scope.run(
        """UPDATE identity_links l SET erp_id = s.erp_id, base = s.base, field_mapping_id = :mapping,
               external_fingerprint = s.external_fingerprint, erp_fingerprint = s.erp_fingerprint,
               external_version = s.external_version, erp_version = s.erp_version,
               match_digest = s.match_digest, state = s.state, merged_into = NULL,
               revision = l.revision + 1, updated_at = now()
           FROM links s WHERE l.id = s.link_id""",
        mapping=field_mapping_id,
    )
    scope.run(
        """INSERT INTO identity_links (tenant_id, connector_id, external_entity, external_id, erp_entity, erp_id, base,
               field_mapping_id, external_fingerprint, erp_fingerprint, external_version, erp_version, match_digest, state)
           SELECT :tenant, :connector, :external, external_id, :erp, erp_id, base, :mapping, external_fingerprint,
                  erp_fingerprint, external_version, erp_version, match_digest, state FROM links WHERE link_id IS NULL""",
        tenant=scope.tenant,
        mapping=field_mapping_id,
        **pair.values(),
    )


def park(scope: Scope, pair: Pair, merged: Mapping[str, str | None]) -> None:
    """Mark these pairs as waiting for a person; `merged`: external id → the id that it was merged into, or None."""
    scope.run(
        f"""UPDATE identity_links l SET state = 'parked', merged_into = COALESCE(s.into_id, l.merged_into),
                revision = l.revision + 1, updated_at = now()
            FROM unnest(CAST(:ids AS text[]), CAST(:into AS text[])) AS s (external_id, into_id)
            WHERE {_PAIR} AND l.external_id = s.external_id
              AND (l.state <> 'parked' OR s.into_id IS DISTINCT FROM l.merged_into)""",
        ids=list(merged),
        into=list(merged.values()),
        **pair.values(),
    )
