"""The functions that an expression may call, and how long a text each can make of the texts it is given.

What is not in FUNCTIONS is refused. DuckDB's memory limit does not hold for texts (one `repeat` can take all memory there is),
so every function has a bound on the size of its result, and nothing is here whose result can be of any size: no repeat, lpad,
range, format, no lists. Nor is there anything that sees more than its arguments: no settings, clock, chance or files.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias


@dataclass(frozen=True)
class Growth:
    """The most bytes that a text can have: `times` those of the record's longest field, and `plus` as many."""

    times: int
    plus: int

    def __add__(self, other: "Growth") -> "Growth":
        return Growth(self.times + other.times, self.plus + other.plus)

    def __mul__(self, factor: int) -> "Growth":
        return Growth(self.times * factor, self.plus * factor)


NOTHING = Growth(0, 0)
READ = Growth(1, 0)
SMALL = Growth(0, 64)  # a number, a date, an interval, true or false; written out as well
Texts: TypeAlias = Sequence[str | None]
Size: TypeAlias = Callable[[Sequence[Growth], Texts], Growth]


def longest(sizes: Sequence[Growth], _: Texts = ()) -> Growth:
    """One of them, nobody knows which."""
    return Growth(max((s.times for s in sizes), default=0), max((s.plus for s in sizes), default=0))


def joined(sizes: Sequence[Growth], _: Texts = ()) -> Growth:
    """All of them, one behind the other."""
    return sum(sizes, NOTHING)


def _small(_: Sequence[Growth], __: Texts) -> Growth:
    return SMALL


def _first(sizes: Sequence[Growth], _: Texts) -> Growth:
    return sizes[0]


def _letters(sizes: Sequence[Growth], _: Texts) -> Growth:
    return sizes[0] * 3  # decomposed and put together again; the other case of a letter takes half as many bytes more


def _translated(sizes: Sequence[Growth], _: Texts) -> Growth:
    return sizes[0] * 4  # each byte may become a letter of four


def _separated(sizes: Sequence[Growth], _: Texts) -> Growth:
    return joined(sizes[1:]) + sizes[0] * len(sizes)


def _replaced(sizes: Sequence[Growth], texts: Texts) -> Growth:
    find, by = (len((text or "").encode()) for text in texts[1:3])
    return sizes[0] * max(1, -(-by // max(1, find)))


def _rewritten(sizes: Sequence[Growth], texts: Texts) -> Growth:
    by = texts[2] or ""  # put between any two bytes, with all groups named in it; the empty text matches too
    return sizes[0] * (1 + len(by.encode()) + by.count("\\")) + Growth(0, len(by.encode()))


def _formatted(_: Sequence[Growth], texts: Texts) -> Growth:
    return Growth(0, 32 * len((texts[1] or "").encode()))


@dataclass(frozen=True)
class Function:
    """`least`: how many arguments it needs. `fixed`: those that must be written out, because the size depends on them, or so
    that a mistake in them shows before the first record. `trial`: a statement that fails for a mistake in the first."""

    size: Size = _small
    least: int = 1
    fixed: slice = field(default_factory=lambda: slice(0, 0))
    trial: str | None = None
    pattern: bool = False


_REST, _HEAD = slice(1, None), slice(0, 1)
_PATTERN = "SELECT regexp_matches('', ?)"
_PART = "SELECT date_trunc(?, DATE '2000-01-01')"
_ONE: Mapping[Size, str] = MappingProxyType(
    {
        _small: "length year quarter month week day isodow hour minute second last_day abs sign round floor ceil trunc - + "
        "to_years to_months to_weeks to_days to_hours to_minutes to_seconds",
        _first: "trim ltrim rtrim reverse",
        _letters: "upper lower strip_accents nfc_normalize",
        joined: "concat",
        longest: "greatest least",
    }
)
_TWO: Mapping[Size, str] = MappingProxyType(
    {
        _small: "* / // % ~~ !~~ ~~* !~~* ^@ contains starts_with ends_with position strpos",
        _first: "left right substr substring nullif",
        _separated: "concat_ws",
        joined: "||",
    }
)
FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {name: Function(size) for size, names in _ONE.items() for name in names.split()}
    | {name: Function(size, 2) for size, names in _TWO.items() for name in names.split()}
    | {
        name: Function(_small, 3)
        for name in ("like_escape", "not_like_escape", "ilike_escape", "not_ilike_escape", "make_date")
    }
    | {
        "if": Function(longest, 3),
        "split_part": Function(_first, 3),
        "translate": Function(_translated, 3),
        "replace": Function(_replaced, 3, _REST),
        "regexp_matches": Function(_small, 2, _REST, _PATTERN, pattern=True),
        "regexp_full_match": Function(_small, 2, _REST, _PATTERN, pattern=True),
        "regexp_extract": Function(_first, 2, _REST, _PATTERN, pattern=True),
        "regexp_replace": Function(_rewritten, 3, _REST, _PATTERN, pattern=True),
        "strftime": Function(_formatted, 2, _REST, "SELECT strftime(DATE '2000-01-01', ?)"),
        "strptime": Function(_small, 2, _REST, "SELECT try_strptime('', ?)"),
        "try_strptime": Function(_small, 2, _REST, "SELECT try_strptime('', ?)"),
        "date_part": Function(_small, 2, _HEAD, "SELECT date_part(?, DATE '2000-01-01')"),
        "date_trunc": Function(_small, 2, _HEAD, _PART),
        "date_diff": Function(_small, 3, _HEAD, _PART),
        "timezone": Function(_small, 2, _HEAD, "SELECT timezone(?, TIMESTAMPTZ '2000-01-01 00:00:00+00')"),
    }
)

# Types that a cast may name. Others are no field's, or can hold what has no bound.
TYPES = frozenset(
    {
        *("VARCHAR", "TEXT", "STRING", "BOOLEAN", "BOOL", "SMALLINT", "INTEGER", "INT", "BIGINT", "DECIMAL", "NUMERIC"),
        *("DOUBLE", "DATE", "TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE", "INTERVAL"),
    }
)
