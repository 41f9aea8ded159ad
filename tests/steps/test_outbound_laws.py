"""Whatever is edited where, and whatever answers get lost: both sides end alike, nothing twice, no edit lost."""

from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as property_settings
from hypothesis import strategies as st
from notebook import World, make_world

from connector_resources.errors import RetryableError
from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database

FIELDS = {"Email": "email", "Phone": "phone", "Revenue": "annual_revenue"}
RECORDS = ("R1", "R2", "R3")
VALUES = {
    "Email": st.one_of(st.none(), st.text(alphabet="abcäß.@", min_size=1, max_size=6)),
    "Phone": st.one_of(st.none(), st.sampled_from(["0", "00", "+49 73", "7"])),
    "Revenue": st.one_of(st.none(), st.integers(0, 10**9).map(lambda n: Decimal(n).scaleb(-2))),
}
EDIT = st.one_of(
    [
        st.tuples(st.sampled_from(["external", "erp"]), st.sampled_from(RECORDS), st.just(name), values)
        for name, values in VALUES.items()
    ]
)
# What becomes of the next writes: the answer is lost, the request is lost, or all is well.
LUCK = st.lists(st.sampled_from(["answer", "request", "well"]), max_size=4)
ROUNDS = st.lists(st.tuples(st.lists(EDIT, max_size=6), LUCK), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def names() -> Iterator[Any]:
    return iter(f"tenant{n}" for n in range(10_000))


def unlucky(world: World, luck: list[str]) -> None:
    left = list(luck)

    def next_is(kind: str) -> bool:
        if left and left[0] == kind:
            left.pop(0)
            return True
        if kind == "answer" and left and left[0] == "well":
            left.pop(0)
        return False

    world.book.request_lost = lambda *_: next_is("request")
    world.book.answer_lost = lambda *_: next_is("answer")


def external(world: World, record: str) -> dict[str, Any]:
    (note,) = [n for n in world.book.notes["Client"].values() if n.values["Number"] == record]
    return {name: note.values.get(name) for name in FIELDS}


def erp(world: World, record: str) -> dict[str, Any]:
    (row,) = world.rows("SELECT email, phone, annual_revenue FROM erp.customer WHERE customer_number = :n", n=record)
    return {name: row[column] for name, column in FIELDS.items()}


def edit(world: World, side: str, record: str, name: str, value: Any) -> None:
    if side == "erp":
        sql = f"UPDATE erp.customer SET {FIELDS[name]} = :v WHERE customer_number = :n"
        world.change(sql, v=value, n=record)
        return
    (key,) = [key for key, note in world.book.notes["Client"].items() if note.values["Number"] == record]
    world.book.write_note("Client", key, **{name: value})


@pytest.mark.parametrize("strategy", ["last_write_wins", "source_wins", "target_wins"])
# each example is a tenant of its own in the one database
@property_settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],  # each example takes a second or so: no shrinking
)
@given(rounds=ROUNDS)
def test_both_sides_end_alike(database: Database, settings: Settings, names: Any, strategy: str, rounds: Any) -> None:
    world = make_world(database, settings, tenant=next(names), direction="bidirectional", strategy=strategy)
    world.book.write_note("Client", "C1", Name="One", Number="R1", Phone="1", Email="a", Revenue=Decimal(2))
    for number in ("R2", "R3"):
        world.change(
            "INSERT INTO erp.customer (name, customer_number, email, phone, annual_revenue) "
            "VALUES ('made here', :n, 'a@b.example', '1', 1)",
            n=number,
        )
    world.sync()
    for edits, luck in rounds:
        before = {record: erp(world, record) for record in RECORDS}
        said: dict[tuple[str, str], dict[str, Any]] = {}
        for side, record, name, value in edits:
            edit(world, side, record, name, value)
            said.setdefault((record, name), {})[side] = value
        unlucky(world, luck)
        with suppress(RetryableError):  # three requests lost in a row: the run is tried again
            world.sync()
        unlucky(world, [])
        world.sync()
        assert world.errors() == []
        for record in RECORDS:
            there, here = external(world, record), erp(world, record)
            assert there == here
            for name in FIELDS:
                told = {side: v for side, v in said.get((record, name), {}).items() if v != before[record][name]}
                if not told:
                    assert here[name] == before[record][name]
                elif len(told) == 1:
                    assert here[name] in told.values()
                elif strategy != "last_write_wins":
                    assert here[name] == told["external" if strategy == "source_wins" else "erp"]
                else:
                    assert here[name] in told.values()
        written = len(world.book.writes)
        assert world.sync()[0].actions == {}
        assert len(world.book.writes) == written
    assert len(world.book.notes["Client"]) == len(RECORDS)
