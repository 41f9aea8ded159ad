"""What the Salesforce connector itself costs to read many records: seconds of the client's CPU, by REST and by Bulk.

The floor is a bare loop of httpx and orjson over the same pages of the same server, which are made before. The connector makes
typed columns of them, exact decimals and instants included; the loop makes Python objects.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime

from benchmarks import org
from benchmarks.size import Size
from benchmarks.table import Reading, Row
from connector_resources.contract import CredentialStore, Given, RotatingCredentials, Window
from connector_resources.salesforce.resource import Salesforce


class Credentials(CredentialStore):
    def __init__(self, client: str) -> None:
        self.client = client

    def load(self) -> Mapping[str, str]:
        return {"client_id": self.client, "client_secret": "secret"}

    def exclusive(self) -> AbstractContextManager[RotatingCredentials]:
        raise AssertionError("nothing rotates here")


def measure(size: Size) -> list[Row]:
    taken: dict[str, list[float]] = {"REST": [], "Bulk": [], "floor": []}
    with org.served() as url:
        by_page, bulk = org.client("paged", size.records), org.client("bulk", size.records)
        for turn in range(size.repetitions + 1):  # the first time makes the pages
            for what, read in {
                "floor": lambda: sum(map(bool, org.read_all(url, by_page))),
                "REST": lambda: connected(url, by_page, size.records, 10**9),
                "Bulk": lambda: connected(url, bulk, size.records, 0),
            }.items():
                seconds = cpu(read)
                if turn:
                    taken[what].append(seconds)
    floor = Reading(taken["floor"])
    return [
        Row(f"{size.records:,} records by {what}, client's CPU", Reading(taken[what]), "bare httpx and orjson", floor, 1.5)
        for what in ("REST", "Bulk")
    ]


def connected(url: str, client: str, records: int, above: int) -> None:
    """Read an org to its end through the connector; more than `above` records by Bulk."""
    given = Given(url, "oauth2", Credentials(client), now=lambda: datetime.now(UTC), configuration={"bulk_read_above": above})
    with Salesforce(given) as salesforce:
        account = salesforce.describe("Account")
        read = sum(len(page.records) for page in salesforce.read(account, org.COLUMNS, Window()))
    assert read == records, f"{read} of {records} records came"


def cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
