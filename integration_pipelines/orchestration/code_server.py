"""The code server: one process that holds the definitions for the daemon and the web server, and follows the database.

Dagster's own code server starts a new process, with all its imports, for each reload. Ours builds the definitions anew in
place and swaps them: nothing is unreachable meanwhile, and no tick of a sensor or schedule is lost. Who watches a code server
asks for its id every second; a new id makes them load the new definitions.
"""

import logging
import os
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.remote_origin import RemoteRepositoryOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import FuturesAwareThreadPoolExecutor
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster._grpc.__generated__ import dagster_api_pb2
from dagster._grpc.server import DagsterApiServer, DagsterGrpcServer, LoadedRepositories
from dagster._serdes import deserialize_value
from dagster._utils.error import serializable_error_info_from_exc_info

from connector_resources.errors import ConfigurationError, IntegrationError
from integration_pipelines.settings import Settings
from integration_pipelines.store import syncs
from integration_pipelines.store.database import Database

MODULE = "integration_pipelines.definitions"
LOCATION = MODULE
"""The name of the code location, as `dagster dev` would give it too."""
POLL = 0.25
AGAIN = 10.0  # seconds after which what could not be loaded is tried again
LONGEST_BURST = 5.0  # seconds of ceaseless changes after which a reload comes nevertheless
THREADS = 16
_LOG = logging.getLogger("integration.code_server")


def target(settings: Settings) -> GrpcServerTarget:
    """Where the daemon and the web server find it: INTEGRATION_CODE_SERVER, else a socket that only this account can open."""
    if settings.code_server:
        host, _, port = settings.code_server.rpartition(":")
        return GrpcServerTarget(host=host, port=int(port), socket=None, location_name=LOCATION)
    return GrpcServerTarget(host="localhost", port=None, socket=str(settings.code_socket), location_name=LOCATION)


def _prepare(socket: Path) -> None:
    """A folder that only this account can look into, without a dead server's socket; a living one is kept out by the
    supervisor's lock."""
    socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if socket.parent.stat().st_uid != os.geteuid():
        raise ConfigurationError(
            f"{socket.parent} belongs to somebody else; remove it or set INTEGRATION_HOME to another folder."
        )
    socket.unlink(missing_ok=True)


class CodeServer(DagsterApiServer):
    """Dagster's gRPC API over our definitions, with a reload in place. After a reload the daemon and the web server ask for
    every job, one by one; jobs that are the same as before are answered with the bytes from before."""

    def __init__(self, **settings: Any) -> None:
        self._answers: dict[str, tuple[dg.JobDefinition, Any]] = {}
        super().__init__(**settings)

    def ExternalJob(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name in Dagster's protocol
        origin = deserialize_value(request.serialized_repository_origin, RemoteRepositoryOrigin)
        repository = self._loaded_repositories and self._loaded_repositories.definitions_by_name.get(origin.repository_name)
        if not repository or not repository.has_job(request.job_name):
            return super().ExternalJob(request, context)
        job = repository.get_job(request.job_name)
        known = self._answers.get(request.job_name)
        if known is None or known[0] is not job:
            known = self._answers[request.job_name] = job, super().ExternalJob(request, context)
        return known[1]

    def reload(self) -> bool:
        """Build the definitions again and swap them in; where that fails the old ones stay, the log says why, and the answer
        is False."""
        with self._reload_lock:
            try:
                loaded = LoadedRepositories(self._loadable_target_origin, None, self._entry_point, None)
            except Exception:  # noqa: BLE001 - whatever a definition raises, what is loaded already goes on being served
                _LOG.exception("The definitions could not be loaded; the ones before stay.")
                if self._loaded_repositories is None:
                    self._serializable_load_error = serializable_error_info_from_exc_info(sys.exc_info())
                return False
            self._loaded_repositories = loaded
            there = {name for repository in loaded.definitions_by_name.values() for name in repository.job_names}
            self._answers = {name: answer for name, answer in self._answers.items() if name in there}
            self._serializable_load_error = None
            self._server_id = str(uuid.uuid4())
            _LOG.info("The definitions were loaded anew.")
            return True

    @property
    def broken(self) -> bool:
        """Whether nothing is loaded, because that has failed."""
        return self._serializable_load_error is not None

    def ReloadCode(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - the name in Dagster's protocol
        """The reload button of Dagster's UI."""
        self.reload()
        return dagster_api_pb2.ReloadCodeReply()


def serve(settings: Settings, database: Database) -> None:
    """Serve until the process is interrupted."""
    stop = threading.Event()
    threads = FuturesAwareThreadPoolExecutor(max_workers=THREADS)
    before = syncs.digest(database)
    server = CodeServer(
        server_termination_event=stop,
        logger=_LOG,
        server_threadpool_executor=threads,
        loadable_target_origin=LoadableTargetOrigin(executable_path=sys.executable, module_name=MODULE),
        lazy_load_user_code=True,
        location_name=LOCATION,
    )
    where = target(settings)
    if where.socket:
        _prepare(Path(where.socket))
    grpc = DagsterGrpcServer(stop, server, _LOG, threads, host=where.host, port=where.port, socket=where.socket)
    follower = threading.Thread(target=follow, args=(server, database, before, stop), name="follow", daemon=True)
    follower.start()
    try:
        grpc.serve()  # type: ignore[no-untyped-call]
    finally:
        stop.set()
        follower.join()


def follow(server: CodeServer, database: Database, seen: str, stop: threading.Event) -> None:
    """Reload whenever the sync configs are others than `seen`, once they have been quiet for a moment; until `stop` is set.
    What could not be loaded is tried again."""
    latest, current = seen, time.monotonic()
    while not stop.wait(POLL):
        try:
            before, latest = latest, syncs.digest(database)
        except IntegrationError as problem:
            _LOG.warning("%s Trying again.", problem)
            stop.wait(1.0)
            continue
        except Exception:  # noqa: BLE001 - whatever it is, a thread that ends would leave everything as it is now, in silence
            _LOG.exception("The sync configs could not be looked at; trying again.")
            stop.wait(1.0)
            continue
        if latest == seen and not server.broken:
            current = time.monotonic()
        elif latest == before or time.monotonic() - current > LONGEST_BURST:
            if server.reload():
                seen = latest
            else:
                stop.wait(AGAIN)
