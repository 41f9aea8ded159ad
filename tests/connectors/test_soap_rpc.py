"""SOAP in RPC style, literal and encoded (SOAP 1.1, 5 and 7): parts without elements, arrays, types said in the answer."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest
from shopping import read, written

from connector_resources.conformance import Held
from connector_resources.contract import Connector, Given, Outcome
from connector_resources.manifest_parse import parse
from connector_resources.registry import manifest_class

MANIFEST = """\
kind: soap
name: rpc
title: RPC
wsdl: /service?wsdl
auth: {none: {}}
test: {operation: find, account: return.0.id}
entities:
  customer:
    key: id
    fields:
      id: {type: string, computed: true}
      name: {type: string}
      born: {type: date}
      balance: {type: decimal, scale: 2}
    read: {operation: find, records: return.item}
    create: {operation: create, arguments: {customer: "{record}"}, id: return}
"""
SOAP, ENCODING, XSI = (
    "http://schemas.xmlsoap.org/soap/envelope/",
    "http://schemas.xmlsoap.org/soap/encoding/",
    "http://www.w3.org/2001/XMLSchema-instance",
)
ARRAYS = {
    "literal": '<sequence><element name="item" type="t:Customer" minOccurs="0" maxOccurs="unbounded"/></sequence>',
    "encoded": '<complexContent><restriction base="e:Array"><attribute ref="e:arrayType" w:arrayType="t:Customer[]"/>'
    "</restriction></complexContent>",
}
FIELDS = "".join(
    f'<element name="{name}" type="{kind}" nillable="true" minOccurs="0"/>'
    for name, kind in (("id", "string"), ("name", "e:string"), ("born", "date"), ("balance", "decimal"))
)


def wsdl(use: str) -> str:
    body = f'<s:body use="{use}" namespace="urn:t" encodingStyle="{ENCODING}"/>'
    bound = "".join(
        f'<w:operation name="{name}"><s:operation soapAction="{name}"/><w:input>{body}</w:input><w:output>{body}</w:output>'
        "</w:operation>"
        for name in ("find", "create")
    )
    offered = "".join(
        f'<w:operation name="{name}"><w:input message="t:{name}"/><w:output message="t:{name}Out"/></w:operation>'
        for name in ("find", "create")
    )
    return f"""<w:definitions xmlns:w="http://schemas.xmlsoap.org/wsdl/" xmlns:s="http://schemas.xmlsoap.org/wsdl/soap/"
  xmlns="http://www.w3.org/2001/XMLSchema" xmlns:e="{ENCODING}" xmlns:t="urn:t" targetNamespace="urn:t">
<w:types><schema targetNamespace="urn:t"><import namespace="{ENCODING}"/>
<complexType name="Customer"><sequence>{FIELDS}</sequence></complexType>
<complexType name="Customers">{ARRAYS[use]}</complexType></schema></w:types>
<w:message name="find"/><w:message name="findOut"><w:part name="return" type="t:Customers"/></w:message>
<w:message name="create"><w:part name="customer" type="t:Customer"/></w:message>
<w:message name="createOut"><w:part name="return" type="string"/></w:message>
<w:portType name="P">{offered}</w:portType>
<w:binding name="B" type="t:P"><s:binding style="rpc" transport="http://schemas.xmlsoap.org/soap/http"/>{bound}</w:binding>
<w:service name="S"><w:port name="P" binding="t:B"><s:address location="http://127.0.0.1:9/service"/></w:port></w:service>
</w:definitions>"""


def opened(use: str, answer: str, sent: list[str]) -> Any:
    """A connector whose service gives this answer to every operation."""
    kind: type[Connector] = manifest_class(parse("rpc.yaml", MANIFEST))
    connector: Any = kind(Given("http://127.0.0.1:9", "none", Held({}), lambda: datetime.now(UTC)))

    def meddle(request: httpx.Request, _: Any) -> httpx.Response:
        sent.append(request.content.decode())
        text = wsdl(use) if request.method == "GET" else f'<s:Envelope xmlns:s="{SOAP}"><s:Body>{answer}</s:Body></s:Envelope>'
        return httpx.Response(200, headers={"Content-Type": "text/xml"}, text=text)

    connector.http.wire.meddle = meddle
    return connector


@pytest.mark.parametrize("use", ["literal", "encoded"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_arrays_of_an_rpc_answer_are_read(use: str, count: int) -> None:
    items = "".join(
        f'<item i:type="t:Customer"><id i:type="x:string">{at}</id><name i:nil="true"/><born>2026-03-01</born>'
        "<balance>0.10</balance></item>"
        for at in range(count)
    )
    answer = (
        f'<t:findResponse xmlns:t="urn:t" xmlns:i="{XSI}" xmlns:e="{ENCODING}" s:encodingStyle="{ENCODING}">'
        f'<return i:type="e:Array" e:arrayType="t:Customer[{count}]">{items}</return></t:findResponse>'
    )
    with opened(use, answer, []) as connector:
        found = read(connector)
    one = {"name": None, "born": date(2026, 3, 1), "balance": Decimal("0.10")}
    assert found == {str(at): {"id": str(at), **one} for at in range(count)}


@pytest.mark.parametrize("use", ["literal", "encoded"])
def test_a_record_is_written_as_a_part(use: str) -> None:
    sent: list[str] = []
    with opened(use, '<t:createResponse xmlns:t="urn:t"><return>7</return></t:createResponse>', sent) as connector:
        (made,) = written(connector, {"action": "create", "values": {"name": "Ann", "balance": Decimal("0.10"), "born": None}})
    assert (made["outcome"], made["id"]) == (Outcome.DONE, "7")
    assert re.search(r"<customer><name>Ann</name><born [^>]*nil=.true./><balance>0\.10</balance></customer>", sent[-1])
