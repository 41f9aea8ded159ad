"""Transforms of dates and instants.

Local times around a change of the clocks: a time that comes twice is the earlier one unless `dst` says `later`, a time that is
skipped moves forward by what was skipped (PEP 495), and `dst: reject` refuses both.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import pyarrow as pa

from connector_resources.contract import FieldType
from integration_pipelines.canonical import per_unique
from integration_pipelines.steps.transforms_base import INSTANT, Scope, guarded, transform

STRING, DATE = FieldType.STRING, FieldType.DATE
_DIRECTIVES = frozenset("YmdHMSfzyjbBpI%")
Dst = Literal["earlier", "later", "reject"]


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"there is no time zone '{name}'; write it as 'Europe/Berlin'") from None


def _formats(formats: list[str]) -> list[str]:
    for pattern in formats:
        parts = pattern.replace("%%", "").split("%")[1:]
        if not parts or any(part[:1] not in _DIRECTIVES or not part for part in parts):
            raise ValueError(f"'{pattern}' is no format; write it as '%d.%m.%Y'")
        named = [part[0] for part in parts]
        if not {"Y", "y"} & set(named):  # Python would take 1900
            raise ValueError(f"'{pattern}' has no year; write it as '%d.%m.%Y'")
        if len(named) > len(set(named)):
            raise ValueError(f"'{pattern}' names a part twice; write it as '%d.%m.%Y'")
    return formats


def _parsed(text: str, formats: list[str]) -> datetime | None:
    for pattern in formats:
        try:
            return datetime.strptime(text, pattern)  # noqa: DTZ007 - the zone is the caller's business
        except ValueError:
            continue
    return None


@transform(STRING, gives=DATE, reason="is not a date in the formats given")
def to_date(values: pa.Array, _: Scope, *, formats: list[str] | None = None) -> pa.Array:
    """A civil date from text: the first format that fits (as of Python's strptime), ISO 8601 by default."""
    patterns = _formats(formats or ["%Y-%m-%d"])

    def one(text: str) -> date | None:
        found = _parsed(text.strip(), patterns)
        return found.date() if found else None

    return per_unique(values, one, pa.date32())


@transform(STRING, gives=FieldType.INSTANT, reason="is not an instant in the formats given")
def to_instant(
    values: pa.Array, _: Scope, *, formats: list[str] | None = None, zone: str | None = None, dst: Dst = "earlier"
) -> pa.Array:
    """An instant from text, ISO 8601 by default; `zone` is for texts without an offset, which fail without it."""
    patterns = _formats(formats) if formats else None
    local = _zone(zone) if zone else None

    def one(text: str) -> datetime | None:
        text = text.strip()
        found = _parsed(text, patterns) if patterns else datetime.fromisoformat(text)
        if found is None or found.tzinfo:
            return found.astimezone(UTC) if found else None
        return _in(found, local, dst) if local else None

    return per_unique(values, guarded(one), INSTANT)


def _in(wall: datetime, zone: ZoneInfo, dst: Dst) -> datetime | None:
    first, second = wall.replace(tzinfo=zone, fold=0), wall.replace(tzinfo=zone, fold=1)
    if first.utcoffset() == second.utcoffset():
        return first.astimezone(UTC)
    if dst == "reject":
        return None
    twice = first.astimezone(UTC) < second.astimezone(UTC)
    return (second if twice and dst == "later" else first).astimezone(UTC)


@transform(FieldType.INSTANT, gives=DATE, reason="lies outside the calendar in that zone")
def in_zone(values: pa.Array, _: Scope, *, zone: str) -> pa.Array:
    """The civil date that an instant has in a time zone."""
    local = _zone(zone)
    return per_unique(values, guarded(lambda instant: instant.astimezone(local).date()), pa.date32())


@transform(DATE, reason="lies outside the calendar after that")
def add_days(values: pa.Array, _: Scope, *, days: int) -> pa.Array:
    """So many days later (or earlier, below zero)."""
    if abs(days) > 3_660_000:
        raise ValueError("'days' is more than the calendar holds")

    def one(day: date) -> date:
        return day + timedelta(days=days)

    return per_unique(values, guarded(one), pa.date32())


TIMES = (to_date, to_instant, in_zone, add_days)
