"""Faults to switch on, and the list of requests served.

A fault matches by method and path, lets `after` matching requests through and then strikes `times` times, or, with `rate`,
that share of them (the same ones each time under the same `seed`). What it does is its kind:

status   answer with `status`, `headers` and `body` (text or JSON-able) instead of the org
delay    wait `seconds`, then go on
drop     close the connection before the request reaches the org
lose     let the org do its work, then close the connection without an answer
cut      answer with the full Content-Length, but send only half of the body
revoke   end every session, then go on (401 until a new token is taken)
drip     answer, but in pieces of a few bytes with `seconds` between them
hide     the field `field` of `sobject` is gone from describe, query and writes, until the fault is removed
hold     answer `seconds` after the work was done; until then what it wrote, and the parents of that, are locked for others
refuse   records of `sobject` whose `field` holds `value` are refused with `code` (UNABLE_TO_LOCK_ROW, DUPLICATES_DETECTED, …),
         one by one, in collections and in bulk; `body` is the message, if not the usual one
retype   the field comes as a value of another type, until the fault is removed (generic sandbox)
extra    a field `field` that nobody described comes with each record (generic sandbox)
"""

import random
import re
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from connector_resources.errors import ConfigurationError

Kind = Literal["status", "delay", "drop", "lose", "cut", "revoke", "drip", "hide", "retype", "extra", "hold", "refuse"]
DRIFT = ("hide", "retype", "extra")


@dataclass
class Fault:
    """`method` and `path` are regular expressions: the whole method, any part of "path?query" (decoded). `times` None: for
    ever. `seen` and `fired` count matching requests and strikes."""

    kind: Kind
    method: str = ".*"
    path: str = ""
    after: int = 0
    times: int | None = 1
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = ""
    seconds: float = 0.0
    rate: float | None = None
    seed: int = 0
    sobject: str = ""
    field: str = ""
    value: str = ""
    code: str = ""
    seen: int = 0
    fired: int = 0

    @property
    def ends(self) -> bool:
        """Whether it decides what becomes of the answer: only one such fault strikes a request."""
        return self.kind in ("status", "drop", "lose", "cut", "drip", "hold")

    def matches(self, method: str, target: str) -> bool:
        if self.kind in (*DRIFT, "refuse"):
            return False
        return bool(re.fullmatch(self.method, method, re.I) and re.search(self.path, target))

    @property
    def due(self) -> bool:
        if self.rate is not None:
            return self.seen > self.after and random.Random(f"{self.seed}:{self.seen}").random() < self.rate  # noqa: S311 - a die
        return self.seen > self.after and (self.times is None or self.fired < self.times)


@dataclass(frozen=True)
class Request:
    """A request that was served. `target`: path and query, decoded; `status` None: it got no answer; `client`: who sent it, as
    the header Sforce-Call-Options says."""

    method: str
    target: str
    status: int | None
    client: str


class Faults:
    """The faults that are on, in the order in which they were added. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._hidden: frozenset[tuple[str, str]] = frozenset()
        self._requests: list[Request] = []

    def add(self, kind: Kind, **settings: Any) -> Fault:
        """Switch a fault on; settings are the fields of `Fault`. Raises ConfigurationError naming a wrong one."""
        if kind not in get_args(Kind):
            raise ConfigurationError(f"There is no fault of kind '{kind}'; there is {', '.join(get_args(Kind))}.")
        try:
            fault = Fault(kind, **settings)
            re.compile(fault.method), re.compile(fault.path)
        except (TypeError, re.error) as problem:
            raise ConfigurationError(f"The fault '{kind}' cannot be set up so: {problem}.") from None
        if kind in DRIFT and not (fault.sobject and fault.field):
            raise ConfigurationError(f"A fault of kind '{kind}' needs 'sobject' and 'field'.")
        if kind == "refuse" and not (fault.sobject and fault.field and fault.code):
            raise ConfigurationError("A fault of kind 'refuse' needs 'sobject', 'field', 'value' and 'code'.")
        with self._lock:
            self._set([*self._faults, fault])
        return fault

    def clear(self) -> None:
        """Switch every fault off."""
        with self._lock:
            self._set([])

    def remove(self, fault: Fault) -> None:
        with self._lock:
            self._set([kept for kept in self._faults if kept is not fault])

    def _set(self, faults: list[Fault]) -> None:
        self._faults = faults
        self._hidden = frozenset((fault.sobject, fault.field) for fault in faults if fault.kind == "hide")

    def listed(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(fault) for fault in self._faults]

    def striking(self, method: str, target: str) -> list[Fault]:
        """Count this request; the faults that strike it, in order, at most one of them an ending one."""
        striking: list[Fault] = []
        with self._lock:
            for fault in self._faults:
                if not fault.matches(method, target):
                    continue
                fault.seen += 1
                if fault.due and not (fault.ends and any(earlier.ends for earlier in striking)):
                    fault.fired += 1
                    striking.append(replace(fault))
        return striking

    def hidden(self) -> frozenset[tuple[str, str]]:
        """(sobject, field) pairs that are gone."""
        return self._hidden

    def drifted(self, sobject: str) -> dict[str, str]:
        """Field → kind of drift, of one type of records."""
        with self._lock:
            return {f.field: f.kind for f in self._faults if f.kind in DRIFT and f.sobject == sobject}

    def refusing(self, sobject: str, record: Mapping[str, Any]) -> Fault | None:
        """The fault that refuses this record, if there is one."""
        if not self._faults:
            return None
        with self._lock:
            for fault in self._faults:
                if fault.kind != "refuse" or fault.sobject != sobject or str(record.get(fault.field)) != fault.value:
                    continue
                fault.seen += 1
                if fault.due:
                    fault.fired += 1
                    return replace(fault)
        return None

    def record(self, request: Request) -> None:
        with self._lock:
            self._requests.append(request)

    def requests(self) -> list[Request]:
        """What was served so far, oldest first; the sandbox's own paths are not counted."""
        with self._lock:
            return list(self._requests)

    def forget_requests(self) -> None:
        with self._lock:
            self._requests.clear()
