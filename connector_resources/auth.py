"""Signing requests in with what does not change by itself: a key, or user name and password. OAuth 2.0 is in oauth.py."""

from base64 import b64encode
from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias

import httpx

from connector_resources.contract import CredentialStore
from connector_resources.errors import ConfigurationError


class StoredSecret(httpx.Auth):
    """Puts stored credentials on each request: what `place` does with a request and the credentials `names`.

    They are loaded when they are first needed, and once more after an answer 401: somebody may have changed them meanwhile.
    Raises ConfigurationError naming one that is missing.
    """

    def __init__(self, system: str, store: CredentialStore, names: Sequence[str], place: "Place") -> None:
        self.system = system
        self.store = store
        self.names = tuple(names)
        self.place = place
        self._held: list[str] | None = None

    def secrets(self) -> list[str]:
        """The credentials, in the order of their names."""
        if self._held is None:
            found = self.store.load()
            missing = [name for name in self.names if not found.get(name)]
            if missing:
                raise ConfigurationError(
                    f"The connector to {self.system} has no {' and no '.join(missing)}: complete its credentials."
                )
            self._held = [found[name] for name in self.names]
        return self._held

    def changed(self) -> bool:
        """Load them again; whether they are others than before."""
        before, self._held = self._held, None
        return self.secrets() != before

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        plain = request.url
        self.place(request, *self.secrets())
        response = yield request
        if response.status_code == 401 and self.changed():
            request.url = plain
            self.place(request, *self.secrets())
            yield request


Place: TypeAlias = Callable[..., None]  # (request, *secrets)


def in_header(name: str, prefix: str = "") -> Place:
    def place(request: httpx.Request, key: str) -> None:
        request.headers[name] = prefix + key

    return place


def in_query(name: str) -> Place:
    def place(request: httpx.Request, key: str) -> None:
        request.url = request.url.copy_set_param(name, key)

    return place


def as_basic(request: httpx.Request, username: str, password: str) -> None:
    """RFC 7617, in UTF-8."""
    token = b64encode(f"{username}:{password}".encode()).decode()
    request.headers["Authorization"] = f"Basic {token}"
