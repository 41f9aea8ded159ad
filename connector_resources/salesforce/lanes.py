"""Which records may be written at the same time, and how many in one call.

A write locks its record and the record's parents, and two calls that want the same row at once refuse one another. So records
that share a parent travel in one lane, whose calls follow one another; lanes run side by side.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

MOST = 200  # records a call ("sObject Collections")
LARGEST = 4_000_000  # bytes of records a call; the API takes about six million in all


@dataclass(slots=True)
class Row:
    """One record to write.

    `at`: its place among the changes; `key`: of a create, its value in the upsert key; `body`: as orjson takes it, `size`
    bytes; `locks`: ids and keys that writing it locks; `needs`: keys of records that must be there first; `empty`: nothing to
    write.
    """

    at: int
    action: str
    id: str | None
    version: str | None
    key: str | None
    body: Any
    size: int = 0
    locks: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    empty: bool = False


def lanes(rows: Sequence[Row], most: int) -> list[list[Row]]:
    """At most `most` lanes, about equally long; no two have a lock in common. Parents come before what needs them."""
    needed = math.ceil(len(rows) / MOST)  # calls
    count = min(most, needed)
    if count <= 1:
        return [_parents_first(rows)] if rows else []
    room = MOST * math.ceil(needed / count)  # so that most calls are full
    locks = [lock for row in rows for lock in row.locks]
    if len(set(locks)) == len(locks):  # nothing is shared
        return [_parents_first(rows[start : start + room]) for start in range(0, len(rows), room)]
    made: list[list[Row]] = [[] for _ in range(count)]
    for together in sorted(_joined(rows), key=len, reverse=True):
        fitting = (lane for lane in made if len(lane) + len(together) <= room)
        next(fitting, min(made, key=len)).extend(together)
    return [_parents_first(lane) for lane in made if lane]


def calls(lane: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows of a lane, cut into calls. What needs a record that the same call makes waits for the next call."""
    call: list[Row] = []
    size = 0
    made: set[str] = set()
    for row in lane:
        if call and (len(call) == MOST or size + row.size > LARGEST or row.needs & made):
            yield call
            call, size, made = [], 0, set()
        call.append(row)
        size += row.size
        made |= {row.key.casefold()} if row.key else set()
    if call:
        yield call


def _joined(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that share a lock, directly or over others, together."""
    leader: dict[str, str] = {}

    def led(lock: str) -> str:
        while leader.setdefault(lock, lock) != lock:
            leader[lock] = leader[leader[lock]]
            lock = leader[lock]
        return lock

    for row in rows:
        first, *others = row.locks or {f"row {row.at}"}
        for other in others:
            leader[led(other)] = led(first)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(led(next(iter(row.locks), f"row {row.at}")), []).append(row)
    return list(groups.values())


def _parents_first(rows: Sequence[Row]) -> list[Row]:
    """In their order, but for those that need others; a circle stays as it is, and Salesforce refuses it."""
    if not any(row.needs for row in rows):
        return list(rows)
    made = {row.key.casefold() for row in rows if row.key}
    waiting, ordered, done = list(rows), [], set[str]()
    while waiting:
        ready = [row for row in waiting if not (row.needs & made) - done] or waiting
        ordered += ready
        done |= {row.key.casefold() for row in ready if row.key}
        taken = {row.at for row in ready}
        waiting = [row for row in waiting if row.at not in taken]
    return ordered
