"""Row locks: what a write that is still under way holds, and nobody else gets.

An answer leaves in the very moment in which its work is done, so nothing is ever locked, unless a fault holds an answer back.
"""

import contextlib
from collections.abc import Iterable, Iterator


class Locks:
    """Locks by record id. The current request's own ones never stand in its way."""

    def __init__(self) -> None:
        self._held: list[set[str]] = []
        self._taken: set[str] = set()

    def begin(self) -> None:
        """A new request: it has taken nothing yet."""
        self._taken = set()

    def take(self, ids: Iterable[str]) -> str | None:
        """Lock these records for the current request; the one that somebody else holds, if so, and then nothing is locked."""
        wanted = set(ids)
        held = next((id_ for other in self._held for id_ in sorted(wanted & other)), None)
        if held is None:
            self._taken |= wanted
        return held

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What the current request has taken stays locked for others inside."""
        kept = self._taken
        self._held.append(kept)
        try:
            yield
        finally:
            self._held.remove(kept)
