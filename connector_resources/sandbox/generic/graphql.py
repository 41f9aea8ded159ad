"""The GraphQL surface, at /graphql: connections and offsets, mutations with userErrors, costs, errors beside data."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from graphql import GraphQLError, GraphQLSchema, build_schema, graphql_sync

from connector_resources.sandbox.generic import access
from connector_resources.sandbox.generic.rest import moment_of, place_of
from connector_resources.sandbox.generic.shop import Record, Refusal, Shop
from connector_resources.sandbox.generic.wire import as_json, instant, plain
from connector_resources.sandbox.salesforce.exchange import Answer, Call

_JSON = {"Content-Type": "application/json; charset=utf-8"}
_FIELDS = {
    "id": "ID!",
    "code": "String",
    "reference": "String",
    "name": "String",
    "email": "String",
    "phone": "String",
    "notes": "String",
    "points": "Number",
    "balance": "Number",
    "active": "Boolean",
    "born": "String",
    "opened": "String",
    "address": "Json",
    "tags": "Json",
    "stamp": "String",
    "etag": "String",
    "deleted": "Boolean",
    "updated_at": "String",
}
_READ_ONLY = ("id", "etag", "deleted", "updated_at")
_SDL = """
scalar Number
scalar Json
type Customer { %(fields)s }
input CustomerInput { %(inputs)s }
type PageInfo { hasNextPage: Boolean! endCursor: String }
type CustomerEdge { node: Customer }
type Customers { edges: [CustomerEdge]! nodes: [Customer]! pageInfo: PageInfo! totalCount: Int! }
type Tombstone { id: ID! deleted_at: String! }
type Me { account: String! }
type UserError { code: String! field: [String!] message: String! }
type Written { customer: Customer userErrors: [UserError!]! }
type Query {
  me: Me!
  customers(first: Int!, after: String, offset: Int, since: String, stamp: String): Customers!
  customersByIds(ids: [ID!]!): [Customer]!
  deletedCustomers(since: String): [Tombstone!]!
}
type Mutation {
  createCustomer(input: CustomerInput!, key: String): Written!
  updateCustomer(id: ID!, input: CustomerInput!, version: String, key: String): Written!
  deleteCustomer(id: ID!, version: String, key: String): Written!
}
"""


class GraphQLSurface:
    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def answer(self, call: Call) -> Answer:
        try:
            self.shop.count_call()
            access.check(self.shop, call)
        except Refusal as refusal:
            body = {"errors": [{"message": str(refusal), "extensions": {"code": refusal.code.upper()}}]}
            return Answer(refusal.status, as_json(body), _JSON | refusal.headers)
        try:
            asked = json.loads(call.body, parse_float=Decimal)
            query, variables = str(asked["query"]), asked.get("variables") or {}
        except (ValueError, KeyError, TypeError):
            return Answer(400, as_json({"errors": [{"message": "no query"}]}), _JSON)
        drifted = self.shop.drifted("customers")
        with self.shop.lock:
            done = graphql_sync(_schema(drifted, self.shop), query, root_value=Root(self.shop), variable_values=variables)
        status = 400 if done.data is None and not any(one.path for one in done.errors or ()) else 200
        return Answer(status, as_json(done.formatted), _JSON)


def _schema(drifted: Mapping[str, str], shop: Shop) -> GraphQLSchema:
    fields = {name: kind for name, kind in _FIELDS.items() if drifted.get(name) != "hide"}
    retyped = {name: "Json" if drifted.get(name) == "retype" else kind for name, kind in fields.items()}
    inputs = {name: kind for name, kind in fields.items() if name not in _READ_ONLY}
    schema = build_schema(
        _SDL
        % {
            "fields": " ".join(f"{name}: {kind}" for name, kind in retyped.items()),
            "inputs": " ".join(f"{name}: {kind}" for name, kind in inputs.items()),
        }
    )

    def email(record: Record, _: Any) -> Any:
        if record["id"] in shop.broken:
            raise GraphQLError("the mail server is away", extensions={"code": "FIELD_UNAVAILABLE"})
        return record.get("email")

    customer: Any = schema.type_map["Customer"]
    if "email" in customer.fields:
        customer.fields["email"].resolve = email
    return schema


class Root:
    """What the queries and mutations of the schema do, by their names."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.me = {"account": "shop@example.org"}

    def customers(self, _: Any, first: int, after: str | None = None, offset: int | None = None, **others: Any) -> Any:
        if first > self.shop.highest_cost:
            raise GraphQLError("too many nodes", extensions={"code": "MAX_COST_EXCEEDED"})
        self.shop.page()
        rows = self.shop.listed("customers", moment_of(others.get("since")))
        if others.get("stamp"):
            rows = [row for row in rows if row.get("stamp") == others["stamp"] and not row["deleted"]]
        start = offset or 0
        if after:
            start = next((at for at, row in enumerate(rows) if place_of(row) > tuple(after.split("~"))), len(rows))
        nodes = [self._plain(row) for row in rows[start : start + first]]
        end = "~".join(place_of(rows[start + len(nodes) - 1])) if nodes else None
        page = {"hasNextPage": start + first < len(rows), "endCursor": end}
        return {"edges": [{"node": one} for one in nodes], "nodes": nodes, "pageInfo": page, "totalCount": len(rows)}

    def customersByIds(self, _: Any, ids: list[str]) -> Any:  # noqa: N802 - the schema's name
        known = self.shop.records["customers"]
        return [self._plain(known[id_]) if id_ in known else None for id_ in ids]

    def deletedCustomers(self, _: Any, since: str | None = None) -> Any:  # noqa: N802 - the schema's name
        start = moment_of(since)
        gone = self.shop.tombstones["customers"]
        return [{"id": one.id, "deleted_at": instant(one.at)} for one in gone if start is None or one.at >= start]

    def createCustomer(self, _: Any, input: Record, key: str | None = None) -> Any:  # noqa: A002, N802 - the schema's names
        return self._written(key, ("create", input), lambda: self.shop.create("customers", input))

    def updateCustomer(  # noqa: N802 - the schema's name
        self,
        _: Any,
        id: str,  # noqa: A002 - the schema's name
        input: Record,  # noqa: A002 - the schema's name
        version: str | None = None,
        key: str | None = None,
    ) -> Any:
        request = ("update", id, input, version)
        return self._written(key, request, lambda: self.shop.update("customers", id, input, version))

    def deleteCustomer(  # noqa: N802 - the schema's name
        self,
        _: Any,
        id: str,  # noqa: A002 - the schema's name
        version: str | None = None,
        key: str | None = None,
    ) -> Any:
        return self._written(key, ("delete", id, version), lambda: self.shop.delete("customers", id, version))

    def _written(self, key: str | None, request: object, act: Any) -> Any:
        try:
            record = self.shop.once(key, request, act)
        except Refusal as refusal:
            return {"customer": None, "userErrors": [{"code": refusal.code, "field": ["input"], "message": str(refusal)}]}
        return {"customer": self._plain(record) if record else None, "userErrors": []}

    def _plain(self, record: Record) -> Record:
        return plain(record, self.shop.drifted("customers"))
