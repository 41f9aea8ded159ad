"""What became of writes that got no answer, found by looking. Changes nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from connector_resources.contract import Changes, Entity, Field, FieldType, Outcome, Page
from connector_resources.salesforce.jobs import Jobs
from connector_resources.salesforce.reader import Reader
from connector_resources.salesforce.results import Result, frame
from connector_resources.salesforce.rows import key_values
from connector_resources.salesforce.values import array

if TYPE_CHECKING:
    import pandas as pd


def probe(reader: Reader, jobs: Jobs, entity: Entity, changes: Changes) -> "pd.DataFrame":
    """See Connector.probe. Raises SystemUnavailable while a bulk job may still carry them out.

    A create is recognised by its upsert key, an update by the values that it wrote. A version is told only where the record
    still holds those values: else somebody has changed it since, and that change must be noticed when the record is read."""
    jobs.none_alive(entity.name)
    columns = [str(name) for name in changes.written.columns if changes.written[name].any()]
    asked = [
        _Asked(*row) for row in zip(*_steps(changes), key_values(entity, changes), _sought(changes, columns), strict=True)
    ]
    made = _found_by_key(reader, entity, columns, [one.key for one in asked if one.key])
    there = _found_by_id(reader, entity, columns, [one.id for one in asked if one.id and one.action != "create"])
    fields = reader.plan(entity, columns).fields
    results = []
    for one in asked:
        record = made.get(one.key.casefold()) if one.key else there.get(str(one.id)[:15])
        told = {name: value for name, value in one.values.items() if name != entity.upsert_key or not one.key}
        same = record is not None and all(_alike(fields[name], value, record[name]) for name, value in told.items())
        results.append(_create(entity, one, record, same) if one.action == "create" else _change(entity, one, record, same))
    return frame(changes, results)


@dataclass(frozen=True)
class _Asked:
    """A change that got no answer."""

    action: str
    id: str | None
    version: str | None
    key: str | None
    values: Mapping[str, Any]


def _create(entity: Entity, one: _Asked, record: Mapping[str, Any] | None, same: bool) -> Result:
    if one.key is None:
        message = (
            f"Nobody can tell whether this {entity.name} was created: look for it in Salesforce, and name a unique external "
            "id in the connector's external_ids so that it cannot happen again."
        )
        return Result(Outcome.UNKNOWN, one.id, message=message)
    if record is None:
        return Result(Outcome.ABSENT, one.id)
    return Result(Outcome.DONE, record["id"], record["version"] if same else None)


def _change(entity: Entity, one: _Asked, record: Mapping[str, Any] | None, same: bool) -> Result:
    gone = record is None or record["deleted"]
    if one.action == "delete":
        return Result(Outcome.DONE if gone else Outcome.ABSENT, one.id)
    if record is None or gone:
        return Result(Outcome.ABSENT, one.id)  # sending it again finds out that the record is gone
    if same:
        return Result(Outcome.DONE, one.id, record["version"])
    if one.version is not None and record["version"] == one.version:
        return Result(Outcome.ABSENT, one.id)
    message = f"The {entity.name} was changed in Salesforce since, so nobody can tell whether this update arrived; look there."
    return Result(Outcome.UNKNOWN, one.id, message=message)


def _steps(changes: Changes) -> list[list[Any]]:
    return [array(changes.steps[name]).to_pylist() for name in ("action", "id", "version")]


def _sought(changes: Changes, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Field → value that each record was to get."""
    rows: list[dict[str, Any]] = [{} for _ in range(len(changes.steps))]
    for name in columns:
        told = changes.written[name].to_numpy(dtype=bool)
        for row, value, wanted in zip(rows, array(changes.records[name]).to_pylist(), told, strict=True):
            if wanted:
                row[name] = value
    return rows


def _found_by_key(reader: Reader, entity: Entity, columns: Sequence[str], keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Records by the value of their upsert key; a living one before one that was deleted since."""
    name = entity.upsert_key
    if name is None or not keys:
        return {}
    plan = reader.plan(entity, list(dict.fromkeys([name, *columns])))
    return _records(reader.among(plan, name, keys), lambda record: str(record[name]).casefold())


def _found_by_id(reader: Reader, entity: Entity, columns: Sequence[str], ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    return _records(reader.ids(reader.plan(entity, columns), ids), lambda record: str(record["id"])[:15]) if ids else {}


def _records(pages: Any, key: Callable[[Mapping[str, Any]], str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for page in pages:
        for record in _unfolded(page):
            known = found.get(key(record))
            if known is None or known["deleted"]:
                found[key(record)] = record
    return found


def _unfolded(page: Page) -> list[dict[str, Any]]:
    """Values and marks of each record of a page. Field names of Salesforce begin with a capital letter, marks do not."""
    columns = {str(name): array(page.records[name]).to_pylist() for name in page.records.columns}
    marks = {str(name): array(page.marks[name]).to_pylist() for name in page.marks.columns}
    ids = {"id": [str(id_) for id_ in page.records.index]}
    together = ids | marks | columns
    return [dict(zip(together, row, strict=True)) for row in zip(*together.values(), strict=True)]


def _alike(field: Field, ours: Any, theirs: Any) -> bool:
    """Whether Salesforce made `theirs` of `ours`: it trims texts, rounds numbers to the field's scale, and keeps seconds."""
    return bool(_kept(field, ours) == _kept(field, theirs))


def _kept(field: Field, value: Any) -> Any:
    if isinstance(value, str):
        if field.type is FieldType.STRING and field.references:
            return value[:15]
        return value.replace("\r\n", "\n").strip() or None
    if isinstance(value, Decimal):
        return value.quantize(Decimal(1).scaleb(-field.scale), ROUND_HALF_UP)
    if isinstance(value, datetime):
        return value.replace(microsecond=0)
    return value
