"""Who is told of a sync that has failed for good, how often, and what; with real mail and real HTTP."""

from datetime import timedelta
from typing import Any

import pytest
from mailroom import (
    NOON,
    Clock,
    MailServer,
    Receiver,
    add_channel,
    alerts_of,
    fail,
    fail_for_good,
    sent,
    succeed,
)
from notebook import World

from integration_pipelines.operations.alerts import send_due
from integration_pipelines.store.retries import AfterFailure


def test_one_alert_after_the_third_retry_and_no_second_one_for_the_same_outage(
    world: World, inbox: Receiver, clock: Clock
) -> None:
    add_channel(world, "ops", inbox.address)
    first = fail(world)
    for _ in range(2):
        fail(world, first.run_id)
        assert sent(world, clock) == 0
    fail(world, first.run_id)
    assert sent(world, clock) == 1
    fail_for_good(world)
    fail(world, after=AfterFailure.ALERT)
    clock.pass_(days=2)
    assert sent(world, clock) == 0
    assert inbox.titles == ["Sync client-customer has failed"]


def test_what_nobody_retries_is_told_at_once(world: World, inbox: Receiver, clock: Clock) -> None:
    add_channel(world, "ops", inbox.address)
    fail(world, after=AfterFailure.ALERT, message="The password is refused; give another one.")
    assert sent(world, clock) == 1
    (post,) = inbox.posts
    assert post["type"] == "failure"
    assert post["message"] == (
        "The sync client-customer has failed. Nothing is tried again by itself.\n\n"
        "What failed: The password is refused; give another one.\n"
        "Connector: Notebook\nEntities: Client → customer\nSince: 2026-03-02 12:00 UTC\nTried: once\n\n"
        f"What to do: remove the cause, then run it with\n\n  integration sync run {world.config.id}\n\n"
        "What happened, and which records were set aside:\n\n"
        f"  integration sync history {world.config.id}\n  integration sync errors {world.config.id}\n\n"
        "You will be told once when it works again."
    )


def test_the_alert_says_since_when_how_often_and_what_comes_next(world: World, inbox: Receiver, clock: Clock) -> None:
    add_channel(world, "ops", inbox.address)
    world.change("UPDATE sync_configurations SET schedule_cron = '*/15 * * * *', time_zone = 'Europe/Berlin'")
    succeed(world, NOON - timedelta(days=1))
    fail_for_good(world)
    assert sent(world, clock) == 1
    text = inbox.posts[0]["message"]
    assert "It is tried again by its schedule (*/15 * * * *, Europe/Berlin)." in text
    assert "Since: 2026-03-02 12:00 UTC\nTried: 4 times\n" in text


def test_a_sync_that_fails_whenever_it_is_started_is_told_although_a_retry_is_planned(
    world: World, inbox: Receiver, clock: Clock
) -> None:
    add_channel(world, "ops", inbox.address)
    for _ in range(4):
        fail(world)
    assert sent(world, clock) == 1
    assert "It is tried again at 2026-03-02 12:0" in inbox.posts[0]["message"]


def test_one_message_when_it_works_again_and_none_before_it_had_failed(world: World, inbox: Receiver, clock: Clock) -> None:
    add_channel(world, "ops", inbox.address)
    succeed(world, NOON - timedelta(days=1))
    fail_for_good(world)
    assert sent(world, clock) == 1
    succeed(world)
    succeed(world, NOON + timedelta(hours=3))
    assert sent(world, clock) == 1
    assert sent(world, clock) == 0
    assert inbox.titles == ["Sync client-customer has failed", "Sync client-customer works again"]
    assert inbox.posts[1]["type"] == "success"
    assert "4 runs failed since 2026-03-02 12:00 UTC; that is 2 hours 5 minutes." in inbox.posts[1]["message"]


def test_mail_arrives_in_plain_text(world: World, mail: MailServer, clock: Clock) -> None:
    mail.start()
    add_channel(world, "ops", mail.address)
    fail_for_good(world)
    assert sent(world, clock) == 1
    (found,) = mail.mails
    assert (found["subject"], found["to"]) == ("Sync client-customer has failed", "admin@example.org")
    assert found["from"] == "ERP integration <ops@example.org>"
    body = found.get_body(("plain",))
    assert body is not None
    assert "What failed: The notebook lies at home." in body.get_content()


def test_a_channel_that_has_it_is_not_sent_it_again_because_another_one_is_down(
    world: World, inbox: Receiver, mail: MailServer, clock: Clock
) -> None:
    add_channel(world, "chat", inbox.address)
    add_channel(world, "mail", mail.address)
    fail_for_good(world)
    assert sent(world, clock) == 0
    (alert,) = alerts_of(world)
    assert alert["problem"] == "Channel 'mail' did not take it: it cannot be reached, or gave no valid answer."
    assert (alert["sent_at"], alert["tries"]) == (None, 1)
    clock.pass_(minutes=1)
    assert sent(world, clock) == 0
    mail.start()
    clock.pass_(minutes=2)
    assert sent(world, clock) == 1
    (alert,) = alerts_of(world)
    assert (alert["sent_at"], alert["due_at"], alert["problem"]) == (clock.moment, None, None)
    clock.pass_(days=1)
    assert sent(world, clock) == 0
    assert (len(inbox.posts), len(mail.mails)) == (1, 1)


def test_a_dead_server_delays_ever_longer_and_loses_nothing(world: World, inbox: Receiver, clock: Clock) -> None:
    add_channel(world, "ops", inbox.address)
    inbox.status = 503
    fail_for_good(world)
    for minutes in (1, 2, 4, 8, 16, 32, 60, 60):
        assert sent(world, clock) == 0
        assert alerts_of(world)[0]["due_at"] == clock.moment + timedelta(minutes=minutes)
        clock.pass_(minutes=minutes, seconds=-1)
        assert list(send_due(world.database, clock)) == []
        clock.pass_(seconds=1)
    assert alerts_of(world)[0]["problem"] == "Channel 'ops' did not take it: it answered with status 503."
    inbox.status = 200
    assert sent(world, clock) == 1
    assert (len(inbox.posts), inbox.refused, alerts_of(world)[0]["tries"]) == (1, 8, 9)


def test_after_a_day_of_tries_it_is_given_up(world: World, inbox: Receiver, clock: Clock) -> None:
    """However late the first try came: nothing may have been running."""
    add_channel(world, "ops", inbox.address)
    inbox.status = 503
    fail_for_good(world)
    clock.pass_(days=2)
    for _ in range(29):
        assert alerts_of(world)[0]["due_at"] is not None
        assert sent(world, clock) == 0
        clock.pass_(hours=1, seconds=1)
    (alert,) = alerts_of(world)
    assert (alert["due_at"], alert["sent_at"]) == (None, None)
    assert "status 503" in alert["problem"]
    inbox.status = 200
    clock.pass_(days=1)
    assert sent(world, clock) == 0
    assert inbox.posts == []


def test_an_outage_that_nobody_has_heard_of_is_told_with_its_next_failure(world: World, inbox: Receiver, clock: Clock) -> None:
    """There was no channel then, or none that took it."""
    fail_for_good(world)
    assert sent(world, clock) == 0
    add_channel(world, "ops", inbox.address)
    fail_for_good(world, at=NOON + timedelta(days=1))
    clock.pass_(days=1)
    assert sent(world, clock) == 1
    fail_for_good(world, at=NOON + timedelta(days=2))
    clock.pass_(days=1)
    assert (sent(world, clock), len(inbox.posts)) == (0, 1)


def test_a_crash_between_sending_and_noting_sends_it_again(world: World, inbox: Receiver, clock: Clock) -> None:
    add_channel(world, "ops", inbox.address)
    fail_for_good(world)
    moments = iter([clock.moment, clock.moment])

    def dies() -> Any:
        return next(moments)  # there is no third one, for what is to be noted

    with pytest.raises((StopIteration, RuntimeError)):
        list(send_due(world.database, dies))
    assert len(inbox.posts) == 1
    assert list(send_due(world.database, clock)) == []
    clock.pass_(minutes=1)
    assert sent(world, clock) == 1
    assert len(inbox.posts) == 2


def test_who_takes_an_alert_first_sends_it_alone(world: World, inbox: Receiver, clock: Clock) -> None:
    add_channel(world, "ops", inbox.address)
    fail_for_good(world)
    slow = send_due(world.database, clock)
    both = send_due(world.database, clock)
    assert (sum(slow), sum(both), len(inbox.posts)) == (1, 0, 1)


def test_a_failure_that_was_over_before_it_could_be_told_is_not_told(world: World, inbox: Receiver, clock: Clock) -> None:
    add_channel(world, "ops", inbox.address)
    inbox.status = 503
    fail_for_good(world)
    assert sent(world, clock) == 0
    succeed(world)
    inbox.status = 200
    clock.pass_(minutes=5)
    assert sent(world, clock) == 0
    failure, end = alerts_of(world)
    assert failure["problem"] == "The sync works again; this is not sent any more."
    assert end["problem"] == "No channel has heard of the failure, so none is told of its end."
    assert [row["due_at"] for row in (failure, end)] == [None, None]
    fail_for_good(world, NOON + timedelta(days=1))
    assert sent(world, clock) == 1
    assert len(inbox.posts) == 1


def test_only_who_has_heard_of_the_failure_hears_of_its_end(
    world: World, inbox: Receiver, mail: MailServer, clock: Clock
) -> None:
    add_channel(world, "chat", inbox.address)
    add_channel(world, "mail", mail.address)
    fail_for_good(world)
    assert sent(world, clock) == 0
    succeed(world)
    mail.start()
    clock.pass_(minutes=5)
    assert sent(world, clock) == 1
    assert (len(inbox.posts), len(mail.mails)) == (2, 0)


def test_an_end_that_came_too_late_is_not_told_after_the_next_failure(world: World, inbox: Receiver, clock: Clock) -> None:
    add_channel(world, "ops", inbox.address)
    fail_for_good(world)
    assert sent(world, clock) == 1
    inbox.status = 503
    succeed(world)
    assert sent(world, clock) == 0
    fail_for_good(world, NOON + timedelta(days=1))
    inbox.status = 200
    clock.pass_(hours=1)
    assert sent(world, clock) == 1
    succeed(world, NOON + timedelta(days=2))
    assert sent(world, clock) == 1
    assert [title.split()[2] for title in inbox.titles] == ["has", "has", "works"]
    assert alerts_of(world)[1]["problem"] == "The sync has failed again; this is not sent any more."


def test_without_a_channel_the_log_has_it_once(world: World, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    fail_for_good(world)
    assert sent(world, clock) == 0
    (line,) = [record for record in caplog.records if record.name == "integration.alerts"]
    assert line.levelname == "WARNING"
    assert f"Sync {world.config.id} has failed for good" in line.getMessage()
    (alert,) = alerts_of(world)
    assert (alert["problem"], alert["due_at"], alert["sent_at"]) == ("There was no channel to send it to.", None, None)
    caplog.clear()
    clock.pass_(days=1)
    assert sent(world, clock) == 0
    assert caplog.records == []
