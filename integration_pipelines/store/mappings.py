"""Field mappings: each change is a new version, and an old version never changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from connector_resources.errors import ConfigurationError
from integration_pipelines.store import audit
from integration_pipelines.store.database import Scope


@dataclass(frozen=True)
class MappingRow:
    """A row of `field_mappings`."""

    id: int
    mapping_name: str
    source_entity: str
    target_entity: str
    mappings: Sequence[Any]
    transformation_functions: Mapping[str, Any]
    version: int


_COLUMNS = """id, mapping_name, source_entity, target_entity, mappings,
              COALESCE(transformation_functions, '{}') AS transformation_functions, version"""


def store(
    scope: Scope,
    *,
    mapping_name: str,
    source_entity: str,
    target_entity: str,
    mappings: Sequence[Any],
    transformation_functions: Mapping[str, Any],
    actor: str,
) -> MappingRow:
    """The next version of this name, active in place of the one before. Unchanged content gives the version that stands."""
    lock = f"{scope.tenant}/{mapping_name}"  # two at once would both make the next version
    scope.run("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))", lock=lock)
    row = scope.rows(
        f"SELECT {_COLUMNS} FROM field_mappings WHERE mapping_name = :name ORDER BY version DESC LIMIT 1",
        name=mapping_name,
    )
    last = MappingRow(**row[0]) if row else None
    as_stored = orjson.loads(orjson.dumps([mappings, transformation_functions]))
    new = (source_entity, target_entity, *as_stored)
    if last and new == (last.source_entity, last.target_entity, list(last.mappings), dict(last.transformation_functions)):
        return last
    scope.run("UPDATE field_mappings SET is_active = false, updated_at = now() WHERE mapping_name = :n", n=mapping_name)
    number = scope.run(
        """INSERT INTO field_mappings (tenant_id, mapping_name, source_entity, target_entity, mappings,
                                       transformation_functions, version, is_active)
           VALUES (:tenant, :name, :source, :target, CAST(:mappings AS jsonb), CAST(:functions AS jsonb), :version, true)
           RETURNING id""",
        tenant=scope.tenant,
        name=mapping_name,
        source=source_entity,
        target=target_entity,
        mappings=orjson.dumps(mappings).decode(),
        functions=orjson.dumps(transformation_functions).decode(),
        version=last.version + 1 if last else 1,
    ).scalar_one()
    audit.record(scope, actor, "mapping.store", f"field_mappings/{number}", {"name": mapping_name})
    return get(scope, int(number))


def get(scope: Scope, number: int) -> MappingRow:
    row = scope.rows(f"SELECT {_COLUMNS} FROM field_mappings WHERE id = :id", id=number)
    if not row:
        raise ConfigurationError(f"There is no field mapping {number} in this tenant.")
    return MappingRow(**row[0])
