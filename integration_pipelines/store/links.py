"""Identity links: which external record is which ERP record, and what both sides last agreed on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from connector_resources.sql import bytes_array, text_array
from integration_pipelines.canonical import frame, record_index
from integration_pipelines.model import Side
from integration_pipelines.store.database import Scope, each_wanted
from integration_pipelines.store.vault import Vault

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

    def base_places(self, vault: Vault, external_ids: Sequence[str]) -> list[bytes]:
        """What the ciphertexts of these links' bases are bound to."""
        before = ("identity_links", str(self.connector_id), self.external_entity)
        return vault.places(before, external_ids, (self.erp_entity, "base"))


_PAIR = "connector_id = :connector AND external_entity = :external AND erp_entity = :erp"
# The same, out of the planner's sight. Without fresh statistics, as after a first load, it takes these three for rare, and
# reads all links of a connector where one was to be looked up. So an index is found by what it begins with, and by that alone:
# the connector for external ids, the tenant for match keys, the id for the rest. (Under row-level security no expression can
# begin one, unless its functions are leakproof: `-connector_id` is not.)
_ENTITIES = "external_entity || '' = :external AND erp_entity || '' = :erp"
_CONNECTOR = {Side.EXTERNAL: "connector_id = :connector", Side.ERP: "connector_id + 0 = :connector"}
_BY_ID = {side: f"{connector} AND {_ENTITIES}" for side, connector in _CONNECTOR.items()}
_HIDDEN = _BY_ID[Side.ERP]
_LINK = {
    "external_id": pa.string(),
    "erp_id": pa.string(),
    "link_id": pa.int64(),
    "revision": pa.int64(),
    "state": pa.string(),
    "match_digest": pa.binary(),
    "external_fingerprint": pa.binary(),
    "erp_fingerprint": pa.binary(),
}
_KEYS = {Side.EXTERNAL: "external_id", Side.ERP: "erp_id"}


def find(scope: Scope, pair: Pair, ids: Sequence[str], side: Side = Side.EXTERNAL, *, lock: bool = False) -> "pd.DataFrame":
    """Links of these records of one side, indexed by the record's id: link_id, revision, state, match_digest, both sides'
    fingerprints, and the id of the other side."""
    key = _KEYS[side]
    probe = f"""SELECT external_id, erp_id, id, revision, state, match_digest, external_fingerprint, erp_fingerprint
                FROM identity_links WHERE {_BY_ID[side]} AND {key} = wanted.text OFFSET 0{" FOR UPDATE" if lock else ""}"""
    found = scope.table(each_wanted(probe), _LINK, wanted=text_array(sorted(ids)), **pair.values())
    columns = {name: found.column(name).combine_chunks() for name in _LINK}
    return frame(columns, record_index(columns.pop(key)))


def mapped_by(scope: Scope, links: Sequence[int], mapping_id: int) -> set[int]:
    """Those of these links that were last saved under this mapping version."""
    probe = "SELECT id FROM identity_links WHERE id = wanted.bigint AND field_mapping_id = :mapping OFFSET 0"
    found = scope.run(each_wanted(probe, "bigint"), wanted=list(links), mapping=mapping_id)
    return set(found.scalars())


def bases(scope: Scope, link_ids: Sequence[int]) -> Mapping[int, bytes]:
    """What these links' two sides last agreed on, sealed."""
    probe = "SELECT id, base FROM identity_links WHERE id = wanted.bigint OFFSET 0"
    return {row.id: row.base for row in scope.run(each_wanted(probe, "bigint"), wanted=list(link_ids))}


def taken(scope: Scope, pair: Pair, erp_ids: Sequence[str]) -> Mapping[str, str]:
    """Which of these ERP records are linked already: ERP id → external id."""
    probe = f"SELECT erp_id, external_id FROM identity_links WHERE {_HIDDEN} AND erp_id = wanted.text OFFSET 0"
    rows = scope.rows(each_wanted(probe), wanted=text_array(erp_ids), **pair.values())
    return {row["erp_id"]: row["external_id"] for row in rows}


def claimed(scope: Scope, pair: Pair, digests: Sequence[bytes]) -> Mapping[bytes, str]:
    """Match keys that linked records hold: digest → external id."""
    probe = f"""SELECT match_digest, external_id FROM identity_links
                WHERE tenant_id = :tenant AND {_HIDDEN} AND match_digest = wanted.bytea AND state <> 'deleted' OFFSET 0"""
    rows = scope.rows(each_wanted(probe, "bytea"), wanted=bytes_array(digests), tenant=scope.tenant, **pair.values())
    return {bytes(row["match_digest"]): row["external_id"] for row in rows}


def merge_winners(scope: Scope, pair: Pair, external_ids: Sequence[str]) -> list[str]:
    """Those of these external records into which another one was merged that still waits for a person."""
    probe = (
        f"SELECT merged_into FROM identity_links WHERE {_HIDDEN} AND state = 'parked' AND merged_into = wanted.text OFFSET 0"
    )
    return list(scope.run(each_wanted(probe), wanted=text_array(external_ids), **pair.values()).scalars())


def parents(
    scope: Scope,
    connector_id: int,
    erp_entity: str,
    external_entity: str | None,
    ids: Sequence[str],
    side: Side = Side.EXTERNAL,
) -> Mapping[str, str | None]:
    """Records that others refer to by their id on that side: id → the id on the other side. On the way out deleted ones are
    none. None where several external entities have such a record, and not all mean the same one on the other side."""
    entity = "" if external_entity is None else "AND external_entity || '' = :external"
    alive = "" if side is Side.EXTERNAL else "AND state <> 'deleted'"
    probe = f"""SELECT external_id, erp_id FROM identity_links
                WHERE {_CONNECTOR[side]} AND erp_entity || '' = :erp {entity} {alive}
                  AND {_KEYS[side]} = wanted.text OFFSET 0"""
    values = {"connector": connector_id, "erp": erp_entity} | ({"external": external_entity} if entity else {})
    rows = scope.rows(each_wanted(probe), wanted=text_array(ids), **values)
    found: dict[str, str | None] = {}
    for row in rows:
        key, other = row[_KEYS[side]], row["erp_id" if side is Side.EXTERNAL else "external_id"]
        found[key] = other if found.get(key, other) == other else None
    return found


def standing(scope: Scope, pair: Pair) -> pa.Array:
    """ERP ids of all pairs that have not ended with a deletion."""
    statement = f"SELECT erp_id FROM identity_links WHERE {_PAIR} AND state <> 'deleted'"
    found: pa.Array = scope.table(statement, {"erp_id": pa.string()}, **pair.values()).column(0).combine_chunks()
    return found


def known(scope: Scope, pair: Pair, most: int | None) -> int:
    """How many pairs are active, counted up to `most` (None: all), in the order of an index: what others have is not read."""
    statement = f"""SELECT count(*) FROM (SELECT FROM identity_links WHERE {_PAIR} AND state = 'active'
                    ORDER BY connector_id, external_id LIMIT :most) AS found"""
    return int(scope.run(statement, most=most, **pair.values()).scalar_one())


def save(scope: Scope, pair: Pair, rows: "pd.DataFrame", field_mapping_id: int) -> None:
    """Insert new links and update those that stand; the caller holds their row locks and has compared the revisions.

    Columns: link_id (null: new), external_id, erp_id, base, external_fingerprint, erp_fingerprint, match_digest,
    external_version, erp_version, state."""
    binary = dict.fromkeys(("base", "external_fingerprint", "erp_fingerprint", "match_digest"), "bytea")
    text = dict.fromkeys(("external_id", "erp_id", "external_version", "erp_version", "state"), "text")
    scope.stage("links", {"link_id": "bigint", **text, **binary}, rows)
    columns = """tenant_id, connector_id, external_entity, external_id, erp_entity, erp_id, base, field_mapping_id,
                 external_fingerprint, erp_fingerprint, external_version, erp_version, match_digest, state"""
    values = """:tenant, :connector, :external, external_id, :erp, erp_id, base, :mapping, external_fingerprint,
                erp_fingerprint, external_version, erp_version, match_digest, state"""
    told = {"tenant": scope.tenant, "mapping": field_mapping_id, **pair.values()}
    # An upsert finds each link by its key. An UPDATE … FROM would be joined with all links of the tenant by a planner that has
    # no statistics yet.
    scope.run(
        f"""INSERT INTO identity_links AS l (id, {columns}) SELECT link_id, {values} FROM links WHERE link_id IS NOT NULL
            ON CONFLICT (id) DO UPDATE SET external_id = EXCLUDED.external_id, erp_id = EXCLUDED.erp_id, base = EXCLUDED.base,
               field_mapping_id = EXCLUDED.field_mapping_id, external_fingerprint = EXCLUDED.external_fingerprint,
               erp_fingerprint = EXCLUDED.erp_fingerprint, external_version = EXCLUDED.external_version,
               erp_version = EXCLUDED.erp_version, match_digest = EXCLUDED.match_digest, state = EXCLUDED.state,
               merged_into = NULL, revision = l.revision + 1, updated_at = now()""",
        **told,
    )
    scope.run(f"INSERT INTO identity_links ({columns}) SELECT {values} FROM links WHERE link_id IS NULL", **told)


def park(scope: Scope, pair: Pair, merged: Mapping[str, str | None]) -> None:
    """Mark these pairs as waiting for a person; `merged`: external id → the id that it was merged into, or None."""
    scope.run(
        f"""UPDATE identity_links l SET state = 'parked', merged_into = COALESCE(s.into_id, l.merged_into),
                revision = l.revision + 1, updated_at = now()
            FROM unnest(CAST(:ids AS text[]), CAST(:into AS text[])) AS s (external_id, into_id)
            WHERE {_BY_ID[Side.EXTERNAL]} AND l.external_id = s.external_id
              AND (l.state <> 'parked' OR s.into_id IS DISTINCT FROM l.merged_into)""",
        ids=list(merged),
        into=list(merged.values()),
        **pair.values(),
    )
