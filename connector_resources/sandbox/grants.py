"""Refresh tokens as vendors keep them: each belongs to a grant, and may be good for one use only."""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field


class TokenRefusal(Exception):
    """Becomes {error, error_description}."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.body = {"error": error, "error_description": description}


@dataclass
class Grant:
    """What a person has allowed once. `live`: the refresh token that is good now; `spent`: those before it."""

    live: str
    spent: list[str] = field(default_factory=list)
    revoked: bool = False


class Grants:
    """`rotate`: each use of a refresh token spends it, and using a spent one ends its grant and every session (`end`).
    `reused`: how often that has happened. `lasts`: what token answers say of a grant's life, in seconds. Thread-safe."""

    def __init__(self, rotate: bool, end: Callable[[], None]) -> None:
        self.rotate = rotate
        self.reused = 0
        self.refreshed = 0
        self.lasts: int | None = None
        self._end = end
        self._lock = threading.Lock()
        self._grants: list[Grant] = []

    def issue(self) -> str:
        """The refresh token of a new grant."""
        token = _new()
        with self._lock:
            self._grants.append(Grant(token))
        return token

    def use(self, token: str) -> dict[str, str | int]:
        """What the answer to a refresh says of the refresh token. Raises TokenRefusal."""
        with self._lock:
            grant = next((one for one in self._grants if token in (one.live, *one.spent)), None)
            if grant is not None and token in grant.spent:
                self.reused += 1
                grant.revoked = True
                self._end()
            if grant is None or grant.revoked:
                raise TokenRefusal("invalid_grant", "expired access/refresh token")
            self.refreshed += 1
            if not self.rotate:
                return self.told()
            grant.spent.append(token)
            grant.live = _new()
            return {"refresh_token": grant.live, **self.told()}

    def told(self) -> dict[str, str | int]:
        return {} if self.lasts is None else {"refresh_token_expires_in": self.lasts}

    def revoke(self) -> None:
        """Every grant ends, as when the user takes the app's access away."""
        with self._lock:
            for grant in self._grants:
                grant.revoked = True


def _new() -> str:
    return f"5Aep8{secrets.token_urlsafe(48)}"
