"""Calls a second, calls a minute: kept on our side, so that the other side need not refuse any."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from connector_resources.contract import Clock


@dataclass(frozen=True)
class Rate:
    """At most `calls` in each `seconds`."""

    calls: int
    seconds: float


class Rates:
    """Token buckets, one a rate: each holds as many calls as its rate allows at once and fills up evenly.

    `spend` returns when a call may be made, after it has slept where that is needed."""

    def __init__(self, rates: Sequence[Rate], now: Clock, sleep: Callable[[float], None]) -> None:
        self.rates = tuple(rates)
        self.now = now
        self.sleep = sleep
        self._left = [float(rate.calls) for rate in self.rates]
        self._last = now()

    def spend(self) -> None:
        self._fill(max(0.0, (self.now() - self._last).total_seconds()))
        wait = max(
            ((1 - left) * rate.seconds / rate.calls for left, rate in zip(self._left, self.rates, strict=True)), default=0.0
        )
        if wait > 0:
            before = self.now()
            self.sleep(wait)
            self._fill(max(wait, (self.now() - before).total_seconds()))  # a clock that stood still must not starve us
        self._last = self.now()
        self._left = [left - 1 for left in self._left]

    def _fill(self, seconds: float) -> None:
        self._left = [
            min(float(rate.calls), left + seconds * rate.calls / rate.seconds)
            for left, rate in zip(self._left, self.rates, strict=True)
        ]
