"""Every connector under the conformance suite, and the suite itself under connectors that are wrong."""

import base64
import re
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from shopping import Visit

from connector_resources.conformance import Trial, Verdict, conform
from connector_resources.conformance_trial import no_such
from connector_resources.contract import Connector, Page
from connector_resources.errors import ConfigurationError
from connector_resources.sandbox.generic import ShopSandbox

SAMPLE = {"name": "Conformance", "code": "00042", "reference": "conformance", "balance": Decimal("1.50"), "phone": "+49 30 1"}
# Of Salesforce, which has no conditional write, and whose sandbox has one page of accounts here
UNPROMISED = {"a version guards against lost updates", "no record is missed while others change"}
CREATE = 'headers: {Idempotency-Key: "{intent}"}\n'
UPDATE = '{Idempotency-Key: "{intent}", If-Match: "{version}"}\n      body'


def unproven(opened: Callable[[], Connector], entity: str, sample: dict[str, Any] | None = None) -> dict[str, str]:
    """Check → sentence, of those that did not pass."""
    return {one.name: one.sentence for one in conform(Trial(opened, entity, sample)) if one.verdict is not Verdict.PASSED}


@pytest.mark.parametrize("method", ["api_key", "oauth2"])
def test_the_rest_sandbox_conforms(visit: Visit, method: str) -> None:
    left = unproven(lambda: visit(method=method), "customer", SAMPLE)
    assert set(left) == (set() if method == "oauth2" else {"a sign-in that expires is renewed"}), left


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        (("next: cursor", "next: cursor, more: total_lies"), "the last page is reached"),
        (('updated_since: "{since}"', 'updated_sinze: "{since}"'), "nothing is lost at the border of a watermark"),
        (("params: {ids: ", "params: {idz: "), "records are read by their ids"),
        ((CREATE, CREATE.replace("Idempotency-Key", "X-Nobody")), "a lost answer makes no second record"),
        ((UPDATE, '{X-Nobody: "{intent}"}\n      body'), "an edit after a lost answer is kept"),
        ((UPDATE, '{X-Nobody: "{version}"}\n      body'), "a version guards against lost updates"),
        (("notes: {type: string", "notes: {type: string, write_path: phone"), "values come back as they were written"),
        (("records: items\n      paging", "records: items\n      since: {format: iso}\n      paging"), ""),
    ],
    ids=[
        "stops early",
        "all since ever",
        "any ids",
        "key nobody reads",
        "no guard",
        "no version",
        "writes elsewhere",
        "right",
    ],
)
def test_the_suite_finds_what_is_wrong(visit: Visit, change: tuple[str, str], failing: str) -> None:
    findings = conform(Trial(lambda: visit("sandbox-rest", change), "customer", SAMPLE))
    failed = {one.name for one in findings if one.verdict is Verdict.FAILED}
    assert (failing in failed) if failing else not failed


class Chatty(Connector):
    """A connector that quotes what it is told, and sends columns of no type."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner.given)
        self.inner, self.capabilities, self.type = inner, inner.capabilities, "chatty"  # type: ignore[misc]
        self.http = inner.http

    def test(self) -> Any:
        answer = self.http.get(self.http.url + "/rest/me", lambda _: None)
        if answer.status != 200:
            raise ConfigurationError(answer.content.decode())

    def entities(self) -> Any:
        return self.inner.entities()

    def describe(self, entity: str) -> Any:
        return self.inner.describe(entity)

    def read(self, entity: Any, fields: Any, window: Any) -> Any:
        for page in self.inner.read(entity, fields, window):
            yield Page(page.records.astype(object), page.marks, page.absent)

    def read_ids(self, entity: Any, fields: Any, ids: Any) -> Any:
        return self.inner.read_ids(entity, fields, ids)


def test_the_suite_finds_a_connector_that_talks_too_much_or_has_no_types(visit: Visit) -> None:
    failed = {one.name for one in conform(Trial(lambda: Chatty(visit()), "customer")) if one.verdict is Verdict.FAILED}
    assert failed == {"types are kept in every column", "errors and logs show no secret and no value"}


def by_place(connector: Any) -> Any:
    """Reads the first records, then those behind them, and so on, whatever has moved meanwhile."""
    steady = connector.read

    def read(entity: Any, fields: Any, window: Any) -> Any:
        start, size = 0, window.page_size or 200
        while True:
            order = [id_ for page in steady(entity, [entity.key], window) for id_ in page.records.index]
            if not (ids := order[start : start + size]):
                return
            yield from connector.read_ids(entity, fields, ids)
            start += size

    connector.read = read
    return connector


def test_the_suite_finds_pages_that_move_under_the_read(visit: Visit) -> None:
    findings = {one.name: one for one in conform(Trial(lambda: by_place(visit()), "customer", SAMPLE))}
    told = findings["no record is missed while others change"]
    assert told.verdict is Verdict.FAILED
    assert "others did not come" in told.sentence


def test_a_field_that_is_in_no_record_is_named(visit: Visit) -> None:
    findings = conform(Trial(lambda: visit("sandbox-rest", ("path: address.city", "path: adress.city")), "customer"))
    assert next(one.sentence for one in findings if one.name.startswith("types")).endswith(
        "In no record: city; check where the field stands."
    )


def relays(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("ids", "shape"),
    [
        (["7", "1200"], r"1001203"),
        (["00000003", "00000520"], r"01000523"),
        ([str(UUID(int=7))], r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        ([relays("Customer:7"), relays("Customer:9")], relays("Customer:1000012")),
        (["cus_7", "12"], r"\w+"),
        ([], r"\w+"),
    ],
    ids=["numbers", "padded", "uuids", "global ids", "others", "none"],
)
def test_the_id_that_no_record_has_looks_like_the_others(ids: list[str], shape: str) -> None:
    made = no_such(ids)
    assert made not in ids
    assert re.fullmatch(shape, made)


def test_a_system_that_refuses_what_is_no_number_is_asked_for_a_number(visit: Visit, shop: ShopSandbox) -> None:
    """As FastAPI, Django and PostgreSQL do."""
    shop.faults.add("status", path=r"ids=[^&]*[a-z]", status=422, body='{"detail": []}', times=None)
    findings = {one.name: one for one in conform(Trial(visit, "customer"))}
    assert findings["records are read by their ids"].verdict is Verdict.PASSED


def test_without_a_sample_nothing_is_written(visit: Visit, shop: ShopSandbox) -> None:
    findings = list(conform(Trial(visit, "customer")))
    assert {one.verdict for one in findings} == {Verdict.PASSED, Verdict.NOT_APPLICABLE}
    assert len(findings) == 9
    assert {request.method for request in shop.requests} == {"GET"}


def test_what_the_suite_makes_is_gone_afterwards(visit: Visit, shop: ShopSandbox) -> None:
    before = {id_ for id_, record in shop.state.records["customers"].items() if not record["deleted"]}
    findings = list(conform(Trial(visit, "customer", SAMPLE)))
    assert findings[-1].name == "what was made is deleted again"
    assert {id_ for id_, record in shop.state.records["customers"].items() if not record["deleted"]} == before


def test_salesforce_conforms(connect: Any) -> None:
    sample = {"Name": "Conformance", "AccountNumber": "00042", "AnnualRevenue": Decimal("1.50"), "Phone": "+49 30 1"}
    keyed = partial(connect, external_ids={"Account": "ERP_Id__c"})
    left = unproven(keyed, "Account", sample)
    assert set(left) == UNPROMISED, left


def test_the_graphql_sandbox_conforms(visit: Visit) -> None:
    assert unproven(lambda: visit("sandbox-graphql", method="oauth2"), "customer", SAMPLE) == {}


@pytest.mark.parametrize("method", ["basic", "oauth2"])
def test_the_soap_sandbox_conforms(visit: Visit, method: str) -> None:
    left = unproven(lambda: visit("sandbox-soap", method=method), "customer", SAMPLE)
    assert set(left) == (set() if method == "oauth2" else {"a sign-in that expires is renewed"}), left
