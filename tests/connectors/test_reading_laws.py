"""Laws of reading by manifest: values survive the way out and back, and no untouched record is missed."""

import itertools
import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from shopping import Visit, read

from connector_resources.contract import Field, FieldType
from connector_resources.errors import ContractError, SystemUnavailable
from connector_resources.frames import arrow_type
from connector_resources.manifest import FieldSpec, Header, Paging
from connector_resources.paging import Next, Reply, pager
from connector_resources.sandbox.generic import ShopSandbox
from connector_resources.values import column, json_text, outgoing, since_text

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ZONES = st.builds(lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-14 * 60, 14 * 60))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.decimals(-(10**9), 10**9, places=3) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROS = st.integers(-60_000_000_000_000_000, 250_000_000_000_000_000)
VALUES: dict[FieldType, st.SearchStrategy[Any]] = {
    FieldType.STRING: TEXTS,
    FieldType.INTEGER: st.integers(-(2**63), 2**63 - 1),
    FieldType.DECIMAL: st.decimals(-(10**20), 10**20, places=4),
    FieldType.BOOLEAN: st.booleans(),
    FieldType.DATE: st.dates(),
    FieldType.INSTANT: st.builds(
        lambda micros, zone: (EPOCH + timedelta(microseconds=micros)).astimezone(zone), MICROS, ZONES
    ),
}


def spec(kind: FieldType, **others: Any) -> FieldSpec:
    return FieldSpec(Field("f", kind, scale=4 if kind is FieldType.DECIMAL else 0), ("f",), ("f",), **others)


def back(field: FieldSpec, value: Any, textual: bool = False) -> Any:
    """A value, written into a request and read from an answer that says the same."""
    held = pa.array([value], arrow_type(field.field)).to_pylist()[0]
    sent = json.loads(json_text(outgoing(field, held)), parse_float=Decimal)
    if textual:
        sent = json_text(sent) if not isinstance(sent, str) else sent
    read, _ = column("e", field, [sent], textual)
    return read.to_pylist()[0]


@pytest.mark.parametrize("kind", VALUES, ids=str)
@given(data=st.data())
def test_a_value_comes_back_as_it_was_sent(kind: FieldType, data: st.DataObject) -> None:
    value = data.draw(VALUES[kind])
    assert back(spec(kind), value) == value


@pytest.mark.parametrize("kind", [FieldType.INTEGER, FieldType.DECIMAL, FieldType.BOOLEAN, FieldType.DATE], ids=str)
@given(data=st.data())
def test_a_value_comes_back_where_everything_is_text(kind: FieldType, data: st.DataObject) -> None:
    value = data.draw(VALUES[kind])
    assert back(spec(kind), value, textual=True) == value


@pytest.mark.parametrize("kind", [FieldType.INTEGER, FieldType.DECIMAL], ids=str)
@given(data=st.data())
def test_a_number_that_is_sent_as_text_comes_back(kind: FieldType, data: st.DataObject) -> None:
    value = data.draw(VALUES[kind])
    field = spec(kind, send="text", lenient=True)
    assert isinstance(outgoing(field, value), str)
    assert back(field, value) == value


@given(PLAIN)
def test_json_keeps_every_digit(value: Any) -> None:
    text = json_text(value)
    assert json.loads(text, parse_float=Decimal) == value
    assert json_text(json.loads(text, parse_float=Decimal)) == text


@given(st.sampled_from(list(VALUES)), st.lists(PLAIN, min_size=1, max_size=3))
def test_a_column_holds_what_came_or_is_refused(kind: FieldType, values: list[Any]) -> None:
    """No value is bent: what is accepted says the same as what came."""
    try:
        read, absent = column("e", spec(kind), values)
    except ContractError:
        return
    assert absent == [False] * len(values)
    for got, came in zip(read.to_pylist(), values, strict=True):
        if kind is FieldType.DECIMAL and isinstance(came, str):
            assert got == Decimal(came)
        elif kind in (FieldType.DATE, FieldType.INSTANT) and came is not None:
            assert isinstance(came, str)
        else:
            assert got == came
            assert isinstance(got, bool) == isinstance(came, bool)


@given(
    VALUES[FieldType.INSTANT],
    st.sampled_from(["iso", "seconds", "millis", "date", "%Y-%m-%d %H:%M:%S"]),
    st.booleans(),
)
def test_since_is_never_later_than_the_watermark(moment: datetime, form: str, inclusive: bool) -> None:
    assume(moment.year >= 1000)  # strftime writes fewer digits before
    said = since_text(moment, form, inclusive)
    match form:
        case "seconds" | "millis":
            asked = EPOCH + timedelta(milliseconds=int(said) * (1000 if form == "seconds" else 1))
        case "date":
            asked = datetime.combine(date.fromisoformat(str(said)), datetime.min.time(), UTC)
        case _:
            asked = datetime.fromisoformat(str(said)).replace(tzinfo=UTC)
    assert asked <= moment if inclusive else asked < moment
    assert moment - asked <= timedelta(days=2)


@given(st.data())
def test_pages_by_offset_miss_no_record_that_nobody_touched(data: st.DataObject) -> None:
    """Between two pages records are changed (they move to the end), removed for good, and added at the end."""
    count, size = data.draw(st.integers(0, 25)), data.draw(st.integers(2, 6))
    paging = Paging("offset", size=size, overlap=data.draw(st.integers(1, size - 1)))
    rows, untouched, seen = [f"r{at}" for at in range(count)], {f"r{at}" for at in range(count)}, set()
    walk = pager(paging)
    step: Next | None = walk.first()
    quiet, fresh, coin = 0, itertools.count(), st.booleans()
    while step is not None:
        page = rows[step.values["offset"] : step.values["offset"] + size]
        seen |= set(page)
        step = walk.follow(Reply({}), page)
        quiet += 1
        assume(quiet < 200)
        for _ in range(data.draw(st.integers(0, 3)) if quiet < 15 else 0):
            if data.draw(coin) and rows:
                victim = rows.pop(data.draw(st.integers(0, len(rows) - 1)))
                untouched.discard(victim)
                if data.draw(coin):
                    rows.append(f"{victim}'")  # in another version
            else:
                rows.append(f"new{next(fresh)}")
    assert untouched <= seen


def test_a_page_beyond_a_gap_does_not_count_as_read_when_records_go_on_moving_up() -> None:
    rows, seen = [f"r{at}" for at in range(8)], set[str]()
    walk = pager(Paging("offset", size=2, overlap=1))
    step: Next | None = walk.first()
    for number in itertools.count():
        if step is None:
            break
        page = rows[step.values["offset"] :][:2]
        seen |= set(page)
        step = walk.follow(Reply({}), page)
        if number in (3, 4):
            del rows[:2]
    assert {"r4", "r5", "r6", "r7"} <= seen


def test_a_record_that_changed_does_not_stand_for_the_place_where_it_was(visit: Visit, shop: ShopSandbox) -> None:
    """It moves to the end and, as another one is removed, to the very number that the next page begins with."""
    ids = [row["id"] for row in shop.state.listed("customers")]
    for id_ in ids[51:]:
        shop.state.purge("customers", id_)

    def edit(page: int) -> None:
        if page == 2:
            shop.state.update("customers", ids[49], {"phone": None})
            shop.state.purge("customers", ids[0])

    shop.state.on_page = edit
    by_offset = (
        ("by: cursor, limit", "by: offset, limit"),
        ('cursor: "{cursor}"', 'offset: "{offset}"'),
        ("paging: {by: cursor, next: cursor, size: 200}", "paging: {by: offset, size: 50}"),
    )
    assert ids[50] in read(visit("sandbox-rest", *by_offset))


@given(st.integers(0, 30), st.integers(2, 7), st.sampled_from(["offset", "page"]), st.booleans())
def test_pages_end_whether_or_not_the_total_is_told(count: int, size: int, by: str, told: bool) -> None:
    pages = -(-count // size)
    total = {"offset": count, "page": pages}[by]
    paging = Paging(by, size=size, first=1 if by == "page" else 0, total=("total",) if told else None)
    walk, seen, calls = pager(paging), list[int](), 0
    step: Next | None = walk.first()
    while step is not None:
        start = step.values["offset"] if by == "offset" else (step.values["page"] - 1) * size
        page = list(range(count))[start : start + size]
        seen += page
        step = walk.follow(Reply({"total": total}), [str(row) for row in page])
        calls += 1
    assert set(seen) == set(range(count))
    assert calls <= (count // (size - 1) + 2 if by == "offset" else pages + 1)


def test_a_list_that_never_rests_ends_with_a_sentence() -> None:
    walk = pager(Paging("offset", size=3))
    with pytest.raises(SystemUnavailable, match="faster than their pages can be read"):
        for count in range(100):
            walk.follow(Reply({}), [f"{count}-{at}" for at in range(3)])


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ('<https://x.example/a?page=2>; rel="next"', "https://x.example/a?page=2"),
        ("<?page=2>; rel=next", "/api/things?page=2"),
        ('<b?page=2>; rel="last next"', "/api/b?page=2"),
        ('<?page=2>; title="Page 2, of 2"; rel="next"', "/api/things?page=2"),
        ('<?page=2>; rel = "NEXT"', "/api/things?page=2"),
        ('<?page=1>; rel="prev", <?page=3>; rel="next"; type="x", <?page=9>; rel=last', "/api/things?page=3"),
        ('<?page=2>; rel="next-archive"', None),
        ('<?page=2>; title="; rel=next"; rel=prev', None),
        ("", None),
    ],
)
def test_the_link_header_is_read_as_it_is_defined(header: str, target: str | None) -> None:
    """RFC 8288, 3."""
    found = pager(Paging("link", next=Header("Link"))).follow(Reply({}, {"link": header}, path="/api/things"), [])
    assert (found and found.url) == target


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        ("2024-06-01T13:00:00", "2024-06-01 09:00:00"),
        ("2024-11-03T05:30:00", "2024-11-03 00:30:00"),  # 01:30 comes twice: the earlier hour is safe whichever is meant
        ("2024-11-03T06:30:00", "2024-11-03 00:30:00"),
        ("2024-11-03T07:30:00", "2024-11-03 02:30:00"),
    ],
)
def test_since_is_said_in_the_zone_of_the_other_side(moment: str, said: str) -> None:
    instant = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert since_text(instant, "%Y-%m-%d %H:%M:%S", True, ZoneInfo("America/New_York")) == said
    assert since_text(datetime(2024, 6, 2, 2, tzinfo=UTC), "date", True, ZoneInfo("America/New_York")) == "2024-06-01"
