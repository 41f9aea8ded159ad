"""What alerts are sent to: a mail server and an HTTP server, real ones, on loopback; and syncs that fail to be told of."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID, uuid4

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from notebook import World

from integration_pipelines.operations.alerts import send_due
from integration_pipelines.store import alert_channels, history
from integration_pipelines.store.retries import AfterFailure

CANARY = "canary-9c41e7"


@dataclass
class Receiver:
    """An HTTP server; `status` is what it answers, `posts` what it has taken."""

    port: int
    status: int = 200
    posts: list[dict[str, Any]] = field(default_factory=list)
    refused: int = 0
    answer: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        return f"json://ops:{CANARY}@127.0.0.1:{self.port}/{CANARY}?-token={CANARY}"

    @property
    def titles(self) -> list[str]:
        return [post["title"] for post in self.posts]


@contextmanager
def receiver() -> Iterator[Receiver]:
    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.answer.wait()
            if found.status < 300:
                found.posts.append(json.loads(body))
            else:
                found.refused += 1
            self.send_response(found.status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - as http.server calls it

        def log_message(self, *_: object) -> None:
            """To nobody."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        found = Receiver(server.server_port)
        found.answer.set()
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield found
        found.answer.set()
        server.shutdown()
        thread.join()


@dataclass
class MailServer:
    """Takes mail of who has the password. Not there before `start`."""

    port: int
    mails: list[EmailMessage] = field(default_factory=list)
    controller: Controller | None = None

    @property
    def address(self) -> str:
        return self.address_with(CANARY)

    def address_with(self, password: str) -> str:
        return f"mailto://ops:{password}@example.org:{self.port}/?smtp=127.0.0.1&to=admin@example.org"

    def start(self) -> None:
        self.controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            authenticator=lambda *found: AuthResult(
                success=isinstance(found[4], LoginPassword) and found[4].password == CANARY.encode(), handled=False
            ),
            auth_require_tls=False,
        )
        self.controller.start()

    def stop(self) -> None:
        """When the connections have ended: the controller would leave them open."""
        if self.controller is not None:
            asyncio.run_coroutine_threadsafe(_ended(), self.controller.loop).result()
            self.controller.stop()

    async def handle_DATA(self, _: object, __: object, envelope: Any) -> str:  # noqa: N802 - as aiosmtpd calls it
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"


@contextmanager
def mail_server() -> Iterator[MailServer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = MailServer(port)
    yield found
    found.stop()


async def _ended() -> None:
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)
    await asyncio.sleep(0)  # lets the transports close


@dataclass
class Clock:
    """A moment after the rows were written, as their own times come from the database."""

    moment: datetime = field(default_factory=lambda: datetime.now(UTC) + timedelta(minutes=1))

    def __call__(self) -> datetime:
        return self.moment

    def pass_(self, **time: float) -> None:
        self.moment += timedelta(**time)


NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def add_channel(world: World, name: str, address: str) -> int:
    with world.database.tenant(world.tenant) as scope:
        return alert_channels.add(scope, name, address, actor="test").id


def attempt(world: World, root: UUID | None = None, at: datetime = NOON) -> history.Attempt:
    with world.database.tenant(world.tenant) as scope:
        return history.open_attempt(scope, world.config, 1, uuid4(), root, at)


def fail(
    world: World,
    root: UUID | None = None,
    *,
    after: AfterFailure = AfterFailure.RETRY,
    message: str = "The notebook lies at home.",
    at: datetime = NOON,
) -> history.Attempt:
    """An attempt that fails a minute after it has begun."""
    made = attempt(world, root, at)
    with world.database.tenant(world.tenant) as scope:
        assert history.fail(scope, made.id, message, at + timedelta(minutes=1), after)
    return made


def fail_for_good(world: World, at: datetime = NOON) -> None:
    """The first try and three retries, ten minutes apart."""
    first = fail(world, at=at)
    for number in range(1, 4):
        fail(world, first.run_id, at=at + timedelta(minutes=10 * number))


def succeed(world: World, at: datetime = NOON + timedelta(hours=2)) -> history.Attempt:
    made = attempt(world, at=at)
    with world.database.tenant(world.tenant) as scope:
        history.complete(scope, world.config, made, at + timedelta(minutes=5))
    return made


def sent(world: World, clock: Clock) -> int:
    """How many alerts every channel has now, that had been due."""
    return sum(send_due(world.database, clock))


def alerts_of(world: World) -> list[dict[str, Any]]:
    return world.rows("SELECT * FROM alerts ORDER BY id")
