"""A connector over a dictionary, and a world of one tenant that syncs it into the reference ERP, without Dagster."""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

import pandas as pd
import pyarrow as pa
from clients import CLIENT, CLIENT_MAPPING, PERSON

from connector_resources.contract import (
    Capabilities,
    Changes,
    Condition,
    Connector,
    Entity,
    Given,
    Health,
    Outcome,
    Page,
    Window,
)
from connector_resources.erp import Erp
from connector_resources.frames import arrow_type, page
from integration_pipelines.model import Batch, SyncStatus
from integration_pipelines.orchestration.resources import ErpResource
from integration_pipelines.settings import Settings
from integration_pipelines.steps.extract import extract
from integration_pipelines.steps.load import Counts, load
from integration_pipelines.steps.mapping import compile_mapping, from_json, parse_yaml
from integration_pipelines.steps.mapping_outward import compile_outward
from integration_pipelines.steps.outgoing import mapped
from integration_pipelines.steps.resolve import resolve
from integration_pipelines.steps.run import Run
from integration_pipelines.steps.validate import validated
from integration_pipelines.store import connectors, history, mappings, syncs, tenants
from integration_pipelines.store.database import Database, Scope


def now() -> datetime:
    return datetime.now(UTC)


START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Note:
    """One record of the notebook; `said`: the fields that it names."""

    values: dict[str, Any]
    changed: datetime
    deleted: bool = False
    merged_into: str | None = None


def _outcomes(rows: Sequence[tuple[Outcome, str | None, str | None, str | None]], changes: Changes) -> pd.DataFrame:
    """As manifests' connectors give ids and versions: Arrow-typed. A message may be anything that Python can spell."""
    index = changes.steps.index
    outcome, message = (pd.Series([row[at] for row in rows], index=index, dtype=object) for at in (0, 3))
    texts = {
        name: pd.Series(pd.arrays.ArrowExtensionArray(pa.array([row[at] for row in rows], pa.string())), index=index)
        for at, name in enumerate(("id", "version"), 1)
    }
    return pd.DataFrame({"outcome": outcome, **texts, "message": message})


class Notebook(Connector):
    type = "notebook"
    capabilities = Capabilities(delta_read=True, deletes=True, write=True, idempotency="header", find=True)

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.notes: dict[str, dict[str, Note]] = {"Client": {}, "Person": {}}
        self.described = {"Client": CLIENT, "Person": PERSON}
        self.clock = START
        self.page_size = 1000
        self.reads: list[Window | Sequence[str]] = []
        self.writes: list[tuple[str, str | None, dict[str, Any]]] = []  # action, id, values
        self.intents: dict[str, tuple[str | None, str | None]] = {}  # what arrived: intent → id and version
        self.respell: Callable[[str, Any], Any] = lambda _, value: value
        self.refuse: Callable[[dict[str, Any]], str | None] = lambda _: None
        self.taken: Callable[[dict[str, Any]], str | None] = lambda _: None  # why none like this is made (409)
        self.answer_lost: Callable[[str, str | None], bool] = lambda *_: False  # it arrived, and nobody knows
        self.request_lost: Callable[[str, str | None], bool] = lambda *_: False  # it did not arrive
        self.forgetful = False  # cannot say what became of a write
        self.keyed = False  # recognises a write by its key, and by nothing else
        self.tells_versions = True  # in its answers to writes

    def write_note(self, entity: str, record: str, **values: Any) -> None:
        """Create or change a record, a second later than the one before."""
        self.clock += timedelta(seconds=1)
        note = self.notes[entity].setdefault(record, Note({}, self.clock))
        note.values.update(values)
        note.changed, note.deleted = self.clock, False

    def remove(self, entity: str, record: str, merged_into: str | None = None) -> None:
        self.clock += timedelta(seconds=1)
        note = self.notes[entity][record]
        note.changed, note.deleted, note.merged_into = self.clock, True, merged_into

    def test(self) -> Health:
        return Health("notebook")

    def entities(self) -> Sequence[str]:
        return sorted(self.described)

    def describe(self, entity: str) -> Entity:
        return self.described[entity]

    def read(self, entity: Entity, fields: Sequence[str], window: Window) -> Iterator[Page]:
        self.reads.append(window)
        notes = sorted(self.notes[entity.name].items(), key=lambda item: (item[1].changed, item[0]))
        chosen = [(record, note) for record, note in notes if window.since is None or note.changed >= window.since]
        for start in range(0, len(chosen), self.page_size):
            yield self._page(entity, fields, chosen[start : start + self.page_size])

    def read_ids(self, entity: Entity, fields: Sequence[str], ids: Sequence[str]) -> Iterator[Page]:
        if ids:
            self.reads.append(list(ids))
        chosen = [(record, self.notes[entity.name][record]) for record in ids if record in self.notes[entity.name]]
        if chosen:
            yield self._page(entity, fields, chosen)

    def find(self, entity: Entity, fields: Sequence[str], where: Condition) -> Iterator[Page]:
        self.reads.append([f"{where.field}={value}" for value in where.values])
        notes = self.notes[entity.name].items()
        wanted = {_folded(value) for value in where.values}
        chosen = [(r, note) for r, note in notes if _folded(note.values.get(where.field)) in wanted and not note.deleted]
        if chosen:
            yield self._page(entity, fields, chosen)

    def write(self, entity: Entity, changes: Changes) -> pd.DataFrame:
        rows = []
        for at, step in enumerate(changes.steps.to_dict("records")):
            said = changes.written.iloc[at].to_numpy(dtype=bool)
            row = zip(changes.records.columns, changes.records.iloc[at], said, strict=True)
            values = {str(name): None if pd.isna(value) else value for name, value, told in row if told}
            rows.append(self._write(entity.name, step["action"], step["id"], step["version"], step["intent"], values))
        return _outcomes(rows, changes)

    def _write(
        self, entity: str, action: str, record: str | None, version: str | None, intent: str, values: dict[str, Any]
    ) -> tuple[Outcome, str | None, str | None, str | None]:
        if self.request_lost(action, record):
            return Outcome.UNKNOWN, record, None, None
        if self.keyed and intent in self.intents:
            return Outcome.DONE, *self.intents[intent], None
        assert intent not in self.intents, "an intent was used twice"
        note = self.notes[entity].get(record or "")
        if action != "create" and (note is None or note.deleted or (version and note.changed.isoformat() != version)):
            return Outcome.MOVED, record, None, None
        if action == "create" and (reason := self.taken(values)):
            return Outcome.MOVED, record, None, reason
        if reason := self.refuse(values):
            return Outcome.REFUSED, record, None, reason
        self.writes.append((action, record, values))
        record = record or f"N{len(self.writes)}"
        if action == "delete":
            self.remove(entity, record)
        else:
            self.write_note(entity, record, **{name: self.respell(name, value) for name, value in values.items()})
        told = self.notes[entity][record].changed.isoformat()
        self.intents[intent] = record, told
        if self.answer_lost(action, record):
            return Outcome.UNKNOWN, None, None, None
        return Outcome.DONE, record, told if self.tells_versions else None, None

    def probe(self, entity: Entity, changes: Changes) -> pd.DataFrame:
        if self.forgetful:
            return super().probe(entity, changes)
        if self.keyed:
            return super().probe(entity, changes).assign(outcome=Outcome.ABSENT)
        known = [self.intents.get(str(intent)) for intent in changes.steps["intent"]]
        rows = [(Outcome.DONE, *one, None) if one else (Outcome.ABSENT, None, None, None) for one in known]
        return _outcomes(rows, changes)

    def _page(self, entity: Entity, fields: Sequence[str], chosen: Sequence[tuple[str, Note]]) -> Page:
        columns = {}
        for name in fields:
            described = entity.field(name)
            assert described is not None
            columns[name] = (arrow_type(described), [note.values.get(name) for _, note in chosen])
        made = page(
            [record for record, _ in chosen],
            columns,
            version=[note.changed.isoformat() for _, note in chosen],
            modified=[note.changed for _, note in chosen],
            deleted=[note.deleted for _, note in chosen],
            merged_into=[note.merged_into for _, note in chosen],
        )
        silent = [[name not in note.values for name in fields] for _, note in chosen]
        if any(any(row) for row in silent):
            made.absent = made.records.isna().astype("bool[pyarrow]")
            for at, name in enumerate(fields):
                made.absent[name] = pa.array([row[at] for row in silent]).to_pandas().to_numpy()
        return made


def _folded(value: Any) -> str:
    return str(value).strip().casefold()


class NoStore:
    def load(self) -> Mapping[str, str]:
        return {}

    def exclusive(self) -> Any:
        raise AssertionError("a notebook has no credentials")


@dataclass
class World:
    """One tenant, one notebook, one sync of it into the ERP."""

    database: Database
    settings: Settings
    tenant: uuid.UUID
    connector_id: int
    config: syncs.SyncConfig
    book: Notebook

    @cached_property
    def erp(self) -> Erp:
        return ErpResource(self.settings, now).open(self.database, self.tenant)

    def run(self, *, opened: bool = True) -> Run:
        erp = self.erp
        source, target = self.book.describe(self.config.external_entity), erp.describe(self.config.erp_entity)
        attempt = None
        with self.database.tenant(self.tenant) as scope:
            self.config = syncs.get(scope, self.config.id)
            row = mappings.get(scope, self.config.mapping_id)
            if opened:
                attempt = history.open_attempt(scope, self.config, 1, uuid.uuid4(), None, now())
        stored = (row.mapping_name, row.source_entity, row.target_entity, row.mappings, row.transformation_functions)
        entities = {name: one.entity for name, one in erp.catalogue.items()}
        definition = from_json(*stored)
        mapping = compile_mapping(definition, target, source, entities)
        outward = compile_outward(definition, target, source, entities) if self.config.direction.outward else None
        run = Run(self.database, self.tenant, self.config, mapping, self.book, source, erp, target, now, attempt, outward)
        run.batch_size = self.book.page_size  # a batch is a page of the notebook
        return run

    def planned(self, run: Run) -> list[Batch]:
        read = [mapped(run, batch) for batch in validated(run, extract(run))]
        return [Batch.from_bytes(batch.to_bytes()) for batch in resolve(run, read)]

    def sync(self) -> tuple[Counts, SyncStatus]:
        run = self.run()
        return load(run, self.planned(run))

    def rows(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        with self.database.tenant(self.tenant) as scope:
            return [dict(row) for row in scope.rows(sql, **values)]

    def change(self, sql: str, **values: Any) -> None:
        """Somebody works in the ERP."""
        with self.database.tenant(self.tenant) as scope:
            scope.run("SELECT set_config('app.actor', 'bookkeeper', true)")
            scope.run(sql, **values)

    def customers(self) -> list[dict[str, Any]]:
        return self.rows("SELECT name, customer_number, email, phone, annual_revenue, active FROM erp.customer ORDER BY name")

    def errors(self) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM sync_errors WHERE NOT is_resolved ORDER BY record_id")

    def second_sync(self, mapping: str, **settings: Any) -> "World":
        """Another sync of the same notebook and tenant."""
        return replace(self, config=store_sync(self.database, self.tenant, self.connector_id, mapping, **settings))


def store_sync(database: Database, tenant: uuid.UUID, connector_id: int, mapping: str, **settings: Any) -> syncs.SyncConfig:
    with database.tenant(tenant) as scope:
        row = _stored(scope, mapping)
        name = row.mapping_name
        return syncs.create(scope, connector_id=connector_id, name=name, mapping_id=row.id, actor="test", **settings)


def _stored(scope: Scope, mapping: str) -> mappings.MappingRow:
    definition = parse_yaml(mapping, "test.yaml")
    rules, functions = definition.to_json()
    return mappings.store(
        scope,
        mapping_name=definition.mapping_name,
        source_entity=definition.source_entity,
        target_entity=definition.target_entity,
        mappings=rules,
        transformation_functions=functions,
        actor="test",
    )


def new_mapping(world: World, mapping: str) -> None:
    """A new version of the sync's mapping, in use from the next run on."""
    with world.database.tenant(world.tenant) as scope:
        row = _stored(scope, mapping)
        scope.run(
            """UPDATE sync_configurations SET revision = revision + 1,
                   field_mappings = jsonb_build_object('mapping_id', CAST(:id AS bigint), 'version', CAST(:v AS int))
               WHERE id = :sync""",
            id=row.id,
            v=row.version,
            sync=world.config.id,
        )


def make_world(
    database: Database, settings: Settings, *, tenant: str = "acme", mapping: str = CLIENT_MAPPING, **sync: Any
) -> World:
    tenant_id = tenants.create(database, tenant)
    with database.tenant(tenant_id) as scope:
        row = connectors.create(
            scope,
            name="Notebook",
            connector_type="notebook",
            url="https://notebook.invalid",
            authentication_method="basic",
            credentials={"password": "canary-secret-7d1f"},
            user=tenants.first_user(scope),
        )
    config = store_sync(database, tenant_id, row.id, mapping, **sync)
    book = Notebook(Given(row.url, "basic", NoStore(), now))
    return World(database, settings, tenant_id, row.id, config, book)


def money(text: str) -> Decimal:
    return Decimal(text)


def fill(world: World) -> World:
    """Two clients to begin with."""
    ada = {"Name": "Ada Ltd", "Number": "001", "Email": "ada@example.org", "Phone": "1", "Revenue": Decimal("10.50")}
    world.book.write_note("Client", "C1", **ada)
    world.book.write_note("Client", "C2", Name="Bela GmbH", Number="002", Email=None, Phone="2", Revenue=None)
    return world


def phone(world: World, number: str = "001") -> Any:
    found = world.rows("SELECT phone FROM erp.customer WHERE customer_number = :n", n=number)
    return found[0]["phone"] if found else "gone"
