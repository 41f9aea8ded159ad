"""The master key: made once, read by its owner alone, changed without touching a record, and never mistaken."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from connector_resources.errors import ConfigurationError
from integration_pipelines.settings import Settings
from integration_pipelines.store import tenants
from integration_pipelines.store.database import Database
from integration_pipelines.store.installation import open_installation
from integration_pipelines.store.master_key import MasterKey, key_id, write_new


@pytest.fixture
def key(tmp_path: Path) -> MasterKey:
    return MasterKey(None, tmp_path / "home" / "master.key")


def test_the_first_use_makes_a_file_that_only_its_owner_reads(key: MasterKey) -> None:
    made = key.current()
    assert len(made) == 32
    assert key.current() == made == MasterKey(None, key.file).current()
    assert key.file.stat().st_mode & 0o777 == 0o600
    assert key.file.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in key.file.parent.iterdir()] == ["master.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_file_that_others_can_read_is_refused(key: MasterKey, mode: int) -> None:
    key.current()
    key.file.chmod(mode)
    with pytest.raises(ConfigurationError, match=r"master\.key can be read by others. Run `chmod 600"):
        key.current()


@pytest.mark.parametrize("content", ["", "canary", "ab" * 31, "ab" * 33, "zz" * 32])
def test_a_file_that_holds_no_key_is_refused_without_quoting_it(key: MasterKey, content: str) -> None:
    key.current()
    key.file.write_text(content)
    with pytest.raises(ConfigurationError, match="does not hold a master key") as refusal:
        key.current()
    assert not content or content not in str(refusal.value)


def test_processes_that_make_the_file_at_once_end_with_one_key(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from integration_pipelines.store.master_key import MasterKey\n"
        "sys.stdin.readline(); print(MasterKey(None, pathlib.Path(sys.argv[1])).current().hex())"
    )
    file = tmp_path / "home" / "master.key"
    command = [sys.executable, "-c", code, str(file)]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    for process in running:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    said = {process.communicate(timeout=60)[0].strip() for process in running}
    assert said == {file.read_text().strip()}
    assert [path.name for path in file.parent.iterdir()] == ["master.key"]


def test_an_existing_key_is_never_written_over(key: MasterKey) -> None:
    made = key.current()
    write_new(key.file, b"x" * 32)
    assert key.current() == made


def test_a_given_key_makes_no_file(tmp_path: Path) -> None:
    given = MasterKey(b"k" * 32, tmp_path / "master.key")
    assert (given.current(), given.in_file, list(tmp_path.iterdir())) == (b"k" * 32, False, [])


def test_a_wrong_key_is_a_sentence_that_names_both(key: MasterKey) -> None:
    wanted = key_id(b"w" * 32)
    with pytest.raises(ConfigurationError) as refusal:
        key.for_id(wanted)
    assert re.search(rf"master key {wanted}, but the file .*master.key holds key {key_id(key.current())}", str(refusal.value))
    with pytest.raises(ConfigurationError, match=f"{wanted}, but INTEGRATION_MASTER_KEY holds key {key_id(b'k' * 32)}"):
        MasterKey(b"k" * 32, key.file).for_id(wanted)


def test_the_id_of_a_key_does_not_tell_the_key() -> None:
    assert re.fullmatch("[0-9a-f]{16}", key_id(b"k" * 32))
    assert key_id(b"k" * 32) != key_id(b"l" * 32)
    assert key_id(b"k" * 32) not in (b"k" * 32).hex()


def encrypted(database: Database) -> list[tuple[UUID, bytes]]:
    """Two tenants, and a value that each has sealed."""
    found = []
    for name in ("one", "two"):
        tenant = tenants.create(database, name)
        with database.tenant(tenant) as scope:
            found.append((tenant, scope.vault.seal(name.encode(), "t")))
    return found


def opened(database: Database, sealed: list[tuple[UUID, bytes]]) -> list[bytes]:
    out = []
    for tenant, content in sealed:
        with database.tenant(tenant) as scope:
            out.append(scope.vault.open(content, "t"))
    return out


@contextmanager
def again(database: Database, given: bytes | None = None) -> Iterator[Database]:
    """What the next process opens."""
    following = Database(database.url, MasterKey(given, database.master.file))
    try:
        yield following
    finally:
        following.close()


def test_a_database_of_another_key_is_refused_before_anything_is_read(database: Database, settings: Settings) -> None:
    encrypted(database)
    used = key_id(database.master.current())
    database.master.file.write_text("ab" * 32)
    with open_installation(settings) as installation, pytest.raises(
        ConfigurationError, match=rf"{used}.*{key_id(bytes.fromhex('ab' * 32))}"
    ):  # fmt: skip
        installation.database()


def snapshot(database: Database) -> dict[str, object]:
    """Every row of every table except the wrapped tenant keys."""
    owner = sa.create_engine(sa.make_url(database.url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    with owner.connect() as connection:
        names = (
            connection.exec_driver_sql(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
            )
            .scalars()
            .all()
        )
        return {
            n: connection.exec_driver_sql(f"SELECT xmin, t.* FROM {n} t ORDER BY 2").all() for n in names if n != "tenant_keys"
        }


def test_a_rotation_touches_the_tenants_keys_and_no_record(database: Database) -> None:
    sealed = encrypted(database)
    before = snapshot(database)
    old, new = database.master.current(), database.master.prepare()
    assert database.rewrap(old, new) == 2
    database.master.promote()
    assert snapshot(database) == before
    with again(database) as following:
        assert opened(following, sealed) == [b"one", b"two"]
    with again(database, old) as following, pytest.raises(ConfigurationError, match="cannot be read by anybody"):
        opened(following, sealed)
    assert database.rewrap(old, new) == 0


def test_a_rotation_that_was_killed_before_its_commit_leaves_the_old_key_in_force(database: Database) -> None:
    sealed = encrypted(database)
    new = database.master.prepare()
    with again(database) as following:
        assert opened(following, sealed) == [b"one", b"two"]
    assert database.master.prepare() == new  # the next rotation uses the same one


def test_a_rotation_that_was_killed_between_commit_and_promotion_goes_on(database: Database) -> None:
    sealed = encrypted(database)
    new = database.master.prepare()
    database.rewrap(database.master.current(), new)
    with again(database) as following:
        following.check_master_key()
        assert opened(following, sealed) == [b"one", b"two"]
        assert following.master.current() == new
    assert not database.master.file.with_suffix(".next").exists()
    assert database.master.file.stat().st_mode & 0o777 == 0o600


def test_two_processes_may_both_finish_a_killed_rotation(database: Database) -> None:
    encrypted(database)
    old, new = database.master.current(), database.master.prepare()
    database.rewrap(old, new)

    class Late(MasterKey):
        """Another process finishes while this one is looking."""

        def current(self) -> bytes:
            found = super().current()
            if self._next_file.exists():
                MasterKey(None, self.file).promote()
            return found

    assert Late(None, database.master.file).for_id(key_id(new)) == new


def test_a_new_tenant_is_wrapped_by_the_key_in_force(database: Database) -> None:
    tenant = tenants.create(database, "acme")
    with database.tenant(tenant) as scope:
        assert scope.run("SELECT master_key_id FROM tenant_keys").scalar() == key_id(database.master.current())


def test_the_file_is_never_readable_by_others_not_even_under_a_loose_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_new(tmp_path / "master.key", b"k" * 32)
    finally:
        os.umask(before)
    assert (tmp_path / "master.key").stat().st_mode & 0o777 == 0o600
