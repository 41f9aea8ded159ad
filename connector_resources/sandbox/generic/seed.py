"""The shop's records: every kind of value that is easily spoilt on the way, the same ones for the same seed."""

import random
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from faker import Faker

START = datetime(2024, 1, 1, 8, tzinfo=UTC)
CUSTOMER = {
    "id": str,
    "code": str,  # with leading zeros
    "reference": str,  # unique: the caller's own key
    "name": str,
    "email": str,
    "phone": str,  # null in some records, absent in others
    "notes": str,  # now and then 32,000 characters
    "points": int,  # beyond what a float holds exactly
    "balance": Decimal,
    "active": bool,
    "born": date,
    "opened": datetime,  # each in another zone
    "address": dict,
    "tags": list,
    "stamp": str,  # a caller's mark, which can be searched for
    "etag": str,
    "deleted": bool,
    "updated_at": datetime,
}
ORDER = {
    "id": int,
    "number": str,
    "customer_id": str,
    "total": Decimal,
    "currency": str,
    "placed_on": date,
    "lines": list,
    "etag": str,
    "deleted": bool,
    "updated_at": datetime,
}
TYPES: dict[str, dict[str, type]] = {"customers": CUSTOMER, "orders": ORDER}
READ_ONLY = ("id", "etag", "deleted", "updated_at")
_NAMES = ("Ærøskøbing Møbler", "株式会社サンプル", "Zażółć & Söhne", 'O\'Neill "Tools"', "مثال تجاري", "Emoji 🎈 GmbH")


def customers(seed: int, count: int) -> dict[str, dict[str, Any]]:
    """`count` customers by id, a second apart; every fifth shares its instant with the one before."""
    chance, words = random.Random(seed), Faker()  # noqa: S311 - made-up records
    words.seed_instance(seed)
    found: dict[str, dict[str, Any]] = {}
    for at in range(1, count + 1):
        moment = START + timedelta(seconds=at - (at % 5 == 0))
        record: dict[str, Any] = {
            "id": f"{at:08d}",
            "code": f"{at:05d}",
            "reference": f"REF-{at}",
            "name": _NAMES[at % 60] if at % 60 < len(_NAMES) else words.company(),
            "email": f"office{at}@example.org",
            "phone": None if at % 7 == 0 else f"+49 30 {chance.randrange(10**6, 10**7)}",
            "notes": (f"{words.word()} Grüße 🎈 " * 3200)[:32_000] if at % 500 == 3 else "",
            "points": 2**53 + at,
            "balance": Decimal(chance.randrange(10**16)) / 100 if at % 3 else Decimal("0.10"),
            "active": at % 11 != 0,
            "born": date(1970, 1, 1) + timedelta(days=at % 18_000),
            "opened": (moment - timedelta(days=30)).astimezone(_zone(at)),
            "address": {"street": words.street_address(), "city": words.city(), "zip": f"{at % 100_000:05d}", "country": "DE"},
            "tags": ["a", at] if at % 2 else [],
            "stamp": None,
            "etag": f"v{at}",
            "deleted": False,
            "updated_at": moment,
        }
        if at % 13 == 0:
            del record["phone"]
        found[record["id"]] = record
    return found


def orders(seed: int, count: int, customers: int) -> dict[str, dict[str, Any]]:
    chance = random.Random(seed + 1)  # noqa: S311 - made-up records
    found = {}
    for at in range(1, count + 1):
        lines: list[dict[str, Any]] = [
            {"sku": f"{n:04d}", "quantity": chance.randrange(1, 9), "price": Decimal("19.90")} for n in range(at % 4)
        ]
        record: dict[str, Any] = {
            "id": 10**15 + at,
            "number": f"{at:06d}",
            "customer_id": f"{chance.randrange(1, customers + 1):08d}" if customers else None,
            "total": sum((line["quantity"] * line["price"] for line in lines), Decimal("0.00")),
            "currency": "EUR",
            "placed_on": date(2024, 1, 1) + timedelta(days=at % 300),
            "lines": lines,
            "etag": f"v{at}",
            "deleted": False,
            "updated_at": START + timedelta(seconds=at),
        }
        found[str(record["id"])] = record
    return found


def _zone(at: int) -> timezone:
    return (UTC, timezone(timedelta(hours=2)), timezone(-timedelta(hours=5, minutes=30)))[at % 3]
