"""Envelope encryption: AES-256-GCM under a key per record, wrapped by a key per tenant, wrapped by the master key.

Two forms of ciphertext:

    0x02 | nonce | wrapped data key | nonce | ciphertext   `seal`: the key travels along (credentials, staged batches, events)
    0x01 | id of a data_keys row    | nonce | ciphertext   `seal_records`: all that we keep of one record hangs on one row of
                                                           data_keys; deleting that row erases the record everywhere

Tenant, table, row and column are bound as associated data, so a ciphertext that was moved elsewhere does not open.
AES-GCM: NIST SP 800-38D; HKDF: RFC 5869.
"""

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from connector_resources.errors import ConfigurationError

_ALONE, _RECORD = b"\x02", b"\x01"
_KEY, _NONCE = 32, 12
_WRAPPED = _NONCE + _KEY + 16


class Unreadable(ConfigurationError):
    """A ciphertext does not open: it was moved, changed, or its key was erased."""

    def __init__(self, place: str) -> None:
        super().__init__(f"What is stored at {place} cannot be decrypted: it was moved or altered outside this product.")


class RecordKeys:
    """Data keys of some records: subject → (id, cipher). Ids and ciphers belong together for good."""

    def __init__(self, found: Mapping[str, tuple[int, AESGCM]]) -> None:
        self.by_subject = found
        self.by_id = dict(found.values())


class Vault:
    """One tenant's. Holds the unwrapped tenant key in memory, and nothing else."""

    def __init__(self, tenant: UUID, tenant_key: bytes) -> None:
        self._tenant = str(tenant)
        self._wrap = AESGCM(tenant_key)
        self._digest_key = HKDF(SHA256(), 32, salt=None, info=b"fingerprint").derive(tenant_key)

    def __repr__(self) -> str:
        return f"Vault({self._tenant})"

    def place(self, *where: str) -> bytes:
        """Associated data of a value: table, row, column. No two places have the same, whatever an id consists of."""
        joined = "\x1f".join((self._tenant, *where))
        if "\\" in joined or joined.count("\x1f") > len(where):
            joined = "\x1f".join((self._tenant, *(part.replace("\\", r"\\").replace("\x1f", r"\s") for part in where)))
        return joined.encode()

    def places(self, before: Sequence[str], ids: Sequence[str], after: Sequence[str] = ()) -> list[bytes]:
        """`place` of (*before, id, *after) for each of these ids."""
        if any("\\" in part or "\x1f" in part for part in (*before, *after, "".join(ids))):
            return [self.place(*before, one, *after) for one in ids]
        begin, end = "\x1f".join((self._tenant, *before, "")), "\x1f".join(("", *after)) if after else ""
        return [f"{begin}{one}{end}".encode() for one in ids]

    def seal(self, plain: bytes, *where: str) -> bytes:
        key, place = os.urandom(_KEY), self.place(*where)
        return _ALONE + self._seal(self._wrap, key, place) + self._seal(AESGCM(key), plain, place)

    def open(self, sealed: bytes, *where: str) -> bytes:
        """Raises Unreadable."""
        place = self.place(*where)
        if sealed[:1] != _ALONE:
            raise Unreadable("/".join(where))
        wrapped, rest = sealed[1 : 1 + _WRAPPED], sealed[1 + _WRAPPED :]
        return _open(AESGCM(_open(self._wrap, wrapped, place, where)), rest, place, where)

    def seal_json(self, value: Any, *where: str) -> dict[str, str]:
        return {"sealed": base64.b64encode(self.seal(orjson.dumps(value), *where)).decode()}

    def open_json(self, sealed: Mapping[str, str], *where: str) -> Any:
        """Raises Unreadable."""
        try:
            content = base64.b64decode(sealed["sealed"], validate=True)
        except (KeyError, TypeError, ValueError):
            raise Unreadable("/".join(where)) from None
        return orjson.loads(self.open(content, *where))

    def new_record_keys(self, subjects: Sequence[str]) -> dict[str, tuple[bytes, AESGCM]]:
        """Subject → key, wrapped as data_keys.wrapped holds it, and its cipher."""
        made, places = {}, self.places(("data_keys",), subjects)
        fresh, size = os.urandom((_KEY + _NONCE) * len(subjects)), _KEY + _NONCE  # one call of the system for all
        for start, subject, place in zip(range(0, len(fresh), size), subjects, places, strict=True):
            key, nonce = fresh[start : start + _KEY], fresh[start + _KEY : start + size]
            made[subject] = nonce + self._wrap.encrypt(nonce, key, place), AESGCM(key)
        return made

    def record_keys(self, rows: Iterable[tuple[int, str, bytes]]) -> RecordKeys:
        """From rows of data_keys (id, subject, wrapped)."""
        return RecordKeys(
            {
                subject: (number, AESGCM(_open(self._wrap, wrapped, self.place("data_keys", subject), ("data_keys", subject))))
                for number, subject, wrapped in rows
            }
        )

    def seal_records(
        self, keys: RecordKeys, subjects: Sequence[str], plains: Sequence[bytes | None], places: Sequence[bytes]
    ) -> list[bytes | None]:
        """One ciphertext a record. AES is called once a record because each has a key of its own."""
        found = keys.by_subject
        sealed: list[bytes | None] = []
        nonces = os.urandom(_NONCE * len(plains))
        for position, (subject, plain, place) in enumerate(zip(subjects, plains, places, strict=True)):
            if plain is None:
                sealed.append(None)
                continue
            number, cipher = found[subject]
            nonce = nonces[position * _NONCE : (position + 1) * _NONCE]
            sealed.append(_RECORD + number.to_bytes(8) + nonce + cipher.encrypt(nonce, plain, place))
        return sealed

    def open_records(self, keys: RecordKeys, sealed: Sequence[bytes | None], places: Sequence[bytes]) -> list[bytes | None]:
        """None where there was none, or where the record's key has been erased."""
        ciphers = keys.by_id
        opened: list[bytes | None] = []
        for content, place in zip(sealed, places, strict=True):
            if content is not None and content[:1] != _RECORD:
                raise Unreadable(place.decode().replace("\x1f", "/"))
            cipher = None if content is None else ciphers.get(record_key_id(content))
            if content is None or cipher is None:
                opened.append(None)
            else:
                opened.append(_open(cipher, content[9:], place, (place.decode().replace("\x1f", "/"),)))
        return opened

    def digests(self, texts: Iterable[bytes]) -> list[bytes]:
        """Keyed, so that a fingerprint or match key cannot be guessed back. 16 bytes each."""
        key = self._digest_key
        return [hashlib.blake2b(text, key=key, digest_size=16).digest() for text in texts]

    @staticmethod
    def _seal(cipher: AESGCM, plain: bytes, place: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + cipher.encrypt(nonce, plain, place)


def record_key_id(sealed: bytes) -> int:
    """Which row of data_keys opens this."""
    return int.from_bytes(sealed[1:9]) if sealed[:1] == _RECORD else -1


def wrap_tenant_key(master: bytes, tenant: UUID, tenant_key: bytes) -> bytes:
    return Vault._seal(AESGCM(master), tenant_key, f"tenant_keys\x1f{tenant}".encode())


def unwrap_tenant_key(master: bytes, tenant: UUID, wrapped: bytes) -> bytes:
    return _open(AESGCM(master), wrapped, f"tenant_keys\x1f{tenant}".encode(), ("tenant_keys", str(tenant)))


def _open(cipher: AESGCM, sealed: bytes, place: bytes, where: Sequence[str]) -> bytes:
    try:
        return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], place)
    except (InvalidTag, ValueError):
        raise Unreadable("/".join(where)) from None
