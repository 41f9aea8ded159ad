"""The SOAP surface, at /soap (WSDL: /soap?wsdl): Query and QueryMore, writes, faults with a detail, UsernameToken."""

import hashlib
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any
from xml.sax.saxutils import escape

from lxml import etree

from connector_resources.sandbox.generic import access
from connector_resources.sandbox.generic.rest import moment_of, place_of
from connector_resources.sandbox.generic.shop import Record, Refusal, Shop
from connector_resources.sandbox.generic.wire import instant, plain
from connector_resources.sandbox.generic.wsdl import ADDRESS, SPACE, TYPES, wsdl
from connector_resources.sandbox.salesforce.exchange import Answer, Call

_SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_XML = {"Content-Type": "text/xml; charset=utf-8"}
_LARGEST = 200


class SoapSurface:
    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.operations: dict[str, Callable[[Mapping[str, Any]], str]] = {
            "WhoAmI": lambda _: "<account>shop@example.org</account>",
            "Query": self.query,
            "QueryMore": self.more,
            "Find": self.find,
            "Retrieve": self.retrieve,
            "GetDeleted": self.deleted,
            "Create": self.create,
            "Update": self.update,
            "Delete": self.delete,
        }

    def answer(self, call: Call) -> Answer:
        if call.method == "GET":
            return Answer(200, wsdl(f"{call.base}/soap"), _XML)
        try:
            self.shop.count_call()
            root = _parsed(call.body)
            self._check(call, root)
            name, given = _asked(root)
            if name not in self.operations:
                raise Refusal(400, "no_such_operation")
            return Answer(
                200, _envelope(f'<{name}Response xmlns="{SPACE}">{self.operations[name](given)}</{name}Response>'), _XML
            )
        except Refusal as refusal:
            if refusal.status in (401, 429):
                return Answer(refusal.status, "", refusal.headers)
            detail = f'<ShopFault xmlns="{SPACE}"><code>{refusal.code}</code></ShopFault>'
            text = f"<faultcode>soap:Client</faultcode><faultstring>{escape(str(refusal))}</faultstring>"
            return Answer(500, _envelope(f"<soap:Fault>{text}<detail>{detail}</detail></soap:Fault>"), _XML)

    def _check(self, call: Call, root: Any) -> None:
        """A UsernameToken in the header, or what any surface takes."""
        named = {etree.QName(one).localname: one for one in root.iter() if isinstance(one.tag, str)}
        if "UsernameToken" not in named:
            access.check(self.shop, call)
            return
        password = self.shop.credentials["password"]
        if named["Password"].get("Type", "").endswith("#PasswordDigest"):
            raw = b64decode(named["Nonce"].text) + named["Created"].text.encode() + password.encode()
            password = b64encode(hashlib.sha1(raw).digest()).decode()  # noqa: S324 - as WS-Security has it
        given = named["Password"].text or ""
        known = named["Username"].text == self.shop.credentials["username"]
        if not (known and secrets.compare_digest(given.encode(), password.encode())):
            raise Refusal(401, "unauthorized")

    def query(self, given: Mapping[str, Any]) -> str:
        return self._page(given.get("since") or "", min(_LARGEST, int(given["size"])), ())

    def more(self, given: Mapping[str, Any]) -> str:
        size, since, *key = str(given["locator"]).split("~")
        return self._page(since, int(size), tuple(key))

    def _page(self, since: str, size: int, key: tuple[str, ...]) -> str:
        self.shop.page()
        rows = self.shop.listed("customers", moment_of(since))
        start = next((at for at, row in enumerate(rows) if place_of(row) > key), len(rows)) if key else 0
        chosen = rows[start : start + size]
        end = start + size < len(rows)
        locator = f"<locator>{'~'.join((str(size), since, *place_of(chosen[-1])))}</locator>" if end else ""
        return self._records(chosen) + locator + f"<total>{len(rows)}</total>"

    def find(self, given: Mapping[str, Any]) -> str:
        rows = self.shop.listed("customers", deleted=False)
        return self._records([row for row in rows if row.get("stamp") == given["stamp"]])

    def retrieve(self, given: Mapping[str, Any]) -> str:
        ids = given.get("id", [])
        known = self.shop.records["customers"]
        return self._records([known[id_] for id_ in (ids if isinstance(ids, list) else [ids]) if id_ in known])

    def deleted(self, given: Mapping[str, Any]) -> str:
        since = moment_of(given.get("since"))
        gone = [one for one in self.shop.tombstones["customers"] if since is None or one.at >= since]
        return "".join(f"<deletions><id>{one.id}</id><at>{instant(one.at)}</at></deletions>" for one in gone)

    def create(self, given: Mapping[str, Any]) -> str:
        values = given.get("record") or {}
        record = self.shop.once(given.get("key"), ("create", values), lambda: self.shop.create("customers", values))
        return f"<id>{record['id']}</id><etag>{record['etag']}</etag>"

    def update(self, given: Mapping[str, Any]) -> str:
        id_, version, values = given["id"], given.get("version"), given.get("record") or {}
        request = ("update", id_, version, values)
        record = self.shop.once(given.get("key"), request, lambda: self.shop.update("customers", id_, values, version))
        return f"<etag>{record['etag']}</etag>"

    def delete(self, given: Mapping[str, Any]) -> str:
        id_, version = given["id"], given.get("version")
        self.shop.once(given.get("key"), ("delete", id_, version), lambda: self.shop.delete("customers", id_, version))
        return ""

    def _records(self, rows: list[Record]) -> str:
        drifted = self.shop.drifted("customers")
        return "".join(f"<records>{_fields(plain(row, drifted), (*TYPES, *drifted))}</records>" for row in rows)


def _fields(record: Record, names: tuple[str, ...]) -> str:
    return "".join(_written(name, record[name]) for name in dict.fromkeys(names) if name in record)


def _written(name: str, value: Any) -> str:
    if value is None:
        return f'<{name} xsi:nil="true"/>'
    if isinstance(value, dict):
        return f"<{name}>{_fields(value, ADDRESS if name == 'address' else tuple(value))}</{name}>"
    text = ("true" if value else "false") if isinstance(value, bool) else f"{value}"
    return f"<{name}>{escape(text)}</{name}>"


def _envelope(body: str) -> str:
    spaces = f'xmlns:soap="{_SOAP}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    return f'<?xml version="1.0" encoding="UTF-8"?><soap:Envelope {spaces}><soap:Body>{body}</soap:Body></soap:Envelope>'


def _parsed(body: bytes) -> Any:
    try:
        return etree.fromstring(body, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError:
        raise Refusal(400, "bad_xml") from None


def _asked(root: Any) -> tuple[str, dict[str, Any]]:
    body = root.find(f"{{{_SOAP}}}Body")
    if body is None or not len(body):
        raise Refusal(400, "bad_envelope")
    return etree.QName(body[0]).localname, _read(body[0]) or {}


def _read(element: Any) -> Any:
    if element.get(_NIL) == "true":
        return None
    if not len(element):
        return {} if etree.QName(element).localname in ("record", "WhoAmI") else element.text or ""
    found: dict[str, Any] = {}
    for child in element:
        name, value = etree.QName(child).localname, _read(child)
        if name in found:
            found[name] = [*(found[name] if isinstance(found[name], list) else [found[name]]), value]
        else:
            found[name] = value
    return found
