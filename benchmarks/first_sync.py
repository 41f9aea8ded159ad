"""A first sync of a small org, end to end, and one of an ERP into it: how long somebody waits for it."""

from secrets import token_hex

from benchmarks.house import House, house
from benchmarks.size import Size
from benchmarks.table import Reading, Row
from connector_resources.sandbox import Sandbox
from integration_pipelines.store import tenants

CALL = 0.1


def measure(size: Size) -> list[Row]:
    """Against nothing: the targets are seconds. Each repetition is a new tenant's first sync."""
    seconds: dict[str, list[float]] = {"at once": [], "slowly": []}
    out: list[float] = []
    with Sandbox(accounts=size.small, contacts=0) as sandbox, Sandbox(accounts=0, contacts=0) as empty, house() as lived_in:
        empty.faults.add("delay", seconds=CALL, times=None)
        first_sync(lived_in, sandbox, size.small)  # the run after the start is measured by itself elsewhere
        for _ in range(size.repetitions):
            for how, taken in seconds.items():
                if how == "slowly":
                    sandbox.faults.add("delay", seconds=CALL, times=None)
                taken.append(first_sync(lived_in, sandbox, size.small))
                sandbox.faults.clear()
            out.append(first_export(lived_in, empty, size.small))
    records = f"First sync of {size.small:,} Salesforce accounts"
    return [
        Row(f"{records}, launch → finished", Reading(seconds["at once"]), target=3),
        Row(f"{records}, {CALL * 1000:.0f} ms a vendor call", Reading(seconds["slowly"]), target=30),
        Row(f"{size.small:,} ERP customers to Salesforce, {CALL * 1000:.0f} ms a vendor call", Reading(out), target=30),
    ]


def first_sync(lived_in: House, sandbox: Sandbox, records: int) -> float:
    tenant = tenants.create(lived_in.database, token_hex(6))
    secret = sandbox.credentials
    sync = lived_in.sync(tenant, sandbox.url, secret["client_id"], secret["client_secret"])
    return lived_in.run(sync, succeeded=records, failed=0).seconds


def first_export(lived_in: House, sandbox: Sandbox, records: int) -> float:
    """So many customers of a new tenant, none of which Salesforce has."""
    tenant, mark = tenants.create(lived_in.database, token_hex(6)), token_hex(4)
    with lived_in.database.tenant(tenant) as scope:
        scope.run(
            "INSERT INTO erp.customer (name, customer_number) "
            "SELECT 'Made here ' || n, :mark || n FROM generate_series(1, :n) n",
            mark=mark,
            n=records,
        )
    secret = sandbox.credentials
    sync = lived_in.sync(tenant, sandbox.url, secret["client_id"], secret["client_secret"], direction="outbound")
    return lived_in.run(sync, succeeded=records, failed=0).seconds
