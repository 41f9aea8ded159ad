"""The HTTP floor under every connector: one client with time-outs, verified TLS, bounded answers and careful retries.

A connector brings a `Judge`, which says what an answer that is no success means in the words of errors.py; `status_error` is
the table that judges fall back on. What may be repeated (GETs, token requests) is repeated here, and nowhere above: a wait
longer than this floor is willing to sit out is handed up in the error, so that a run can give its place back meanwhile.

Errors and logs quote no body, no query string and no header: the URL's path is named at most.
"""

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any, TypeAlias

import httpx

from connector_resources.contract import Clock
from connector_resources.egress import Egress
from connector_resources.errors import (
    AnswerLost,
    AnswerTooLarge,
    AuthenticationError,
    ConfigurationError,
    ContractError,
    IntegrationError,
    NetworkError,
    QuotaReached,
    RateLimited,
    RecordError,
    RetryableError,
    SystemUnavailable,
)
from connector_resources.quiet import hush
from connector_resources.tls import trust
from connector_resources.wire import Wire, guarded

_TIMEOUT = httpx.Timeout(10.0, read=130.0, write=60.0)  # seconds; vendors end a slow request after about two minutes
_REDIRECTS = 3


@dataclass(frozen=True)
class Patience:
    """How often and how long a request that is safe to repeat is tried again.

    `tries` in all; `total` seconds from the first try; a single wait between tries of at most `longest` seconds, drawn at
    random below `first`, doubled with each try (full jitter, so that many clients do not come back at once).
    """

    tries: int = 4
    total: float = 60.0
    longest: float = 30.0
    first: float = 1.0


@dataclass(frozen=True)
class Answer:
    """What came back, read to its end. `path` of the URL for messages; `wait`: seconds that Retry-After asks for."""

    system: str
    path: str
    status: int
    headers: Mapping[str, str]
    content: bytes
    wait: float | None = None

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip() or "no content type"

    def json(self) -> Any:
        """The body; numbers with a point or an exponent as exact Decimals. Raises ContractError for anything but JSON."""
        try:
            return json.loads(self.content, parse_float=Decimal)
        except (ValueError, RecursionError):
            raise ContractError(
                f"{self.system} answered {self.path} with status {self.status} and {self.content_type} instead of JSON; check "
                "that the connector's URL leads to the API and not to a web page or proxy."
            ) from None


Judge: TypeAlias = Callable[[Answer], IntegrationError | None]

_MEANING: Mapping[int, tuple[type[IntegrationError], str]] = {
    400: (ContractError, "does not understand our request"),
    401: (AuthenticationError, "refuses the credentials; check them and reconnect"),
    403: (AuthenticationError, "refuses access; give the connector's user the permission for it"),
    404: (ConfigurationError, "has nothing at that place; check the connector's URL"),
    405: (ContractError, "does not allow this method"),
    407: (ConfigurationError, "is behind a proxy that wants to be signed in to"),
    408: (SystemUnavailable, "gave up waiting for the request"),
    410: (ConfigurationError, "has retired what was asked for; a newer API version is needed"),
    413: (ContractError, "finds the request too large"),
    414: (ContractError, "finds the URL too long"),
    420: (SystemUnavailable, "is overloaded"),
    425: (SystemUnavailable, "asks to try again later"),
    429: (RateLimited, "limits the rate of calls"),
}


def status_error(answer: Answer, code: str = "") -> IntegrationError | None:
    """What a status means where nothing more is known; None for a success. `code`: the vendor's own word for it."""
    if answer.status < 300:
        return None
    default: tuple[type[IntegrationError], str] = (ContractError, "answered something that the connector does not expect")
    if answer.status >= 500:
        default = (SystemUnavailable, "cannot serve at the moment")
    kind, sentence = _MEANING.get(answer.status, default)
    message = f"{answer.system} {sentence} ({code or answer.content_type}, status {answer.status}, {answer.path})."
    return kind(message, answer.wait) if issubclass(kind, RateLimited | SystemUnavailable) else kind(message)


class Http:
    """A client for one system. Threads may share it.

    `url`: where the system is; plain http is for this machine only. `ca_file`: roots to trust beside the operating system's.
    `largest`: bytes of an answer, unpacked. `sleep` and `now` come in so that tests need not wait. `certificate`: a client
    certificate and its key (PEM texts). `egress`: where connections may lead (everywhere, if nothing is said).
    """

    def __init__(
        self,
        system: str,
        url: str,
        *,
        now: Clock,
        ca_file: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        patience: Patience | None = None,
        timeout: httpx.Timeout = _TIMEOUT,
        largest: int = 64 * 1024 * 1024,
        certificate: tuple[str, str] | None = None,
        egress: Egress | None = None,
    ) -> None:
        self.system = system
        self.url = url.rstrip("/")
        self.now = now
        self.sleep = sleep
        self.patience = patience or Patience()
        self.largest = largest
        require_safe(system, self.url)
        hush()
        transport = httpx.HTTPTransport(verify=trust(system, ca_file, certificate), trust_env=False)
        self.wire = Wire(guarded(transport, egress or Egress()))
        self._client = httpx.Client(
            transport=self.wire, timeout=timeout, headers={"User-Agent": "erp-integration"}, trust_env=False
        )

    def close(self) -> None:
        self._client.close()

    def get(
        self,
        url: str,
        judge: Judge = status_error,
        *,
        params: Mapping[str, str | list[str]] | None = None,
        auth: httpx.Auth | None = None,
        spend: Callable[[], None] | None = None,
    ) -> Answer:
        """The answer to a GET, tried again where that may help. `spend` is called before each try.

        Raises what `judge` says of the last answer, and NetworkError when there was none.
        """
        request = self._client.build_request("GET", url, params=params)
        return self._repeated(request, judge, auth, spend, repeatable=True)

    def send(
        self,
        method: str,
        url: str,
        judge: Judge = status_error,
        *,
        content: bytes | None = None,
        content_type: str = "application/json",
        params: Mapping[str, str | list[str]] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: httpx.Auth | None = None,
        spend: Callable[[], None] | None = None,
        repeatable: bool = False,
    ) -> Answer:
        """The answer to a request that changes something.

        One that is not `repeatable` (it carries no idempotency key) is tried again only where it certainly was not carried
        out: no connection came about, or the call was refused for its rate. Raises AnswerLost where it may have been, and so
        where the last of several tries got no answer.
        """
        kind = {"Content-Type": content_type} if content is not None else {}
        request = self._client.build_request(method, url, content=content, params=params, headers={**kind, **(headers or {})})
        return self._repeated(request, judge, auth, spend, repeatable)

    def post_form(
        self,
        url: str,
        form: Mapping[str, str],
        judge: Judge = status_error,
        *,
        auth: httpx.Auth | None = None,
        repeatable: bool = True,
    ) -> Answer:
        """The answer to a form; as `send`. Most token requests may be sent twice; one that spends its token may not."""
        request = self._client.build_request("POST", url, data=dict(form), headers={"Accept": "application/json"})
        return self._repeated(request, judge, auth, None, repeatable)

    def _repeated(
        self,
        request: httpx.Request,
        judge: Judge,
        auth: httpx.Auth | None,
        spend: Callable[[], None] | None,
        repeatable: bool,
    ) -> Answer:
        start, slept, attempt, lost = self.now(), 0.0, 0, False
        while True:
            attempt += 1
            try:
                if spend:
                    spend()
                answer = self._exchanged(request, auth)
                problem = judge(answer)
                if problem is None:
                    return answer
            except _Broken as broken:
                lost = lost or (broken.sent and request.method != "GET")  # this or an earlier try may have been carried out
                problem = NetworkError(str(broken))
            except QuotaReached as reached:
                problem = reached
            again = repeatable or (isinstance(problem, RateLimited | NetworkError) and not lost)
            wait = self._wait(problem, attempt) if again else None
            passed = max(slept, (self.now() - start).total_seconds())
            if wait is None or passed + wait > self.patience.total:
                if lost and isinstance(problem, RateLimited | NetworkError | RecordError):
                    problem = AnswerLost(str(problem))  # a refusal may be of the second time alone: it is there, or under way
                raise problem from None
            self.sleep(wait)
            slept += wait

    def _wait(self, problem: IntegrationError, attempt: int) -> float | None:
        """Seconds until the next try; None when there shall be none."""
        if not isinstance(problem, RetryableError) or attempt >= self.patience.tries:
            return None
        asked: float | None = getattr(problem, "wait", None)
        if asked is not None:
            return asked if asked <= self.patience.longest else None
        highest = min(self.patience.longest, self.patience.first * 2 ** (attempt - 1))
        return random.uniform(0, highest)  # noqa: S311 - spreads clients out, keeps no secret

    def _exchanged(self, request: httpx.Request, auth: httpx.Auth | None) -> Answer:
        """One request and its answer, redirects within the same origin followed. Raises _Broken without a whole answer."""
        origin = _origin(request.url)
        for _ in range(_REDIRECTS + 1):
            answer, redirect = self._sent(request, auth)
            if redirect is None:
                return answer
            if _origin(redirect.url) != origin or request.method != "GET":
                raise ConfigurationError(
                    f"{self.system} redirects from {request.url.host} to {redirect.url.host}, and no credentials are sent to "
                    "another host; if that is the right place, put its URL in the connector."
                )
            request = redirect
        raise ContractError(f"{self.system} redirects without end from {request.url.path}.")

    def _sent(self, request: httpx.Request, auth: httpx.Auth | None) -> tuple[Answer, httpx.Request | None]:
        host = request.url.host
        try:
            response = self._client.send(request, auth=auth, stream=True)
            try:
                content = self._body(response)
            finally:
                response.close()
        except (httpx.ConnectError, httpx.ConnectTimeout) as problem:
            if "CERTIFICATE_VERIFY_FAILED" in str(problem):
                raise ConfigurationError(
                    f"{self.system} at {host} shows a certificate that no trusted authority vouches for; if a private one "
                    "issued it, name its root in the CA file."
                ) from None
            raise _Broken(
                f"{self.system} cannot be reached at {host}: check the URL, the name server and the firewall.", sent=False
            ) from None
        except httpx.TimeoutException:
            raise _Broken(f"{self.system} at {host} did not answer {request.url.path} in time.") from None
        except (httpx.TransportError, httpx.DecodingError, httpx.StreamError):
            raise _Broken(f"The connection to {self.system} at {host} broke off during {request.url.path}.") from None
        except httpx.InvalidURL:
            raise ContractError(f"{self.system} names a URL that is none, in its answer to {request.url.path}.") from None
        wait = _seconds(response.headers.get("retry-after"), self.now())
        answer = Answer(self.system, request.url.path, response.status_code, response.headers, content, wait)
        return answer, response.next_request

    def _body(self, response: httpx.Response) -> bytes:
        start, body = self.now(), bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > self.largest:
                raise AnswerTooLarge(
                    f"{self.system} answers {response.url.path} with more than {self.largest // 2**20} MiB; read fewer fields."
                )
            if (self.now() - start).total_seconds() > 600:  # a time-out is for one piece; a drip must end as well
                raise _Broken(f"{self.system} took more than ten minutes to send its answer to {response.url.path}.")
        return bytes(body)


class _Broken(Exception):
    """No answer, or half of one. Becomes NetworkError; what a judge or an auth flow raises is never mistaken for it.
    `sent`: the request may have arrived."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


def require_safe(system: str, url: str) -> None:
    """Raises ConfigurationError for a URL that would carry credentials in the clear, or that is none."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("https", "http") or not parsed.host or parsed.userinfo:
        raise ConfigurationError(f"The URL of {system} must be like https://example.com, without credentials in it.")
    if parsed.scheme == "http" and not _this_machine(parsed.host):
        raise ConfigurationError(f"The URL of {system} must begin with https://: http sends credentials in the clear.")


def _this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _seconds(retry_after: str | None, now: datetime) -> float | None:
    """Retry-After, which is seconds or an HTTP date (RFC 9110, 10.2.3)."""
    if not retry_after:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())
