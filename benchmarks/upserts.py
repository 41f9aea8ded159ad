"""What the Salesforce connector makes of many upserts through sObject Collections, when each call takes 50 ms.

The floor is what the calls alone take: so many calls of 200 records, so many at a time. The server is a process apart, which
answers each call after 50 ms with bytes that were made before.
"""

import asyncio
import gc
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any
from uuid import uuid4

import orjson
import pandas as pd

from benchmarks.reading import Credentials
from benchmarks.size import Size
from benchmarks.table import Reading, Row
from connector_resources.contract import Changes, Given
from connector_resources.salesforce.resource import Salesforce
from connector_resources.sandbox.salesforce.org import Org
from connector_resources.sandbox.salesforce.records import Record

CALL, AT_ONCE, RECORDS_A_CALL = 0.05, 4, 200
_STAMP = "2026-01-01T00:00:00.000+0000"


def measure(size: Size) -> list[Row]:
    count = size.records // 10
    gc.collect()
    gc.freeze()  # as a run's process does
    floor = count / RECORDS_A_CALL / AT_ONCE * CALL
    taken = []
    with served() as url:
        for _ in range(size.repetitions):
            given = Given(
                url,
                "oauth2",
                Credentials("bench"),
                now=lambda: datetime.now(UTC),
                configuration={"external_ids": {"Account": "ERP_Id__c"}, "bulk_write_above": 10**9, "concurrency": AT_ONCE},
            )
            with Salesforce(given) as salesforce:
                account = salesforce.describe("Account")
                changes = creations(count)
                began = time.monotonic()
                outcomes = salesforce.write(account, changes)
                taken.append(time.monotonic() - began)
                assert (outcomes["outcome"] == "done").all()
    what = f"{count:,} upserts to Salesforce, 50 ms a call, {AT_ONCE} at a time"
    return [Row(what, Reading(taken), "what the calls alone take", Reading([floor]), 1.3)]


def creations(count: int) -> Changes:
    texts = {
        "Name": [f"Company {at}" for at in range(count)],
        "Phone": [f"+49 30 {at:07d}" for at in range(count)],
        "BillingStreet": [f"Main Street {at}" for at in range(count)],
        "BillingCity": ["Berlin"] * count,
        "BillingPostalCode": [f"{10_000 + at}" for at in range(count)],
        "BillingCountry": ["Germany"] * count,
        "Website": [f"https://{at}.example" for at in range(count)],
        "AccountNumber": [f"A{at:07d}" for at in range(count)],
    }
    records = pd.DataFrame(texts).astype("string[pyarrow]")
    steps = pd.DataFrame(
        {"action": "create", "id": None, "version": None, "intent": [str(uuid4()) for _ in range(count)]}, dtype=object
    )
    return Changes(records, records.notna(), steps)


@contextmanager
def served() -> Iterator[str]:
    """The canned server's address."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    process.start()
    yield f"http://127.0.0.1:{here.recv()}"
    process.terminate()
    process.join()


def serve(told: Connection) -> None:
    answers = canned()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:  # the client has gone
                break
            length = next((int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), 0)
            await reader.readexactly(length)
            path = head.split(b" ", 2)[1].decode()
            await asyncio.sleep(CALL)
            body = next(body for end, body in answers.items() if end in path)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def canned() -> dict[str, bytes]:
    """By a part of the path, as Salesforce answers."""
    org = Org(1, 1, 0, lambda: datetime.now(UTC))
    kind = org.kind("Account")
    fields = [one.described() for one in org.fields(kind).values()]
    ids = [f"001000000000{at:03d}AAA" for at in range(RECORDS_A_CALL)]
    known: list[Record] = [
        {"attributes": {"type": "Account", "url": "/x"}, "Id": id_, "SystemModstamp": _STAMP, "LastModifiedById": "005U"}
        for id_ in ids
    ]

    def part(name: str, body: Any) -> dict[str, Any]:
        return {"body": body, "httpHeaders": {}, "httpStatusCode": 200, "referenceId": name}

    written = [{"id": id_, "success": True, "created": True, "errors": []} for id_ in ids]
    found = {"totalSize": len(known), "done": True, "records": known}
    token = {"access_token": "t", "instance_url": None, "id": "https://x/id/00D/005U", "token_type": "Bearer"}
    versions = [{"version": f"{at}.0", "url": f"/services/data/v{at}.0", "label": "x"} for at in range(60, 63)]
    described = kind.described("/services/data/v62.0") | {"fields": fields, "childRelationships": []}
    return {
        "/oauth2/token": orjson.dumps({name: value for name, value in token.items() if value}),
        "/describe": orjson.dumps(described),
        "/composite": orjson.dumps({"compositeResponse": [part("write", written), part("after", found)]}),
        "/services/data": orjson.dumps(versions),
    }
