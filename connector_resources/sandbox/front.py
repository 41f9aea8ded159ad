"""The ASGI side: a request becomes a Call, faults strike, an Answer becomes bytes. Also the sandbox's own paths."""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol
from urllib.parse import unquote, unquote_plus

import orjson
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from connector_resources.errors import ConfigurationError
from connector_resources.sandbox.faults import Fault, Faults, Request
from connector_resources.sandbox.salesforce.exchange import Answer, Call
from connector_resources.sandbox.salesforce.locks import Locks


class BreakableProtocol(H11Protocol):
    """HTTP/1.1 that lets the application reach its connection, which faults need in order to break it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn itself has it
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class State(Protocol):
    def revoke_tokens(self) -> None: ...


class Surface(Protocol):
    def answer(self, call: Call) -> Answer: ...


class Front:
    """The ASGI application."""

    def __init__(self, org: State, rest: Surface, faults: Faults, locks: Locks | None = None) -> None:
        self.org = org
        self.rest = rest
        self.faults = faults
        self.locks = locks or Locks()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = await _call(scope, receive)
        if call.path.startswith("/_sandbox/"):
            await _send(send, self._own(call))
            return
        target = unquote(call.path) + (f"?{unquote_plus(call.query)}" if call.query else "")
        last = await self._begin(call.method, target)
        kind, transport = last.kind if last else "", scope["state"]["transport"]
        if kind == "drop":
            self.faults.record(Request(call.method, target, None, _client(call)))
            await _closed(transport.abort, receive)
            return
        self.locks.begin()
        answer = Answer(last.status, last.body, last.headers) if last and kind == "status" else self.rest.answer(call)
        status = None if kind == "lose" else answer.status
        self.faults.record(Request(call.method, target, status, _client(call)))  # before the client can look
        if last and kind == "hold":
            with self.locks.held():
                await asyncio.sleep(last.seconds)
        if kind == "lose":
            await _closed(transport.abort, receive)
            return
        await _send(send, answer, cut=kind == "cut", drip=last.seconds if last and kind == "drip" else None)
        if kind == "cut":
            await _closed(transport.close, receive)

    async def _begin(self, method: str, target: str) -> Fault | None:
        """Let the faults happen that come before the answer; the one that decides what becomes of the answer."""
        last = None
        for fault in self.faults.striking(method, target):
            if fault.kind == "delay":
                await asyncio.sleep(fault.seconds)
            elif fault.kind == "revoke":
                self.org.revoke_tokens()
            else:
                last = fault
        return last

    def _own(self, call: Call) -> Answer:
        match call.method, call.path:
            case "GET", "/_sandbox/faults":
                return Answer(200, self.faults.listed())
            case "POST", "/_sandbox/faults":
                return self._add(call.body)
            case "DELETE", "/_sandbox/faults":
                self.faults.clear()
                return Answer(204)
            case "GET", "/_sandbox/requests":
                return Answer(200, [asdict(request) for request in self.faults.requests()])
            case "DELETE", "/_sandbox/requests":
                self.faults.forget_requests()
                return Answer(204)
        return Answer(404, {"message": "The sandbox has /_sandbox/faults and /_sandbox/requests."})

    def _add(self, body: bytes) -> Answer:
        try:
            given = json.loads(body)
            for settings in given if isinstance(given, list) else [given]:
                self.faults.add(**settings)
        except ConfigurationError as problem:
            return Answer(400, {"message": str(problem)})
        except (ValueError, TypeError):
            return Answer(400, {"message": "A fault is a JSON mapping with 'kind' and the settings of that kind."})
        return Answer(201, self.faults.listed())


async def _call(scope: Scope, receive: Receive) -> Call:
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
    return Call(scope["method"], path, query, headers, body, f"{scope['scheme']}://{headers.get('host', 'localhost')}")


async def _send(send: Send, answer: Answer, cut: bool = False, drip: float | None = None) -> None:
    """`cut`: promise the whole body and send half of it. `drip`: seconds between pieces."""
    kind, content = _content(answer.body)
    headers = {"Content-Type": kind} if kind else {}
    headers |= dict(answer.headers) | ({} if answer.status == 204 else {"Content-Length": str(len(content))})
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": pairs})
    if drip is not None:
        step = max(1, len(content) // 16)
        for start in range(0, len(content), step):
            await send({"type": "http.response.body", "body": content[start : start + step], "more_body": True})
            await asyncio.sleep(drip)
        content = b""
    await send({"type": "http.response.body", "body": content[: len(content) // 2] if cut else content, "more_body": cut})


def _client(call: Call) -> str:
    found = re.search(r"(?<![\w-])client=([^,;]+)", call.headers.get("sforce-call-options", ""))
    return found[1].strip() if found else ""


def _content(body: Any) -> tuple[str, bytes]:
    if body is None:
        return "", b""
    if isinstance(body, bytes):
        return "text/csv", body
    if isinstance(body, str):
        return "text/html;charset=UTF-8", body.encode()
    return "application/json;charset=UTF-8", orjson.dumps(body)


async def _closed(close: Callable[[], None], receive: Receive) -> None:
    """Close the connection, and wait until it is: an application that returns earlier is finished by uvicorn with a 500."""
    close()
    while (await receive())["type"] != "http.disconnect":
        pass
