"""Serve the shop: all three surfaces over one set of records."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from connector_resources.sandbox.front import Front, Surface
from connector_resources.sandbox.generic import access
from connector_resources.sandbox.generic.graphql import GraphQLSurface
from connector_resources.sandbox.generic.rest import RestSurface
from connector_resources.sandbox.generic.shop import Shop
from connector_resources.sandbox.generic.soap import SoapSurface
from connector_resources.sandbox.salesforce.exchange import Answer, Call
from connector_resources.sandbox.salesforce.org import utc_now
from connector_resources.sandbox.server import Server


class Surfaces:
    """The surface that a path belongs to."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.surfaces: dict[str, Surface] = {
            "/rest": RestSurface(shop),
            "/graphql": GraphQLSurface(shop),
            "/soap": SoapSurface(shop),
        }

    def answer(self, call: Call) -> Answer:
        if call.path == "/oauth/token" and call.method == "POST":
            return access.token(self.shop, call)
        if call.path == "/oauth/device" and call.method == "POST":
            return access.device(self.shop, call)
        if call.path in ("/oauth/authorize", "/oauth/authorize/device") and call.method in ("GET", "POST"):
            return self.shop.consents.answer(call)
        for prefix, surface in self.surfaces.items():
            if call.path == prefix or call.path.startswith(f"{prefix}/"):
                return surface.answer(call)
        return Answer(404, {"error": {"code": "no_such_place"}})


class ShopSandbox(Server):
    """A made-up shop on this machine.

    url, ca_file, faults  as of any sandbox
    credentials           api_key, username and password, client_id with client_secret or refresh_token
    state                 the shop: its records, and ways to change them behind the API's back

    The same seed gives the same records, ids and instants; `now` is the shop's clock."""

    def __init__(
        self,
        port: int = 0,
        tls: bool = False,
        home: Path | None = None,
        customers: int = 3000,
        orders: int = 1000,
        seed: int = 1,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__(port, tls, home)
        self.state = Shop(seed, customers, orders, now, self.faults.drifted)

    def front(self) -> Front:
        return Front(self.state, Surfaces(self.state), self.faults)

    @property
    def credentials(self) -> dict[str, str]:
        return dict(self.state.credentials)
