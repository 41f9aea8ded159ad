"""Through a WSDL and a SOAP manifest: pages, texts of every type, faults, sign-in, and XML that is not to be trusted."""

from typing import Any

import pytest
from shopping import Safe, Visit, changes, python, read

from connector_resources.contract import Outcome
from connector_resources.errors import (
    AuthenticationError,
    ConfigurationError,
    ContractError,
    IntegrationError,
    NetworkError,
    SystemUnavailable,
)
from connector_resources.sandbox.generic import ShopSandbox
from connector_resources.sandbox.generic.wsdl import wsdl

NAME = "sandbox-soap"
SMALL = ("size: 200, then", "size: 60, then")
XML = {"Content-Type": "text/xml; charset=utf-8"}
SOAP = "http://schemas.xmlsoap.org/soap/envelope/"


def envelope(body: str, before: str = "") -> str:
    return f'<?xml version="1.0"?>{before}<soap:Envelope xmlns:soap="{SOAP}"><soap:Body>{body}</soap:Body></soap:Envelope>'


def fault(code: str, text: str = "canary", detail: str = "") -> dict[str, Any]:
    body = f"<soap:Fault><faultcode>{code}</faultcode><faultstring>{text}</faultstring>{detail}</soap:Fault>"
    return {"kind": "status", "status": 500, "body": envelope(body), "headers": XML, "method": "POST"}


def written(connector: Any, *steps: dict[str, Any]) -> list[dict[str, Any]]:
    entity = connector.describe("customer")
    return python(connector.write(entity, changes(entity, *steps)))


def test_query_and_query_more_reach_the_last_record(visit: Visit, shop: ShopSandbox) -> None:
    assert list(read(visit(NAME, SMALL, method="basic"))) == list(shop.state.records["customers"])
    posts = [request for request in shop.requests if request.method == "POST"]
    assert (len(posts), len(shop.requests)) == (9, 10)  # and the WSDL once


@pytest.mark.parametrize("records", ["recrods", "QueryResult.records", "records.Customer"], ids=["typo", "outside", "inside"])
def test_a_place_that_the_wsdl_does_not_know_is_not_taken_for_an_empty_list(visit: Visit, records: str) -> None:
    connector = visit(
        NAME, ("      records: records\n      paging: {by: cursor", f"      records: {records}\n      paging: {{by: cursor")
    )
    with pytest.raises(ContractError, match=f"without a list of records at {records}"):
        read(connector)


@pytest.mark.parametrize("count", [0, 1])
def test_a_list_of_one_or_none_is_a_list(visit: Visit, shop: ShopSandbox, count: int) -> None:
    for id_ in list(shop.state.records["customers"])[count:]:
        shop.state.purge("customers", id_)
    assert len(read(visit(NAME))) == count


def test_texts_become_what_the_manifest_says(visit: Visit, shop: ShopSandbox) -> None:
    found, kept = read(visit(NAME)), shop.state.records["customers"]
    for id_ in ("00000001", "00000002", "00000003"):
        same = ("code", "name", "notes", "points", "balance", "active", "born", "opened", "updated_at")
        assert {name: found[id_][name] for name in same} == {name: kept[id_][name] for name in same}
    assert found["00000001"]["city"] == kept["00000001"]["address"]["city"]
    assert found["00000007"]["phone"] is None
    assert "phone" not in found["00000013"]


@pytest.mark.parametrize("sign_in", ["username_token", "username_token_digest", "header"])
def test_user_name_and_password_go_where_the_manifest_says(visit: Visit, sign_in: str) -> None:
    assert visit(NAME, ("in: username_token", f"in: {sign_in}"), method="basic").test().account == "shop@example.org"


def test_a_password_that_changes_in_the_middle_of_a_read_is_fetched_again(visit: Visit, shop: ShopSandbox) -> None:
    shop.faults.add("revoke", method="POST", after=1)
    assert len(read(visit(NAME, SMALL, method="basic"))) == 520


def test_a_wrong_password_is_an_authentication_error(visit: Visit, shop: ShopSandbox) -> None:
    store = Safe(shop, (), {"username": "shop", "password": "canary"})
    with pytest.raises(AuthenticationError) as refusal:
        visit(NAME, method="basic", store=store).test()
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("soap:Client", ContractError),
        ("soap:Server", SystemUnavailable),
        ("wsse:FailedAuthentication", AuthenticationError),
    ],
)
def test_a_fault_means_what_its_code_says_and_is_not_quoted(
    visit: Visit, shop: ShopSandbox, code: str, kind: type[IntegrationError]
) -> None:
    shop.faults.add(**fault(code), times=None)
    with pytest.raises(kind) as refusal:
        read(visit(NAME))
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize(
    ("status", "code", "subcode"),
    [(401, "SOAP-ENV:Client", "AuthenticationFailure"), (500, "env:Sender", "wsse:FailedAuthentication")],
)
def test_a_sign_in_that_is_refused_by_status_or_by_a_finer_code(
    visit: Visit, shop: ShopSandbox, status: int, code: str, subcode: str
) -> None:
    body = (
        f'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><s:Code><s:Value>{code}</s:Value>'
        f"<s:Subcode><s:Value>{subcode}</s:Value></s:Subcode></s:Code><s:Reason><s:Text>canary</s:Text></s:Reason>"
        "</s:Fault></s:Body></s:Envelope>"
    )
    shop.faults.add("status", method="POST", status=status, headers={"Content-Type": "text/xml"}, body=body, times=None)
    with pytest.raises(AuthenticationError) as refusal:
        read(visit(NAME))
    assert "canary" not in str(refusal.value)


def test_a_fault_code_may_be_finer_than_its_side(visit: Visit, shop: ShopSandbox) -> None:
    """SOAP 1.1, 4.4.1."""
    shop.faults.add(**fault("soap:Client.InvalidData"))
    assert written(visit(NAME), {"action": "create", "values": {"name": "x"}})[0]["outcome"] == Outcome.REFUSED
    shop.faults.add(**fault("soap:Client.Authentication"), times=None)
    with pytest.raises(AuthenticationError):
        read(visit(NAME))


def test_a_fault_code_is_known_without_the_prefix_that_an_answer_gives_it(visit: Visit, shop: ShopSandbox) -> None:
    connector = visit(
        NAME, ("code: detail.ShopFault.code", "code: faultcode"), ("{code: changed_meanwhile,", "{code: Client.Late,")
    )
    shop.faults.add(**fault("soap:Client.Late"))
    change = {"action": "update", "id": "00000004", "version": "v4", "values": {"phone": "1"}}
    assert written(connector, change)[0]["outcome"] == Outcome.MOVED


def test_a_fault_of_the_server_is_tried_again(visit: Visit, shop: ShopSandbox) -> None:
    shop.faults.add(**fault("soap:Server"))
    assert len(read(visit(NAME))) == 520


def test_writes_answer_record_by_record(visit: Visit, shop: ShopSandbox) -> None:
    results = written(
        visit(NAME),
        {"action": "create", "values": {"name": "Ünï <&> 🎈", "code": "007", "points": 2**60, "city": "Ulm"}},
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
    assert (made["name"], made["code"], made["points"], made["address"]["city"]) == ("Ünï <&> 🎈", "007", 2**60, "Ulm")
    assert "(invalid_email, /soap)" in results[1]["message"]
    assert shop.state.records["customers"]["00000004"]["phone"] is None


def test_a_text_that_xml_cannot_hold_is_refused_for_its_record(visit: Visit) -> None:
    (result,) = written(visit(NAME), {"action": "create", "values": {"name": "bell \x07"}})
    assert result["outcome"] == Outcome.REFUSED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("operation: WhoAmI", "operation: WhoAml"), r"has no operation 'WhoAml'; did you mean 'WhoAmI'\?"),
        (("{operation: WhoAmI,", "{operation: WhoAmI, arguments: {who: me},"), r"do not fit its WSDL \(TypeError\)"),
        (("wsdl: /soap?wsdl", "wsdl: /soap?wsdl\nservice: Other"), "cannot be used"),
        (("wsdl: /soap?wsdl", "wsdl: /rest/me"), "cannot be used"),
    ],
)
def test_a_manifest_that_does_not_fit_its_wsdl_is_told(visit: Visit, change: tuple[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        visit(NAME, change).test()


def test_the_service_may_stand_elsewhere_than_its_wsdl_says(visit: Visit, shop: ShopSandbox) -> None:
    assert visit(NAME, ("wsdl: /soap?wsdl", "wsdl: /soap?wsdl\nendpoint: /soap/v2")).test()
    assert shop.requests[-1].target == "/soap/v2"


@pytest.mark.parametrize(
    "place", ["http://evil.example/x.xsd", "file:///etc/passwd", "//evil.example/x.xsd", "http://localhost/x.xsd"]
)
def test_a_schema_at_another_place_is_not_fetched(visit: Visit, shop: ShopSandbox, place: str) -> None:
    text = f"""<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:xs="http://www.w3.org/2001/XMLSchema"><types>
        <xs:schema><xs:import namespace="urn:x" schemaLocation="{place}"/></xs:schema></types></definitions>"""
    shop.faults.add("status", status=200, body=text, headers=XML, path="wsdl")
    with pytest.raises(ContractError, match="refers to a schema at another host, which is not fetched"):
        visit(NAME).test()


def test_a_service_at_another_host_gets_no_credentials(visit: Visit, shop: ShopSandbox) -> None:
    shop.faults.add("status", status=200, body=wsdl("https://evil.example/soap"), headers=XML, path="wsdl")
    with pytest.raises(ContractError, match="another host"):
        visit(NAME).test()


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("where", ["wsdl", "answer"])
def test_xml_with_entities_is_refused(visit: Visit, shop: ShopSandbox, where: str) -> None:
    body = envelope("<a>&b;&c;</a>", BOMB)
    method = "GET" if where == "wsdl" else "POST"
    shop.faults.add("status", status=200, body=body, headers=XML, method=method)
    with pytest.raises(ContractError, match="a DTD, which is refused"):
        visit(NAME).test()


@pytest.mark.parametrize("body", ["", "<html/>", "no xml", '{"a": 1}'])
def test_an_answer_that_is_no_envelope_is_refused(visit: Visit, shop: ShopSandbox, body: str) -> None:
    shop.faults.add("status", status=200, body=body, method="POST", times=None)
    with pytest.raises(ContractError):
        read(visit(NAME))


@pytest.mark.parametrize("kind", ["drop", "lose", "cut"])
def test_a_read_is_repeated_and_a_write_without_a_key_is_not(visit: Visit, shop: ShopSandbox, kind: Any) -> None:
    shop.faults.add(kind, method="POST")
    assert len(read(visit(NAME))) == 520
    shop.faults.add(kind, method="POST")
    connector = visit(NAME, ('record: "{record}", key: "{intent}"}, id: id', 'record: "{record}"}, id: id'))
    before = len(shop.requests)
    assert written(connector, {"action": "create", "values": {"name": "Acme"}})[0]["outcome"] == Outcome.UNKNOWN
    assert len(shop.requests) - before == 2  # the WSDL and one try


def test_nobody_there_is_a_network_error(visit: Visit) -> None:
    with ShopSandbox(customers=0, orders=0) as gone:
        url = gone.url
    with pytest.raises(NetworkError):
        visit(NAME, url=url).test()


def test_a_retyped_field_is_refused_by_name(visit: Visit, shop: ShopSandbox) -> None:
    shop.faults.add("retype", sobject="customers", field="points")
    with pytest.raises(ContractError, match=r"customer\.points is no integer"):
        read(visit(NAME))
