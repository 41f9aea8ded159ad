"""The connector type `salesforce`."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from connector_resources.consent import Consent
from connector_resources.contract import Capabilities, Changes, Condition, Connector, Entity, Given, Health, Page, Window
from connector_resources.errors import ConfigurationError, ContractError
from connector_resources.http import Http
from connector_resources.lined_yaml import suggestion
from connector_resources.salesforce import soql
from connector_resources.salesforce.api import Api
from connector_resources.salesforce.describe import Description, description, keyed
from connector_resources.salesforce.errors import NotThere
from connector_resources.salesforce.jobs import Jobs
from connector_resources.salesforce.lanes import MOST
from connector_resources.salesforce.prober import probe
from connector_resources.salesforce.reader import Reader
from connector_resources.salesforce.writer import Writing

if TYPE_CHECKING:
    import pandas as pd

_CONCURRENCY = 4  # an org serves 25 long requests at a time, of all its clients together
LIMITS = {  # of the configuration: default, least, most
    "concurrency": (_CONCURRENCY, 1, 20),
    "bulk_read_above": (20_000, 0, 10**9),
    "bulk_write_above": (2_000, 0, 10**9),
    "bulk_patience": (7_200, 1, 86_400),
}


class Salesforce(Connector):
    """One Salesforce org.

    url            My Domain (https://example.my.salesforce.com), or https://login.salesforce.com
    configuration  api_version ("62.0": the highest that may be used), login_url (where tokens come from, if not at url)
                   external_ids ({entity: its unique external id field}: creates are made by upsert, so that one that is sent
                   twice makes one record), concurrency (4: calls at a time when writing), reserve_calls (of the org's daily
                   limit, left to others; a tenth of it), bulk_read_above (20,000 records), bulk_write_above (2,000 changes of
                   one action), bulk_patience (7,200 seconds that a bulk job may take)
    credentials    client_id, and client_secret | refresh_token (with client_secret, if the app has one) | username and
                   private_key (PEM); grant (client_credentials, refresh_token, jwt_bearer) where they hold several
    """

    type = "salesforce"
    capabilities = Capabilities(
        delta_read=True,
        deletes=True,
        bulk_read=True,
        write=True,
        upsert_key=True,
        conditional_write=False,
        idempotency="external_id",
        batch_size=MOST,
        concurrency=_CONCURRENCY,
        find=True,
    )

    def __init__(self, given: Given, sleep: Callable[[float], None] = time.sleep) -> None:
        super().__init__(given)
        self._http = Http("Salesforce", given.url, now=given.now, ca_file=given.ca_file, sleep=sleep, egress=given.egress)
        self._api = Api(given, self._http)
        self._reader = Reader(self._api, self._described)
        self._descriptions: dict[str, Description] = {}
        self._keys = _external_ids(given.configuration.get("external_ids") or {})
        self._limits = {name: _limit(given.configuration, name, *rule) for name, rule in LIMITS.items()}
        self._jobs = Jobs(self._api, self._limits["bulk_patience"])

    def close(self) -> None:
        self._http.close()

    def test(self) -> Health:
        """One call of the org's quota: our own user, which proves the token, the API permission and the version."""
        _, organization, user = f"//{self._api.oauth.reply().get('id', '')}".rsplit("/", 2)
        if not user:
            raise ContractError("Salesforce issued a token that names no user.")
        found = self._api.get("query", {"q": soql.select("User", ["Username"], soql.equal("Id", user))})
        try:
            account = next((str(row["Username"]) for row in found["records"]), user)
        except (KeyError, TypeError):
            raise ContractError(
                "Salesforce answered the connection test in a form that the connector does not know."
            ) from None
        detail = {"organization": organization, "api_version": self._api.version(), "instance": self._api.base()}
        if self._api.usage:
            detail["calls_in_24_hours"] = "{} of {}".format(*self._api.usage)
        return Health(account, detail)

    def consent(self) -> Consent:
        return self._api.consent

    def entities(self) -> Sequence[str]:
        try:
            return [str(one["name"]) for one in self._api.get("sobjects")["sobjects"] if one["queryable"]]
        except (KeyError, TypeError):
            raise ContractError("Salesforce lists its entities in a form that the connector does not know.") from None

    def describe(self, entity: str) -> Entity:
        return self._described(entity).entity

    def read(self, entity: Entity, fields: Sequence[str], window: Window) -> Iterator[Page]:
        """A first read of many records goes through the Bulk API, and comes in no order."""
        plan = self._reader.plan(entity, fields)
        if window.since is None:
            return self._reader.everything(plan, window, self._jobs, self._limits["bulk_read_above"])
        return self._reader.documents(plan, window) if plan.lines else self._reader.window(plan, window)

    def read_ids(self, entity: Entity, fields: Sequence[str], ids: Sequence[str]) -> Iterator[Page]:
        """Deleted records come too, marked as such. Ids have 15 or 18 characters, and 18 in the pages."""
        return self._reader.ids(self._reader.plan(entity, fields), ids)

    def find(self, entity: Entity, fields: Sequence[str], where: Condition) -> Iterator[Page]:
        """Of text fields; Salesforce compares without case."""
        return self._reader.among(self._reader.plan(entity, fields), where.field, where.values)

    def write(self, entity: Entity, changes: Changes) -> "pd.DataFrame":
        """Creates, then updates, then deletes. With an upsert key a create is an upsert, so a record that has the key's value
        already is updated."""
        return Writing(
            self._api,
            self._described(entity.name),
            changes,
            self._jobs,
            self._limits["concurrency"],
            self._limits["bulk_write_above"],
        ).outcomes()

    def probe(self, entity: Entity, changes: Changes) -> "pd.DataFrame":
        """Creates are found by the upsert key (without one: UNKNOWN), updates by the values that they wrote."""
        return probe(self._reader, self._jobs, self._described(entity.name).entity, changes)

    def _described(self, entity: str) -> Description:
        """Asked for once in the connector's life, which is one run."""
        if entity not in self._descriptions:
            try:
                found = description(self._api.get(f"sobjects/{soql.name(entity)}/describe"))
            except NotThere:
                raise ConfigurationError(
                    f"Salesforce has no entity '{entity}', or the connector's user may not see it"
                    f"{suggestion(entity, self.entities())}"
                ) from None
            key = self._keys.get(entity)
            self._descriptions[entity] = keyed(found, key) if key else found
        return self._descriptions[entity]


def _external_ids(given: object) -> dict[str, str]:
    if not isinstance(given, Mapping) or not all(isinstance(text, str) for pair in given.items() for text in pair):
        raise ConfigurationError("external_ids of a Salesforce connector must be like {Account: ERP_Id__c}: entity and field.")
    return dict(given)


def _limit(configuration: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    given = configuration.get(name, default)
    if not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most:
        raise ConfigurationError(f"{name} of a Salesforce connector must be a number from {least:,} to {most:,}.")
    return given
