"""login() of the SOAP API, the part that clients with user name and password need ("login()", SOAP API guide)."""

from xml.etree import ElementTree
from xml.sax.saxutils import escape

from connector_resources.sandbox.salesforce.oauth import Authority
from connector_resources.sandbox.salesforce.org import Org

_ENVELOPE = (
    '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"'
    ' xmlns="urn:partner.soap.sforce.com" xmlns:sf="urn:fault.partner.soap.sforce.com"><soapenv:Body>'
)
_END = "</soapenv:Body></soapenv:Envelope>"


def login(org: Org, authority: Authority, body: bytes, base: str, version: str) -> tuple[int, str]:
    """HTTP status and SOAP envelope: a session, or the fault INVALID_LOGIN."""
    if b"<!" in body.replace(b"<!--", b""):
        return _fault("INVALID_LOGIN", "Document types are not allowed.")
    try:
        texts = {element.tag.rpartition("}")[2]: element.text or "" for element in ElementTree.fromstring(body).iter()}  # noqa: S314 - document types, the way of entity attacks, are refused above
    except ElementTree.ParseError:
        return _fault("UNKNOWN_EXCEPTION", "The request is not XML.")
    if not authority.check_password(texts.get("username", ""), texts.get("password", "")):
        return _fault("INVALID_LOGIN", "Invalid username, password, security token; or user locked out.")
    server = f"{base}/services/Soap/u/{version}/{org.id[:15]}"
    return 200, (
        f"{_ENVELOPE}<loginResponse><result><passwordExpired>false</passwordExpired><sandbox>true</sandbox>"
        f"<serverUrl>{escape(server)}</serverUrl><sessionId>{escape(org.open_session())}</sessionId>"
        f"<userId>{org.user_id}</userId><userInfo><organizationId>{org.id}</organizationId>"
        f"<sessionSecondsValid>{org.session_seconds}</sessionSecondsValid></userInfo></result></loginResponse>{_END}"
    )


def _fault(code: str, message: str) -> tuple[int, str]:
    return 500, (
        f"{_ENVELOPE}<soapenv:Fault><faultcode>{code}</faultcode><faultstring>{code}: {message}</faultstring><detail>"
        f"<sf:LoginFault><sf:exceptionCode>{code}</sf:exceptionCode><sf:exceptionMessage>{message}</sf:exceptionMessage>"
        f"</sf:LoginFault></detail></soapenv:Fault>{_END}"
    )
