"""Sends alerts: what a tenant's administrators are told, and to which of its channels.

The newest alert of a sync is the only one that is sent. When a sync works again before its failure could be told, nobody hears
of either; when only some channels have heard of the failure, only these hear of the end. A channel that has taken an alert
is not sent it again because another one has failed.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from connector_resources.errors import ConfigurationError
from integration_pipelines.store import alert_channels, alerts
from integration_pipelines.store.alert_channels import TIME_LIMIT, Channel
from integration_pipelines.store.alerts import Alert
from integration_pipelines.store.database import Database

if TYPE_CHECKING:
    from apprise.result import NotifyResult

_LOG = logging.getLogger("integration.alerts")
_STATUS = re.compile(r"error=([1-5]\d\d)\b|\(([45]\d\d), b['\"]")  # as Apprise logs answers over HTTP, and smtplib's errors


@dataclass(frozen=True)
class Message:
    """`title` is one line without control characters; `body` is plain text."""

    title: str
    body: str
    good: bool


def send_due(database: Database, now: Callable[[], datetime]) -> Iterator[bool]:
    """Send what is due, one alert at a step, each within TIME_LIMIT; tells of each whether all its channels have it now."""
    for tenant, alert_id in alerts.due(database, now()):
        try:
            yield _send(database, tenant, alert_id, now)
        except ConfigurationError as problem:  # a tenant whose key does not open must not keep the others from being told
            _LOG.warning("Alert %s could not be sent: %s", alert_id, problem)
            yield False


def _send(database: Database, tenant: UUID, alert_id: int, now: Callable[[], datetime]) -> bool:
    with database.tenant(tenant) as scope:
        alert = alerts.take(scope, alert_id, now())
        channels = alert_channels.hearers(scope, alert_id) if alert else []
        if alert and not channels:
            alerts.drop(scope, alert_id, _nobody(alert))
    if alert is None or not channels:
        return False
    problems = deliver([channel for channel in channels if channel.id not in alert.done], composed(alert))
    heard = [channel.id for channel in channels if channel.id not in alert.done and channel.id not in problems]
    with database.tenant(tenant) as scope:
        alerts.settle(scope, alert_id, heard, " ".join(problems.values()) or None, now())
    for problem in problems.values():
        _LOG.warning("Alert %s could not be sent: %s", alert_id, problem)
    return not problems


def _nobody(alert: Alert) -> str:
    if alert.kind == alerts.RECOVERED:
        return "No channel has heard of the failure, so none is told of its end."
    _LOG.warning(
        "Sync %s has failed for good, and its tenant has no channel to tell it; `integration alert-channel add` makes one.",
        alert.sync_id,
    )
    return "There was no channel to send it to."


def deliver(channels: Sequence[Channel], message: Message) -> Mapping[int, str]:
    """Send to all of them at once. Returns a sentence for each channel that did not take it, by the channel's id; a sentence
    quotes nothing of an address."""
    from apprise import Apprise

    problems, sender = {}, Apprise()
    for channel in channels:
        try:
            if channel.address is None:
                raise ConfigurationError("its address cannot be decrypted; remove the channel and add it again.")
            sender.add(alert_channels.service_at(channel.address, str(channel.id)))
        except ConfigurationError as problem:
            problems[channel.id] = f"Channel '{channel.name}': {problem}"
    if len(problems) == len(channels):
        return problems
    kind = "success" if message.good else "failure"
    results = sender.notify(message.body, message.title, kind, body_format="text", log_level=logging.DEBUG)
    answers = {int(result.tag[0]): result for result in results}
    for channel in channels:
        if channel.id not in problems and not _taken(answers.get(channel.id)):
            problems[channel.id] = f"Channel '{channel.name}' did not take it: {_reason(answers.get(channel.id))}."
    return problems


def _taken(result: "NotifyResult | None") -> bool:
    """By its tries: the result of an address with the option `optional` says yes in any case."""
    return result is not None and any(bool(attempt) for attempt in result.attempts)


def _reason(result: "NotifyResult | None") -> str:
    """Of what Apprise and the other side say only a status code: the rest may quote the address."""
    if result is not None and result.status.name == "TIMEOUT":
        return f"no answer within {TIME_LIMIT:.0f} seconds"
    for entry in result.logs() if result is not None else ():
        if found := _STATUS.search(entry.message):
            return f"it answered with status {found[1] or found[2]}"
    return "it cannot be reached, or gave no valid answer"


def composed(alert: Alert) -> Message:
    """What is said of an alert. Names that people gave stand on one line each, whatever they consist of."""
    name, connector = one_line(alert.sync_name), one_line(alert.connector_name)
    arrow = {"inbound": "→", "outbound": "←"}.get(alert.direction, "↔")
    what = f"Connector: {connector}\nEntities: {one_line(alert.external_entity)} {arrow} {one_line(alert.erp_entity)}"
    if alert.kind == alerts.RECOVERED:
        runs = "1 run" if alert.failures == 1 else f"{alert.failures} runs"
        lasted = f"{runs} failed since {_at(alert.since)}; that is {_span(alert.ended_at - alert.since)}."
        return Message(f"Sync {name} works again", f"The sync {name} works again. {lasted}\n\n{what}", True)
    body = f"""The sync {name} has failed. {_next(alert)}

What failed: {one_line(alert.message or "The run broke off without a reason.", 600)}
{what}
Since: {_at(alert.since)}
Tried: {"once" if alert.failures == 1 else f"{alert.failures} times"}

What to do: remove the cause, then run it with

  integration sync run {alert.sync_id}

What happened, and which records were set aside:

  integration sync history {alert.sync_id}
  integration sync errors {alert.sync_id}

You will be told once when it works again."""
    return Message(f"Sync {name} has failed", body, False)


def one_line(text: str, most: int = 120) -> str:
    """Without line ends and other control characters; cut where it is longer."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def _next(alert: Alert) -> str:
    if alert.retry_at is not None:
        return f"It is tried again at {_at(alert.retry_at)}."
    if alert.cron is not None:
        return f"It is tried again by its schedule ({one_line(alert.cron)}, {one_line(alert.time_zone)})."
    return "Nothing is tried again by itself."


def _at(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M UTC")


def _span(length: timedelta) -> str:
    """As people say it, by the two largest units."""
    minutes = round(length.total_seconds() / 60)
    units = (("day", minutes // 1440), ("hour", minutes // 60 % 24), ("minute", minutes % 60))
    said = [f"{count} {unit}{'s' if count != 1 else ''}" for unit, count in units if count]
    return " ".join(said[:2]) or "less than a minute"
