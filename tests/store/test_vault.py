"""Sealed stays sealed: laws of the vault, and erasing one record."""

import base64
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from integration_pipelines.store import ledger, tenants
from integration_pipelines.store.database import Database
from integration_pipelines.store.vault import (
    RecordKeys,
    Unreadable,
    Vault,
    record_key_id,
    unwrap_tenant_key,
    wrap_tenant_key,
)

ONE, TWO = UUID(int=1), UUID(int=2)
VAULT, OTHER = Vault(ONE, b"1" * 32), Vault(TWO, b"2" * 32)
PLACE = st.lists(st.text(st.characters(codec="utf-8") | st.sampled_from("\x1f\\/"), max_size=6), min_size=1, max_size=4)
PLAIN = st.binary(max_size=80)


@given(PLAIN, PLACE)
def test_what_is_sealed_opens_in_its_place(plain: bytes, place: list[str]) -> None:
    assert VAULT.open(VAULT.seal(plain, *place), *place) == plain


@given(PLAIN, PLACE, PLACE)
def test_what_is_moved_to_another_place_does_not_open(plain: bytes, place: list[str], elsewhere: list[str]) -> None:
    assume(place != elsewhere)
    with pytest.raises(Unreadable):
        VAULT.open(VAULT.seal(plain, *place), *elsewhere)


@given(PLACE, PLACE)
def test_no_two_places_are_one(place: list[str], other: list[str]) -> None:
    assert (VAULT.place(*place) == VAULT.place(*other)) == (place == other)
    assert VAULT.place(*place) != OTHER.place(*place)


@pytest.mark.parametrize(
    "elsewhere",
    [
        ("users", "7", "credentials"),
        ("connectors", "8", "credentials"),
        ("connectors", "7", "configuration"),
        ("connectors", "7"),
    ],
)
def test_another_table_row_or_column_is_another_place(elsewhere: tuple[str, ...]) -> None:
    sealed = VAULT.seal(b"secret", "connectors", "7", "credentials")
    with pytest.raises(Unreadable):
        VAULT.open(sealed, *elsewhere)


@given(PLAIN, PLACE)
def test_another_tenant_cannot_open_it_even_with_the_same_key(plain: bytes, place: list[str]) -> None:
    sealed = VAULT.seal(plain, *place)
    for stranger in (OTHER, Vault(TWO, b"1" * 32), Vault(ONE, b"2" * 32)):
        with pytest.raises(Unreadable):
            stranger.open(sealed, *place)


@given(PLAIN, st.data())
def test_one_flipped_bit_does_not_open(plain: bytes, data: st.DataObject) -> None:
    sealed = bytearray(VAULT.seal(plain, "t"))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Unreadable):
        VAULT.open(bytes(sealed), "t")


@given(PLAIN, st.data())
def test_what_is_cut_off_does_not_open(plain: bytes, data: st.DataObject) -> None:
    sealed = VAULT.seal(plain, "t")
    with pytest.raises(Unreadable):
        VAULT.open(sealed[: data.draw(st.integers(0, len(sealed) - 1))], "t")


@given(PLAIN)
def test_two_seals_of_one_plaintext_differ(plain: bytes) -> None:
    assert len({VAULT.seal(plain, "t")[:61] for _ in range(3)}) == 3


def test_the_ciphertext_does_not_hold_the_plaintext() -> None:
    assert b"canary" not in VAULT.seal(b"canary" * 20, "t")


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab")))
def test_sealed_json_comes_back(value: dict[str, Any]) -> None:
    sealed = VAULT.seal_json(value, "t")
    assert list(sealed) == ["sealed"]
    assert VAULT.open_json(sealed, "t") == value


@pytest.mark.parametrize(
    "stored", [{}, {"password": "canary"}, {"sealed": "no base64!"}, {"sealed": None}, {"sealed": "AAAA"}]
)
def test_json_that_was_never_sealed_is_a_sentence_without_it(stored: Any) -> None:
    with pytest.raises(Unreadable, match=r"What is stored at connectors/7 cannot be decrypted") as refusal:
        VAULT.open_json(stored, "connectors", "7")
    assert "canary" not in str(refusal.value)


def test_a_vault_does_not_show_its_key() -> None:
    assert "1" * 8 not in repr(VAULT).replace(str(ONE), "")


def keys(*subjects: str, vault: Vault = VAULT) -> RecordKeys:
    made = vault.new_record_keys(subjects).items()
    return vault.record_keys([(at, subject, wrapped) for at, (subject, (wrapped, _)) in enumerate(made, 1)])


PART = st.text(alphabet="a\\s\x1f", max_size=3)


@given(PART, st.lists(PART, max_size=4), st.lists(PART, max_size=2))
def test_places_of_many_are_the_places_of_each(before: str, ids: list[str], after: list[str]) -> None:
    assert VAULT.places((before,), ids, after) == [VAULT.place(before, one, *after) for one in ids]


@given(st.lists(st.none() | PLAIN, max_size=5))
def test_records_open_in_their_places_and_null_stays_null(plains: list[bytes | None]) -> None:
    subjects = [f"customer/{at % 2}" for at in range(len(plains))]
    found = keys("customer/0", "customer/1")
    places = [VAULT.place("t", str(at)) for at in range(len(plains))]
    sealed = VAULT.seal_records(found, subjects, plains, places)
    assert VAULT.open_records(found, sealed, places) == plains


def test_a_record_that_is_moved_or_altered_does_not_open() -> None:
    found = keys("customer/1", "customer/2")
    place, elsewhere = VAULT.place("t", "1"), VAULT.place("t", "2")
    (sealed,) = VAULT.seal_records(found, ["customer/1"], [b"x"], [place])
    assert sealed is not None
    with pytest.raises(Unreadable, match="t/2"):
        VAULT.open_records(found, [sealed], [elsewhere])
    for at in range(9, len(sealed)):
        with pytest.raises(Unreadable):
            VAULT.open_records(found, [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]], [place])
    with pytest.raises(Unreadable):  # under the key of another record
        VAULT.open_records(found, [sealed[:1] + (2).to_bytes(8) + sealed[9:]], [place])
    with pytest.raises(Unreadable):  # not of a record's form: an erased key is something else
        VAULT.open_records(found, [b"\x00" + sealed[1:]], [place])


def test_a_wrapped_key_belongs_to_one_subject_of_one_tenant() -> None:
    wrapped, _ = VAULT.new_record_keys(["customer/1"])["customer/1"]
    for vault, subject in ((VAULT, "customer/2"), (OTHER, "customer/1")):
        with pytest.raises(Unreadable):
            vault.record_keys([(1, subject, wrapped)])


def test_only_a_records_ciphertext_names_a_record_key() -> None:
    (sealed,) = VAULT.seal_records(keys("s"), ["s"], [b"x"], [VAULT.place("t")])
    assert sealed is not None
    assert (record_key_id(sealed), record_key_id(VAULT.seal(b"x", "t")), record_key_id(b"")) == (1, -1, -1)


@given(st.lists(st.binary(max_size=40), min_size=1, unique=True))
def test_digests_are_keyed_by_tenant_and_the_same_each_time(texts: list[bytes]) -> None:
    mine = VAULT.digests(texts)
    assert mine == Vault(ONE, b"1" * 32).digests(texts)
    assert len(set(mine)) == len(texts)
    assert not set(mine) & set(OTHER.digests(texts))
    assert {len(digest) for digest in mine} == {16}


def test_a_tenants_key_opens_with_the_same_master_for_the_same_tenant_only() -> None:
    wrapped = wrap_tenant_key(b"m" * 32, ONE, b"t" * 32)
    assert unwrap_tenant_key(b"m" * 32, ONE, wrapped) == b"t" * 32
    for master, tenant in ((b"x" * 32, ONE), (b"m" * 32, TWO)):
        with pytest.raises(Unreadable, match="tenant_keys"):
            unwrap_tenant_key(master, tenant, wrapped)


def test_deleting_a_records_key_erases_all_of_that_record_and_nothing_else(database: Database) -> None:
    tenant = tenants.create(database, "acme")
    subjects = ["customer/1", "customer/2", "customer/1"]
    wheres = [("identity_links", "1"), ("identity_links", "2"), ("sync_record_changes", "1")]
    with database.tenant(tenant) as scope:
        places = [scope.vault.place(*where) for where in wheres]
        sealed = ledger.seal(scope, ledger.keys_for(scope, subjects), subjects, [b"a", b"b", b"c"], places)
        assert ledger.open_sealed(scope, sealed, places) == [b"a", b"b", b"c"]
    with database.tenant(tenant) as scope:
        scope.run("DELETE FROM data_keys WHERE subject = 'customer/1'")
        assert ledger.open_sealed(scope, sealed, places) == [None, b"b", None]
    with database.tenant(tenant) as scope:  # a new key for the same record does not bring the old contents back
        ledger.keys_for(scope, subjects)
        assert ledger.open_sealed(scope, sealed, places) == [None, b"b", None]


def test_one_subjects_key_is_another_tenants_nothing(database: Database) -> None:
    one, two = (tenants.create(database, name) for name in ("one", "two"))
    with database.tenant(one) as scope:
        (sealed,) = ledger.seal(
            scope, ledger.keys_for(scope, ["customer/1"]), ["customer/1"], [b"a"], [scope.vault.place("t", "1")]
        )
    with database.tenant(two) as scope:
        ledger.keys_for(scope, ["customer/1"])
        assert ledger.open_sealed(scope, [sealed], [scope.vault.place("t", "1")]) == [None]


def test_base64_is_read_strictly() -> None:
    sealed = VAULT.seal_json({"a": 1}, "t")["sealed"]
    with pytest.raises(Unreadable):
        VAULT.open_json({"sealed": sealed[:8] + "\n" + sealed[8:]}, "t")
    assert base64.b64decode(sealed)[:1] == b"\x02"
