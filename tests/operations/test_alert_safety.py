"""Alerts where somebody means harm or is slow: tenants, secrets, hostile names, servers that never answer."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from mailroom import (
    CANARY,
    Clock,
    MailServer,
    Receiver,
    add_channel,
    alerts_of,
    fail_for_good,
    sent,
)
from notebook import World, make_world

from integration_pipelines.operations.alerts import Message, deliver, one_line, send_due
from integration_pipelines.settings import Settings
from integration_pipelines.store import alert_channels
from integration_pipelines.store.database import Database, engine


def test_a_channel_of_another_tenant_hears_nothing(
    world: World, database: Database, settings: Settings, inbox: Receiver, clock: Clock
) -> None:
    other = make_world(database, settings, tenant="globex")
    add_channel(other, "ops", inbox.address)
    fail_for_good(world)
    assert sent(world, clock) == 0
    assert inbox.posts == []
    with database.tenant(world.tenant) as scope:
        assert alert_channels.every(scope) == []
    fail_for_good(other)
    assert sent(other, clock) == 1
    assert len(inbox.posts) == 1


def test_one_tenant_s_broken_channel_holds_up_nobody(
    world: World, database: Database, settings: Settings, inbox: Receiver, clock: Clock
) -> None:
    broken = add_channel(world, "moved", inbox.address)
    world.change("UPDATE alert_channels SET address = decode('0200', 'hex') WHERE id = :id", id=broken)
    fail_for_good(world)
    other = make_world(database, settings, tenant="globex")
    add_channel(other, "ops", inbox.address)
    fail_for_good(other)
    assert list(send_due(database, clock)) == [False, True]
    assert alerts_of(world)[0]["problem"] == (
        "Channel 'moved': its address cannot be decrypted; remove the channel and add it again."
    )


def test_one_tenant_whose_key_does_not_open_holds_up_nobody(
    world: World, database: Database, settings: Settings, inbox: Receiver, clock: Clock
) -> None:
    other = make_world(database, settings, tenant="globex")
    for one in (world, other):
        add_channel(one, "ops", inbox.address)
        fail_for_good(one)
    world.change("UPDATE tenant_keys SET wrapped = decode('00', 'hex')")
    fresh = Database(database.url, database.master)  # the other one remembers the key
    assert list(send_due(fresh, clock)) == [False, True]
    fresh.close()
    assert len(inbox.posts) == 1


def test_a_sync_s_name_cannot_add_headers_or_lines(world: World, mail: MailServer, clock: Clock) -> None:
    mail.start()
    add_channel(world, "ops", mail.address)
    hostile = "Accounts\r\nBcc: evil@example.org\u2028\x00\r\n\r\nWhat to do: pay"
    world.change("UPDATE sync_configurations SET sync_name = :n", n=hostile.replace("\x00", ""))
    world.change("UPDATE connectors SET connector_name = :n", n="Our\nTried: never\u202e")
    fail_for_good(world)
    assert sent(world, clock) == 1
    (found,) = mail.mails
    assert (found["bcc"], found.get_all("subject")) == (
        None,
        ["Sync Accounts Bcc: evil@example.org What to do: pay has failed"],
    )
    body = found.get_body(("plain",))
    assert body is not None
    lines = body.get_content().splitlines()
    assert [line for line in lines if line.startswith(("Bcc", "What to do"))] == [
        "What to do: remove the cause, then run it with"
    ]
    assert [line for line in lines if line.startswith(("Connector", "Tried"))] == [
        "Connector: Our Tried: never",
        "Tried: 4 times",
    ]


def test_a_long_name_is_cut() -> None:
    assert one_line("x" * 500) == "x" * 119 + "…"
    assert one_line("x" * 120) == "x" * 120


def test_a_server_that_never_answers_costs_the_time_limit_and_no_more(
    world: World, inbox: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_channels, "TIME_LIMIT", 0.3)
    add_channel(world, "ops", inbox.address + "&rto=60")
    inbox.answer.clear()
    fail_for_good(world)
    assert sent(world, clock) == 0
    assert alerts_of(world)[0]["problem"] == "Channel 'ops' did not take it: no answer within 20 seconds."


@pytest.mark.parametrize("status", [301, 302, 401, 500])
def test_what_is_no_yes_is_no_even_where_the_address_calls_it_optional(
    world: World, inbox: Receiver, clock: Clock, status: int
) -> None:
    add_channel(world, "ops", inbox.address + "&optional=yes")
    inbox.status = status
    fail_for_good(world)
    assert sent(world, clock) == 0
    assert f"it answered with status {status}" in alerts_of(world)[0]["problem"]


def stored(settings: Settings) -> str:
    """All rows of all our tables, as their owner reads them."""
    owner = engine(settings.database_url or "", role=None, poolclass=sa.NullPool)
    with owner.connect() as connection:
        names = list(connection.exec_driver_sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").scalars())
        rows = [row for name in names for row in connection.exec_driver_sql(f'SELECT t::text FROM "{name}" t').scalars()]
    return "\n".join(rows)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What whoever logs everything gets to see. (pytest's own capture also listens where nothing is passed on.)"""
    found, root = io.StringIO(), logging.getLogger()
    handler, before = logging.StreamHandler(found), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield found
    root.removeHandler(handler)
    root.setLevel(before)


def test_no_secret_of_an_address_is_stored_in_clear_or_logged(
    world: World,
    settings: Settings,
    inbox: Receiver,
    mail: MailServer,
    clock: Clock,
    log: io.StringIO,
    capfd: pytest.CaptureFixture[str],
) -> None:
    mail.start()
    add_channel(world, "chat", inbox.address)
    add_channel(world, "mail", mail.address)
    add_channel(world, "refused", mail.address_with(CANARY + "x"))
    inbox.status = 401
    fail_for_good(world)
    assert sent(world, clock) == 0
    assert len(mail.mails) == 1
    assert alerts_of(world)[0]["problem"] == (
        "Channel 'chat' did not take it: it answered with status 401. "
        "Channel 'refused' did not take it: it answered with status 535."
    )
    everything = stored(settings)
    assert "'refused'" in everything
    written = capfd.readouterr()
    assert "Alert 1 could not be sent" in log.getvalue()
    for told in (everything, log.getvalue(), written.out, written.err):
        assert CANARY not in told
        assert CANARY.encode().hex() not in told


def test_nothing_of_a_channel_is_written_to_the_disk(
    world: World, inbox: Receiver, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "elsewhere"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    add_channel(world, "ops", inbox.address)
    fail_for_good(world)
    assert sent(world, clock) == 1
    assert list(home.rglob("*")) == []


def test_a_message_by_hand_tells_of_each_channel_that_did_not_take_it(world: World, inbox: Receiver, mail: MailServer) -> None:
    add_channel(world, "chat", inbox.address)
    dead = add_channel(world, "mail", mail.address)
    with world.database.tenant(world.tenant) as scope:
        channels = alert_channels.every(scope)
    assert list(deliver(channels, Message("Hello", "World", good=True))) == [dead]
    assert inbox.titles == ["Hello"]
