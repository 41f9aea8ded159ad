"""The sobject types: their fields, and how a describe call tells of them.

Follows "sObject Describe" and "DescribeSObjectResult" of the REST and SOAP API Developer Guides.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

from connector_resources import lined_yaml

_SOAP = {
    "id": "tns:ID",
    "reference": "tns:ID",
    "boolean": "xsd:boolean",
    "int": "xsd:int",
    "double": "xsd:double",
    "currency": "xsd:double",
    "percent": "xsd:double",
    "date": "xsd:date",
    "datetime": "xsd:dateTime",
    "address": "urn:address",
}
_LENGTH = {"id": 18, "reference": 18, "phone": 40, "picklist": 40}
_ACCURACIES = "Address NearAddress Block Street ExtendedZip Zip Neighborhood City County State Unknown"
_ADDRESS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("Street", {"type": "textarea", "length": 255}),
    ("City", {"type": "string", "length": 40}),
    ("State", {"type": "string", "length": 80}),
    ("PostalCode", {"type": "string", "length": 20}),
    ("Country", {"type": "string", "length": 80}),
    ("Latitude", {"type": "double", "precision": 18, "scale": 15}),
    ("Longitude", {"type": "double", "precision": 18, "scale": 15}),
    ("GeocodeAccuracy", {"type": "picklist", "choices": _ACCURACIES.split(), "restricted": True}),
)
_WORDS = {"PostalCode": "Zip/Postal Code", "State": "State/Province", "GeocodeAccuracy": "Geocode Accuracy"}
_ALWAYS_FALSE = """aiPredictionField autoNumber calculated cascadeDelete caseSensitive dependentPicklist deprecatedAndHidden
    displayLocationInDecimal encrypted formulaTreatNullNumberAsZero highScaleNumber htmlFormatted namePointing
    polymorphicForeignKey restrictedDelete writeRequiresMasterRead"""
_ALWAYS_NULL = """calculatedFormula controllerName defaultValueFormula filteredLookupInfo inlineHelpText mask maskType
    referenceTargetField relationshipOrder"""
_CLOSED = "activateable custom customSetting deepCloneable deprecatedAndHidden hasSubtypes isInterface isSubtype"
_OPEN = "layoutable queryable replicateable retrieveable searchable"
_WRITABLE = "createable deletable feedEnabled mergeable mruEnabled triggerable undeletable updateable"
ADDRESS_PARTS = tuple(part for part, _ in _ADDRESS)


@dataclass(frozen=True)
class SField:
    """One field. `computed` and `system` ones are set by the org alone; a `system` one is never null. `unique` counts for
    `external` ones; a `fixed` one can be set by a create alone."""

    name: str
    type: str
    label: str
    length: int = 0
    precision: int = 0
    scale: int = 0
    digits: int = 0
    required: bool = False
    defaulted: bool = False
    writable: bool = True
    system: bool = False
    external: bool = False
    unique: bool = True
    fixed: bool = False
    lookup: bool = False
    name_field: bool = False
    to: str | None = None
    relationship: str | None = None
    choices: tuple[str, ...] = ()
    restricted: bool = False
    compound: str | None = None
    extra: str | None = None

    @property
    def nillable(self) -> bool:
        return not (self.required or self.defaulted or self.system or self.type in ("id", "boolean"))

    @property
    def numeric(self) -> bool:
        return self.type in ("int", "double", "currency", "percent")

    @property
    def filterable(self) -> bool:
        return self.type != "address" and self.length <= 4000

    def described(self) -> dict[str, Any]:
        """As one entry of `fields` in a describe answer."""
        custom = self.name.endswith("__c")
        identity = self.type == "id"
        plain = self.filterable and self.type not in ("double", "currency", "percent", "datetime")
        choices = [
            {"active": True, "defaultValue": False, "label": choice, "validFor": None, "value": choice}
            for choice in self.choices
        ]
        text = _SOAP.get(self.type, "xsd:string") == "xsd:string"
        return {
            **_all(_ALWAYS_FALSE, False),
            **_all(_ALWAYS_NULL, None),
            "aggregatable": self.filterable and self.type != "boolean",
            "byteLength": self.length * 3 if text else self.length,
            "compoundFieldName": self.compound,
            "createable": self.writable,
            "custom": custom,
            "defaultValue": False if self.type == "boolean" else None,
            "defaultedOnCreate": identity
            or self.defaulted
            or (self.system and self.type != "string")
            or self.type == "boolean",
            "digits": self.digits,
            "externalId": self.external,
            "extraTypeInfo": self.extra or ("plaintextarea" if self.type == "textarea" else None),
            "filterable": self.filterable or self.type == "address",  # by DISTANCE() alone, which is not spoken here
            "groupable": plain,
            "idLookup": identity or self.external or self.lookup,
            "label": self.label,
            "length": self.length,
            "name": self.name,
            "nameField": self.name_field,
            "nillable": self.nillable,
            "permissionable": self.nillable and (self.writable or self.type == "address") and self.compound != "Name",
            "picklistValues": choices,
            "precision": self.precision,
            "queryByDistance": self.type == "address",
            "referenceTo": [self.to] if self.to else [],
            "relationshipName": self.relationship,
            "restrictedPicklist": self.restricted,
            "scale": self.scale,
            "searchPrefilterable": self.type == "reference" and self.writable and not self.defaulted,
            "soapType": _SOAP.get(self.type, "xsd:string"),
            "sortable": self.filterable,
            "type": self.type,
            "unique": self.external and self.unique,
            "updateable": self.writable and not self.fixed,
        }


@dataclass(frozen=True)
class Child:
    """A relationship seen from the parent. `cascade`: children go when their parent is deleted."""

    sobject: str
    field: str
    relationship: str
    cascade: bool


@dataclass(frozen=True)
class SObjectType:
    name: str
    label: str
    plural: str
    prefix: str
    readonly: bool
    fields: Mapping[str, SField]
    children: tuple[Child, ...]

    @cached_property
    def by_lower_name(self) -> Mapping[str, SField]:
        return {name.lower(): field for name, field in self.fields.items()}

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Fields that a record must have."""
        return tuple(name for name, field in self.fields.items() if field.required)

    @cached_property
    def locking(self) -> tuple[str, ...]:
        """Fields that hold ids of what a write locks: the record, and its parents."""
        return ("Id", *(name for name, field in self.fields.items() if field.to not in (None, "User")))

    def described(self, base: str) -> dict[str, Any]:
        """As in a global describe; `base` is the path of the API's version ("/services/data/v67.0")."""
        place = f"{base}/sobjects/{self.name}"
        flags = _all(_CLOSED, False) | _all(_OPEN, True) | _all(_WRITABLE, not self.readonly)
        urls = {"rowTemplate": f"{place}/{{ID}}", "describe": f"{place}/describe", "sobject": place}
        return {
            **flags,
            "name": self.name,
            "label": self.label,
            "labelPlural": self.plural,
            "keyPrefix": self.prefix,
            "urls": urls,
        }


def _all(names: str, value: bool | None) -> dict[str, bool | None]:
    return dict.fromkeys(names.split(), value)


def load_schema() -> dict[str, SObjectType]:
    """Every sobject type by its name."""
    text = (resources.files(__package__ or "") / "sobjects.yaml").read_text(encoding="utf-8")
    document, _ = lined_yaml.load(text)
    found = {}
    for name, raw in document["sobjects"].items():
        merged = {"Id": {"type": "id", "label": f"{raw['label']} ID"}}
        merged |= document["common"] | raw["fields"] | document["audit"]
        readonly = raw.get("readonly", False)
        if readonly or raw.get("unowned"):
            merged.pop("OwnerId")
        fields = {field.name: field for key, spec in merged.items() for field in _fields(key, spec, readonly)}
        children = tuple(Child(**child) for child in raw.get("children", []))
        found[name] = SObjectType(name, raw["label"], raw["plural"], raw["prefix"], readonly, fields, children)
    return found


def _fields(name: str, raw: Mapping[str, Any], readonly: bool) -> Iterator[SField]:
    if "address" in raw:
        for part, spec in _ADDRESS:
            label = f"{name} {_WORDS.get(part, part)}"
            yield from _fields(name + part, {**spec, "label": label, "compound": f"{name}Address"}, readonly)
        yield SField(f"{name}Address", "address", f"{name} Address", writable=False)
        return
    spec = {key: value for key, value in raw.items() if key not in ("name", "computed", "choices", "length")}
    yield SField(
        name,
        name_field=raw.get("name", False),
        writable=not (readonly or raw.get("computed") or raw.get("system") or name in ("Id", "IsDeleted")),
        length=raw.get("length", _LENGTH.get(raw["type"], 0)),
        choices=tuple(raw.get("choices", ())),
        **spec,
    )
