"""Descriptions: of the stand-in's entities, and of a real org's as far as its recorded answers are at hand."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_resources.contract import Entity, Field, FieldType, Window
from connector_resources.errors import ConfigurationError, ContractError
from connector_resources.salesforce.describe import description
from connector_resources.salesforce.resource import Salesforce
from connector_resources.sandbox import Sandbox

ARTEFACTS = Path(os.environ.get("INTEGRATION_ARTEFACTS") or Path(__file__).parents[3] / "shared" / "artefacts") / "salesforce"


def recorded(name: str) -> Any:
    file = ARTEFACTS / f"cumulusci-GET_sobjects_{name}_describe.yaml"
    if not file.exists():
        pytest.skip(f"the recorded describe answer of {name} is not in {ARTEFACTS}: set INTEGRATION_ARTEFACTS")
    return json.loads(yaml.safe_load(file.read_text())["response"]["body"]["string"])


def of(entity: Entity, name: str) -> Field:
    field = entity.field(name)
    assert field is not None, name
    return field


def test_entities_are_those_that_can_be_queried(sandbox: Sandbox, salesforce: Salesforce) -> None:
    assert set(salesforce.entities()) == set(sandbox.state.schema)
    body = {"sobjects": [{"name": "Account", "queryable": True}, {"name": "AccountChangeEvent", "queryable": False}]}
    sandbox.faults.add("status", path="/sobjects", status=200, body=body)
    assert salesforce.entities() == ["Account"]


def test_an_entity_is_described_once_a_connector(sandbox: Sandbox, salesforce: Salesforce) -> None:
    assert salesforce.describe("Contact") is salesforce.describe("Contact")
    assert sum("describe" in request.target for request in sandbox.requests) == 1


def test_an_unknown_entity_is_named_with_a_suggestion(salesforce: Salesforce) -> None:
    with pytest.raises(ConfigurationError, match=r"no entity 'Acount', .* did you mean 'Account'"):
        salesforce.describe("Acount")


@pytest.mark.parametrize("name", ["../limits", "Account/describe?", "", "a b"])
def test_what_cannot_be_an_entity_is_not_put_into_a_path(sandbox: Sandbox, salesforce: Salesforce, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a name"):
        salesforce.describe(name)
    assert sandbox.requests == []


def test_the_stand_in_s_account(salesforce: Salesforce) -> None:
    account = salesforce.describe("Account")
    assert (account.name, account.label, account.key, account.modified) == ("Account", "Account", "Id", "SystemModstamp")
    assert of(account, "Name") == Field("Name", FieldType.STRING, "Account Name", None, nullable=False, max_length=255)
    assert of(account, "ERP_Id__c") == Field("ERP_Id__c", FieldType.STRING, "ERP Id", None, unique=True, max_length=80)
    assert (of(account, "AnnualRevenue").type, of(account, "AnnualRevenue").scale) == (FieldType.DECIMAL, 2)
    assert of(account, "BillingLatitude").scale == 15
    assert of(account, "ParentId").references == ("Account",)
    assert of(account, "BillingGeocodeAccuracy").choices[0] == "Address"
    assert of(account, "Industry").choices == ()  # values outside the list are allowed
    assert account.field("BillingAddress") is None
    for name in ("Id", "SystemModstamp", "CreatedDate", "MasterRecordId", "IsDeleted"):
        assert of(account, name).computed
        assert not of(account, name).writable


def test_what_is_personal_is_declared_where_it_is_certain(salesforce: Salesforce) -> None:
    contact, account = salesforce.describe("Contact"), salesforce.describe("Account")
    for name in ("FirstName", "LastName", "Name", "Salutation", "Email", "MobilePhone", "MailingStreet", "Birthdate"):
        assert of(contact, name).personal is True, name
    for name in ("Id", "SystemModstamp", "Industry", "NumberOfEmployees", "AnnualRevenue", "Type", "BillingCountry"):
        assert of(account, name).personal is False, name
    for name in ("Name", "Description", "ERP_Id__c", "BillingCity", "AccountNumber"):
        assert of(account, name).personal is None, name
    assert of(account, "Phone").personal is True


@pytest.mark.parametrize("name", ["Account", "Contact", "Lead", "Opportunity"])
def test_a_real_org_s_description_is_understood(name: str) -> None:
    raw = recorded(name)
    entity = description(raw).entity
    assert (entity.name, entity.key, entity.modified) == (name, "Id", "SystemModstamp")
    left_out = {field["type"] for field in raw["fields"] if entity.field(field["name"]) is None}
    assert left_out <= {"address", "location", "base64", "anyType", "complexvalue"}
    assert len(set(entity.names)) == len(entity.fields) >= 40
    assert of(entity, "Id").computed
    assert of(entity, "OwnerId").references
    assert of(entity, "SystemModstamp").type is FieldType.INSTANT


def test_a_real_org_s_account_and_contact_in_detail() -> None:
    account, contact = description(recorded("Account")), description(recorded("Contact"))
    assert of(account.entity, "AnnualRevenue").scale == 2  # described with none
    assert of(account.entity, "NumberOfEmployees").type is FieldType.INTEGER
    assert of(account.entity, "Name").nullable is False
    assert account.parents["Parent"] == ("Account",)
    assert contact.parents["Owner"] == ("User",)
    assert of(contact.entity, "Name").computed
    assert of(contact.entity, "Name").personal
    assert of(contact.entity, "Birthdate").type is FieldType.DATE


@pytest.mark.parametrize(
    ("kind", "expected"), [("percent", FieldType.DECIMAL), ("long", FieldType.INTEGER), ("time", FieldType.STRING)]
)
def test_rarer_types(kind: str, expected: FieldType) -> None:
    assert described(kind)["F"].type is expected


@pytest.mark.parametrize("kind", ["address", "location", "base64", "anyType", "complexvalue", "of the future"])
def test_types_without_a_value_of_their_own_are_left_out(kind: str) -> None:
    assert described(kind) == {}


def test_formulas_and_automatic_numbers_are_computed() -> None:
    assert described("double", calculated=True)["F"].computed
    assert described("string", autoNumber=True)["F"].computed
    assert described("string", updateable=False)["F"].writable  # when a record is made


def test_choices_are_those_of_a_restricted_list_retired_ones_too() -> None:
    values = [{"value": "a", "active": True}, {"value": "b", "active": False}]
    assert described("picklist", restrictedPicklist=True, picklistValues=values)["F"].choices == ("a", "b")
    assert described("multipicklist", restrictedPicklist=True, picklistValues=values)["F"].choices == ()


def test_money_names_its_currency_in_an_org_that_has_several() -> None:
    raw = {"name": "E", "fields": [{**PLAIN, "name": "CurrencyIsoCode"}, {**PLAIN, "type": "currency"}]}
    assert of(description(raw).entity, "F").currency == "CurrencyIsoCode"
    assert described("currency")["F"].currency is None


PLAIN = {"name": "F", "type": "string", "label": "F", "nillable": True, "createable": True, "updateable": True}


def described(kind: str, **more: Any) -> dict[str, Field]:
    return {
        field.name: field for field in description({"name": "E", "fields": [{**PLAIN, "type": kind, **more}]}).entity.fields
    }


@pytest.mark.parametrize("answer", [None, [], {}, {"name": "E", "fields": [{}]}, {"name": "E", "fields": None}])
def test_a_description_in_another_form_stops(answer: Any) -> None:
    with pytest.raises(ContractError, match="form that the connector does not know"):
        description(answer)


def test_an_entity_without_deletion_or_change_marks_is_read_whole(sandbox: Sandbox, salesforce: Salesforce) -> None:
    for name in ("IsDeleted", "SystemModstamp", "LastModifiedDate", "CreatedDate"):
        sandbox.faults.add("hide", sobject="User", field=name)
    user = salesforce.describe("User")
    assert user.modified is None
    [page] = salesforce.read(user, ["Username"], Window(since=salesforce.given.now()))
    assert len(page.records) == 5
    assert page.marks["version"].isna().all()
    assert not page.marks["deleted"].any()
