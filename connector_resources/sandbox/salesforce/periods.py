"""SOQL's date literals: TODAY, LAST_N_DAYS:n, THIS_MONTH, … ("Date Formats and Date Literals", SOQL Reference).

Days begin at midnight UTC and weeks on Sunday, as for a user in UTC with the locale en_US.
"""

from datetime import date, timedelta

_DAY = timedelta(days=1)
_DAYS = {"YESTERDAY": -1, "TODAY": 0, "TOMORROW": 1}
_MONTHS = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}


def period(text: str, today: date) -> tuple[date, date] | None:
    """First day, and the day after the last one; None for a word that is no date literal."""
    name, _, number = text.partition(":")
    count = int(number) if number else None
    if name in _DAYS and count is None:
        first = today + _DAYS[name] * _DAY
        return first, first + _DAY
    if name in ("LAST_90_DAYS", "NEXT_90_DAYS") and count is None:
        name, count = name.replace("90", "N"), 90
    if count is not None and name == "N_DAYS_AGO":
        return today - count * _DAY, today - (count - 1) * _DAY
    direction, _, unit = name.partition("_")
    offset = {"LAST": -1, "THIS": 0, "NEXT": 1}.get(direction)
    if offset is None:
        return None
    if unit.startswith("N_") and count is not None and offset:
        return _several(unit[2:].removesuffix("S"), offset * count, today)
    return _units(unit, offset, offset + 1, today) if count is None else None


def _several(unit: str, count: int, today: date) -> tuple[date, date] | None:
    if unit == "DAY":
        return (today + count * _DAY, today + _DAY) if count < 0 else (today + _DAY, today + (count + 1) * _DAY)
    return _units(unit, count, 0, today) if count < 0 else _units(unit, 1, count + 1, today)


def _units(unit: str, first: int, end: int, today: date) -> tuple[date, date] | None:
    """From the start of the unit `first` away from today's to the start of the one `end` away."""
    if unit == "WEEK":
        sunday = today - (today.isoweekday() % 7) * _DAY
        return sunday + 7 * first * _DAY, sunday + 7 * end * _DAY
    if unit not in _MONTHS:
        return None
    size = _MONTHS[unit]
    start = (today.year * 12 + today.month - 1) // size * size
    return _month(start + first * size), _month(start + end * size)


def _month(number: int) -> date:
    return date(number // 12, number % 12 + 1, 1)
