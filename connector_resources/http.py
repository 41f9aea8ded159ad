"""The HTTP floor under every connector: one client with time-outs, verified TLS, bounded answers and careful retries.

A connector brings a `Judge` (answers.py), which says what an answer that is no success means. What may be repeated (GETs,
token requests) is repeated here, and nowhere above: a wait longer than this floor is willing to sit out is handed up in the
error, so that a run can give its place back meanwhile.

Errors and logs quote no body, no query string and no header. Of a URL the path is named at most; where `told` says how to
speak of the request, its path is named instead, as a path that was filled in may hold a record's key.
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address

import httpx

from connector_resources.answers import Answer, Judge, Told, retry_after, status_error
from connector_resources.contract import Clock
from connector_resources.egress import Egress
from connector_resources.errors import (
    AnswerLost,
    AnswerTooLarge,
    ConfigurationError,
    ContractError,
    IntegrationError,
    NetworkError,
    QuotaReached,
    RateLimited,
    RecordError,
    Redirected,
    RetryableError,
)
from connector_resources.quiet import hush
from connector_resources.tls import trust
from connector_resources.wire import Wire, guarded, layers

_TIMEOUT = httpx.Timeout(10.0, read=130.0, write=60.0)  # seconds; vendors end a slow request after about two minutes
_REDIRECTS = 3
_LONGEST_REFUSAL = 2**20  # bytes of an answer that is no success; a longer one is judged by its status alone
_TOLD = "connector_resources.told"  # extension of a request; it goes along where a redirect is followed
_RESULT = "connector_resources.result"  # likewise: where a 303 leads is read


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
        told: Told | None = None,
    ) -> Answer:
        """The answer to a GET, tried again where that may help. `spend` is called before each try.

        Raises what `judge` says of the last answer, and NetworkError when there was none.
        """
        request = self._client.build_request("GET", url, params=params, extensions={_TOLD: told})
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
        told: Told | None = None,
    ) -> Answer:
        """The answer to a request that changes something.

        One that is not `repeatable` (it carries no idempotency key) is tried again only where it certainly was not carried
        out: no connection came about, or the call was refused for its rate. Raises AnswerLost where it may have been, and so
        where the last of several tries got no answer; and Redirected where it is sent elsewhere. It follows a 303 alone, by a
        GET at the same origin: that says that the work is done, and where its result is.
        """
        every = httpx.Headers({"Content-Type": content_type} if content is not None else {})
        every.update(headers)  # however they are spelled
        request = self._client.build_request(
            method, url, content=content, params=params, headers=every, extensions={_TOLD: told, _RESULT: True}
        )
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
            if request.method != "GET":
                return self._result(request, answer, redirect, auth)
            if _origin(redirect.url) != origin:
                raise ConfigurationError(
                    f"{self.system} redirects from {request.url.host} to {redirect.url.host}, and no credentials are sent to "
                    "another host; if that is the right place, put its URL in the connector."
                )
            request = redirect
        raise ContractError(f"{self.system} redirects without end from {_place(request)}.")

    def _result(self, request: httpx.Request, answer: Answer, there: httpx.Request, auth: httpx.Auth | None) -> Answer:
        """What stands where a 303 leads (RFC 9110, 15.4.4), with the headers of both. Raises Redirected for other redirects,
        and where nothing can be read there: what changes something is not sent twice, wherever it may be wanted."""
        if answer.status == 303 and _origin(there.url) == _origin(request.url) and request.extensions.get(_RESULT):
            for name in [
                name for name in there.headers if name.startswith("if-") or name in ("content-type", "idempotency-key")
            ]:
                del there.headers[name]
            try:
                found = self._exchanged(there, auth)
            except (_Broken, IntegrationError):
                found = answer
            if found.status < 300:
                return replace(found, headers=httpx.Headers({**answer.headers, **found.headers}))
        undone = answer.status in (307, 308)
        done = "without carrying it out" if undone else "which may mean that it was carried out"
        raise Redirected(
            f"{self.system} redirects a {request.method} from {request.url.host} to {there.url.host}, {done} (status "
            f"{answer.status}, {answer.place}); if that is the right place, put its URL in the connector.",
            undone=undone,
        )

    def _sent(self, request: httpx.Request, auth: httpx.Auth | None) -> tuple[Answer, httpx.Request | None]:
        host = request.url.host
        try:
            response, content = self._signed(request, auth)
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
            raise _Broken(f"{self.system} at {host} did not answer {_place(request)} in time.") from None
        except (httpx.TransportError, httpx.DecodingError, httpx.StreamError):
            raise _Broken(f"The connection to {self.system} at {host} broke off during {_place(request)}.") from None
        except httpx.InvalidURL:
            kind = ContractError if request.method == "GET" else Redirected
            raise kind(f"{self.system} names a URL that is none, in its answer to {_place(request)}.") from None
        wait = retry_after(response.headers.get("retry-after"), self.now())
        told = request.extensions.get(_TOLD)
        answer = Answer(self.system, request.url.path, response.status_code, response.headers, content, wait, told)
        return answer, response.next_request

    def _signed(self, request: httpx.Request, auth: httpx.Auth | None) -> tuple[httpx.Response, bytes]:
        """The last answer of a sign-in, and its body. httpx would read those before it, as a 401, however long they are."""
        flow = (auth or httpx.Auth()).sync_auth_flow(request)
        try:
            signed = next(flow)
            while True:
                response = self._client.send(signed, stream=True)
                try:
                    content = self._body(response)
                finally:
                    response.close()
                try:
                    signed = flow.send(response)
                except StopIteration:
                    return response, content
        finally:
            flow.close()

    def _body(self, response: httpx.Response) -> bytes:
        """Empty where it is too long and its status says all."""
        chunks, length, success = [], 0, response.status_code < 300
        if layers(response) > 1:
            if not success:
                return b""
            raise AnswerTooLarge(
                f"{self.system} answers {_place(response.request)} with a body that is compressed more than once, which may "
                "unfold to any length; switch off all compression there but one."
            )
        for chunk in response.iter_bytes():
            chunks.append(chunk)
            length += len(chunk)
            if not success and length > _LONGEST_REFUSAL:
                return b""
            if length > self.largest:
                raise AnswerTooLarge(
                    f"{self.system} answers {_place(response.request)} with more than {self.largest // 2**20} MiB; read fewer "
                    "fields."
                )
        return b"".join(chunks)


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


def _place(request: httpx.Request) -> str:
    told: Told | None = request.extensions.get(_TOLD)
    return told.path if told else request.url.path


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
