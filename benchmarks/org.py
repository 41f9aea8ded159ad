"""A source of any size: pages of accounts, made up as they are asked for, in the form of Salesforce's query API.

One server, a process of its own, for both sides of a comparison. What a client is called says what it sees:
`NAME.RECORDS.DELAY` is an org of that name with so many accounts and so many milliseconds before each answer; one whose name
begins with "bulk" has a Bulk API, too. Pages are kept once they are made, so that making them is not what is measured.
"""

import asyncio
import csv
import io
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import httpx
import orjson
import uvicorn
from running import free_port, until

from connector_resources.sandbox.salesforce.schema import load_schema

API = "/services/data/v62.0"
PAGE = 2_000
FILE = 10_000
BEGAN = datetime(2023, 1, 1, tzinfo=UTC)
EVERY = timedelta(minutes=1)
"""The n-th account was last modified n minutes after the beginning."""
COLUMNS = (
    *("AccountNumber", "Name", "Type", "Phone", "Website", "Industry", "AnnualRevenue", "NumberOfEmployees"),
    *("BillingStreet", "BillingCity", "BillingPostalCode", "BillingCountry"),
)
_CITIES = ("Berlin", "Hamburg", "München", "Köln", "Leipzig", "Stuttgart", "Dresden", "Bremen", "Essen", "Mainz")


def query(where: str = "") -> str:
    """What our connector asks for with a mapping of all columns: the id, the marks, the columns."""
    names = ",".join(("Id", "SystemModstamp", "IsDeleted", "MasterRecordId", *COLUMNS))
    return f"SELECT {names} FROM Account{where} ORDER BY SystemModstamp ASC,Id ASC"


def client(name: str, records: int, delay: int = 0) -> str:
    return f"{name}.{records}.{delay}"


@dataclass(frozen=True)
class Caller:
    """By its bearer token, which is the client's name."""

    name: str
    records: int
    delay: float

    @classmethod
    def of(cls, authorization: str) -> "Caller":
        name, records, delay = authorization.removeprefix("Bearer ").rsplit(".", 2)
        return cls(name, int(records), int(delay) / 1000)


def value(field: str, org: int, n: int) -> Any:
    """A field of the n-th account of an org."""
    match field:
        case "Id":
            return f"001{org:05d}{n:07d}AAA"
        case "SystemModstamp":
            return f"{BEGAN + EVERY * n:%Y-%m-%dT%H:%M:%S}.000+0000"
        case "IsDeleted":
            return False
        case "AccountNumber":
            return f"{org:05d}-{n:07d}"
        case "Name":
            return f"{_CITIES[n % 10]} Werkzeuge {n} GmbH"
        case "Type":
            return ("Prospect", "Customer - Direct", "Other")[n % 3]
        case "Phone":
            return f"+49 30 {n:07d}"
        case "Website":
            return f"https://www.example.org/{n}"
        case "Industry":
            return ("Energy", "Machinery", "Retail", "Transportation")[n % 4]
        case "AnnualRevenue":
            return n * 7 % 1_000_003 * 10.25
        case "NumberOfEmployees":
            return n % 5_000
        case "BillingStreet":
            return f"Lange Straße {n % 977}"
        case "BillingCity":
            return _CITIES[n * 7 % 10]
        case "BillingPostalCode":
            return f"{n * 13 % 100_000:05d}"
        case "BillingCountry":
            return "Germany"
    return None


@lru_cache(maxsize=128)
def page(org: int, records: int, fields: tuple[str, ...], first: int, locator: str) -> bytes:
    """The answer that begins with the account `first`. `locator`: what names the next page begins with."""
    end = min(first + PAGE, records)
    columns = ([value(field, org, n) for n in range(first, end)] for field in fields)
    what = {"attributes": {"type": "Account", "url": f"{API}/sobjects/Account"}}
    rows = [what | dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True)]
    more = {} if end >= records else {"nextRecordsUrl": f"{API}/query/{locator}-{end}"}
    return orjson.dumps({"totalSize": records, "done": end >= records, **more, "records": rows})


@lru_cache(maxsize=128)
def file(org: int, records: int, fields: tuple[str, ...], first: int) -> bytes:
    """The file of a bulk query's results that begins with the account `first`."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(fields)
    for n in range(first, min(first + FILE, records)):
        values = [value(field, org, n) for field in fields]
        writer.writerow("" if one is None else "false" if one is False else one for one in values)
    return out.getvalue().replace("+0000", "Z").encode()


class Org:
    """The ASGI application."""

    def __init__(self) -> None:
        account = load_schema()["Account"]
        fields = [field.described() for field in account.fields.values()]
        self.description = account.described(API) | {"fields": fields, "childRelationships": [], "recordTypeInfos": []}
        self.selects: list[tuple[str, ...]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        path, asked = scope["path"], scope["query_string"].decode()
        if path == "/services/oauth2/token":
            content = self.token(message["body"].decode(), f"http://{headers['host']}")
        elif path == "/services/data":
            content = orjson.dumps([{"label": "Bench", "url": API, "version": "62.0"}])
        else:
            caller = Caller.of(headers["authorization"])
            await asyncio.sleep(caller.delay)
            if "/jobs/query" in path:
                status, kind, content, locator = self.job(caller, path, asked, message["body"])
                sent = [(b"content-type", kind), (b"content-length", str(len(content)).encode()), (b"sforce-locator", locator)]
                await send({"type": "http.response.start", "status": status, "headers": sent})
                await send({"type": "http.response.body", "body": content})
                return
            content = self.answer(caller, path, asked)
        sent = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": sent})
        await send({"type": "http.response.body", "body": content})

    def job(self, caller: Caller, path: str, asked: str, body: bytes) -> tuple[int, bytes, bytes, bytes]:
        """Status, content type, content and locator of what a bulk query's job answers; it is complete at once."""
        if not caller.name.startswith("bulk"):
            refused = [{"errorCode": "INVALIDENTITY", "message": "Entity 'Account' is not supported by the Bulk API."}]
            return 400, b"application/json", orjson.dumps(refused), b""
        if body:  # the job's id says which fields it reads
            fields = tuple(orjson.loads(body)["query"].removeprefix("SELECT ").partition(" ")[0].split(","))
            self.selects += [] if fields in self.selects else [fields]
            path = f"/{self.selects.index(fields)}"
        if not path.endswith("/results"):
            return 200, b"application/json", orjson.dumps({"id": path.rpartition("/")[2], "state": "JobComplete"}), b""
        first = int(parse_qs(asked).get("locator", ["0"])[0])
        org, fields = zlib.crc32(caller.name.encode()) % 100_000, self.selects[int(path.split("/")[-2])]
        more = first + FILE if first + FILE < caller.records else "null"
        return 200, b"text/csv", file(org, caller.records, fields, first), str(more).encode()

    def token(self, form: str, base: str) -> bytes:
        name = parse_qs(form)["client_id"][0]
        who = f"{base}/id/00D000000000001AAA/005000000000001AAA"
        reply = {"access_token": name, "instance_url": base, "id": who, "token_type": "Bearer", "issued_at": "1"}
        return orjson.dumps(reply)

    def answer(self, caller: Caller, path: str, asked: str) -> bytes:
        if path.endswith("/describe"):
            return orjson.dumps(self.description)
        org = zlib.crc32(caller.name.encode()) % 100_000
        if asked:
            return self.first(caller, org, unquote_plus(asked.removeprefix("q=")))
        number, _, position = path.rpartition("/")[2].partition("-")
        return page(org, caller.records, self.selects[int(number)], int(position), number)

    def first(self, caller: Caller, org: int, text: str) -> bytes:
        """From the first account on that is not older than the query asks for; or the very accounts that it names."""
        fields = tuple(sorted(text.removeprefix("SELECT ").partition(" ")[0].split(",")))  # so that all share the pages
        if fields not in self.selects:
            self.selects.append(fields)
        if named := re.findall(rf"'001{org:05d}(\d{{7}})", text):
            rows = [{field: value(field, org, int(n)) for field in fields} for n in named]
            return orjson.dumps({"totalSize": len(rows), "done": True, "records": rows})
        since = re.search(r">= '?([0-9T:-]{19})", text)
        began = datetime.fromisoformat(since[1]).replace(tzinfo=UTC) if since else BEGAN
        first = max(0, -((BEGAN - began) // EVERY))
        return page(org, caller.records, fields, first, str(self.selects.index(fields)))


@contextmanager
def served() -> Iterator[str]:
    """The server's URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen([sys.executable, "-m", __name__, str(port)]) as process:
        try:
            until(lambda: _answers(url), 30, "the page server's start")
            yield url
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/services/data").is_success
    except httpx.TransportError:
        return False


def read_all(url: str, name: str) -> Sequence[bytes]:
    """Every page of an org, as bytes: the least that a reader must do."""
    found = []
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {name}"}, timeout=60) as reader:
        following: str | None = f"{API}/query"
        params: dict[str, str] | None = {"q": query()}
        while following:
            content = reader.get(following, params=params).raise_for_status().content
            found.append(content)
            following, params = orjson.loads(content).get("nextRecordsUrl"), None
    return found


if __name__ == "__main__":
    uvicorn.run(Org(), host="127.0.0.1", port=int(sys.argv[1]), log_level="critical", access_log=False, lifespan="off")
