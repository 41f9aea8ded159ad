"""A clock that is set back: corrected after it was wrong, or a machine that was restored.

Dagster's schedules and sensors go on from the latest instant that they have seen. Where that lies ahead they would be silent
until the clock is there again, and syncs would stand still under a green light.
"""

from datetime import datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.scheduler.instigation import ScheduleInstigatorData, TickStatus

LEEWAY = timedelta(minutes=1)  # what is less than this ahead comes by itself
_SEEN = ("start_timestamp", "last_iteration_timestamp", "last_tick_timestamp", "last_tick_start_timestamp")


def begin_anew(instance: dg.DagsterInstance, now: datetime) -> list[str]:
    """Let schedules and sensors that have seen a later instant begin with this one, and forget their ticks; returns their
    names. To be called before the daemon begins: it remembers instants, too."""
    begun = []
    for state in instance.all_instigator_state():
        data, place = state.instigator_data, (state.instigator_origin_id, state.selector_id)
        ticks = instance.get_ticks(*place, limit=1)
        seen = [getattr(data, name, None) or 0.0 for name in _SEEN] + [tick.timestamp for tick in ticks]
        if data is None or max(seen) < (now + LEEWAY).timestamp():
            continue
        if isinstance(data, ScheduleInstigatorData):
            anew: Any = ScheduleInstigatorData(data.cron_schedule, now.timestamp())
        else:
            anew = data._replace(last_tick_timestamp=None, last_tick_start_timestamp=None)
        instance.purge_ticks(*place, before=max(seen) + 1, tick_statuses=list(TickStatus))
        instance.update_instigator_state(state.with_data(anew))
        begun.append(state.name)
    return begun
