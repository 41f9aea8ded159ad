"""The three-way merge by its laws: pure, for whatever three sides, policies and instants there are."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_resources.contract import Field, FieldType
from integration_pipelines.canonical import TEXT, array, canonical, frame, record_index
from integration_pipelines.model import ConflictStrategy
from integration_pipelines.steps.base import Base, chosen, differs
from integration_pipelines.steps.merge import FieldPolicy, Merged, Sides, merge, new_base, spoken

VALUES = st.sampled_from([None, "", "a", "b", "c"])
INSTANTS = st.sampled_from(["NaT", "2026-01-01", "2026-01-02", "2026-01-03"])
POLICIES = st.builds(FieldPolicy, st.sampled_from(list(ConflictStrategy)), st.booleans(), st.booleans())
laws = settings(max_examples=200, deadline=None, database=None)


@dataclass(frozen=True)
class Cell:
    """One field of one record on all sides; `spelled` is the ERP's spelling of the base."""

    external: str | None
    erp: str | None
    base: str | None
    spelled: str | None
    said: bool
    known: bool
    external_at: str
    erp_at: str


@dataclass(frozen=True)
class Table:
    """Cells, a record by a field, and the fields' policies."""

    rows: list[list[Cell]]
    policies: list[FieldPolicy]

    def sides(self) -> Sides:
        index = record_index([f"r{at}" for at in range(len(self.rows))])
        width = range(len(self.policies))

        def texts(pick: Callable[[Cell], str | None]) -> pd.DataFrame:
            return frame({f"f{at}": pa.array([pick(row[at]) for row in self.rows], TEXT) for at in width}, index)

        def cells(pick: Callable[[Cell], Any], kind: str) -> Any:
            return np.array([[pick(cell) for cell in row] for row in self.rows], dtype=kind)

        return Sides(
            external=texts(lambda c: c.external),
            erp=texts(lambda c: c.erp),
            base=Base(
                texts(lambda c: c.base if c.known else None),
                texts(lambda c: c.spelled if c.known else None),
                cells(lambda c: c.known, "bool"),
            ),
            said=cells(lambda c: c.said, "bool"),
            external_at=np.array([row[0].external_at for row in self.rows], dtype="datetime64[us]"),
            erp_at=cells(lambda c: c.erp_at, "datetime64[us]"),
        )


CELLS = st.builds(Cell, VALUES, VALUES, VALUES, VALUES, st.booleans(), st.booleans(), INSTANTS, INSTANTS)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=6))
    return Table(rows, draw(st.lists(POLICIES, min_size=width, max_size=width)))


def decision(cell: Cell, record: Cell, policy: FieldPolicy) -> str:
    """What the sync semantics say of one field, in words: "write", "leave" or "clash"."""
    silent = not cell.said or (cell.external is None and not policy.null_clears)
    if silent or cell.external == cell.erp:
        return "leave"
    if not cell.known:
        return "write" if policy.external_owns and cell.external is not None else "leave"
    if cell.external == cell.base:
        return "leave"
    if cell.erp == cell.spelled:
        return "write"
    if policy.strategy is ConflictStrategy.LAST_WRITE_WINS:
        known = "NaT" not in (record.external_at, cell.erp_at)
        return "write" if known and record.external_at > cell.erp_at else "leave"
    return {"source_wins": "write", "target_wins": "leave", "manual": "clash"}[policy.strategy.value]


@laws
@given(tables())
def test_each_field_is_settled_exactly_as_the_semantics_say(table: Table) -> None:
    merged = merge(table.sides(), table.policies)
    for at, row in enumerate(table.rows):
        for number, (cell, policy) in enumerate(zip(row, table.policies, strict=True)):
            found = "clash" if merged.clash[at, number] else "write" if merged.write[at, number] else "leave"
            assert found == decision(cell, row[0], policy), (cell, policy)


def column(texts: pd.DataFrame, name: str) -> list[str | None]:
    found: list[str | None] = array(texts[name]).to_pylist()
    return found


def applied(sides: Sides, merged: Merged) -> pd.DataFrame:
    """The ERP's records after the writes."""
    return frame(
        {
            str(name): pa.array(
                [x if w else e for x, e, w in zip(column(sides.external, name), column(sides.erp, name), write, strict=True)],
                TEXT,
            )
            for name, write in zip(sides.erp.columns, merged.write.T, strict=True)
        },
        sides.erp.index,
    )


@laws
@given(tables())
def test_a_merge_after_a_merge_writes_nothing_and_asks_nothing(table: Table) -> None:
    sides = table.sides()
    merged = merge(sides, table.policies)
    again = merge(replace(sides, erp=applied(sides, merged), base=new_base(sides, merged)), table.policies)
    quiet = ~merged.clash  # a clash is not merged at all, and goes on asking
    assert not again.write[quiet].any()
    assert not again.clash[quiet].any()


@laws
@given(tables())
def test_an_edit_of_the_erp_alone_never_loses_its_value(table: Table) -> None:
    sides = table.sides()
    merged = merge(sides, table.policies)
    for at, row in enumerate(table.rows):
        for number, cell in enumerate(row):
            if cell.known and cell.external == cell.base:
                assert not merged.write[at, number]


@laws
@given(tables())
def test_the_base_is_what_the_external_side_said_and_else_stays(table: Table) -> None:
    sides = table.sides()
    merged = merge(sides, table.policies)
    base = new_base(sides, merged)
    for number, name in enumerate(base.external.columns):
        rows = zip(*(column(side, name) for side in (base.external, sides.external, sides.base.external)), strict=True)
        for at, (new, external, old) in enumerate(rows):
            assert new == (external if merged.said[at, number] else old)
            assert base.known[at, number] == (sides.base.known[at, number] or merged.said[at, number])


@laws
@given(tables())
def test_the_erps_spelling_of_a_value_that_stands_is_kept(table: Table) -> None:
    """Whatever the ERP's record holds meanwhile: an edit of it stays an edit, and none is made up."""
    sides = table.sides()
    base = new_base(sides, merge(sides, table.policies))
    for at, row in enumerate(table.rows):
        for number, cell in enumerate(row):
            if cell.known and cell.external == cell.base and cell.external != cell.erp:
                assert column(base.erp, f"f{number}")[at] == cell.spelled


@laws
@given(tables(), VALUES)
def test_an_erp_that_spells_otherwise_still_takes_the_next_value(table: Table, later: str | None) -> None:
    """It stored other texts than were written. That is nobody's edit, so the next external value is written by any policy."""
    sides = table.sides()
    merged = merge(sides, table.policies)
    base = new_base(sides, merged)

    def respelled(texts: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
        names = map(str, texts.columns)
        shown = {n: [f"{v}!" for v in column(texts, n)] for n in names}
        return chosen(merged.write, frame({n: pa.array(v, TEXT) for n, v in shown.items()}, texts.index), others)

    erp = respelled(sides.external, sides.erp)
    stored = replace(base, erp=respelled(sides.external, base.erp))
    assert not merge(replace(sides, erp=erp, base=stored), table.policies).write[merged.write].any()
    new = frame({str(n): pa.array([later] * len(erp), TEXT) for n in erp.columns}, erp.index)
    following = replace(sides, external=new, erp=erp, base=stored)
    again = merge(following, table.policies)
    expected = merged.write & spoken(new, sides.said, table.policies) & differs(new, sides.external)
    assert (again.write[merged.write] == expected[merged.write]).all()


def test_a_base_keeps_both_spellings_and_opens_as_it_was_sealed() -> None:
    index = record_index(["1", "2"])
    external = frame({"a": pa.array(["x", None], TEXT), "b": pa.array(["y", "z"], TEXT)}, index)
    erp = frame({"a": pa.array(["X", "-"], TEXT), "b": pa.array(["y", None], TEXT)}, index)
    base = Base(external, erp, np.array([[True, True], [True, False]]))
    sealed = base.json().to_pylist()
    assert [orjson.loads(row) for row in sealed] == [{"a": "x", "b": "y", "erp:a": "X"}, {"a": None, "erp:a": "-"}]
    again = Base.opened([*sealed, None], ["a", "b"], record_index(["1", "2", "3"]))
    assert again.known.tolist() == [[True, True], [True, False], [False, False]]
    assert column(again.external, "a") == ["x", None, None]
    assert column(again.erp, "a") == ["X", "-", None]
    assert column(again.erp, "b") == ["y", None, None]


@laws
@given(tables(), st.randoms(use_true_random=False))
def test_neither_the_order_of_records_nor_that_of_fields_matters(table: Table, chance: Any) -> None:
    rows, fields = list(range(len(table.rows))), list(range(len(table.policies)))
    chance.shuffle(rows)
    fields[1:] = chance.sample(fields[1:], len(fields) - 1)  # the first cell of a row carries the record's instant
    mixed = Table([[table.rows[r][f] for f in fields] for r in rows], [table.policies[f] for f in fields])
    straight, shuffled = merge(table.sides(), table.policies), merge(mixed.sides(), mixed.policies)
    for name in ("write", "clash", "said"):
        assert (getattr(straight, name)[np.ix_(rows, fields)] == getattr(shuffled, name)).all()


@laws
@given(tables())
def test_under_source_wins_the_erp_holds_every_external_edit_afterwards(table: Table) -> None:
    policies = [FieldPolicy(ConflictStrategy.SOURCE_WINS, p.external_owns, p.null_clears) for p in table.policies]
    sides = table.sides()
    merged = merge(sides, policies)
    erp = applied(sides, merged)
    for number, name in enumerate(erp.columns):
        for at, (now, wanted) in enumerate(zip(column(erp, name), column(sides.external, name), strict=True)):
            cell = table.rows[at][number]
            if cell.known and merged.said[at, number] and cell.external != cell.base:
                assert now == wanted


def one(cell: Cell, policy: FieldPolicy) -> Merged:
    return merge(Table([[cell]], [policy]).sides(), [policy])


MET = Cell("x", "e", None, None, said=True, known=False, external_at="2026-01-02", erp_at="2026-01-01")


def test_a_null_and_an_absent_value_are_two_things() -> None:
    policy = FieldPolicy(ConflictStrategy.SOURCE_WINS)
    told = replace(MET, external=None, erp="b", base="b", known=True)
    assert one(told, policy).write.all()
    assert not one(replace(told, said=False), policy).write.any()


def test_a_null_overwrites_nothing_at_a_first_meeting() -> None:
    assert not one(replace(MET, external=None), FieldPolicy(ConflictStrategy.SOURCE_WINS)).write.any()


@pytest.mark.parametrize("strategy", list(ConflictStrategy))
def test_the_owner_decides_a_first_meeting_whatever_the_strategy(strategy: ConflictStrategy) -> None:
    assert one(MET, FieldPolicy(strategy)).write.all()
    assert not one(MET, FieldPolicy(strategy, external_owns=False)).write.any()


def test_equal_instants_keep_the_erp_s_value() -> None:
    both = replace(MET, base="b", known=True, external_at="2026-01-01")
    assert not one(both, FieldPolicy(ConflictStrategy.LAST_WRITE_WINS)).write.any()
    later = replace(both, external_at="2026-01-02")
    assert one(later, FieldPolicy(ConflictStrategy.LAST_WRITE_WINS)).write.all()


def test_a_null_that_clears_nothing_is_not_spoken() -> None:
    records = frame({"f": pa.array([None, "a", None], TEXT)}, record_index(["1", "2", "3"]))
    said = np.array([[True], [True], [False]])
    keep = FieldPolicy(ConflictStrategy.SOURCE_WINS, null_clears=False)
    assert spoken(records, said, [keep]).tolist() == [[False], [True], [False]]
    assert spoken(records, said, [replace(keep, null_clears=True)]).tolist() == [[True], [True], [False]]


AMOUNTS = st.decimals(min_value=-(10**9), max_value=10**9, places=2)


@laws
@given(AMOUNTS, AMOUNTS, st.integers(0, 6))
def test_money_is_compared_at_the_scale_of_its_field(left: Decimal, right: Decimal, more: int) -> None:
    """Whatever number of zeros a side spells behind the point."""
    field = Field("amount", FieldType.DECIMAL, scale=2)
    wide = pa.decimal128(38, 2 + more)

    def side(amount: Decimal, kind: pa.DataType) -> pd.DataFrame:
        return canonical(frame({"amount": pa.array([amount], kind)}, record_index(["1"])), [field])

    sides = Sides(
        external=side(left, wide),
        erp=side(right, pa.decimal128(38, 2)),
        base=Base.agreed(side(right, pa.decimal128(38, 2)), np.array([[True]])),
        said=np.array([[True]]),
        external_at=np.array([datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)], dtype="datetime64[us]"),
        erp_at=np.array([["NaT"]], dtype="datetime64[us]"),
    )
    assert merge(sides, [FieldPolicy(ConflictStrategy.MANUAL)]).write.any() == (left != right)
