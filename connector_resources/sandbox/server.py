"""Serve a sandbox: from a thread of this process (tests, demo), or for as long as the process lives."""

import contextlib
import errno
import socket
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn

from connector_resources.errors import ConfigurationError
from connector_resources.sandbox.faults import Faults, Request
from connector_resources.sandbox.front import BreakableProtocol, Front
from connector_resources.sandbox.grants import Grants
from connector_resources.sandbox.salesforce.oauth import Authority
from connector_resources.sandbox.salesforce.org import Org, utc_now
from connector_resources.sandbox.salesforce.rest import Rest
from connector_resources.sandbox.tls import make_certificates


class Server(ABC):
    """Something on this machine's HTTP, with faults to switch on. `front()` makes the application."""

    def __init__(self, port: int, tls: bool, home: Path | None) -> None:
        self.port = port
        self.tls = tls
        self.home = home
        self.faults = Faults()
        self.ca_file: Path | None = None
        self._open = contextlib.ExitStack()

    @abstractmethod
    def front(self) -> Front: ...

    @property
    @abstractmethod
    def credentials(self) -> dict[str, str]: ...

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}" if self.tls else f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Request]:
        """What was served so far, oldest first."""
        return self.faults.requests()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opening:
            server, listener = opening.enter_context(self._listening())
            opening.enter_context(_running(server, listener))
            self._open = opening.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def run(self, ready: Callable[[Self], None] | None = None) -> None:
        """Serve from the main thread until interrupted; `ready` is called when the port is open."""
        with self._listening() as (server, listener):
            if ready:
                ready(self)
            with contextlib.suppress(KeyboardInterrupt):
                server.run(sockets=[listener])

    @contextlib.contextmanager
    def _listening(self) -> Iterator[tuple[uvicorn.Server, socket.socket]]:
        with contextlib.ExitStack() as opened:
            certificate = None
            if self.tls:
                home = self.home or Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="sandbox-")))
                self.ca_file, certificate = make_certificates(home)
            listener = opened.enter_context(_listen(self.port))
            self.port = listener.getsockname()[1]
            config = uvicorn.Config(
                self.front(),
                http=BreakableProtocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                ssl_certfile=certificate,
                timeout_graceful_shutdown=1,
                h11_max_incomplete_event_size=65_536,
            )
            yield uvicorn.Server(config), listener


class Sandbox(Server):
    """A Salesforce org on this machine.

    url          http://127.0.0.1:PORT, or https://localhost:PORT with `tls`
    ca_file      with `tls`: the root certificate to trust (PEM), under `home`; else None
    credentials  client_id, client_secret, refresh_token, username, password, private_key (PEM, for the JWT bearer flow); all
                 but the user name are random and of this start only
    state        the org: its records, and ways to change them behind the API's back
    faults       what to do wrong

    grants       the refresh tokens; with `rotate` each is good for one use, and a second use ends its grant

    The same seed gives the same records, ids and instants; `now` is the org's clock. Raises ConfigurationError when the port
    is taken.
    """

    def __init__(
        self,
        port: int = 0,
        tls: bool = False,
        home: Path | None = None,
        accounts: int = 5000,
        contacts: int = 12000,
        seed: int = 1,
        now: Callable[[], datetime] = utc_now,
        rotate: bool = False,
    ) -> None:
        super().__init__(port, tls, home)
        self.state = Org(seed, accounts, contacts, now, self.faults.hidden, self.faults.refusing)
        self._authority = Authority(self.state, rotate)

    @property
    def grants(self) -> Grants:
        return self._authority.grants

    def front(self) -> Front:
        return Front(self.state, Rest(self.state, self._authority), self.faults, self.state.locks)

    @property
    def credentials(self) -> dict[str, str]:
        return dict(self._authority.credentials)


def serve(
    port: int, tls: bool = False, home: Path | None = None, ready: Callable[[Sandbox], None] | None = None, seed: int = 1
) -> None:
    """Serve until interrupted. Prints nothing: `ready` gets the sandbox (its URL, credentials) when the port is open.

    Raises ConfigurationError when the port is taken.
    """
    Sandbox(port, tls, home, seed=seed).run(ready)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as problem:
        listener.close()
        if problem.errno in (errno.EADDRINUSE, errno.EACCES):
            why = "taken" if problem.errno == errno.EADDRINUSE else "not open to this user"
            raise ConfigurationError(f"Port {port} is {why}: stop what uses it, or choose another port.") from None
        raise
    return listener


@contextlib.contextmanager
def _running(server: uvicorn.Server, listener: socket.socket) -> Iterator[None]:
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="sandbox", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
