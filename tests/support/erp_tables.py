"""The ERP connector over a test's own database, and changes to write, in a line each."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from connector_resources.catalogue import CatalogueEntity, load_catalogue
from connector_resources.contract import Changes, Entity, Given, Page, Window
from connector_resources.erp import Erp, ErpPlace
from connector_resources.frames import arrow_type
from integration_pipelines.canonical import frame
from integration_pipelines.store.database import Database

Row = tuple[str, str | None, str | None, dict[str, Any]]  # action, id, version, values


class NoCredentials:
    def load(self) -> Mapping[str, str]:
        return {}

    def exclusive(self) -> Any:
        raise AssertionError("the ERP's tables need no credentials")


def given() -> Given:
    return Given("", "basic", NoCredentials(), lambda: datetime.now(UTC))


def reference_erp(database: Database, tenant: UUID) -> Erp:
    """Schema erp of our own database."""

    @contextmanager
    def ours() -> Iterator[sa.Connection]:
        with database.tenant(tenant) as scope:
            yield scope.connection

    return Erp(given(), load_catalogue(), ErpPlace(ours))


def changes(entity: Entity, rows: Sequence[Row]) -> Changes:
    """What to write: only the fields that a row names."""
    index = pd.Index([f"x{at}" for at in range(len(rows))])
    names = list(dict.fromkeys(name for *_, values in rows for name in values))
    columns, written = {}, {}
    for name in names:
        field = entity.field(name)
        assert field is not None, name
        columns[name] = pa.array([values.get(name) for *_, values in rows], arrow_type(field))
        written[name] = pa.array([name in values for *_, values in rows])
    steps = pd.DataFrame(
        {
            "action": [action for action, *_ in rows],
            "id": [record for _, record, *_ in rows],
            "version": [version for _, _, version, _ in rows],
            "intent": [str(uuid4()) for _ in rows],
        },
        index=index,
        dtype=object,
    )
    return Changes(frame(columns, index), frame(written, index), steps)


def write(erp: Erp, entity: str, *rows: Row) -> list[dict[str, Any]]:
    """Outcome of each row, in order."""
    described = erp.describe(entity)
    found = erp.write(described, changes(described, rows))
    assert list(found.index) == [f"x{at}" for at in range(len(rows))]
    return [{str(name): value for name, value in row.items()} for row in found.to_dict("records")]


def create(erp: Erp, entity: str, **values: Any) -> str:
    (record,) = erp.new_ids(erp.describe(entity), 1)
    (outcome,) = write(erp, entity, ("create", record, None, values))
    assert outcome["outcome"] == "done", outcome
    return record


def pages(erp: Erp, entity: str, fields: Sequence[str], since: datetime | None = None) -> list[Page]:
    return list(erp.read(erp.describe(entity), fields, Window(since)))


def records(found: Sequence[Page]) -> dict[str, dict[str, Any]]:
    """Id → field → Python value."""
    out: dict[str, dict[str, Any]] = {}
    for page in found:
        columns = {str(name): pa.array(page.records[name]).to_pylist() for name in page.records.columns}
        for at, record in enumerate(page.records.index):
            assert record not in out
            out[str(record)] = {name: values[at] for name, values in columns.items()}
    return out


def by_id(erp: Erp, entity: str, fields: Sequence[str], *ids: str) -> dict[str, dict[str, Any]]:
    return records(list(erp.read_ids(erp.describe(entity), fields, ids)))


def version(erp: Erp, entity: str, record: str) -> str:
    (page,) = erp.read_ids(erp.describe(entity), [], [record])
    return str(page.marks["version"].iloc[0])


def own_catalogue(folder: Path, text: str) -> Mapping[str, CatalogueEntity]:
    (folder / "own.yaml").write_text(text)
    return load_catalogue(folder / "own.yaml")
