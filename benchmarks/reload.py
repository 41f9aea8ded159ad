"""Definitions that follow the database: how long a new sync config waits for its job, and what other configs cost a run.

Two installations, with a few and with many sync configs, are up at the same time, and take turns.
"""

import time
from contextlib import ExitStack

from running import until

from benchmarks import org
from benchmarks.house import House, Sync, house
from benchmarks.size import Size
from benchmarks.table import Reading, Row
from integration_pipelines.store import syncs, tenants

SELDOM = "0 0 1 1 *"


def measure(size: Size) -> list[Row]:
    numbers = (size.configs, size.more_configs)
    visible: dict[int, list[float]] = {number: [] for number in numbers}
    ran: dict[int, list[float]] = {number: [] for number in numbers}
    with ExitStack() as opened:
        url = opened.enter_context(org.served())
        houses = {number: opened.enter_context(house()) for number in numbers}
        first = {number: furnished(lived_in, url, number) for number, lived_in in houses.items()}
        for turn in range(size.repetitions):
            for number, lived_in in houses.items():
                visible[number].append(until_visible(lived_in, first[number], f"new {turn}"))
            for number, lived_in in houses.items():
                ran[number].append(lived_in.run(first[number]).seconds)
    few, many = numbers
    what = "A new sync config's job is visible over GraphQL"
    run, against = f"An almost empty sync with {many} sync configs", f"with {few}"
    return [
        Row(f"{what}, with {few} sync configs", Reading(visible[few]), target=15),
        Row(f"{what}, with {many}", Reading(visible[many]), target=10),
        Row(run, Reading(ran[many]), against, Reading(ran[few]), target=1.1),
    ]


def furnished(lived_in: House, url: str, number: int) -> Sync:
    """So many sync configs, every other one with a schedule; returns the first, once all are loaded and it has run."""
    tenant = tenants.create(lived_in.database, "many")
    first = last = lived_in.sync(tenant, url, org.client("many", 1))
    for at in range(1, number):
        last = lived_in.another(first, "account-customer", f"sync {at}", SELDOM if at % 2 else None)
    until(lambda: lived_in.dagster.there(last.job), 120, "the definitions")
    lived_in.run(first)
    return first


def until_visible(lived_in: House, first: Sync, name: str) -> float:
    """Seconds from the commit of a new sync config to its job; it is removed again."""
    made = lived_in.another(first, "account-customer", name, SELDOM)
    began = time.monotonic()
    until(lambda: lived_in.dagster.there(made.job), 120, "the new definition")
    taken = time.monotonic() - began
    with lived_in.database.tenant(first.tenant) as scope:
        syncs.remove(scope, made.id, "bench")
    until(lambda: not lived_in.dagster.there(made.job), 120, "the removal")
    return taken
