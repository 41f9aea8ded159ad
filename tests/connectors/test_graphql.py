"""Through a GraphQL manifest: pages, costs, errors beside data, mutations and what they refuse."""

import re
from typing import Any

import pytest
from shopping import Visit, changes, manifest_text, python, read, rows

from connector_resources.contract import Outcome
from connector_resources.errors import AuthenticationError, ConfigurationError, ContractError
from connector_resources.manifest_parse import parse
from connector_resources.sandbox.generic import ShopSandbox

NAME = "sandbox-graphql"
RELAY = "paging: {by: cursor, next: customers.pageInfo.endCursor, more: customers.pageInfo.hasNextPage, size: 200}"
SHORT = (RELAY, RELAY.replace("200", "60"))
OFFSET = (
    (RELAY, "paging: {by: offset, total: customers.totalCount, size: 60}"),
    ("$after: String, $since", "$offset: Int, $since"),
    ("after: $after,", "offset: $offset,"),
    ('after: "{cursor}"', 'offset: "{offset}"'),
    (
        "pageInfo { hasNextPage endCursor }\n          }\n        }\n      variables",
        "totalCount\n          }\n        }\n      variables",
    ),
)
EDGES = (
    ("            nodes {\n", "            edges { node {\n"),
    ("            }\n            pageInfo", "            } }\n            pageInfo"),
    ("records: customers.nodes", "records: customers.edges.*.node"),
)
SEARCH = """\
    probe:
      query: "query ($stamp: String) { customers(first: 2, stamp: $stamp) { edges { node { id etag } } } }"
      variables: {stamp: "{intent}"}
      records: customers.edges.*.node
"""
STAMPED = (
    (
        "      refusals: createCustomer.userErrors\n",
        f"      refusals: createCustomer.userErrors\n      stamp: stamp\n{SEARCH}",
    ),
)


def written(connector: Any, *steps: dict[str, Any]) -> list[dict[str, Any]]:
    entity = connector.describe("customer")
    return python(connector.write(entity, changes(entity, *steps)))


@pytest.mark.parametrize("change", [(SHORT,), OFFSET, (SHORT, *EDGES)], ids=["relay", "offset", "edges"])
def test_every_page_is_read_to_the_last(visit: Visit, shop: ShopSandbox, change: Any) -> None:
    assert list(read(visit(NAME, *change))) == list(shop.state.records["customers"])
    assert len(shop.requests) == 9


def test_a_page_that_costs_too_much_is_asked_for_at_half_its_size(visit: Visit, shop: ShopSandbox) -> None:
    shop.state.highest_cost = 60
    assert len(read(visit(NAME))) == 520
    assert len(shop.requests) == 2 + 11  # 200 and 100 are too many, 50 are not


def test_a_cost_that_no_page_can_meet_ends_the_read(visit: Visit, shop: ShopSandbox) -> None:
    shop.state.highest_cost = 0
    with pytest.raises(ContractError, match="finds the query too costly"):
        read(visit(NAME))


@pytest.mark.parametrize("way", [(), EDGES], ids=["nodes", "edges"])
def test_a_field_that_an_error_points_at_is_absent_in_that_record_only(visit: Visit, shop: ShopSandbox, way: Any) -> None:
    shop.state.broken = {"00000003"}
    found = read(visit(NAME, *way))
    assert [id_ for id_, record in found.items() if "email" not in record] == ["00000003"]
    assert len(found) == 520


@pytest.mark.parametrize("path", ['["customers"]', '["customers", "nodes", 0]', '["customers", "pageInfo", "endCursor"]'])
def test_an_error_that_hides_records_ends_the_read(visit: Visit, shop: ShopSandbox, path: str) -> None:
    nodes = '{"customers": {"nodes": [null], "pageInfo": {}}}'
    shop.faults.add("status", status=200, body=f'{{"data": {nodes}, "errors": [{{"message": "canary", "path": {path}}}]}}')
    with pytest.raises(ContractError) as refusal:
        read(visit(NAME))
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize("path", ['["customers", "edges", 0]', '["customers", "edges", 0, "node"]', '["customers", "edges"]'])
def test_an_error_that_hides_a_wrapped_record_ends_the_read(visit: Visit, shop: ShopSandbox, path: str) -> None:
    edges = '{"customers": {"edges": [{"node": null}], "pageInfo": {}}}'
    shop.faults.add("status", status=200, body=f'{{"data": {edges}, "errors": [{{"message": "canary", "path": {path}}}]}}')
    with pytest.raises(ContractError, match=r"could not tell customers\.edges"):
        read(visit(NAME, *EDGES))


@pytest.mark.parametrize(
    "body", ["[]", "{}", '{"data": null}', '{"data": {"customers": null}}', '{"data": {"customers": {"nodes": 1}}}']
)
def test_an_answer_without_records_is_refused(visit: Visit, shop: ShopSandbox, body: str) -> None:
    shop.faults.add("status", status=200, body=body)
    with pytest.raises(ContractError):
        read(visit(NAME))


def test_a_field_that_is_gone_from_the_schema_is_told(visit: Visit, shop: ShopSandbox) -> None:
    shop.faults.add("hide", sobject="customers", field="email")
    with pytest.raises(ContractError, match="Sandbox shop does not understand our request"):
        read(visit(NAME))


def test_a_refused_key_is_an_authentication_error(visit: Visit, shop: ShopSandbox) -> None:
    shop.faults.add("status", status=401, body='{"errors": [{"extensions": {"code": "UNAUTHORIZED"}}]}', times=None)
    with pytest.raises(AuthenticationError):
        visit(NAME).test()


def test_mutations_answer_record_by_record(visit: Visit, shop: ShopSandbox) -> None:
    results = written(
        visit(NAME),
        {"action": "create", "values": {"name": "Acme", "code": "007", "points": 2**60, "address": '{"city": "Ulm"}'}},
        {"action": "create", "values": {"name": "Acme", "email": "nobody"}},
        {"action": "update", "id": "00000004", "version": "v0", "values": {"phone": "1"}},
        {"action": "update", "id": "00000004", "version": "v4", "values": {"phone": None}},
        {"action": "delete", "id": "77777777"},
        {"action": "delete", "id": "00000005"},
    )
    assert [one["outcome"] for one in results] == [
        Outcome.DONE, Outcome.REFUSED, Outcome.MOVED, Outcome.DONE, Outcome.DONE, Outcome.DONE,
    ]  # fmt: skip
    made = shop.state.records["customers"][results[0]["id"]]
    assert (made["code"], made["points"], made["address"]) == ("007", 2**60, {"city": "Ulm"})
    assert results[1]["message"].endswith("(invalid_email, input); correct it where it comes from.")
    assert results[3]["version"] == shop.state.records["customers"]["00000004"]["etag"]


@pytest.mark.parametrize(
    ("type_", "outcome", "why"),
    [
        ("changed_meanwhile", Outcome.MOVED, "has changed since it was read"),
        ("NameTaken", Outcome.REFUSED, r"does not take this record \(NameTaken\);"),
        ("Acme Inc. is canary", Outcome.REFUSED, "does not take this record;"),
    ],
)
def test_a_union_refuses_by_the_name_of_its_type(
    visit: Visit, shop: ShopSandbox, type_: str, outcome: Outcome, why: str
) -> None:
    """`... on Problem { code: __typename }`, as there is no list of errors."""
    connector = visit(NAME, ("refusals: updateCustomer.userErrors", "refusals: updateCustomer.code"))
    shop.faults.add("status", status=200, body=f'{{"data": {{"updateCustomer": {{"code": "{type_}"}}}}}}')
    (one,) = written(connector, {"action": "update", "id": "00000004", "version": "v4", "values": {"phone": "1"}})
    assert (one["outcome"], "canary" in one["message"]) == (outcome, False)
    assert re.search(why, one["message"])


def test_a_mutation_that_breaks_is_the_records_or_unknown(visit: Visit, shop: ShopSandbox) -> None:
    step = {"action": "create", "values": {"name": "Acme"}}
    shop.faults.add("status", status=200, body='{"data": null, "errors": [{"message": "x"}]}')
    assert written(visit(NAME), step)[0]["outcome"] == Outcome.REFUSED
    begun = '{"data": {"createCustomer": null}, "errors": [{"message": "x", "path": ["createCustomer"]%s}]}'
    for code, outcome in (("", Outcome.UNKNOWN), ("GATEWAY_TIMEOUT", Outcome.UNKNOWN), ("BAD_USER_INPUT", Outcome.REFUSED)):
        shop.faults.add("status", status=200, body=begun % (f', "extensions": {{"code": "{code}"}}' if code else ""))
        assert written(visit(NAME), step)[0]["outcome"] == outcome
    shop.faults.add("status", status=502, times=None)
    assert written(visit(NAME), step)[0]["outcome"] == Outcome.UNKNOWN


def test_a_mutation_that_breaks_says_what_the_manifest_could_say_of_it(visit: Visit, shop: ShopSandbox) -> None:
    step = {"action": "create", "values": {"name": "Acme"}}
    begun = '{"data": null, "errors": [{"message": "canary", "path": ["createCustomer"]%s}]}'
    for code, line in (("TAKEN", "{code: TAKEN, means: record}"), ("", "{status: 200, means: record}")):
        body = begun % (f', "extensions": {{"code": "{code}"}}' if code else "")
        shop.faults.add("status", status=200, body=body, times=2)
        (unclear,) = written(visit(NAME), step)
        assert unclear["outcome"] == Outcome.UNKNOWN
        assert f"say so in the manifest's errors.table: {line}." in unclear["message"]
        (refused,) = written(visit(NAME, ("  table:\n", f"  table:\n    - {line}\n")), step)
        assert refused["outcome"] == Outcome.REFUSED
        assert "canary" not in unclear["message"] + refused["message"]


def test_a_mutation_that_was_begun_is_not_refused_by_its_status(visit: Visit, shop: ShopSandbox) -> None:
    """Ariadne answers 400 wherever `data` is null: also where the record was made, and only its answer could not be told."""
    step = {"action": "create", "values": {"name": "Acme"}}
    begun = '{"data": null, "errors": [{"message": "canary", "path": ["createCustomer", "customer", "etag"]%s}]}'
    for code, line in (("BROKEN", "{code: BROKEN, means: record}"), ("", "{status: 400, means: record}")):
        body = begun % (f', "extensions": {{"code": "{code}"}}' if code else "")
        shop.faults.add("status", status=400, body=body, times=2)
        (unclear,) = written(visit(NAME), step)
        assert unclear["outcome"] == Outcome.UNKNOWN
        assert f"say so in the manifest's errors.table: {line}." in unclear["message"]
        assert written(visit(NAME, ("  table:\n", f"  table:\n    - {line}\n")), step)[0]["outcome"] == Outcome.REFUSED
    for body in ('{"errors": [{"message": "canary"}]}', "<html>", begun % ', "extensions": {"code": "BAD_USER_INPUT"}'):
        shop.faults.add("status", status=400, body=body)
        assert written(visit(NAME), step)[0]["outcome"] == Outcome.REFUSED


def test_a_lost_create_is_found_again_behind_relays_edges(visit: Visit) -> None:
    connector, step = visit(NAME, *STAMPED), {"action": "create", "values": {"name": "Acme"}, "intent": "i-1"}
    entity = connector.describe("customer")
    made = changes(entity, step)
    assert python(connector.probe(entity, made))[0]["outcome"] == Outcome.ABSENT
    (done,) = python(connector.write(entity, made))
    (found,) = python(connector.probe(entity, made))
    assert (found["outcome"], found["id"]) == (Outcome.DONE, done["id"])


@pytest.mark.parametrize("path", ['["customers", "edges"]', '["customers", "edges", 0, "node"]'])
def test_a_search_that_failed_in_part_calls_no_record_absent(visit: Visit, shop: ShopSandbox, path: str) -> None:
    edges = "null" if path.endswith('"edges"]') else '[{"node": null}]'
    data = f'{{"customers": {{"edges": {edges}}}}}'
    shop.faults.add("status", status=200, body=f'{{"data": {data}, "errors": [{{"message": "canary", "path": {path}}}]}}')
    connector = visit(NAME, *STAMPED)
    entity = connector.describe("customer")
    made = changes(entity, {"action": "create", "values": {"name": "Acme"}})
    assert python(connector.probe(entity, made))[0]["outcome"] == Outcome.UNKNOWN


@pytest.mark.parametrize(
    "error",
    [
        '{"message": "x", "path": ["createCustomer", "customer", "etag"]}',
        '{"message": "x", "path": ["createCustomer"], "extensions": {"code": "INTERNAL_SERVER_ERROR"}}',
    ],
    ids=["in what it gives back", "a server's own"],
)
def test_an_error_after_a_mutation_was_carried_out_refuses_nothing(visit: Visit, shop: ShopSandbox, error: str) -> None:
    shop.faults.add("status", status=200, body=f'{{"data": {{"createCustomer": null}}, "errors": [{error}]}}', times=None)
    assert written(visit(NAME), {"action": "create", "values": {"name": "Acme"}})[0]["outcome"] == Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("old", "new", "refusal"),
    [
        ("{ me { account } }", "{ me { account }", "test.query: not GraphQL: Syntax Error: Expected Name"),
        ("{ me { account } }", "query a { me } query b { me }", "test.query: expected one operation"),
        ('after: "{cursor}"', 'aftr: "{cursor}"', r"the query has no variable \$aftr; did you mean 'after'\?"),
        ('variables: {ids: "{ids}"}', "variables: {}", r"the query needs \$ids, and nothing gives it"),
        ("endpoint: /graphql\n", "", "'endpoint' is missing"),
    ],
)
def test_a_query_that_is_wrong_is_refused_when_the_manifest_is_read(old: str, new: str, refusal: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^x.yaml, line .*{refusal}"):
        parse("x.yaml", manifest_text(NAME, (old, new)))


ONE = (
    ("query ($ids: [ID!]!) {\n          customersByIds(ids: $ids)", "query ($id: ID!) {\n          customer(id: $id)"),
    (
        'variables: {ids: "{ids}"}\n      records: customersByIds\n      many: 100',
        'variables: {id: "{id}"}\n      records: customer',
    ),
)
ANN = '{"id": "7", "name": "Ann", "email": null}'


def by_ids(connector: Any, *ids: str) -> dict[str, dict[str, Any]]:
    return rows(connector.read_ids(connector.describe("customer"), ["name", "email"], ids))


def test_a_field_of_a_record_that_is_read_by_itself_is_absent_where_an_error_points_at_it(
    visit: Visit, shop: ShopSandbox
) -> None:
    error = '{"message": "x", "path": ["customer", "email"]}'
    shop.faults.add("status", status=200, body=f'{{"data": {{"customer": {ANN}}}, "errors": [{error}]}}')
    assert by_ids(visit(NAME, *ONE), "7") == {"7": {"name": "Ann"}}


@pytest.mark.parametrize("path", ['["customer"]', '["customer", "email"]'])
def test_a_record_that_could_not_be_told_is_not_taken_for_gone(visit: Visit, shop: ShopSandbox, path: str) -> None:
    body = f'{{"data": {{"customer": null, "more": 1}}, "errors": [{{"message": "canary", "path": {path}}}]}}'
    shop.faults.add("status", status=200, body=body)
    with pytest.raises(ContractError, match="could not tell customer"):
        by_ids(visit(NAME, *ONE), "7")


def test_an_error_points_at_its_record_behind_one_that_is_not_there(visit: Visit, shop: ShopSandbox) -> None:
    error = '{"message": "x", "path": ["customersByIds", 1, "email"]}'
    bob = '{"id": "8", "name": "Bob", "email": "bob@example.org"}'
    shop.faults.add("status", status=200, body=f'{{"data": {{"customersByIds": [null, {ANN}, {bob}]}}, "errors": [{error}]}}')
    assert by_ids(visit(NAME), "6", "7", "8") == {"7": {"name": "Ann"}, "8": {"name": "Bob", "email": "bob@example.org"}}
