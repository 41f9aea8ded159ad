"""Whatever is made, edited and deleted where: both sides end alike, nothing is there twice, unless a person must decide."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as property_settings
from hypothesis import strategies as st
from notebook import World, make_world, now

from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database

NUMBERS = ("001", "002")
FIELDS = {"Phone": "phone", "Email": "email"}
STEP = st.tuples(
    st.sampled_from(["external", "erp"]),
    st.sampled_from(["edit", "edit", "delete", "make"]),
    st.sampled_from(NUMBERS),
    st.sampled_from(sorted(FIELDS)),
    st.booleans(),  # whether the other side's clock is that of the ERP, which decides who was last
)
ROUNDS = st.lists(st.lists(STEP, min_size=2, max_size=8), min_size=1, max_size=3)
NO_BRAKE = {"brake_deletes": 1.0, "brake_changes": 1.0}


@pytest.fixture(scope="module")
def names() -> Iterator[Any]:
    return iter(f"tenant{n}" for n in range(10_000))


def step(world: World, side: str, what: str, number: str, field: str, value: str) -> None:
    """Does nothing where there is nothing to edit or delete, or the record is there already."""
    if side == "external":
        there = [
            key for key, note in world.book.notes["Client"].items() if note.values["Number"] == number and not note.deleted
        ]
        if what == "make" and not there:
            world.book.write_note("Client", f"C{value}", Name=f"n{number}", Number=number, Phone=value, Email=None)
        elif what == "edit" and there:
            world.book.write_note("Client", there[0], **{field: value})
        elif what == "delete" and there:
            world.book.remove("Client", there[0])
        return
    if what == "make":
        world.change(
            """INSERT INTO erp.customer (name, customer_number, phone)
               SELECT 'n' || :n, :n, :v WHERE NOT EXISTS (SELECT FROM erp.customer WHERE customer_number = :n)""",
            n=number,
            v=value,
        )
    elif what == "edit":
        world.change(f"UPDATE erp.customer SET {FIELDS[field]} = :v WHERE customer_number = :n", n=number, v=value)
    else:
        world.change("DELETE FROM erp.customer WHERE customer_number = :n", n=number)


def external(world: World) -> list[tuple[Any, ...]]:
    alive = [note.values for note in world.book.notes["Client"].values() if not note.deleted]
    return sorted(tuple(str(values.get(name)) for name in ("Number", "Name", "Phone", "Email")) for values in alive)


def erp(world: World) -> list[tuple[Any, ...]]:
    rows = world.rows("SELECT customer_number, name, phone, email FROM erp.customer")
    return sorted(tuple(map(str, row.values())) for row in rows)


@pytest.mark.parametrize("strategy", ["last_write_wins", "source_wins", "target_wins"])
# each example is a tenant of its own in the one database
@property_settings(
    max_examples=7,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],  # each example takes a second or so: no shrinking
)
@given(rounds=ROUNDS, page_size=st.sampled_from([1, 2, 1000]))
def test_both_sides_end_with_the_same_records(
    database: Database, settings: Settings, names: Any, strategy: str, rounds: Any, page_size: int
) -> None:
    options: dict[str, Any] = {"direction": "bidirectional", "delete_policy": "propagate", "options": NO_BRAKE}
    world = make_world(database, settings, tenant=next(names), strategy=strategy, **options)
    world.book.page_size = page_size
    for number in NUMBERS:
        step(world, "external", "make", number, "", number)
    world.sync()
    count = 0
    for steps in rounds:
        for side, what, number, field, late in steps:
            count += 1
            if late:
                world.book.clock = max(world.book.clock, now())
            step(world, side, what, number, field, str(count))
        world.sync()
    for _ in range(3):
        last, _ = world.sync()
    assert last.actions == {}
    if world.errors():  # what waits for a person may differ
        return
    there = external(world)
    assert len({one[0] for one in there}) == len(there)
    assert there == erp(world)
