"""What `integration connector new` writes: a connector type that works against the sandbox as it is, to be changed bit by bit.

NAME stands for the type, CLASS for a Python name made of it, UPPER for an environment variable.
"""

import re
from collections.abc import Mapping

from connector_resources.errors import ConfigurationError

KINDS = ("rest", "soap", "graphql", "python")

_HEAD = """\
# The connector type NAME. It works against `integration sandbox --type KIND` as it is: change it piece by piece, and look
# after each whether it still holds: INTEGRATION_MANIFESTS=. integration connector check <number of the connector>
# Every key is shown in connector_resources/manifests/_template.yaml; `integration connector schema` tells your editor.
kind: KIND
name: NAME
title: NAME                       # begins the sentences that people read
"""
_FIELDS = """\
    key: id
    modified: updated_at            # the field that says when a record last changed
    version: etag                   # where a record holds its version token
    deleted: {path: deleted}        # where it says that it is deleted
    fields:                         # string, integer, decimal, boolean, date, instant, json
      id: {type: string, personal: false, nullable: false, computed: true}
      code: {type: string, personal: false}
      name: {type: string, personal: true, nullable: false}
      balance: {type: decimal, scale: 2, personal: false}
      updated_at: {type: instant, personal: false, computed: true}
"""
_REST = """\
auth:
  api_key: {in: header, name: X-Api-Key}      # or basic, oauth2, certificate
test: {path: /rest/me, account: account}
errors: {code: error.code}        # where an error's body holds its code

entities:
  customer:
FIELDS    read:
      path: /rest/customers
      params: {limit: "{size}", cursor: "{cursor}", updated_since: "{since}"}
      records: items
      paging: {by: cursor, next: cursor}
    by_id: {path: /rest/customers, params: {ids: "{ids}", limit: "{size}"}, records: items, many: 50}
    create:
      method: POST
      path: /rest/customers
      headers: {Idempotency-Key: "{intent}"}
      body: "{record}"
      id: id
      version: etag
    update: {method: PATCH, path: "/rest/customers/{id}", headers: {If-Match: "{version}"}, body: "{record}", version: etag}
    delete: {method: DELETE, path: "/rest/customers/{id}"}
"""
_SOAP = """\
wsdl: /soap?wsdl
auth:
  api_key: {in: header, name: X-Api-Key}      # or basic: {in: username_token}
test: {operation: WhoAmI, account: account}
errors:
  code: detail.ShopFault.code     # where a fault holds its code
  table:
    - {code: not_found, means: gone}
    - {code: deleted, means: gone}
    - {code: changed_meanwhile, means: moved}

entities:
  customer:
FIELDS    read:
      operation: Query
      arguments: {since: "{since}", size: "{size}"}
      records: records
      paging: {by: cursor, next: locator, then: {operation: QueryMore, arguments: {locator: "{cursor}"}}}
    by_id: {operation: Retrieve, arguments: {id: "{ids}"}, records: records, many: 50}
    create: {operation: Create, arguments: {record: "{record}", key: "{intent}"}, id: id, version: etag}
    update: {operation: Update, arguments: {id: "{id}", version: "{version}", record: "{record}"}, version: etag}
    delete: {operation: Delete, arguments: {id: "{id}"}}
"""
_GRAPHQL = """\
endpoint: /graphql
auth:
  api_key: {in: bearer}           # or oauth2, basic
test: {query: "{ me { account } }", account: me.account}
errors:
  table:                          # codes of errors (extensions.code) and of userErrors
    - {code: MAX_COST_EXCEEDED, means: cost}
    - {code: not_found, means: gone}
    - {code: deleted, means: gone}
    - {code: changed_meanwhile, means: moved}

entities:
  customer:
FIELDS    read:
      query: |
        query ($first: Int!, $after: String, $since: String) {
          customers(first: $first, after: $after, since: $since) {
            nodes { id code name balance etag deleted updated_at }
            pageInfo { hasNextPage endCursor }
          }
        }
      variables: {first: "{size}", after: "{cursor}", since: "{since}"}
      records: customers.nodes
      paging: {by: cursor, next: customers.pageInfo.endCursor, more: customers.pageInfo.hasNextPage}
    by_id:
      query: "query ($ids: [ID!]!) { customersByIds(ids: $ids) { id code name balance etag deleted updated_at } }"
      variables: {ids: "{ids}"}
      records: customersByIds
      many: 50
"""
_PYTHON = '''\
"""The connector type NAME: one class. It works against `integration sandbox --type rest` as it is; change it piece by piece.

Another package offers it as a type with an entry point, in its pyproject.toml:

    [project.entry-points."integration.connectors"]
    NAME = "MODULE:CLASS"
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from connector_resources.auth import StoredSecret, in_header
from connector_resources.contract import Capabilities, Connector, Entity, Field, FieldType, Given, Health, Page, Window
from connector_resources.errors import ConfigurationError, ContractError
from connector_resources.frames import arrow_type, page
from connector_resources.http import Http

CUSTOMER = Entity(
    name="customer",
    key="id",
    modified="updated_at",
    fields=(
        Field("id", FieldType.STRING, personal=False, writable=False, computed=True),
        Field("code", FieldType.STRING, personal=False),
        Field("name", FieldType.STRING, personal=True),
        Field("balance", FieldType.DECIMAL, personal=False, scale=2),
        Field("updated_at", FieldType.INSTANT, personal=False, writable=False, computed=True),
    ),
)


class CLASS(Connector):
    """url: where the API is · credentials: api_key"""

    type = "NAME"
    capabilities = Capabilities(delta_read=True, deletes=True)

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.http = Http("NAME", given.url, now=given.now, ca_file=given.ca_file, egress=given.egress)
        self.auth = StoredSecret("NAME", given.credentials, ("api_key",), in_header("X-Api-Key"))

    def close(self) -> None:
        self.http.close()

    def test(self) -> Health:
        return Health(str(self.get("/rest/me")["account"]))

    def entities(self) -> Sequence[str]:
        return ["customer"]

    def describe(self, entity: str) -> Entity:
        if entity != "customer":
            raise ConfigurationError(f"NAME has no entity '{entity}'; there is customer.")
        return CUSTOMER

    def read(self, entity: Entity, fields: Sequence[str], window: Window) -> Iterator[Page]:
        asked = {"updated_since": window.since.isoformat()} if window.since else {}
        cursor = ""
        while True:
            found = self.get("/rest/customers", {**asked, "cursor": cursor} if cursor else asked)
            rows = [row for row in found["items"] if window.deleted or not row["deleted"]]
            if rows or not found.get("cursor"):
                yield self.page(entity, fields, rows)
            cursor = found.get("cursor", "")
            if not cursor:
                return

    def read_ids(self, entity: Entity, fields: Sequence[str], ids: Sequence[str]) -> Iterator[Page]:
        for start in range(0, len(ids), 50):
            found = self.get("/rest/customers", {"ids": ",".join(ids[start : start + 50])})
            yield self.page(entity, fields, found["items"])

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        return self.http.get(self.http.url + path, params=params, auth=self.auth).json()

    def page(self, entity: Entity, fields: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Page:
        """Raises ConfigurationError naming a field that is not there, ContractError for a value of another type."""
        known = {field.name: field for field in entity.fields}
        unknown = next((name for name in fields if name not in known), None)
        if unknown:
            raise ConfigurationError(f"NAME has no field '{unknown}' on {entity.name}.")
        try:
            columns = {name: (arrow_type(known[name]), [typed(known[name], row[name]) for row in rows]) for name in fields}
            return page(
                [row["id"] for row in rows],
                columns,
                version=[row["etag"] for row in rows],
                modified=[datetime.fromisoformat(row["updated_at"]) for row in rows],
                deleted=[row["deleted"] for row in rows],
            )
        except (KeyError, ValueError, TypeError):
            raise ContractError(f"NAME sends {entity.name} in a form that the connector does not know.") from None


def typed(field: Field, value: Any) -> Any:
    if value is None or field.type is FieldType.STRING:
        return value
    return Decimal(value) if field.type is FieldType.DECIMAL else datetime.fromisoformat(value)
'''
_TEST = '''\
"""The connector type NAME under the conformance suite.

    UPPER_URL=http://127.0.0.1:8081 UPPER_CREDENTIALS=secret.json pytest TEST

With UPPER_SAMPLE naming a JSON file with the fields of one record, writing is tried, too: it makes records and deletes them.
"""

import json
import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from connector_resources.conformance import Held, Trial, Verdict, conform, sample_of
from connector_resources.contract import Connector, Given
IMPORT

HERE = Path(__file__).parent


def opened() -> Connector:
    credentials = json.loads(Path(os.environ["UPPER_CREDENTIALS"]).read_text())
    given = Given(os.environ["UPPER_URL"], "api_key", Held(credentials), lambda: datetime.now(UTC))
    return MADE(given)


@pytest.mark.skipif("UPPER_URL" not in os.environ, reason="UPPER_URL names no system to try it on")
@pytest.mark.parametrize("entity", ["customer"])
def test_it_conforms(entity: str) -> None:
    sample = None
    if "UPPER_SAMPLE" in os.environ:
        with opened() as connector:
            values = json.loads(Path(os.environ["UPPER_SAMPLE"]).read_text(), parse_float=Decimal)
            sample = sample_of(connector.describe(entity), values)
    failed = [f"{one.name}: {one.sentence}" for one in conform(Trial(opened, entity, sample)) if one.verdict is Verdict.FAILED]
    assert failed == []
'''


def skeleton(name: str, kind: str) -> Mapping[str, str]:
    """File name → text, of a new connector type and its test. Raises ConfigurationError for a name that cannot be one."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]{1,48}", name):
        raise ConfigurationError(
            f"'{name[:60]}' cannot be the name of a connector type: small letters, digits and hyphens, like my-shop."
        )
    module = name.replace("-", "_")
    words = {
        "CLASS": "".join(part.capitalize() for part in module.split("_")),
        "MODULE": module,
        "UPPER": module.upper(),
        "TEST": f"test_{module}.py",
        "NAME": name,
        "KIND": kind,
        "IMPORT": "from connector_resources.registry import connector_class",
        "MADE": f'connector_class("{name}", HERE)',
    }
    if kind == "python":
        words |= {"IMPORT": f"\nfrom {module} import {words['CLASS']}", "MADE": words["CLASS"]}
        main, text = f"{module}.py", _PYTHON
    else:
        main, text = (
            f"{name}.yaml",
            _HEAD + {"rest": _REST, "soap": _SOAP, "graphql": _GRAPHQL}[kind].replace("FIELDS", _FIELDS),
        )
    return {main: _filled(text, words), words["TEST"]: _filled(_TEST, words)}


def _filled(text: str, words: Mapping[str, str]) -> str:
    return re.sub(rf"\b({'|'.join(words)})(?=\b|_)", lambda match: words[match[1]], text)
