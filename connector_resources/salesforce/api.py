"""Calls of the REST API: where it is, in which version, who is signed in, and how many calls are left."""

import re
from collections.abc import Mapping
from typing import Any

import httpx

from connector_resources.auth import OAuth
from connector_resources.contract import Given
from connector_resources.errors import ConfigurationError, ContractError, IntegrationError
from connector_resources.http import Answer, Http, require_safe
from connector_resources.salesforce.errors import salesforce_error

DEFAULT_VERSION = "62.0"
_VENDOR_HOSTS = (".salesforce.com", ".force.com")
_USAGE = re.compile(r"(?<![\w-])api-usage=(\d+)/(\d+)")


class Api:
    """`usage`: calls of the last 24 hours and the org's limit, as the last answer told them."""

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
        self.usage: tuple[int, int] | None = None
        self._wanted = _number(given.configuration.get("api_version", DEFAULT_VERSION))
        self._offered: list[int] = []

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

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """The JSON of a resource; `path` is relative to the version, or absolute as Salesforce itself named it."""
        return self.answer(path, params).json()

    def answer(self, path: str, params: Mapping[str, str] | None = None) -> Answer:
        if path.startswith("/services/data/"):
            url = self.base() + path
        else:
            url = f"{self.base()}/services/data/v{self.version()}/{path}"
        return self.http.get(url, self._judge, params=params, auth=self.oauth, spend=self._spend)

    def _spend(self) -> None:
        if self.budget:
            self.budget.spend()

    def _judge(self, answer: Answer) -> IntegrationError | None:
        told = _USAGE.search(answer.headers.get("sforce-limit-info", ""))
        if told:
            self.usage = int(told[1]), int(told[2])
            if self.budget:
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


def _trusted(instance: str, configured: str) -> bool:
    try:
        ours, theirs = httpx.URL(configured), httpx.URL(instance)
    except httpx.InvalidURL:
        return False
    if (ours.scheme, ours.host, ours.port) == (theirs.scheme, theirs.host, theirs.port):
        return True
    return theirs.scheme == "https" and not theirs.userinfo and theirs.host.endswith(_VENDOR_HOSTS)
