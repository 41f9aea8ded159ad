"""The shop in memory: its records, its sign-ins, the keys of writes that it remembers."""

import hashlib
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from connector_resources.sandbox.consent import Consents
from connector_resources.sandbox.generic import seed as seeds
from connector_resources.sandbox.grants import Grants

Record = dict[str, Any]


class Refusal(Exception):
    """What the shop will not do. `code`: its word for why."""

    def __init__(self, status: int, code: str, message: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message or code)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class Tombstone:
    id: str
    at: datetime


class Shop:
    """`records["customers"]["00000001"]`: its fields; a key that is missing is absent.

    calls_per_second  more than that in one second of `now` are refused with 429 (None: no limit)
    highest_cost      records that one GraphQL page may ask for
    broken            ids of customers whose e-mail the GraphQL surface cannot tell
    tombstones        entity → what was deleted, for the surfaces that keep a list
    private_key       of the app, for those that sign instead of sending a secret (PEM)
    grants            the refresh tokens, each good for one use; a second use ends its grant
    on_page           called before each page is read, with the number of pages so far: a test changes records there
    """

    def __init__(
        self,
        seed: int,
        customers: int,
        orders: int,
        now: Callable[[], datetime],
        drifted: Callable[[str], Mapping[str, str]] = lambda _: {},
    ) -> None:
        self.lock = threading.RLock()
        self.now = now
        self.drifted = drifted
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.public_key = key.public_key()
        self.private_key = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        self._made = seeds.customers(seed, customers), seeds.orders(seed, orders, customers)
        self.restore()

    def restore(self) -> None:
        """Everything as it was at first; credentials are new."""
        with self.lock:
            made = zip(("customers", "orders"), self._made, strict=True)
            self.records: dict[str, dict[str, Record]] = {entity: dict(table) for entity, table in made}
            self.tombstones: dict[str, list[Tombstone]] = {"customers": [], "orders": []}
            self.calls_per_second: int | None = None
            self.highest_cost = 250
            self.broken: set[str] = set()
            self.on_page: Callable[[int], None] = lambda _: None
            self.credentials = {"username": "shop", "client_id": "app"}
            for name in ("api_key", "password", "client_secret"):
                self.credentials[name] = secrets.token_urlsafe(24)
            self.grants = Grants(True, self.end_sessions)
            self.credentials["refresh_token"] = self.grants.issue()
            self.consents = Consents(
                self.grants, "app", self.now, system="Shop", account="shop@example.org", path="/oauth/authorize"
            )
            self.assertions: set[str] = set()
            self._answers: dict[str, tuple[str, Any]] = {}
            self._sessions: set[str] = set()
            self._calls: list[datetime] = []
            self._last = seeds.START + timedelta(days=1)
            self._pages = 0

    # Who may come in

    def session(self) -> str:
        """A new access token."""
        token = secrets.token_urlsafe(24)
        with self.lock:
            self._sessions.add(token)
        return token

    def valid_session(self, token: str) -> bool:
        with self.lock:
            return any(secrets.compare_digest(token, known) for known in self._sessions)

    def end_sessions(self) -> None:
        with self.lock:
            self._sessions.clear()

    def revoke_tokens(self) -> None:
        """Ends every session, and changes the API key and the password, as somebody who fears they have leaked does."""
        with self.lock:
            self._sessions.clear()
            for name in ("api_key", "password"):
                self.credentials[name] = secrets.token_urlsafe(24)

    def count_call(self) -> None:
        """Raises Refusal 429."""
        with self.lock:
            now = self.now()
            self._calls = [moment for moment in self._calls if now - moment < timedelta(seconds=1)]
            if self.calls_per_second is not None and len(self._calls) >= self.calls_per_second:
                raise Refusal(429, "too_many_calls", headers={"Retry-After": "1"})
            self._calls.append(now)

    # Reading

    def page(self) -> None:
        """A page is about to be read."""
        self._pages += 1
        self.on_page(self._pages)

    def listed(self, entity: str, since: datetime | None = None, deleted: bool = True) -> list[Record]:
        """Copies, in the order of their modification (then id), changed at or after `since`."""
        with self.lock:
            rows = [
                dict(row)
                for row in self.records[entity].values()
                if (since is None or row["updated_at"] >= since) and (deleted or not row["deleted"])
            ]
        return sorted(rows, key=lambda row: (row["updated_at"], str(row["id"])))

    def get(self, entity: str, id_: str) -> Record:
        """Raises Refusal 404."""
        with self.lock:
            found = self.records[entity].get(id_)
            if found is None:
                raise Refusal(404, "not_found")
            return dict(found)

    # Writing

    def once(self, key: str | None, request: object, act: Callable[[], Any]) -> Any:
        """What `act` returns; the same again for a key that was used, if the request is the same. Raises Refusal 422."""
        if not key:
            return act()
        digest = hashlib.sha256(repr(request).encode()).hexdigest()
        with self.lock:
            if key in self._answers:
                known, answer = self._answers[key]
                if known != digest:
                    raise Refusal(422, "key_used_otherwise")
                return answer
            answer = act()
            self._answers[key] = digest, answer
            return answer

    def create(self, entity: str, values: Mapping[str, Any]) -> Record:
        with self.lock:
            checked = self._checked(entity, values, None)
            missing = [name for name in ("name" if entity == "customers" else "number",) if not checked.get(name)]
            if missing:
                raise Refusal(422, "field_missing", f"{missing[0]} is missing")
            number = 1 + max((int(id_) for id_ in self.records[entity]), default=0)
            id_: Any = f"{number:08d}" if entity == "customers" else number
            record = dict.fromkeys(seeds.TYPES[entity]) | {"active": True} if entity == "customers" else {}
            record = {**record, **checked, "id": id_, "deleted": False}
            return self._stored(entity, record)

    def update(self, entity: str, id_: str, values: Mapping[str, Any], version: str | None = None) -> Record:
        with self.lock:
            record = self._live(entity, id_, version)
            return self._stored(entity, record | self._checked(entity, values, id_))

    def delete(self, entity: str, id_: str, version: str | None = None) -> None:
        with self.lock:
            record = self._live(entity, id_, version)
            stored = self._stored(entity, record | {"deleted": True})
            self.tombstones[entity].append(Tombstone(id_, stored["updated_at"]))

    def purge(self, entity: str, id_: str) -> None:
        """The record is gone without a trace but its tombstone."""
        with self.lock:
            del self.records[entity][id_]
            self.tombstones[entity].append(Tombstone(id_, self._tick()))

    def upsert(self, entity: str, reference: str, values: Mapping[str, Any]) -> tuple[Record, bool]:
        with self.lock:
            for id_, record in self.records[entity].items():
                if record.get("reference") == reference and not record["deleted"]:
                    return self.update(entity, id_, values), False
            return self.create(entity, {**values, "reference": reference}), True

    def _live(self, entity: str, id_: str, version: str | None) -> Record:
        record = self.get(entity, id_)
        if record["deleted"]:
            raise Refusal(410, "deleted")
        if version is not None and version.strip('"') != record["etag"]:
            raise Refusal(412, "changed_meanwhile")
        return record

    def _tick(self) -> datetime:
        """The instant of a write: real time in milliseconds, and later than each write before it."""
        moment = max(self.now(), self._last + timedelta(milliseconds=1))
        self._last = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        return self._last

    def _stored(self, entity: str, record: Record) -> Record:
        record = {**record, "updated_at": self._tick(), "etag": f"v{secrets.token_hex(6)}"}
        self.records[entity][str(record["id"])] = record
        return dict(record)

    def _checked(self, entity: str, values: Mapping[str, Any], own: str | None) -> Record:
        found: Record = {}
        for name, value in values.items():
            kind = seeds.TYPES[entity].get(name)
            if kind is None or name in seeds.READ_ONLY:
                raise Refusal(422, "unknown_field" if kind is None else "read_only_field", name)
            found[name] = None if value is None else _read(name, kind, value)
        if found.get("email") and "@" not in found["email"]:
            raise Refusal(422, "invalid_email", f"{found['email']} is no e-mail address")
        taken = found.get("reference")
        if taken and any(r.get("reference") == taken and id_ != own for id_, r in self.records[entity].items()):
            raise Refusal(422, "reference_taken", f"{taken} is taken")
        return found


def _read(name: str, kind: type, value: Any) -> Any:
    try:
        if kind is Decimal and isinstance(value, str | int | Decimal) and not isinstance(value, bool):
            return Decimal(value)
        if kind.__name__ in ("date", "datetime"):
            return kind.fromisoformat(value)  # type: ignore[attr-defined] # both have it
        if kind is bool and value in ("true", "false"):  # XML knows text only
            return value == "true"
        if kind is int and isinstance(value, str):
            return int(value)
    except (ValueError, TypeError, InvalidOperation):
        raise Refusal(422, "unreadable_value", name) from None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Refusal(422, "wrong_type", name)
    return value
