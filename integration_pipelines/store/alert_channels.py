"""Alert channels: where a tenant's administrators are told. Each has an Apprise address, which holds a secret more often than
not: it is sealed, opened only to send, and never shown again.

https://appriseit.com/services/ says what addresses look like.
"""

import logging
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from connector_resources.errors import ConfigurationError
from integration_pipelines.store import audit
from integration_pipelines.store.database import Scope
from integration_pipelines.store.vault import Unreadable

if TYPE_CHECKING:
    from apprise import NotifyBase

TIME_LIMIT = 20.0
"""Seconds that a channel gets to take a message."""
_GRACE = 1.0
# Schemes of Apprise that go over the network. It knows others: they start programs, write to the system's log or draw on a
# desktop. Of the first ones the host is a server; with the others a token may stand in its place.
_SERVERS = re.compile(r"(mailto|json|form|xml|gotify|mmost|rocket)s?|workflows?")
_TOKENS = re.compile(r"slack|discord|tgram|matrixs?|ntfys?|pagerduty|opsgenie|gchat|pover|twilio|ses|sns|webex|wxteams|zulip")
_REFUSED = {
    *("template", "pgp", "pgppub", "pgpprv", "wkd"),  # read files
    "redirect",  # would have redirects followed, to wherever they lead
}
_EXAMPLES = (
    "mailtos://user:password@example.com?to=ops@example.com, slack://token/token/token, workflows://host/workflow/signature "
    "(Microsoft Teams), jsons://host/path"
)


@dataclass(frozen=True)
class Channel:
    """A row of `alert_channels`. `address`: None when it cannot be decrypted any more."""

    id: int
    name: str
    address: str | None = field(repr=False)
    created_at: datetime

    @property
    def shown(self) -> str:
        """Of the address what may be seen: its scheme, and its host where that is a server."""
        if self.address is None:
            return "cannot be decrypted"
        scheme, host = self.address.partition("://")[0].lower(), None
        if scheme == "https" or _SERVERS.fullmatch(scheme):
            try:
                found = urlsplit(self.address)
                host = found.hostname if found.netloc.count("@") < 2 and found.port != 0 else None
            except ValueError:  # a password that is not percent-encoded, most likely
                host = None
        return f"{scheme}://{host or '…'}"


def add(scope: Scope, name: str, address: str, *, actor: str) -> Channel:
    """Raises ConfigurationError when the name is taken, or Apprise cannot send to the address."""
    name, address = name.strip(), address.strip()
    if not name or len(name) > 255 or not name.isprintable():
        raise ConfigurationError("A channel's name has 1 to 255 printable characters; give it one.")
    service_at(address)
    number = int(scope.run("SELECT nextval(pg_get_serial_sequence('alert_channels', 'id'))").scalar_one())
    made = scope.run(
        """INSERT INTO alert_channels (id, tenant_id, name, address) VALUES (:id, :tenant, :name, :address)
           ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id""",
        id=number,
        tenant=scope.tenant,
        name=name,
        address=scope.vault.seal(address.encode(), "alert_channels", str(number), "address"),
    ).scalar()
    if made is None:
        raise ConfigurationError(f"There is an alert channel '{name}' already; remove it first, or choose another name.")
    audit.record(scope, actor, "alert_channel.add", f"alert_channels/{number}")
    return find(scope, name)


def every(scope: Scope) -> list[Channel]:
    return [_row(scope, row) for row in scope.rows("SELECT id, name, address, created_at FROM alert_channels ORDER BY name")]


def find(scope: Scope, name: str) -> Channel:
    """Raises ConfigurationError when there is none of this name."""
    row = scope.rows("SELECT id, name, address, created_at FROM alert_channels WHERE name = :name", name=name.strip())
    if not row:
        raise ConfigurationError(
            f"There is no alert channel '{name}' in this tenant; `integration alert-channel list` shows them."
        )
    return _row(scope, row[0])


def remove(scope: Scope, name: str, *, actor: str) -> None:
    """Nothing more is sent there. Raises ConfigurationError when there is none of this name."""
    found = find(scope, name)
    scope.run("DELETE FROM alert_channels WHERE id = :id", id=found.id)
    audit.record(scope, actor, "alert_channel.remove", f"alert_channels/{found.id}")


def hearers(scope: Scope, alert_id: int) -> list[Channel]:
    """Who is to hear of an alert, whether they have or not: of a failure everybody, of a recovery those whose last message
    of this sync told of a failure."""
    rows = scope.rows(
        """SELECT c.id, c.name, c.address, c.created_at FROM alert_channels c JOIN alerts a ON a.id = :alert
           WHERE a.kind = 'failed' OR (SELECT o.kind FROM alerts o WHERE o.sync_configuration_id = a.sync_configuration_id
               AND o.id < a.id AND c.id = ANY(o.done_channels) ORDER BY o.id DESC LIMIT 1) = 'failed'
           ORDER BY c.id""",
        alert=alert_id,
    )
    return [_row(scope, row) for row in rows]


def _row(scope: Scope, row: sa.RowMapping) -> Channel:
    try:
        address = scope.vault.open(bytes(row["address"]), "alert_channels", str(row["id"]), "address").decode()
    except Unreadable:  # one channel that was tampered with must not keep the others from being told
        address = None
    return Channel(row["id"], row["name"], address, row["created_at"])


def service_at(address: str, tag: str = "") -> "NotifyBase":
    """What Apprise sends with. Raises ConfigurationError, quoting nothing of the address, where Apprise does not know it, or
    it does not lead into the network, names a local file or several recipients."""
    from apprise import Apprise, AppriseAsset
    from apprise.plugins import url_to_dict

    _silence("apprise", "urllib3")
    parts: dict[str, Any] = {}
    if re.fullmatch(r"[A-Za-z]+://\S+", address):
        parts = url_to_dict(address) or {}  # type: ignore[no-untyped-call] # Apprise has not typed it
    if named := _REFUSED & set(parts.get("qsd") or ()):
        raise ConfigurationError(f"An alert channel's address may not have the option '{min(named)}'; leave it out.")
    scheme = parts.get("schema") or ""
    asset = AppriseAsset(
        app_id="ERP integration",
        service_timeout=TIME_LIMIT,
        storage_mode="memory",  # nothing of it is written to a disk
        allow_templates=False,
        http_redirects=False,  # a redirected POST becomes a GET, which would count as sent
    )
    leads_out = _SERVERS.fullmatch(scheme) or _TOKENS.fullmatch(scheme)
    service = Apprise.instantiate(parts, asset=asset, tag=tag) if leads_out else None
    if service is None:
        raise ConfigurationError(f"Alerts cannot be sent to this address; write one like {_EXAMPLES}.")
    if len(service) > 1:
        raise ConfigurationError(
            "The address names several recipients; make a channel for each, so that one that fails does not make the others "
            "hear the same again and again."
        )
    # The options `rto` and `cto` may ask for less: whoever waits longer holds a thread, and the process, after the limit.
    service.socket_read_timeout = min(service.socket_read_timeout, TIME_LIMIT + _GRACE)
    service.socket_connect_timeout = min(service.socket_connect_timeout, TIME_LIMIT + _GRACE)
    return service


def _silence(*names: str) -> None:
    """What these log may quote addresses: it goes nowhere, whatever the level."""
    for name in names:
        log = logging.getLogger(name)
        log.propagate = False
        if not log.handlers:
            log.addHandler(logging.NullHandler())
