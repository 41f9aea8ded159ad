"""Calls of the REST API: where it is, in which version, who is signed in, and how many calls are left."""

import re
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import httpx

from connector_resources.answers import Answer
from connector_resources.consent import Consent, DeviceDialect
from connector_resources.contract import Given
from connector_resources.errors import ConfigurationError, ContractError, IntegrationError, QuotaReached
from connector_resources.http import Http, require_safe
from connector_resources.oauth import OAuth
from connector_resources.salesforce.errors import QUOTA_WAIT, salesforce_error

DEFAULT_VERSION = "62.0"
_VENDOR_HOSTS = (".salesforce.com", ".force.com")
_DEVICE = DeviceDialect({"response_type": "device_code"}, "device", "code")  # "OAuth 2.0 Device Flow", Salesforce Help
_OURS = {"Sforce-Call-Options": "client=erp-integration"}  # whose writes these are, in the org's logs
_USAGE = re.compile(r"(?<![\w-])api-usage=(\d+)/(\d+)")


class Api:
    """`usage`: calls of the last 24 hours and the org's limit, as the last answer told them. Threads may share it.

    So many of the day's calls are left to others: `reserve_calls` of the configuration, or a tenth of the limit."""

    def __init__(self, given: Given, http: Http) -> None:
        if given.authentication_method != "oauth2":
            raise ConfigurationError(
                f"Salesforce is signed in to with oauth2, not with {given.authentication_method}; change it."
            )
        login = str(given.configuration.get("login_url") or http.url).rstrip("/")
        require_safe("Salesforce (login_url)", login)
        self.http = http
        self.budget = given.budget
        self.oauth = OAuth(http, given.credentials, f"{login}/services/oauth2/token", login)
        self.consent = Consent(
            self.oauth, f"{login}/services/oauth2/authorize", self.oauth.endpoint.url, "api refresh_token", _DEVICE
        )
        self.usage: tuple[int, int] | None = None
        self._wanted = _number(given.configuration.get("api_version", DEFAULT_VERSION))
        self._offered: list[int] = []
        self._reserve = _count(given.configuration.get("reserve_calls"))
        self._lock = threading.Lock()

    def base(self) -> str:
        """Where calls go: the instance that the token names, unless a stranger would get the token."""
        named = self.oauth.reply().get("instance_url")
        return named.rstrip("/") if isinstance(named, str) and _trusted(named, self.http.url) else self.http.url

    def version(self) -> str:
        """The highest version that Salesforce offers and that is not above the configured one; asked for once."""
        if not self._offered:
            found = self.http.get(f"{self.base()}/services/data", salesforce_error).json()
            try:
                self._offered = sorted(_number(one["version"]) for one in found)
            except (TypeError, KeyError, ConfigurationError):
                raise ContractError("Salesforce lists its API versions in a form that the connector does not know.") from None
        below = [number for number in self._offered if number <= self._wanted]
        if not below:
            raise self._retired(self._wanted)
        return f"{below[-1]}.0"

    def at_least(self, number: int) -> bool:
        """Whether the version is this one or a later one."""
        return _number(self.version()) >= number

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """The JSON of a resource; `path` is relative to the version, or absolute as Salesforce itself named it."""
        return self.answer(path, params).json()

    def answer(self, path: str, params: Mapping[str, str] | None = None) -> Answer:
        return self.http.get(self._url(path), self._judge, params=params, auth=self.oauth, spend=self._spend)

    def send(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        content_type: str = "application/json",
        *,
        params: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> Answer:
        """The answer to a request with a body. Raises AnswerLost where it may have been carried out, unless `repeatable`."""
        return self.http.send(
            method,
            self._url(path),
            self._judge,
            content=content,
            content_type=content_type,
            params=params,
            headers=_OURS,
            auth=self.oauth,
            spend=self._spend,
            repeatable=repeatable,
        )

    @property
    def user(self) -> str | None:
        """The id of the user as whom we are signed in, as the token names it."""
        return f"{self.oauth.reply().get('id', '')}".rpartition("/")[2] or None

    def place(self, path: str) -> str:
        """A resource as Salesforce names it itself: without the host."""
        return path if path.startswith("/services/data/") else f"/services/data/v{self.version()}/{path}"

    def calls_left(self) -> int | None:
        """Calls that may still be made without touching the reserve; None while no answer has told."""
        if self.usage is None:
            return None
        used, limit = self.usage
        return limit - used - (limit // 10 if self._reserve is None else self._reserve)

    def _url(self, path: str) -> str:
        return self.base() + self.place(path)

    def _spend(self) -> None:
        """Raises QuotaReached when only the reserve is left."""
        left = self.calls_left()
        if left is not None and left <= 0 and self.usage:
            used, limit = self.usage
            raise QuotaReached(
                f"Salesforce has {max(0, limit - used):,} of {limit:,} calls a day left, and {limit - used - left:,} are "
                "kept in reserve for others: the sync goes on when calls come back, bit by bit over 24 hours, or lower "
                "reserve_calls of the connector.",
                QUOTA_WAIT,
            )
        if self.budget:
            with self._lock:
                self.budget.spend()

    def _judge(self, answer: Answer) -> IntegrationError | None:
        told = _USAGE.search(answer.headers.get("sforce-limit-info", ""))
        if told:
            self.usage = int(told[1]), int(told[2])
            if self.budget:
                with self._lock:
                    self.budget.observe(*self.usage)
        return self._retired(_number(self.version())) if answer.status == 410 else salesforce_error(answer)

    def _retired(self, number: int) -> ConfigurationError:
        standing = f"{self._offered[0]}.0 to {self._offered[-1]}.0" if self._offered else "none that the connector knows"
        return ConfigurationError(
            f"Salesforce no longer has version {number}.0 of its API; it offers {standing}: set api_version of the connector."
        )


def _number(version: object) -> int:
    match = re.fullmatch(r"(\d{1,3})(?:\.0)?", str(version))
    if not match:
        raise ConfigurationError(f"api_version of a Salesforce connector must be like {DEFAULT_VERSION}.")
    return int(match[1])


def _count(given: object) -> int | None:
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given >= 0):
        return given
    raise ConfigurationError("reserve_calls of a Salesforce connector must be a number of calls, 0 or more.")


@lru_cache(maxsize=8)
def _trusted(instance: str, configured: str) -> bool:
    try:
        ours, theirs = httpx.URL(configured), httpx.URL(instance)
    except httpx.InvalidURL:
        return False
    if (ours.scheme, ours.host, ours.port) == (theirs.scheme, theirs.host, theirs.port):
        return True
    return theirs.scheme == "https" and not theirs.userinfo and theirs.host.endswith(_VENDOR_HOSTS)
