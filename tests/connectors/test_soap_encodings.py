"""How the XML of an answer is decoded: by its byte order mark, then by the charset of its Content-Type, then as it says itself
(RFC 7303, 3)."""

from typing import Any

import httpx
import pytest
from shopping import Visit

from connector_resources.errors import ContractError

BODY = (
    '<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body><GetAccountResponse>'
    "<account>Käte &amp; Söhne</account></GetAccountResponse></soap:Body></soap:Envelope>"
)


def declared(encoding: str) -> str:
    return f'<?xml version="1.0" encoding="{encoding}"?>{BODY}'


def account(visit: Visit, kind: str, body: bytes) -> str:
    connector = visit("sandbox-soap", method="basic")

    def meddle(request: httpx.Request, through: Any) -> Any:
        return (
            httpx.Response(200, headers={"Content-Type": kind}, content=body) if request.method == "POST" else through(request)
        )

    connector.http.wire.meddle = meddle
    found: str = connector.test().account
    return found


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/xml; charset=ISO-8859-1", BODY.encode("latin-1")),
        ('text/xml; action="x"; Charset="iso-8859-1"', BODY.encode("latin-1")),
        ("text/xml;charset=windows-1252", BODY.encode("cp1252")),
        ("text/xml; charset=iso-8859-1", declared("UTF-8").encode("latin-1")),
        ("text/xml; charset=utf-8", declared("ISO-8859-1").encode()),
        ("text/xml; charset=iso-8859-1", declared("iso-8859-1").encode("utf-8-sig")),
        ("text/xml; charset=utf-8", BODY.encode("utf-16")),
        ("text/xml", declared("ISO-8859-1").encode("latin-1")),
        ("text/xml", BODY.encode()),
        ("text/xml; charset=no-such", declared("ISO-8859-1").encode("latin-1")),
        ("text/xml; charset=utf-8", declared("ISO-8859-1").encode("latin-1")),
    ],
    ids=[
        "charset alone",
        "in quotes",
        "windows",
        "charset over declaration",
        "charset over declaration, utf-8",
        "mark over both",
        "mark over charset",
        "declaration",
        "nothing said",
        "a charset that is none",
        "a charset that does not fit",
    ],
)
def test_texts_are_decoded_as_the_answer_says(visit: Visit, kind: str, body: bytes) -> None:
    assert account(visit, kind, body) == "Käte & Söhne"


def test_what_is_no_xml_in_any_encoding_is_refused(visit: Visit) -> None:
    with pytest.raises(ContractError, match="instead of a SOAP envelope"):
        account(visit, "text/xml; charset=iso-8859-1", b"\xff\xfe<")
