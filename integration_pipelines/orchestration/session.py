"""One run's session: the store, the two sides, and the locks that the run's process holds for as long as it lives."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID

import sqlalchemy as sa

from connector_resources.contract import Connector
from connector_resources.erp import Erp
from connector_resources.errors import ConfigurationError, MappingOutdated, NetworkError, RetryableError
from integration_pipelines.orchestration.resources import ConnectorResource, ErpResource
from integration_pipelines.settings import Settings
from integration_pipelines.steps.mapping import compile_mapping, from_json
from integration_pipelines.steps.mapping_outward import compile_outward
from integration_pipelines.steps.run import Run
from integration_pipelines.store import connectors, history, mappings, rejects, syncs, turns
from integration_pipelines.store.database import explained
from integration_pipelines.store.history import Attempt
from integration_pipelines.store.installation import open_installation
from integration_pipelines.store.retries import AfterFailure
from integration_pipelines.store.staging import Staging
from integration_pipelines.store.syncs import SyncConfig


def utc_now() -> datetime:
    return datetime.now(UTC)


LONGEST_TURN = timedelta(minutes=10)
LONGEST_QUEUE = timedelta(minutes=1)


class Paused(ConfigurationError):
    """A person has said that the sync is not to run; nobody needs to be told."""


class Busy(RetryableError):
    """Another run of the same pair is under way."""


@dataclass(frozen=True)
class RunIds:
    """Dagster's ids of this run and of the first one of its retry chain (None: this is the first)."""

    run_id: UUID
    root_run_id: UUID | None = None


class Session:
    """Lazily opened: nothing is connected before the first op asks. Without `ids` it is a plan, which opens no history."""

    def __init__(self, settings: Settings, sync_id: int, ids: RunIds | None = None) -> None:
        self.settings = settings
        self.sync_id = sync_id
        self.ids = ids
        self.attempt: Attempt | None = None
        self._installation = open_installation(settings)
        self.database = self._installation.database()
        self.tenant = syncs.tenant_of(self.database, sync_id)
        self.staging = Staging(self.database, self.tenant)
        self._locks: sa.Connection | None = None
        self._external: Connector | None = None
        self._erp: Erp | None = None
        self._run: Run | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        for side in (self._external, self._erp):
            if side is not None:
                side.__exit__()
        if self._locks is not None:
            self._locks.invalidate()  # ends the connection, and with it the session's locks
            self._locks.close()
        self.database.close()
        self._installation.close()

    def run(self) -> Run:
        """The run, opened: locks held, history row written, both sides described, the pinned mapping compiled."""
        if self._run is None:
            with self.database.tenant(self.tenant) as scope:
                config = syncs.get(scope, self.sync_id)
                connector = connectors.get(scope, config.connector_id)
            if self.ids is not None:
                if not config.is_active:
                    raise Paused(
                        f"Sync config {config.id} is paused; `integration sync resume {config.id}` lets it run again."
                    )
                self._open(config, connector.revision, self.ids)
            external = self._external or ConnectorResource(self.settings, utc_now).open(self.database, self.tenant, connector)
            self._external = external
            erp = self._erp or ErpResource(self.settings, utc_now).open(self.database, self.tenant)
            self._erp = erp
            source, target = external.describe(config.external_entity), erp.describe(config.erp_entity)
            with self.database.tenant(self.tenant) as scope:
                row = mappings.get(scope, self.attempt.field_mapping_id if self.attempt else config.mapping_id)
            stored = (row.mapping_name, row.source_entity, row.target_entity, row.mappings, row.transformation_functions)
            try:
                entities = {name: stored_as.entity for name, stored_as in erp.catalogue.items()}
                definition = from_json(*stored)
                mapping = compile_mapping(definition, target, source, entities)
                outward = compile_outward(definition, target, source, entities) if config.direction.outward else None
            except ConfigurationError as problem:
                sentence = f"{str(problem).rstrip('.')}. Bring the field back, or store a mapping that does without it."
                raise MappingOutdated(sentence) from None
            given = (self.database, self.tenant, config, mapping, external, source, erp, target, utc_now)
            self._run = Run(*given, self.attempt, outward)
            if self.attempt is not None:
                self._let_parents_go_first(self._run)
        return self._run

    def _let_parents_go_first(self, run: Run) -> None:
        """Wait for syncs of the same connector into entities that this one refers to. Not for ever: a child whose parent is
        missing in the end is set aside, and heals itself. For one that is due but has not begun only a moment: it may be in
        the queue behind us."""
        parents = {reference.erp_entity for reference in run.mapping.references.values()} - {run.config.erp_entity}
        began = utc_now()
        until = began + LONGEST_TURN
        while parents and utc_now() < until:
            history.sweep(self.database, utc_now())
            with self.database.tenant(self.tenant) as scope:
                now = utc_now()
                if not turns.ahead(scope, run.config, parents, now, me=run.opened.id, due_too=now < began + LONGEST_QUEUE):
                    return
            time.sleep(1)

    def _open(self, config: SyncConfig, connector_revision: int, ids: RunIds) -> None:
        """The pair's lock first (one run at a time for each pair), then the history row under a lock of its own. Where the
        connection breaks meanwhile, the next try begins with another one."""
        try:
            with explained(self.database.url):
                self._lock(config, connector_revision, ids)
        except NetworkError:
            if self._locks is not None:
                self._locks.invalidate()
                self._locks.close()
                self._locks = None
            raise

    def _lock(self, config: SyncConfig, connector_revision: int, ids: RunIds) -> None:
        if self._locks is None:
            self._locks = self.database.engine.connect()
            self._locks.execute(sa.text("SELECT pg_advisory_lock(:k)"), {"k": history.run_key(ids.run_id)})
        pair = f"{self.tenant}/{config.connector_id}/{config.external_entity}/{config.erp_entity}"
        free = self._locks.execute(sa.text("SELECT pg_try_advisory_lock(hashtextextended(:pair, 0))"), {"pair": pair}).scalar()
        self._locks.commit()
        if not free:
            raise Busy(
                f"Another run is syncing {config.external_entity} with {config.erp_entity} through the same connector; "
                "start this one again when that one has ended."
            )
        history.sweep(self.database, utc_now())
        with self.database.tenant(self.tenant) as scope:
            self.attempt = history.open_attempt(scope, config, connector_revision, ids.run_id, ids.root_run_id, utc_now())
            self._locks.execute(sa.text("SELECT pg_advisory_lock(:k)"), {"k": history.lock_key(self.attempt.id)})
            self._locks.commit()

    def staged(self, run_id: UUID, step: str) -> Iterator[bytes]:
        """Batches that this run, or one that it re-executes, has staged. Raises ConnectorChanged, and ContractError when they
        are gone."""
        if self.attempt is not None and run_id != self.attempt.run_id:
            with self.database.tenant(self.tenant) as scope:
                history.require_same_connector(scope, self.attempt, run_id)
        yield from self.staging.read(run_id, step)

    def postpone(self, message: str, seconds: float) -> datetime:
        """Close the history row as partial: what is left goes on after so many seconds, at the instant that comes back."""
        now = utc_now()
        until = now + timedelta(seconds=seconds)
        if self.attempt is not None:
            with self.database.tenant(self.tenant) as scope:
                history.postpone(scope, self.attempt.id, message, now, until)
        return until

    def fail(self, error_type: str, message: str, after: AfterFailure) -> None:
        """Close the history row as failed; one that could not be opened yet is opened for that."""
        if self.ids is None:
            return
        with self.database.tenant(self.tenant) as scope:
            if self.attempt is None:
                config = syncs.for_job(scope, self.sync_id)
                if isinstance(config, syncs.BrokenConfig):
                    return  # there is nothing that a history row could say of it; Dagster's run has the sentence
                connector = connectors.get(scope, config.connector_id)
                ids = self.ids
                self.attempt = history.open_attempt(scope, config, connector.revision, ids.run_id, ids.root_run_id, utc_now())
            if history.fail(scope, self.attempt.id, message, utc_now(), after):
                rejects.record_failure(scope, self.attempt, error_type, message)
