"""The web server: one process that answers everything people and programs ask over HTTP.

/dagster    Dagster's UI and GraphQL, for platform operators: they show every tenant
/sign-in    for people; programs show an API key
/healthz    this process lives
/readyz     so does what it needs: database, code server, daemon
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import dagster as dg
import sqlalchemy as sa
import uvicorn
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.controller import all_daemons_live
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__ as dagster_version
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, RedirectResponse, Response

from connector_resources.errors import IntegrationError
from integration_pipelines.api.gate import Gate
from integration_pipelines.api.sign_in import protect
from integration_pipelines.orchestration.code_server import LOCATION, target
from integration_pipelines.orchestration.jobs import job_name
from integration_pipelines.orchestration.session import utc_now
from integration_pipelines.settings import Settings
from integration_pipelines.store import syncs
from integration_pipelines.store.database import Database

UI = "/dagster"
LONGEST_WAIT = 15.0
"""How long a launch waits for the definitions to follow the database, in seconds."""
_ASKED = ["GET", "HEAD"]  # many a load balancer asks by HEAD, and FastAPI adds none to a GET

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def serve(
    settings: Settings, database: Database, instance: dg.DagsterInstance, host: str, port: int, proxy: str | None = None
) -> None:
    """Until the process is interrupted. `proxy`: the address whose X-Forwarded headers are believed."""
    instance.optimize_for_webserver(statement_timeout=15_000, pool_recycle=3600, max_overflow=20)
    with WorkspaceProcessContext(instance, target(settings), version=dagster_version) as workspace:
        uvicorn.run(
            make_app(settings, database, workspace),
            host=host,
            port=port,
            log_level="warning",
            timeout_graceful_shutdown=3,
            server_header=False,
            proxy_headers=proxy is not None,
            forwarded_allow_ips=proxy,
            ws="websockets-sansio",
        )


def make_app(settings: Settings, database: Database, workspace: WorkspaceProcessContext) -> FastAPI:
    app = FastAPI(title="ERP integration", docs_url=None, redoc_url=None, openapi_url=None)
    access = protect(app, database, settings, utc_now)

    @app.api_route("/healthz", methods=_ASKED)
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.api_route("/readyz", methods=_ASKED)
    def readyz() -> Response:
        missing = [name for name, there in _needed(database, workspace).items() if not there]
        told = {"status": "waiting", "for": missing} if missing else {"status": "ready"}
        return JSONResponse(told, 503 if missing else 200)

    @app.api_route("/", methods=_ASKED)
    def root() -> Response:
        return RedirectResponse(UI, 307)

    dagster = create_app_from_workspace_process_context(workspace, path_prefix=UI)
    app.mount("/", Gate(AwaitDefinitions(dagster, database, workspace), access))
    return app


def _needed(database: Database, workspace: WorkspaceProcessContext) -> dict[str, bool]:
    try:
        with database.directory() as connection:
            connection.execute(sa.text("SELECT 1"))
        # live: Dagster's "healthy" stays false for five minutes after an error that is long over (a database restarted, say)
        daemon = all_daemons_live(workspace.instance, heartbeat_tolerance_seconds=60)
    except (IntegrationError, sa.exc.SQLAlchemyError):
        return {"database": False}
    location = workspace.get_current_workspace().code_location_entries.get(LOCATION)
    return {"code server": location is not None and location.code_location is not None, "daemon": daemon}


class AwaitDefinitions:
    """A launch that names a sync whose config was made a moment ago waits until the definitions have it."""

    def __init__(self, app: App, database: Database, workspace: WorkspaceProcessContext) -> None:
        self.app = app
        self.database = database
        self.workspace = workspace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith("/graphql"):
            await self.app(scope, receive, send)
            return
        messages: list[MutableMapping[str, Any]] = []
        while not messages or messages[-1].get("more_body"):
            messages.append(await receive())
        body = b"".join(message.get("body", b"") for message in messages)
        if b"launch" in body:
            named = {int(number) for number in re.findall(rb"\bsync_([0-9]{1,18})\b", body)}
            await run_in_threadpool(self.wait_for, named)
        rest = iter(messages)

        async def again() -> MutableMapping[str, Any]:
            return next(rest, None) or await receive()

        await self.app(scope, again, send)

    def wait_for(self, numbers: set[int]) -> None:
        until = time.monotonic() + LONGEST_WAIT
        while missing := {n for n in numbers if not self._loaded(n)}:
            active = {config.id for _, config in syncs.active(self.database)}
            if not missing & active or time.monotonic() > until:
                return  # Dagster's own answer says that there is no such job
            time.sleep(0.2)

    def _loaded(self, number: int) -> bool:
        location = self.workspace.get_current_workspace().code_location_entries.get(LOCATION)
        if location is None or location.code_location is None:
            return False
        return any(r.has_job(job_name(number)) for r in location.code_location.get_repositories().values())
