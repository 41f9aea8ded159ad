"""An administrator of a sandbox's org, over HTTP."""

import json
from decimal import Decimal
from typing import Any

import httpx

from connector_resources.sandbox import Sandbox


class Org:
    """What an administrator of the org sees and does, over HTTP."""

    def __init__(self, sandbox: Sandbox) -> None:
        known = {name: sandbox.credentials[name] for name in ("client_id", "client_secret")}
        token = httpx.post(f"{sandbox.url}/services/oauth2/token", data={"grant_type": "client_credentials", **known}).json()
        self.client = httpx.Client(
            base_url=f"{sandbox.url}/services/data/v62.0", headers={"Authorization": f"Bearer {token['access_token']}"}
        )

    def find(self, query: str) -> list[dict[str, Any]]:
        answer = self.client.get("/query", params={"q": query})
        found: list[dict[str, Any]] = json.loads(answer.text, parse_float=Decimal)["records"]
        return found

    def edit(self, record: str, **values: Any) -> None:
        assert self.client.patch(f"/sobjects/Account/{record}", json=values).status_code == 204
