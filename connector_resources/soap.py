"""SOAP, as a WSDL and a manifest describe it: one operation a verb.

zeep reads the WSDL and writes the requests; they go out through our own HTTP floor. Answers are read here, as nested texts
(XML knows no other types), so that the manifest alone says what a value is. An element that is nil is null, one that is not
there is absent. Documents with a DTD are refused, and so is a schema from another host.
"""

import codecs
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import partial
from typing import Any

import httpx
from lxml import etree
from zeep import Client
from zeep import Settings as ZeepSettings
from zeep.exceptions import Error as ZeepError
from zeep.wsse.username import UsernameToken
from zeep.xsd import Nil

from connector_resources import templates
from connector_resources.answers import Answer, Judge, Told, status_error
from connector_resources.auth import StoredSecret, as_basic
from connector_resources.errors import AuthenticationError, ConfigurationError, ContractError, IntegrationError
from connector_resources.generic import ManifestConnector
from connector_resources.lined_yaml import suggestion
from connector_resources.manifest import Call
from connector_resources.paging import Reply
from connector_resources.refusals import Nonsense, Refused, shown_code
from connector_resources.soap_places import lacks
from connector_resources.values import MarkedText, at

_ENVELOPES = ("http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope")
_CHARSET = re.compile(r""";\s*charset\s*=\s*["']?([\w.:+-]+)""", re.IGNORECASE)
_ENCODING = "http://schemas.xmlsoap.org/soap/encoding/"
_PLAIN = ("string", "boolean", "int", "integer", "long", "short", "float", "double", "decimal", "date", "dateTime")
_ENCODED = f"""<schema xmlns="http://www.w3.org/2001/XMLSchema" xmlns:e="{_ENCODING}" targetNamespace="{_ENCODING}">
<attribute name="arrayType" type="string"/>
<complexType name="Array">
<sequence><any minOccurs="0" maxOccurs="unbounded" processContents="lax"/></sequence>
<attribute ref="e:arrayType"/>
</complexType>
{"".join(f'<simpleType name="{name}"><restriction base="{name}"/></simpleType>' for name in _PLAIN)}
</schema>""".encode()  # as much of SOAP 1.1's encoding (5) as WSDLs in RPC style refer to, mostly without saying where it is
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_SIGN_IN = frozenset(  # WS-Security 1.1, 12; the last one is SOAP 1.1's own example
    ("FailedAuthentication", "InvalidSecurity", "InvalidSecurityToken", "FailedCheck", "Authentication")
)


class SoapConnector(ManifestConnector):
    textual = True
    _service: Any = None
    _secret: StoredSecret | None = None

    def exchange(self, call: Call, values: Mapping[str, Any], url: str | None, about_record: bool, again: bool) -> Reply:
        if url:
            raise ContractError(f"{self.manifest.title} pages by links, which a SOAP operation cannot follow; use a cursor.")
        arguments = {name: _given(value) for name, value in templates.fill(call.body or {}, values).items()}
        try:
            answer = self._sent(call.operation, arguments, values, about_record, again)
        except AuthenticationError:
            if self._secret is None or not self._secret.changed():
                raise
            answer = self._sent(call.operation, arguments, values, about_record, again)
        operation = self._opened()[0]._binding._operations[call.operation]
        return Reply(self.content(answer), answer.headers, path=answer.path, lacks=partial(lacks, operation))

    def _sent(
        self, name: str, arguments: Mapping[str, Any], values: Mapping[str, Any], about_record: bool, again: bool
    ) -> Answer:
        service, wire = self._opened()
        operations = service._binding._operations
        if name not in operations:
            raise ConfigurationError(
                f"The WSDL of {self.manifest.title} has no operation '{name}'{suggestion(name, operations)}"
            )
        wire.headers = templates.texts(self.manifest.headers, values)
        wire.judge, wire.again, wire.values = self._judge(about_record), again, values
        try:
            answer: Answer = service[name](**arguments)
        except (ZeepError, TypeError, ValueError, AttributeError) as problem:
            if about_record:
                raise Refused(f"{self.manifest.title} has no place in {name} for a value of this record.") from None
            kind = type(problem).__name__
            raise ConfigurationError(
                f"The arguments that the manifest of {self.manifest.title} gives to {name} do not fit its WSDL ({kind})."
            ) from None
        return answer

    def _opened(self) -> tuple[Any, "_Wire"]:
        """The service of the WSDL, which is read once."""
        if self._service is None:
            wire = _Wire(self)
            settings = ZeepSettings(raw_response=True, forbid_dtd=True, forbid_entities=True, force_https=False)
            try:
                client = Client(self.at(self.manifest.wsdl), transport=wire, settings=settings, wsse=self._token())
                service = client.bind(self.manifest.service, self.manifest.port)
                if service is None:  # XML, and no WSDL: a web page
                    raise ValueError
            except (ZeepError, ValueError, etree.XMLSyntaxError) as problem:
                raise ConfigurationError(
                    f"The WSDL of {self.manifest.title} cannot be used ({type(problem).__name__}); check `wsdl`, `service` "
                    "and `port` in the manifest."
                ) from None
            self._service = service, wire
        return self._service  # type: ignore[no-any-return] # zeep has no types

    def at(self, path: str) -> str:
        """The whole URL of a path that may name {config.NAME}."""
        return self.http.url + templates.path(self.manifest.title, path, {"config": self.given.configuration})

    def _token(self) -> "_Token | None":
        place = self.manifest.auth[self.given.authentication_method].get("in", "")
        if not place.startswith("username_token"):
            return None
        self._secret = StoredSecret(self.manifest.title, self.given.credentials, ("username", "password"), as_basic)
        return _Token(self._secret, digest=place.endswith("digest"))

    def _judge(self, about_record: bool) -> Judge:
        def judge(answer: Answer) -> IntegrationError | None:
            fault = self._fault(answer)
            if fault is None:
                return self.refusals.meaning(answer, about_record)
            where = at(fault, ("faultcode",)) if "faultcode" in fault else at(fault, ("Code", "Value"))
            told = shown_code(where).rpartition(":")[2]
            side, _, finest = told.partition(".")  # Client.Authentication: SOAP 1.1, 4.4.1
            code = self.refusals.code(answer)
            if not code or code == shown_code(where):  # without the prefix, which each answer may choose anew
                code = told
            known = self.refusals.of(answer.status, code, about_record=False, answer=answer)
            if known is not None:
                return known
            finer = finest or shown_code(at(fault, ("Code", "Subcode", "Value"))).rpartition(":")[2]
            if answer.status == 401 or not _SIGN_IN.isdisjoint((side, finer, code)):
                return self.refusals.said("authentication", code, answer)
            if side in ("Client", "Sender"):
                return self.refusals.said("record" if about_record else "contract", code, answer)
            return self.refusals.said("unavailable", code, answer)

        return judge

    def _fault(self, answer: Answer) -> Mapping[str, Any] | None:
        try:
            first = _first(self.manifest.title, answer)
        except ContractError:
            return None
        found = _tree(first) if first is not None and _local(first) == "Fault" else None
        return found if isinstance(found, dict) else None

    def content(self, answer: Answer) -> Any:
        """What stands in the first element of the answer's body; None for an empty answer."""
        if not answer.content.strip():
            return None
        first = _first(self.manifest.title, answer)
        return {} if first is None else _tree(first)


class _Wire:
    """What zeep calls its transport, over our Http."""

    def __init__(self, connector: SoapConnector) -> None:
        self.connector = connector
        self.headers: Mapping[str, str] = {}
        self.judge: Judge = status_error
        self.again = True
        self.values: Mapping[str, Any] = {}

    def load(self, url: str) -> bytes:
        """A WSDL or schema. Raises ContractError for one at another host, or with a DTD."""
        if str(url) == _ENCODING:
            return _ENCODED
        connector = self.connector
        title, place = connector.manifest.title, httpx.URL(connector.http.url)
        found = httpx.URL(str(url))
        if (found.scheme, found.host, found.port) != (place.scheme, place.host, place.port):
            raise ContractError(f"The WSDL of {title} refers to a schema at another host, which is not fetched.")
        content = connector.http.get(str(url), auth=connector.auth, spend=connector.spend).content
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise ContractError(f"The WSDL of {title} has a DTD, which is refused.")
        return content

    def post_xml(self, address: str, envelope: Any, headers: Mapping[str, str]) -> Answer:
        connector = self.connector
        place = connector.at(connector.manifest.endpoint) if connector.manifest.endpoint else connector.link(address)
        others = {name: value for name, value in headers.items() if name.lower() != "content-type"}
        return connector.http.send(
            "POST",
            place,
            self.judge,
            content=etree.tostring(envelope, xml_declaration=True, encoding="utf-8"),
            content_type=headers.get("Content-Type", "text/xml; charset=utf-8"),
            headers={**self.headers, **others},
            auth=connector.auth,
            spend=connector.spend,
            repeatable=self.again,
            told=Told(connector.manifest.endpoint or httpx.URL(place).path, self.values),
        )


class _Token:
    """UsernameToken (WS-Security), made anew for each request."""

    def __init__(self, secret: StoredSecret, *, digest: bool) -> None:
        self.secret = secret
        self.digest = digest

    def apply(self, envelope: Any, headers: Any) -> Any:
        username, password = self.secret.secrets()
        return UsernameToken(username, password, use_digest=self.digest).apply(envelope, headers)


def _given(value: Any) -> Any:
    """A value as zeep writes it: null as xsi:nil, decimals digit by digit."""
    if value is None:
        return Nil
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Mapping):
        return {name: _given(one) for name, one in value.items()}
    return [_given(one) for one in value] if isinstance(value, list | tuple) else value


def _encodings(answer: Answer) -> Iterator[str | None]:
    """How to decode an answer: by its byte order mark, else by the charset of its Content-Type (RFC 7303, 3). None stands for
    its XML declaration, or UTF-8, which has its turn too where the charset does not fit."""
    charset = _CHARSET.search(answer.headers.get("content-type", ""))
    marked = answer.content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE))
    if charset and not marked:
        yield charset[1]
    yield None


def _root(content: bytes, encoding: str | None) -> Any:
    """The root element; None for what is no XML in this encoding."""
    try:
        parser = etree.XMLParser(
            encoding=encoding,
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            remove_comments=True,
            remove_pis=True,
        )
        return etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, LookupError):  # the latter for an encoding that nobody knows
        return None


def _first(title: str, answer: Answer) -> Any:
    """The first element of the envelope's body. Raises ContractError for what is no envelope, or has a DTD."""
    root = next((found for name in _encodings(answer) if (found := _root(answer.content, name)) is not None), None)
    if root is None or root.tag not in {f"{{{space}}}Envelope" for space in _ENVELOPES}:
        raise Nonsense(
            f"{title} answered {answer.place} with status {answer.status} and {answer.content_type} instead of a SOAP "
            "envelope; check the connector's URL."
        )
    if root.getroottree().docinfo.doctype:
        raise Nonsense(f"{title} answered {answer.place} with a DTD, which is refused.")
    body = next((one for one in root if _local(one) == "Body"), None)
    return None if body is None or not len(body) else body[0]


def _tree(element: Any) -> Any:
    """Texts nested by name; what comes several times is a list; attributes as @name."""
    if element.get(_NIL) in ("true", "1"):
        return None
    found: dict[str, Any] = {f"@{name}": value for name, value in element.attrib.items() if not name.startswith("{")}
    if not len(element):
        return MarkedText(element.text or "", found) if found else element.text or ""
    for child in element:
        name, value = _local(child), _tree(child)
        if name not in found:
            found[name] = value
        elif isinstance(found[name], _Several):
            found[name].append(value)
        else:
            found[name] = _Several((found[name], value))
    return found


class _Several(list[Any]):
    """Elements of one name."""


def _local(element: Any) -> str:
    return str(etree.QName(element).localname)
