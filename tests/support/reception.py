"""A server on loopback with sign-in pages, routes for people and programs, and a gate before another application."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from integration_pipelines.api.gate import Gate
from integration_pipelines.api.security import Administrator, Engineer, Operator, SignedIn
from integration_pipelines.api.sign_in import protect
from integration_pipelines.settings import Settings
from integration_pipelines.store import people, tenants
from integration_pipelines.store.database import Database

PASSWORD = "correct horse battery staple"


@dataclass
class Clock:
    moment: datetime = datetime(2026, 3, 2, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def pass_(self, **time: int) -> None:
        self.moment += timedelta(**time)


@dataclass
class Inner:
    """The application behind the gate: answers what it was asked, echoes over websockets. `seen` is all that came through,
    `over` is set when a websocket has ended."""

    seen: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(f"{scope['type']} {scope.get('method', '')} {scope['path']}")
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"inside"})
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        if message["code"] == 1008:
            try:
                await send({"type": "websocket.send", "text": "too late"})
            except ConnectionError:
                self.seen.append("closed")
        self.over.set()


@dataclass
class Reception:
    url: str
    database: Database
    clock: Clock
    inner: Inner

    def user(self, email: str, *, tenant: str = "acme", role: str = "engineer", operator: bool = False) -> int:
        """A user with PASSWORD; the tenant is made if need be."""
        found = tenants.find(self.database, tenant, required=False) or tenants.create(self.database, tenant)
        with self.database.tenant(found) as scope:
            return people.create(scope, email, PASSWORD, role=role, operator=operator, actor="test")

    def browser(self) -> httpx.Client:
        """Says what browsers say of the pages of this server."""
        headers = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Origin": self.url}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False)

    @contextlib.contextmanager
    def signed_in(self, email: str) -> Iterator[httpx.Client]:
        with self.browser() as client:
            answer = client.post("/sign-in", data={"email": email, "password": PASSWORD})
            assert answer.status_code == 303, answer.text
            yield client


def application(database: Database, settings: Settings, now: Callable[[], datetime], inner: Inner) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    access = protect(app, database, settings, now)

    @app.api_route("/me", methods=["GET", "POST"])
    def me(who: SignedIn) -> dict[str, str | bool | None]:
        return {"email": who.email, "role": who.role, "operator": who.operator, "by": who.by, "tenant": str(who.tenant)}

    @app.get("/engineers")
    def engineers(who: Engineer) -> str:
        return who.email

    @app.get("/administrators")
    def administrators(who: Administrator) -> str:
        return who.email

    @app.get("/operators")
    def operators(who: Operator) -> str:
        return who.email

    @app.get("/number/{value}")
    def number(value: int) -> int:
        return 1 // value

    app.mount("/dagster", Gate(inner, access))
    return app


@contextlib.contextmanager
def open_reception(database: Database, settings: Settings, **options: object) -> Iterator[Reception]:
    """`options` go to uvicorn. Proxies are not trusted unless they say so."""
    clock, inner = Clock(), Inner()
    app = application(database, settings, clock, inner)
    told: dict[str, object] = {"proxy_headers": False, "lifespan": "off", "log_config": None, "ws": "websockets-sansio"}
    server = uvicorn.Server(uvicorn.Config(app, **(told | options)))  # type: ignore[arg-type] # names of uvicorn's own
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield Reception(f"http://127.0.0.1:{listener.getsockname()[1]}", database, clock, inner)
        finally:
            server.should_exit = True
            thread.join()
