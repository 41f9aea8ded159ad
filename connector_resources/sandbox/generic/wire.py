"""Values as the shop writes them, and what schema drift does to them."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from connector_resources.sandbox.generic.shop import Record


def plain(record: Record, drifted: Mapping[str, str]) -> Record:
    """Dates and instants as text; fields that are gone, came anew, or have another type now."""
    found = {name: _plain(value) for name, value in record.items() if drifted.get(name) != "hide"}
    for name, kind in drifted.items():
        if kind == "retype" and name in found:
            found[name] = {"value": found[name]}
        elif kind == "extra":
            found[name] = "new"
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return instant(value)
    return value.isoformat() if isinstance(value, date) else value


def instant(value: datetime) -> str:
    """Milliseconds, with the zone as it is."""
    text = value.isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z") if value.utcoffset() == UTC.utcoffset(None) else text


def as_json(value: Any) -> str:
    """JSON whose numbers are the Decimals' digits."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(name)}: {as_json(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(as_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
