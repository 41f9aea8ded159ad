"""Where alerts go: which addresses are taken, and that they are kept as the secrets they are."""

import subprocess
import sys
from datetime import UTC, datetime
from uuid import UUID

import pytest

from connector_resources.errors import ConfigurationError
from integration_pipelines.store import alert_channels, tenants
from integration_pipelines.store.alert_channels import TIME_LIMIT, Channel, service_at
from integration_pipelines.store.database import Database

CANARY = "canary-4b8d"
ADDRESS = f"jsons://ops:{CANARY}@alerts.example.com/{CANARY}?-token={CANARY}"


@pytest.fixture
def acme(database: Database) -> UUID:
    return tenants.create(database, "acme")


def add(database: Database, tenant: UUID, name: str = "ops", address: str = ADDRESS) -> Channel:
    with database.tenant(tenant) as scope:
        return alert_channels.add(scope, name, address, actor="test")


def every(database: Database, tenant: UUID) -> list[Channel]:
    with database.tenant(tenant) as scope:
        return alert_channels.every(scope)


def remove(database: Database, tenant: UUID) -> None:
    with database.tenant(tenant) as scope:
        alert_channels.remove(scope, "ops", actor="users/7")


def test_an_address_is_sealed_and_comes_back_as_it_was(database: Database, acme: UUID) -> None:
    made = add(database, acme, " ops ", f"  {ADDRESS}\n")
    assert every(database, acme) == [made]
    assert (made.name, made.address, made.shown) == ("ops", ADDRESS, "jsons://alerts.example.com")
    assert CANARY not in repr(made)
    with database.tenant(acme) as scope:
        (row,) = scope.rows("SELECT address, c::text AS everything FROM alert_channels c")
    assert bytes(row["address"])[:1] == b"\x02"
    assert CANARY.encode() not in bytes(row["address"])
    assert CANARY not in row["everything"]


def test_an_address_that_was_moved_to_another_row_does_not_open(database: Database, acme: UUID) -> None:
    add(database, acme)
    add(database, acme, "moved", "json://elsewhere")
    with database.tenant(acme) as scope:
        scope.run("UPDATE alert_channels SET address = (SELECT address FROM alert_channels WHERE name = 'ops')")
    moved, ops = every(database, acme)
    assert (moved.address, moved.shown, ops.address) == (None, "cannot be decrypted", ADDRESS)


def test_a_name_is_taken_once_in_a_tenant(database: Database, acme: UUID) -> None:
    add(database, acme)
    with pytest.raises(ConfigurationError, match="There is an alert channel 'ops' already; remove it first"):
        add(database, acme)
    other = tenants.create(database, "globex")
    add(database, other, address="json://theirs")
    assert [channel.address for channel in every(database, acme)] == [ADDRESS]


@pytest.mark.parametrize("name", ["", " ", "x" * 256, "a\nb"], ids=["empty", "blank", "long", "two lines"])
def test_a_name_that_is_none_is_refused(database: Database, acme: UUID, name: str) -> None:
    with pytest.raises(ConfigurationError, match="1 to 255 printable characters"):
        add(database, acme, name)


def test_what_is_removed_is_gone(database: Database, acme: UUID) -> None:
    add(database, acme)
    with pytest.raises(ConfigurationError, match="There is no alert channel 'ops' in this tenant"):
        remove(database, tenants.create(database, "globex"))
    assert len(every(database, acme)) == 1
    remove(database, acme)
    assert every(database, acme) == []


def test_adding_and_removing_are_audited_without_the_address(database: Database, acme: UUID) -> None:
    made = add(database, acme)
    remove(database, acme)
    with database.tenant(acme) as scope:
        rows = scope.rows("SELECT actor, action, subject, a::text AS everything FROM audit_log a WHERE action LIKE 'alert%'")
    assert [(row["actor"], row["action"], row["subject"]) for row in rows] == [
        ("test", "alert_channel.add", f"alert_channels/{made.id}"),
        ("users/7", "alert_channel.remove", f"alert_channels/{made.id}"),
    ]
    assert not any(CANARY in row["everything"] or "example.com" in row["everything"] for row in rows)


TAKEN = {
    f"mailtos://ops:{CANARY}@mail.example.com?to=admin@example.com": "mailtos://mail.example.com",
    f"mailto://ops:{CANARY}@example.com:2525/admin@example.org?smtp=10.0.0.5": "mailto://example.com",
    f"JSON://ops:{CANARY}@Alerts.example.com:8443/{CANARY}": "json://alerts.example.com",
    f"form://[::1]:8080/{CANARY}": "form://::1",
    f"workflows://prod.example.com:443/{CANARY}/{CANARY}": "workflows://prod.example.com",
    f"https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/{CANARY.replace('-', '')}CANARYcanary": "https://hooks.slack.com",
    f"slack://T1JJ3T3L2/A1BRTD4JD/{CANARY.replace('-', '')}CANARYcanary": "slack://…",
    f"ntfys://{CANARY}": "ntfys://…",
    f"discord://123456789012345678/{CANARY}": "discord://…",
    f"gchat://workspace/{CANARY}/{CANARY}": "gchat://…",
    f"pagerduty://{CANARY}@{CANARY}": "pagerduty://…",
    f"opsgenie://{CANARY}": "opsgenie://…",
    "tgram://123456789:abcdefg_hijklmnop/12315544": "tgram://…",
    f"gotifys://push.example.com/{CANARY}": "gotifys://push.example.com",
    f"rockets://ops:{CANARY}@chat.example.com/#alerts": "rockets://chat.example.com",
}


@pytest.mark.parametrize("address", TAKEN, ids=range(len(TAKEN)))
def test_of_an_address_only_scheme_and_server_are_shown(database: Database, acme: UUID, address: str) -> None:
    made = add(database, acme, address=address)
    assert made.address == address
    assert made.shown == TAKEN[address]


@pytest.mark.parametrize(
    "address",
    [f"json://u:{CANARY}@x@host/", f"json://u:{CANARY}/@host", f"json://[{CANARY}"],
    ids=["two signs", "no port", "no address"],
)
def test_where_a_password_may_stand_in_the_server_s_place_it_is_not_shown(address: str) -> None:
    shown = Channel(1, "ops", address, datetime(2026, 3, 2, tzinfo=UTC)).shown
    assert CANARY not in shown
    assert shown == "json://…"


REFUSED = {
    f"syslog://{CANARY}": "cannot be sent to this address",
    "dbus://": "cannot be sent to this address",
    "gnome://": "cannot be sent to this address",
    "macosx://": "cannot be sent to this address",
    "windows://": "cannot be sent to this address",
    f"rsyslog://{CANARY}": "cannot be sent to this address",
    "": "cannot be sent to this address",
    f"nonsense {CANARY}": "cannot be sent to this address",
    f"https://example.com/{CANARY}": "cannot be sent to this address",
    f"jsons://a.example.com/{CANARY} syslog://": "cannot be sent to this address",
    f"json://a.example.com/{CANARY}\nsyslog://": "cannot be sent to this address",
    f"slack://{CANARY}": "cannot be sent to this address",
    f"file:///etc/{CANARY}": "cannot be sent to this address",
    f"discord://123456789012345678/{CANARY}?template=/etc/passwd": "the option 'template'",
    f"mailtos://a:{CANARY}@example.com?%70gpprv=/root/key": "the option 'pgpprv'",
    f"jsons://a.example.com/{CANARY}?redirect=yes": "the option 'redirect'",
    f"mailtos://a:{CANARY}@example.com?to=b@example.com,c@example.com": "names several recipients",
}  # fmt: skip


@pytest.mark.parametrize("address", REFUSED, ids=range(len(REFUSED)))
def test_an_address_that_leads_nowhere_or_into_this_machine_is_refused_and_not_quoted(
    database: Database, acme: UUID, address: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigurationError, match=REFUSED[address]) as refusal:
        add(database, acme, address=address)
    assert every(database, acme) == []
    written = capfd.readouterr()
    assert CANARY not in f"{refusal.value} {written.out} {written.err}"


def test_no_address_waits_longer_than_the_time_limit() -> None:
    patient = service_at("jsons://a.example.com/x?rto=9000&cto=9000")
    assert patient.socket_read_timeout <= TIME_LIMIT + 1
    assert patient.socket_connect_timeout <= TIME_LIMIT + 1
    assert service_at("jsons://a.example.com/x?rto=2").socket_read_timeout == 2


def test_apprise_is_imported_only_where_something_is_sent_or_checked() -> None:
    code = """import sys, integration_pipelines.cli, integration_pipelines.orchestration.daemon
assert "integration_pipelines.operations.alerts" in sys.modules
assert "apprise" not in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True)
