"""Which records are written at the same time: laws that hold for any records."""

from hypothesis import given
from hypothesis import strategies as st

from connector_resources.salesforce.lanes import LARGEST, MOST, Row, calls, lanes


@st.composite
def many_rows(draw: st.DrawFn) -> list[Row]:
    parents = draw(st.integers(1, 40))
    count = draw(st.integers(0, 900))
    chance = draw(st.randoms(use_true_random=False))
    rows = []
    for at in range(count):
        locks = {f"own {at}", *(f"parent {chance.randrange(parents)}" for _ in range(chance.randrange(3)))}
        needs = {f"key {chance.randrange(at)}"} if at and chance.random() < 0.02 else set()
        row = Row(at, "create", None, None, f"KEY {at}", None, chance.choice([100, LARGEST // 3]))
        row.locks, row.needs = frozenset(locks | needs), frozenset(needs)
        row.locks |= {f"key {at}"}
        rows.append(row)
    return rows


@given(many_rows(), st.integers(1, 6))
def test_each_record_is_in_one_lane_and_no_two_lanes_share_a_lock(rows: list[Row], most: int) -> None:
    made = lanes(rows, most)
    assert len(made) <= most
    assert sorted(row.at for lane in made for row in lane) == list(range(len(rows)))
    held = [frozenset().union(*(row.locks for row in lane)) for lane in made]
    assert sum(map(len, held)) == len(frozenset().union(*held))


@given(many_rows(), st.integers(1, 6))
def test_a_call_is_not_too_large_and_has_nothing_that_needs_another_of_its_records(rows: list[Row], most: int) -> None:
    done: set[str] = set()
    for lane in lanes(rows, most):
        for call in calls(lane):
            made = {str(row.key).casefold() for row in call}
            assert 0 < len(call) <= MOST
            assert len(call) == 1 or sum(row.size for row in call) <= LARGEST
            assert all(row.needs <= done for row in call)
            done |= made


@given(st.integers(1, 2000), st.integers(1, 6))
def test_records_without_parents_need_no_more_calls_than_they_must(count: int, most: int) -> None:
    rows = [Row(at, "update", f"{at:015}", None, None, None, locks=frozenset({f"{at:015}"})) for at in range(count)]
    made = lanes(rows, most)
    assert sum(len(list(calls(lane))) for lane in made) == -(-count // MOST)
