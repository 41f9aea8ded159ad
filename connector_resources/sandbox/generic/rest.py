"""The REST surface: one list in five ways of paging, records with ETags, writes with Idempotency-Key, a batch endpoint.

GET    /rest/{customers,orders}?by=cursor|link|header|offset|page&limit=&cursor=&offset=&page=&updated_since=&ids=
       &stamp=&reference=&deleted=no
GET    /rest/deleted/{entity}?since=
POST   /rest/{entity}          GET, PATCH, DELETE /rest/{entity}/{id}          PUT /rest/customers/by-reference/{reference}
POST   /rest/batch             GET /rest/me                                    POST /oauth/token
"""

import json
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote, urlencode

from connector_resources.sandbox.generic import access
from connector_resources.sandbox.generic.shop import Refusal, Shop
from connector_resources.sandbox.generic.wire import as_json, instant, plain
from connector_resources.sandbox.salesforce.exchange import Answer, Call

LARGEST_PAGE = 200
_JSON = {"Content-Type": "application/json; charset=utf-8"}


class RestSurface:
    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def answer(self, call: Call) -> Answer:
        entity = "(customers|orders)"
        routes: list[tuple[str, str, Callable[..., Answer]]] = [
            ("GET", "/rest/me", lambda _: _ok({"account": "shop@example.org"})),
            ("GET", f"/rest/{entity}", self.listed),
            ("GET", f"/rest/deleted/{entity}", self.deleted),
            ("POST", f"/rest/{entity}", self.create),
            ("POST", "/rest/batch", self.batch),
            ("PUT", "/rest/customers/by-reference/([^/]+)", self.upsert),
            ("GET", f"/rest/{entity}/([^/]+)", self.one),
            ("PATCH", f"/rest/{entity}/([^/]+)", self.update),
            ("DELETE", f"/rest/{entity}/([^/]+)", self.delete),
        ]
        try:
            self.shop.count_call()
            access.check(self.shop, call)
            for method, path, act in routes:
                match = re.fullmatch(path, call.path)
                if match and method == call.method:
                    return act(call, *map(unquote, match.groups()))
            raise Refusal(404, "no_such_place")
        except Refusal as refusal:
            return Answer(refusal.status, as_json(_refused(refusal)), _JSON | refusal.headers)

    def listed(self, call: Call, entity: str) -> Answer:
        self.shop.page()
        params = call.params
        rows = self.shop.listed(entity, moment_of(params.get("updated_since")), params.get("deleted") != "no")
        for name in ("stamp", "reference"):
            if name in params:
                rows = [row for row in rows if row.get(name) == params[name] and not row["deleted"]]
        if "ids" in params:
            rows = [row for row in rows if str(row["id"]) in params["ids"].split(",")]
        return self._paged(call, entity, rows)

    def _paged(self, call: Call, entity: str, rows: list[dict[str, Any]]) -> Answer:
        params, by = call.params, call.params.get("by", "cursor")
        limit = min(LARGEST_PAGE, int(params.get("limit", "100")))
        start, total = 0, len(rows)
        if by == "offset":
            start = int(params.get("offset", "0"))
        elif by == "page":
            start = (int(params.get("page", "1")) - 1) * limit
        elif params.get("cursor"):
            key = tuple(params["cursor"].split("~"))
            start = next((at for at, row in enumerate(rows) if place_of(row) > key), total)
        chosen = rows[start : start + limit]
        body: dict[str, Any] = {"items": [plain(row, self.shop.drifted(entity)) for row in chosen], "total": total}
        headers: dict[str, str] = {}
        if start + limit < total and by in ("page", "offset"):
            here = {"page": str(start // limit + 2)} if by == "page" else {"offset": str(start + limit)}
            body["next"] = f"{call.base}{call.path}?{urlencode({**params, **here})}"
        elif start + limit < total:
            following = "~".join(place_of(chosen[-1]))
            link = f"{call.base}{call.path}?{urlencode({**params, 'cursor': following})}"
            if by == "link":
                body["next"] = link
            elif by == "header":
                headers["Link"] = f'<{call.base}{call.path}>; rel="first", <{link}>; rel="next"'
            elif by == "cursor":
                body["cursor"] = following
        return _ok(body, headers)

    def deleted(self, call: Call, entity: str) -> Answer:
        since = moment_of(call.params.get("since"))
        gone = [one for one in self.shop.tombstones[entity] if since is None or one.at >= since]
        return _ok({"items": [{"id": one.id, "deleted_at": instant(one.at)} for one in gone]})

    def one(self, call: Call, entity: str, id_: str) -> Answer:  # noqa: ARG002 - as the routes have it
        record = self.shop.get(entity, id_)
        return _ok(plain(record, self.shop.drifted(entity)), {"ETag": f'"{record["etag"]}"'})

    def create(self, call: Call, entity: str) -> Answer:
        values = _body(call)
        record = self._once(call, lambda: self.shop.create(entity, values))
        return self._written(201, entity, record)

    def update(self, call: Call, entity: str, id_: str) -> Answer:
        values, version = _body(call), call.headers.get("if-match")
        record = self._once(call, lambda: self.shop.update(entity, id_, values, version))
        return self._written(200, entity, record)

    def delete(self, call: Call, entity: str, id_: str) -> Answer:
        self._once(call, lambda: self.shop.delete(entity, id_, call.headers.get("if-match")))
        return Answer(204)

    def upsert(self, call: Call, reference: str) -> Answer:
        record, new = self.shop.upsert("customers", reference, _body(call))
        return self._written(201 if new else 200, "customers", record)

    def batch(self, call: Call) -> Answer:
        """Each item by itself: {entity, action, id, version, key, values}. The answer is 200 whatever becomes of them."""
        items = _body(call).get("items")
        if not isinstance(items, list) or len(items) > LARGEST_PAGE:
            raise Refusal(400, "bad_batch")
        return _ok({"results": [self._item(item) for item in items]})

    def _item(self, item: dict[str, Any]) -> dict[str, Any]:
        entity, id_, values = item.get("entity", "customers"), str(item.get("id")), item.get("values") or {}
        acts: dict[str, Callable[[], Any]] = {
            "create": lambda: self.shop.create(entity, values),
            "update": lambda: self.shop.update(entity, id_, values, item.get("version")),
            "delete": lambda: self.shop.delete(entity, id_, item.get("version")),
        }
        try:
            record = self.shop.once(item.get("key"), item, acts[item["action"]])
        except Refusal as refusal:
            return {"status": refusal.status, **_refused(refusal)}
        except KeyError:
            return {"status": 400, "error": {"code": "bad_item"}}
        found = record or {"id": id_, "etag": None}
        return {"status": 200, "id": found["id"], "etag": found["etag"]}

    def _once(self, call: Call, act: Callable[[], Any]) -> Any:
        request = (call.method, call.path, call.body, call.headers.get("if-match"))
        return self.shop.once(call.headers.get("idempotency-key"), request, act)

    def _written(self, status: int, entity: str, record: dict[str, Any]) -> Answer:
        headers = _JSON | {"ETag": f'"{record["etag"]}"'}
        return Answer(status, as_json(plain(record, self.shop.drifted(entity))), headers)


def _refused(refusal: Refusal) -> dict[str, Any]:
    return {"error": {"code": refusal.code, "message": str(refusal)}}


def _ok(body: Any, headers: dict[str, str] | None = None) -> Answer:
    return Answer(200, as_json(body), _JSON | (headers or {}))


def _body(call: Call) -> dict[str, Any]:
    try:
        body = json.loads(call.body, parse_float=Decimal)
    except ValueError:
        raise Refusal(400, "bad_json") from None
    if not isinstance(body, dict):
        raise Refusal(400, "bad_json")
    return body


def moment_of(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        raise Refusal(400, "bad_instant") from None


def place_of(row: dict[str, Any]) -> tuple[str, str]:
    moment: datetime = row["updated_at"]
    return f"{moment.timestamp() * 1000:.0f}", str(row["id"])
