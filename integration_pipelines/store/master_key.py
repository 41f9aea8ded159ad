"""The master key: from INTEGRATION_MASTER_KEY, or from a 0600 file that the first start on one person's machine makes."""

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from connector_resources.errors import ConfigurationError


def key_id(key: bytes) -> str:
    """Sixteen characters that name a key without telling it."""
    return hashlib.sha256(b"integration master key id" + key).hexdigest()[:16]


class MasterKey:
    """`given` is the key from the environment; without it `file` holds the key and is made if missing."""

    def __init__(self, given: bytes | None, file: Path) -> None:
        self._given = given
        self.file = file
        self._next_file = file.with_suffix(".next")

    @property
    def in_file(self) -> bool:
        return self._given is None

    def for_id(self, wanted: str) -> bytes:
        """The key that wrapped a tenant's key. Raises ConfigurationError naming both when we hold another one.

        A rotation that was killed between the database's commit and the file's renaming left the right key in `.next`."""
        mine = self.current()
        if key_id(mine) == wanted:
            return mine
        if self._given is None:
            with suppress(FileNotFoundError):  # there is no rotation under way, or another process has just ended it
                following = _read(self._next_file)
                if key_id(following) == wanted:
                    self.promote()
                    return following
            mine = self.current()
            if key_id(mine) == wanted:
                return mine
        where = f"the file {self.file}" if self._given is None else "INTEGRATION_MASTER_KEY"
        raise ConfigurationError(
            f"The database was encrypted with master key {wanted}, but {where} holds key {key_id(mine)}. "
            "Give the right key; without it the credentials in this database cannot be read by anybody."
        )

    def current(self) -> bytes:
        if self._given is not None:
            return self._given
        if not self.file.exists():
            write_new(self.file, secrets.token_bytes(32))
        return _read(self.file)

    def prepare(self) -> bytes:
        """A new key, durable in `.next` before it encrypts anything. One that a killed rotation left is used again."""
        if not self._next_file.exists():
            write_new(self._next_file, secrets.token_bytes(32))
        return _read(self._next_file)

    def promote(self) -> None:
        """The key of `.next` is the key from now on."""
        self._next_file.replace(self.file)
        _flush(self.file.parent)


def write_new(path: Path, key: bytes) -> None:
    """Mode 0600 from the first byte on; complete or not there; never over an existing key."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(key.hex().encode() + b"\n")
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(draft, path)
            _flush(path.parent)
        except FileExistsError:  # another process was first, and its key is the one
            return
    finally:
        draft.unlink()


def _flush(folder: Path) -> None:
    """A new name is durable only when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> bytes:
    if path.stat().st_mode & 0o077:
        raise ConfigurationError(
            f"{path} can be read by others. Run `chmod 600 {path}`, and rotate the key if others had access."
        )
    try:
        key = bytes.fromhex(path.read_text().strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigurationError(
            f"{path} does not hold a master key (64 hexadecimal characters). Restore it from your backup."
        )
    return key
