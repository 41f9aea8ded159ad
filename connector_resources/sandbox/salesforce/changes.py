"""Which records were updated or deleted in a stretch of time ("sObject Get Updated", "sObject Get Deleted").

Seconds of the given instants are ignored. getUpdated looks back 30 days, getDeleted 15.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from connector_resources.sandbox.salesforce.org import Org
from connector_resources.sandbox.salesforce.records import instant_of, instant_text
from connector_resources.sandbox.salesforce.refusal import Refusal
from connector_resources.sandbox.salesforce.schema import SObjectType


def updated(org: Org, kind: SObjectType, given: Mapping[str, str]) -> dict[str, Any]:
    start, end = _stretch(org, given, 30)
    with org.lock:
        table = org.records[kind.name].values()
        first, last = instant_text(start), instant_text(end)
        found = [r["Id"] for r in table if first <= r["SystemModstamp"] < last and not r.get("IsDeleted")]
    return {"ids": found, "latestDateCovered": _covered(org, end)}


def deleted(org: Org, kind: SObjectType, given: Mapping[str, str]) -> dict[str, Any]:
    start, end = _stretch(org, given, 15)
    with org.lock:
        table = org.records[kind.name].values()
        first, last = instant_text(start), instant_text(end)
        found = [
            {"id": r["Id"], "deletedDate": r["SystemModstamp"]}
            for r in table
            if r.get("IsDeleted") and first <= r["SystemModstamp"] < last
        ]
    earliest = instant_text(org.earliest_deleted.replace(second=0, microsecond=0))
    return {"deletedRecords": found, "earliestDateAvailable": earliest, "latestDateCovered": _covered(org, end)}


def _covered(org: Org, end: datetime) -> str:
    return instant_text(min(end, org.now().replace(second=0, microsecond=0)))


def _stretch(org: Org, given: Mapping[str, str], days: int) -> tuple[datetime, datetime]:
    moments = []
    for name in ("start", "end"):
        if name not in given:
            raise Refusal(400, "MISSING_ARGUMENT", f"The {name} parameter is required.")
        try:
            moments.append(instant_of(given[name]).replace(second=0, microsecond=0))
        except ValueError:
            raise Refusal(400, "INVALID_REPLICATION_DATE", f"invalid date for parameter {name}: {given[name]}") from None
    start, end = moments
    if end <= start:
        message = "endDate must be at least one minute greater than startDate"
        raise Refusal(400, "INVALID_REPLICATION_DATE", message)
    if start < org.now() - timedelta(days=days, minutes=1):
        raise Refusal(400, "INVALID_REPLICATION_DATE", f"startDate cannot be more than {days} days ago")
    return start, end
