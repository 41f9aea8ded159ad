"""An entity's description from Salesforce's own ("sObject Describe"; field types as in the Object Reference, "Field Types").

Left out are fields whose value is no value of the record's own or has no fixed type: address and location (compounds of
fields that are there one by one, and not writable), base64 (a URL, one more call a record), anyType and complexvalue.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from connector_resources.contract import Entity, Field, FieldType, Lines
from connector_resources.errors import ConfigurationError, ContractError

_KEY = 36  # characters: where no field is mapped to the key, the write's intent stands in it
_TEXTS = ("string", "textarea", "phone", "email", "url", "picklist", "multipicklist", "combobox", "encryptedstring")
TYPES: Mapping[str, FieldType] = {
    **dict.fromkeys((*_TEXTS, "id", "reference", "time", "datacategorygroupreference"), FieldType.STRING),
    **dict.fromkeys(("int", "long"), FieldType.INTEGER),
    **dict.fromkeys(("double", "currency", "percent"), FieldType.DECIMAL),
    "boolean": FieldType.BOOLEAN,
    "date": FieldType.DATE,
    "datetime": FieldType.INSTANT,
}

# Salesforce does not say what is personal. Standard fields of which it is certain either way; the rest is not declared.
_PERSONAL = re.compile(
    r"(Person)?(FirstName|LastName|MiddleName|Salutation|Suffix|InformalName|Birthdate|AssistantName|Title)"
    r"|Username|Alias|CommunityNickname|FederationIdentifier|EmailBouncedReason|Jigsaw\w*Id|PhotoUrl"
    r"|\w*(Street|Latitude|Longitude|Phone|Fax|Email)"
)
_IMPERSONAL = re.compile(
    r"Id|IsDeleted|SystemModstamp|CreatedDate|LastModifiedDate|LastActivityDate|LastViewedDate|LastReferencedDate"
    r"|MasterRecordId|ParentId|RecordTypeId|CurrencyIsoCode|Type|Industry|NumberOfEmployees|AnnualRevenue|Ownership|Rating"
    r"|Sic|SicDesc|NaicsCode|NaicsDesc|TickerSymbol|AccountSource|LeadSource|CleanStatus|IsPartner|IsCustomerPortal|IsActive"
    r"|YearStarted|StageName|Probability|Amount|CloseDate|IsClosed|IsWon|ForecastCategory|FiscalYear|FiscalQuarter|Status"
    r"|OrganizationType|\w*(Country|State|CountryCode|StateCode|GeocodeAccuracy)"
)


_NO_LINES = ("Feed", "History", "Share", "ChangeEvent", "Link", "Relation")  # what an org keeps beside its records


@dataclass(frozen=True)
class Description:
    """`parents`: relationship → entities that it may lead to (Owner → Group, User). `keys`: unique external id fields.

    The entity's `lines` are the children that go when it goes: Order.OrderItems, Opportunity.OpportunityLineItems."""

    entity: Entity
    parents: Mapping[str, tuple[str, ...]]
    keys: frozenset[str] = frozenset()


def description(answer: Any) -> Description:
    """From the JSON of a describe call. Raises ContractError when it is not one."""
    try:
        raw = answer["fields"]
        names = {field["name"] for field in raw}
        fields = tuple(_field(field, "CurrencyIsoCode" in names) for field in raw if field["type"] in TYPES)
        parents = {
            field["relationshipName"]: tuple(field["referenceTo"])
            for field in raw
            if field.get("relationshipName") and field.get("referenceTo")
        }
        keys = frozenset(field["name"] for field in raw if field.get("externalId") and field.get("unique"))
        modified = next((name for name in ("SystemModstamp", "LastModifiedDate", "CreatedDate") if name in names), None)
        active = next((f.name for f in fields if f.name == "IsActive" and f.type is FieldType.BOOLEAN and f.writable), None)
        lines = tuple(
            Lines(one["relationshipName"], one["childSObject"], one["field"])
            for one in answer.get("childRelationships") or ()
            if one.get("cascadeDelete") and one.get("relationshipName") and not one["childSObject"].endswith(_NO_LINES)
        )
        entity = Entity(answer["name"], fields, "Id", answer.get("label") or "", modified, active, lines=lines)
    except (KeyError, TypeError, AttributeError):
        raise ContractError("Salesforce described an entity in a form that the connector does not know.") from None
    return Description(entity, parents, keys)


def keyed(found: Description, name: str) -> Description:
    """With this field as the key that creates are recognised by. Raises ConfigurationError where it cannot be one."""
    entity = found.entity
    field = entity.field(name)
    there = f"The external id {name} of {entity.name}, which the connector's external_ids name,"
    if field is None:
        raise ConfigurationError(
            f"{there} is not there, or hidden from the connector's user; there is {', '.join(sorted(found.keys)) or 'none'}."
        )
    if name not in found.keys:
        raise ConfigurationError(
            f"{there} does not tell records apart: tick External ID and Unique on that field there, or name another one."
        )
    if field.type is not FieldType.STRING or (field.max_length or _KEY) < _KEY or not field.writable:
        raise ConfigurationError(f"{there} must be a text of {_KEY} characters or more that may be written; name another one.")
    return replace(found, entity=replace(entity, upsert_key=name))


def _field(raw: Mapping[str, Any], currencies: bool) -> Field:
    kind, given = TYPES[raw["type"]], raw["type"]
    writable = bool(raw["createable"] or raw["updateable"])
    length = raw.get("length") or 0
    restricted = given == "picklist" and raw.get("restrictedPicklist")
    return Field(
        name=raw["name"],
        type=kind,
        label=raw.get("label") or raw["name"],
        personal=_personal(raw),
        nullable=bool(raw["nillable"]),
        writable=writable,
        computed=bool(raw.get("calculated") or raw.get("autoNumber") or not writable),
        fixed=bool(raw["createable"] and not raw["updateable"]),
        unique=bool(raw.get("unique")) or given == "id",
        max_length=length if given in _TEXTS and length > 0 else None,
        scale=_scale(raw) if kind is FieldType.DECIMAL else 0,
        # inactive choices too: records may still hold them
        choices=tuple(choice["value"] for choice in raw["picklistValues"]) if restricted else (),
        references=tuple(raw.get("referenceTo") or ()),
        currency="CurrencyIsoCode" if given == "currency" and currencies else None,
    )


def _scale(raw: Mapping[str, Any]) -> int:
    """Money keeps at least its cents: orgs describe AnnualRevenue with no decimals, and hold some all the same."""
    scale = int(raw.get("scale") or 0)
    return max(scale, 2) if raw["type"] == "currency" else scale


def _personal(raw: Mapping[str, Any]) -> bool | None:
    name = raw["name"]
    if raw["type"] in ("email", "phone", "encryptedstring") or raw.get("extraTypeInfo") == "personname":
        return True
    if name.endswith("__c"):
        return None
    if _IMPERSONAL.fullmatch(name):
        return False
    return True if _PERSONAL.fullmatch(name) else None
