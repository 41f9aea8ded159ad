"""How much is measured: all of it, or just enough to see that a measurement works."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """`repetitions` of what takes seconds; what takes minutes is done once. `small`, `records` and `many` count records."""

    repetitions: int
    small: int
    records: int
    many: int
    tenants: int
    connectors: int
    configs: int
    more_configs: int


FULL = Size(5, 1_000, 100_000, 1_000_000, tenants=5, connectors=5, configs=50, more_configs=500)
QUICK = Size(2, 200, 10_000, 50_000, tenants=2, connectors=2, configs=5, more_configs=20)
