"""The WSDL of the SOAP surface (document/literal, wrapped)."""

from collections.abc import Mapping

TYPES = {
    "id": "xs:string",
    "code": "xs:string",
    "reference": "xs:string",
    "name": "xs:string",
    "email": "xs:string",
    "phone": "xs:string",
    "notes": "xs:string",
    "points": "xs:long",
    "balance": "xs:decimal",
    "active": "xs:boolean",
    "born": "xs:date",
    "opened": "xs:dateTime",
    "address": "tns:Address",
    "stamp": "xs:string",
    "etag": "xs:string",
    "deleted": "xs:boolean",
    "updated_at": "xs:dateTime",
}
ADDRESS = ("street", "city", "zip", "country")
OPERATIONS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "WhoAmI": ((), ("account:xs:string",)),
    "Query": (("since:xs:dateTime?", "size:xs:int"), ("records:tns:Customer*", "locator:xs:string?", "total:xs:int")),
    "QueryMore": (("locator:xs:string",), ("records:tns:Customer*", "locator:xs:string?", "total:xs:int")),
    "Find": (("stamp:xs:string",), ("records:tns:Customer*",)),
    "Retrieve": (("id:xs:string*",), ("records:tns:Customer*",)),
    "GetDeleted": (("since:xs:dateTime?",), ("deletions:tns:Deletion*",)),
    "Create": (("record:tns:Customer", "key:xs:string?"), ("id:xs:string", "etag:xs:string")),
    "Update": (("id:xs:string", "version:xs:string?", "record:tns:Customer", "key:xs:string?"), ("etag:xs:string",)),
    "Delete": (("id:xs:string", "version:xs:string?", "key:xs:string?"), ()),
}
SPACE = "urn:sandbox:shop"


def wsdl(address: str) -> str:
    customer = "".join(f'<xs:element name="{n}" type="{kind}" minOccurs="0" nillable="true"/>' for n, kind in TYPES.items())
    place = "".join(f'<xs:element name="{name}" type="xs:string" minOccurs="0" nillable="true"/>' for name in ADDRESS)
    elements = "".join(_element(n, i) + _element(f"{n}Response", o) for n, (i, o) in OPERATIONS.items())
    messages = "".join(
        f'<message name="{part}"><part name="parameters" element="tns:{part}"/></message>'
        for name in OPERATIONS
        for part in (name, f"{name}Response")
    )
    ports = "".join(
        f'<operation name="{name}"><input message="tns:{name}"/><output message="tns:{name}Response"/></operation>'
        for name in OPERATIONS
    )
    literal = '<input><soap:body use="literal"/></input><output><soap:body use="literal"/></output>'
    bound = "".join(
        f'<operation name="{name}"><soap:operation soapAction="{SPACE}/{name}"/>{literal}</operation>' for name in OPERATIONS
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/"
    xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:tns="{SPACE}" targetNamespace="{SPACE}">
<types><xs:schema targetNamespace="{SPACE}" elementFormDefault="qualified">
<xs:complexType name="Address"><xs:sequence>{place}</xs:sequence></xs:complexType>
<xs:complexType name="Customer"><xs:sequence>{customer}</xs:sequence></xs:complexType>
<xs:complexType name="Deletion"><xs:sequence><xs:element name="id" type="xs:string"/>
<xs:element name="at" type="xs:dateTime"/></xs:sequence></xs:complexType>
{elements}</xs:schema></types>
{messages}<portType name="Shop">{ports}</portType>
<binding name="ShopBinding" type="tns:Shop"><soap:binding transport="http://schemas.xmlsoap.org/soap/http"/>{bound}</binding>
<service name="ShopService"><port name="ShopPort" binding="tns:ShopBinding"><soap:address location="{address}"/></port>
</service>
</definitions>"""


def _element(name: str, parts: tuple[str, ...]) -> str:
    inner = ""
    for part in parts:
        field, _, kind = part.partition(":")
        often = ' minOccurs="0"' if kind[-1] in "?*" else ""
        often += ' maxOccurs="unbounded"' if kind[-1] == "*" else ""
        inner += f'<xs:element name="{field}" type="{kind.rstrip("?*")}"{often}/>'
    return f'<xs:element name="{name}"><xs:complexType><xs:sequence>{inner}</xs:sequence></xs:complexType></xs:element>'
