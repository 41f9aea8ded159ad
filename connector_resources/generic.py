"""A connector that a manifest drives. What differs between REST, SOAP and GraphQL is one method, `exchange`."""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import httpx

from connector_resources.answers import Answer
from connector_resources.auth import StoredSecret, as_basic, in_header, in_query
from connector_resources.consent import Consent
from connector_resources.contract import Changes, Connector, Entity, Given, Health, Page, Window
from connector_resources.errors import ConfigurationError, ContractError
from connector_resources.generic_probe import Prober
from connector_resources.generic_read import Reader
from connector_resources.generic_write import Writer
from connector_resources.http import Http, require_safe
from connector_resources.lined_yaml import suggestion
from connector_resources.manifest import Call, EntitySpec, Manifest
from connector_resources.oauth import OAuth
from connector_resources.paging import Reply
from connector_resources.rates import Rate, Rates
from connector_resources.refusals import Nonsense, Refusals
from connector_resources.values import json_text

if TYPE_CHECKING:
    import pandas as pd


class ManifestConnector(Connector):
    """url: where the API is · authentication_method: one that the manifest takes · configuration: what {config.NAME} says."""

    manifest: ClassVar[Manifest]
    textual: ClassVar[bool] = False  # whether answers know no types but text

    def __init__(self, given: Given, sleep: Callable[[float], None] = time.sleep) -> None:
        super().__init__(given)
        title, method = self.manifest.title, given.authentication_method
        if method not in self.manifest.auth:
            raise ConfigurationError(
                f"{title} is signed in to with {' or '.join(self.manifest.auth)}, not with {method}; change the connector."
            )
        certificate = None
        if method == "certificate":
            found = StoredSecret(title, given.credentials, ("certificate", "private_key"), as_basic).secrets()
            certificate = (found[0], found[1])
        self.http = Http(
            title,
            given.url,
            now=given.now,
            ca_file=given.ca_file,
            sleep=sleep,
            certificate=certificate,
            egress=given.egress,
        )
        self.auth = self.signed_in(method)
        self.rates = Rates([Rate(*rate) for rate in self.manifest.rates], given.now, sleep)
        self.refusals = Refusals(self.manifest, self.content)

    def close(self) -> None:
        self.http.close()

    def test(self) -> Health:
        reply = self.ask(self.manifest.test, {})
        account = reply.value(self.manifest.account)
        return Health(str(account) if account is not None else "signed in", {"manifest": self.manifest.name})

    def entities(self) -> Sequence[str]:
        return list(self.manifest.entities)

    def describe(self, entity: str) -> Entity:
        return self.spec(entity).entity

    def read(self, entity: Entity, fields: Sequence[str], window: Window) -> Iterator[Page]:
        """Records that change while they are read may come twice. Where neither the API nor an overlap shows that pages have
        shifted, they are read again, at most three times in all."""
        return self._reader(entity, fields).window(window)

    def read_ids(self, entity: Entity, fields: Sequence[str], ids: Sequence[str]) -> Iterator[Page]:
        return self._reader(entity, fields).ids(ids)

    def write(self, entity: Entity, changes: Changes) -> "pd.DataFrame":
        return self._writer(entity).write(changes)

    def probe(self, entity: Entity, changes: Changes) -> "pd.DataFrame":
        return Prober(self._writer(entity), partial(self.read_ids, entity), textual=self.textual).probe(changes)

    def _writer(self, entity: Entity) -> Writer:
        return Writer(self.ask, self.spec(entity.name), self.manifest.title, self.refusals)

    def spec(self, entity: str) -> EntitySpec:
        """Raises ConfigurationError for an unknown entity."""
        known = self.manifest.entities
        if entity not in known:
            raise ConfigurationError(f"{self.manifest.title} has no entity '{entity}'{suggestion(entity, known)}")
        return known[entity]

    def _reader(self, entity: Entity, fields: Sequence[str]) -> Reader:
        return Reader(self.ask, self.spec(entity.name), fields, self.manifest.title, self.given.now, textual=self.textual)

    def ask(
        self, call: Call, values: Mapping[str, Any], *, url: str | None = None, about_record: bool = False, again: bool = True
    ) -> Reply:
        """The answer to one request. `url` takes the place of the call's own; `again`: it may be sent twice.

        Raises what the error table says of a refusal, AnswerLost where a request that may not be sent twice got no answer."""
        return self.exchange(call, {"config": self.given.configuration, **values}, url, about_record, again)

    @abstractmethod
    def exchange(self, call: Call, values: Mapping[str, Any], url: str | None, about_record: bool, again: bool) -> Reply:
        """As `ask`, with all values that placeholders may name."""

    def content(self, answer: Answer) -> Any:
        """What an answer's body holds, JSON-like; None for an empty one. Raises Nonsense."""
        try:
            return answer.json() if answer.content.strip() else None
        except ContractError as problem:
            raise Nonsense(str(problem)) from None

    def spend(self) -> None:
        """Before each try of each request."""
        if self.given.budget:
            self.given.budget.spend()
        self.rates.spend()

    def link(self, url: str) -> str:
        """The whole URL behind a link of an answer. Raises ContractError for one at another origin: it gets no credentials."""
        base = httpx.URL(self.http.url + "/")
        try:
            found = base.join(url)
        except (httpx.InvalidURL, ValueError):
            raise ContractError(f"{self.manifest.title} names a next page whose URL is none.") from None
        if (found.scheme, found.host, found.port) != (base.scheme, base.host, base.port) or found.userinfo:
            raise ContractError(f"{self.manifest.title} names a next page at another host, which gets no credentials of ours.")
        return str(found)

    def consent(self) -> Consent:
        if not isinstance(self.auth, OAuth):
            return super().consent()
        raw = self.manifest.auth["oauth2"]
        page, device = (self._whole(raw[name], name) if name in raw else None for name in ("authorize_url", "device_url"))
        return Consent(self.auth, page, device)

    def _whole(self, url: str, name: str = "token_url") -> str:
        """Raises ConfigurationError for a URL that would carry credentials in the clear."""
        whole = self.http.url + url if url.startswith("/") else url
        require_safe(f"{self.manifest.title} ({name})", whole)
        return whole

    def signed_in(self, method: str) -> httpx.Auth | None:
        raw, title, store = self.manifest.auth[method], self.manifest.title, self.given.credentials
        match method:
            case "api_key":
                place = in_header("Authorization", "Bearer ")
                if raw["in"] != "bearer":
                    place = in_query(raw["name"]) if raw["in"] == "query" else in_header(raw["name"], raw.get("prefix", ""))
                return StoredSecret(title, store, ("api_key",), place)
            case "basic" if raw.get("in", "header") == "header":
                return StoredSecret(title, store, ("username", "password"), as_basic)
            case "oauth2":
                scope = {"scope": " ".join(raw["scopes"])} if raw.get("scopes") else {}
                url = self._whole(raw["token_url"])
                extra = scope | dict(raw.get("parameters", {}))
                client, again = raw.get("client", "post"), bool(raw.get("refresh_twice"))
                return OAuth(self.http, store, url, self.http.url, extra=extra, client=client, again=again)
        return None


def body_of(content: Any) -> bytes | None:
    """A request's JSON body, its numbers exact."""
    return None if content is None else json_text(content).encode()
