"""ASGI around other applications: the gate for platform operators, and the headers that every response carries."""

from contextlib import suppress
from datetime import timedelta

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from integration_pipelines.api.security import REFUSALS, Access

LOOKED_AT_EVERY = timedelta(seconds=30)
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",  # no-referrer would make browsers send the Origin `null` with our own forms
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Gate:
    """Lets platform operators through to `app`, by http and by websocket, and nobody else.

    A websocket stays open for long, so who it belongs to is looked at again when something passes after half a minute: one
    that has lost its right is closed with code 1008."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):  # lifespan
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        try:
            await run_in_threadpool(self.access.operator, connection)
        except REFUSALS as refusal:
            await self.access.refused(connection, refusal)(scope, receive, send)
            return
        if scope["type"] == "http":
            await self.app(scope, receive, send)
            return
        watched = _Watched(self.access, connection, receive, send)
        with suppress(_Ended):
            await self.app(scope, watched.receive, watched.send)


class _Ended(ConnectionError):
    """What ASGI lets `send` raise when the connection is gone."""


class _Watched:
    """The two ends of a websocket, with a look at the right to it before a message passes."""

    def __init__(self, access: Access, connection: HTTPConnection, receive: Receive, send: Send) -> None:
        self._access = access
        self._connection = connection
        self._receive = receive
        self._send = send
        self._looked_at = access.now()
        self._ended = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.receive" and not await self._may_pass():
            return {"type": "websocket.disconnect", "code": 1008}
        return message

    async def send(self, message: Message) -> None:
        if not await self._may_pass():
            raise _Ended
        await self._send(message)

    async def _may_pass(self) -> bool:
        if self._ended or self._access.now() - self._looked_at < LOOKED_AT_EVERY:
            return not self._ended
        self._looked_at = self._access.now()
        try:
            await run_in_threadpool(self._access.operator, self._connection)
        except REFUSALS:
            self._ended = True
            await self._send({"type": "websocket.close", "code": 1008, "reason": "Sign in again."})
        return not self._ended


class SecurityHeaders:
    """HEADERS on every response that does not set them itself; in production over https HSTS too."""

    def __init__(self, app: ASGIApp, production: bool) -> None:
        self.app = app
        self.production = production

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if self.production and scope["scheme"] in ("https", "wss"):
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        await self.app(scope, receive, with_headers)
