"""Listens on this machine for the one redirect that ends a sign-in (RFC 8252, 7.3)."""

import secrets
import socketserver
from collections.abc import Mapping
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from connector_resources.contract import Clock
from connector_resources.errors import AuthenticationError, ConfigurationError

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>ERP integration</title>
<body style="font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:28rem"><h1>{0}</h1><p>{1}</p></body></html>"""


class Loopback:
    """`url`: where the redirect must lead, with the port in the place of 0. Raises ConfigurationError for a place that is not
    on this machine, or a port that is taken."""

    def __init__(self, url: str) -> None:
        wanted = urlsplit(url)
        if wanted.scheme != "http" or wanted.hostname not in ("127.0.0.1", "localhost") or wanted.query:
            raise ConfigurationError("The redirect must lead to this machine, like http://127.0.0.1:8765/callback.")
        try:
            self._server = _Server(("127.0.0.1", wanted.port or 0), _Redirected)
        except OSError:
            raise ConfigurationError(f"Port {wanted.port} is taken: end what uses it, or choose another redirect.") from None
        self._server.path = wanted.path or "/"
        self.url = f"http://{wanted.hostname}:{self._server.server_address[1]}{wanted.path}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.server_close()

    def told(self, state: str, now: Clock, patience: timedelta) -> Mapping[str, str]:
        """What the redirect with this state says. Others are answered 400, and change nothing.

        Raises AuthenticationError when none comes in time."""
        self._server.state, until = state, now() + patience
        while self._server.told is None:
            left = _seconds(until, now())
            if left <= 0:
                raise AuthenticationError("Nobody came back from the consent page in time; authorize again.")
            self._server.timeout = left
            self._server.handle_request()
        return self._server.told


def _seconds(until: datetime, now: datetime) -> float:
    return (until - now).total_seconds()


class _Server(socketserver.TCPServer):
    allow_reuse_address = True
    path = "/"
    state = ""
    told: Mapping[str, str] | None = None


class _Redirected(BaseHTTPRequestHandler):
    timeout = 10  # seconds that a client may take over its request
    server: _Server

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        found = dict(parse_qsl(place.query, keep_blank_values=True))
        right = place.path == self.server.path and secrets.compare_digest(
            found.get("state", "").encode(), self.server.state.encode()
        )
        page = _PAGE.format("Thank you", "You can close this page and go back to the terminal.")
        if right:
            self.server.told = found
        else:
            page = _PAGE.format("Not expected", "This page waits for the end of a sign-in, and this is none.")
        content = page.encode()
        self.send_response(200 if right else 400)
        for name, value in {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
        """Says nothing: the request line holds the code."""
