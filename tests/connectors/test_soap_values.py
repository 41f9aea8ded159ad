"""What XML Schema lets an answer say, and no other notation: attributes, and days with a zone."""

from typing import Any

import httpx
import pytest
from shopping import Visit, read

NAME = "sandbox-soap"
ID = "id: {type: string, personal: false, nullable: false, computed: true"


def answering(visit: Visit, records: str, *changes: tuple[str, str]) -> dict[str, dict[str, Any]]:
    """What a read makes of these records."""
    connector = visit(NAME, *changes)
    body = (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><QueryResponse>'
        f"{records}</QueryResponse></s:Body></s:Envelope>"
    )

    def meddle(request: httpx.Request, through: Any) -> Any:
        told = httpx.Response(200, headers={"Content-Type": "text/xml; charset=utf-8"}, text=body)
        return told if request.method == "POST" else through(request)

    connector.http.wire.meddle = meddle
    found: dict[str, dict[str, Any]] = read(connector)
    return found


@pytest.mark.parametrize("count", [1, 2])
def test_records_may_consist_of_attributes_alone(visit: Visit, count: int) -> None:
    records = "".join(f'<records id="{at}" name="Ann"/>' for at in range(count))
    found = answering(
        visit, records, (ID, f'{ID}, path: "@id"'), ("name: {type: string", 'name: {path: "@name", type: string')
    )
    assert {id_: one["name"] for id_, one in found.items()} == {str(at): "Ann" for at in range(count)}


def test_a_text_may_have_attributes_and_is_a_text_all_the_same(visit: Visit) -> None:
    record = '<records><id>1</id><name lang="de"/><balance currency="EUR">5.50</balance><notes nr="1">x</notes></records>'
    (one,) = answering(
        visit, record, ("city: {type: string,", "city: {type: string, writable: false,"), ("address.city", "balance.@currency")
    ).values()
    assert (one["name"], str(one["balance"]), one["city"], one["notes"]) == ("", "5.50", "EUR", "x")


def test_lines_of_a_document_may_consist_of_attributes_alone(visit: Visit) -> None:
    record = '<records><id>1</id><tags><tag sku="a"/><tag unit="kg">b</tag></tags></records>'
    (one,) = answering(visit, record, ("phone: {type: string", "phone: {path: tags.tag, type: json")).values()
    assert one["phone"] == '[{"@sku":"a"},"b"]'


@pytest.mark.parametrize("zone", ["", "Z", "+02:00", "-11:00"])
def test_a_day_with_a_zone_behind_it_is_that_day(visit: Visit, zone: str) -> None:
    """As JAXB writes it (XML Schema, 3.3.9)."""
    (one,) = answering(visit, f"<records><id>1</id><born>2026-03-01{zone}</born></records>").values()
    assert str(one["born"]) == "2026-03-01"
