"""Applying a mapping to a batch: null and absent, defaults, conditions, failures, JSON, child lines, match keys, seeds."""

import json
from collections.abc import Mapping as Table
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from connector_resources.catalogue import load_catalogue
from connector_resources.contract import Entity, Field, FieldType
from connector_resources.frames import arrow_type
from integration_pipelines.canonical import array, frame, record_index
from integration_pipelines.model import Batch, absence_frame, marks_frame
from integration_pipelines.steps.map import apply
from integration_pipelines.steps.mapping import Mapping, check, compile_mapping, from_json, parse_yaml

ERP = {name: described.entity for name, described in load_catalogue().items()}
SEEDS = Path(__file__).parents[2] / "mappings" / "salesforce"
TEXT, JSON = FieldType.STRING, FieldType.JSON
SOURCE = Entity(
    "Account",
    (
        *(Field(name, TEXT) for name in ("Name", "City", "Country", "Phone", "Kind", "Amount")),
        Field("Staff", FieldType.INTEGER),
        Field("Revenue", FieldType.DECIMAL, scale=4),
        Field("Address", JSON),
        Field("Items", JSON),
        Field("OwnerId", TEXT, references=("User",)),
    ),
    "Id",
)
ABSENT = object()


def batch(columns: Table[str, list[Any]], source: Entity = SOURCE, deleted: list[bool] | None = None) -> Batch:
    """Records r0, r1, …; ABSENT where the other side did not say."""
    count = len(next(iter(columns.values())))
    index = record_index([f"r{at}" for at in range(count)])
    types = {field.name: arrow_type(field) for field in source.fields}
    values = {n: pa.array([None if v is ABSENT else v for v in vs], types.get(n, pa.string())) for n, vs in columns.items()}
    absent = {
        n: array(frame({"x": pa.array([v is ABSENT for v in vs])}, index)["x"]).to_numpy(False) for n, vs in columns.items()
    }
    return Batch(frame(values, index), marks_frame(index, deleted=deleted), absence_frame(absent, index))


def compiled(*rules: Any, target: str = "customer", **functions: Any) -> Mapping:
    return compile_mapping(from_json("m", "Account", target, list(rules), functions), ERP[target], SOURCE, ERP)


def outcome(mapping: Mapping, given: Batch, field: str) -> list[Any]:
    """The field's values in the mapped batch, ABSENT where it is."""
    mapped = apply(mapping, given)
    values = array(mapped.records[field]).to_pylist()
    return [ABSENT if gone else value for value, gone in zip(values, mapped.absence(field), strict=True)]


def test_null_and_absent_stay_different() -> None:
    mapping = compiled({"source": "City", "target": "billing_city", "transforms": ["trim"]})
    assert outcome(mapping, batch({"City": [" Ulm ", None, ABSENT]}), "billing_city") == ["Ulm", None, ABSENT]


def test_a_column_that_the_other_side_did_not_send_is_absent() -> None:
    mapping = compiled({"source": "City", "target": "billing_city"})
    assert outcome(mapping, batch({"Name": ["a"]}), "billing_city") == [ABSENT]


@pytest.mark.parametrize(
    ("default_on", "expected"),
    [
        ("null", ["Ulm", "-", ABSENT]),
        (None, ["Ulm", "-", ABSENT]),
        ("absent", ["Ulm", None, "-"]),
        ("both", ["Ulm", "-", "-"]),
    ],
)
def test_a_default_takes_the_place_of_what_it_says(default_on: str | None, expected: list[Any]) -> None:
    rule = {
        "source": "City",
        "target": "billing_city",
        "transforms": ["empty_to_null"],
        "default": "-",
        "default_on": default_on,
    }
    assert outcome(compiled(rule), batch({"City": ["Ulm", "", ABSENT]}), "billing_city") == expected


def test_a_target_is_absent_when_any_source_that_it_depends_on_is() -> None:
    mapping = compiled({"source": "Name", "target": "name", "transforms": [{"concat": ["City"]}]})
    given = batch({"Name": ["a", "b", ABSENT], "City": ["c", ABSENT, "d"]})
    assert outcome(mapping, given, "name") == ["a c", ABSENT, ABSENT]


def test_deleted_records_pass_through_with_every_field_absent() -> None:
    mapping = compiled({"source": "Name", "target": "name", "required": True}, {"constant": True, "target": "active"})
    mapped = apply(mapping, batch({"Name": [None, "a"]}, deleted=[True, False]))
    assert list(mapped.records.index) == ["r0", "r1"]
    assert mapped.absence("name").tolist() == mapped.absence("active").tolist() == [True, False]
    assert mapped.deleted.tolist() == [True, False]
    assert len(mapped.rejected) == 0


def test_columns_have_the_types_of_the_target_in_the_order_of_the_rules() -> None:
    mapping = compiled(
        {"source": "Staff", "target": "credit_limit"},
        {"source": "Revenue", "target": "annual_revenue", "transforms": [{"round": 2}]},
        {"constant": 30, "target": "payment_terms_days"},
        {"constant": "2024-01-31", "target": "customer_since"},
    )
    mapped = apply(mapping, batch({"Staff": [7], "Revenue": [Decimal("1.0050")]}))
    assert list(mapped.records.columns) == [field.name for field in mapping.fields]
    assert [array(mapped.records[f.name]).type for f in mapping.fields] == [arrow_type(f) for f in mapping.fields]
    assert [array(mapped.records[f.name])[0].as_py() for f in mapping.fields] == [
        Decimal(7),
        Decimal(1),
        30,
        date(2024, 1, 31),
    ]
    assert mapped.absent is None


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ({"equals": 100}, ["yes", "no", "no"]),
        ({"in": ["100.0", "1"]}, ["yes", "no", "no"]),
        ({"not_in": [0]}, ["yes", "no", "yes"]),
        ({"equals": "much"}, ["no", "no", "no"]),
    ],
)
def test_a_condition_on_a_decimal_compares_numbers_and_not_their_spelling(test: Table[str, Any], expected: list[str]) -> None:
    given = batch({"Name": ["a", "b", "c"], "Revenue": [Decimal("100"), Decimal(0), None]})
    when = {"source": "Revenue", **test}
    held = [ABSENT if one == "no" else name for one, name in zip(expected, "abc", strict=True)]
    assert outcome(compiled({"source": "Name", "target": "name", "when": when}), given, "name") == held
    chosen = compiled({"source": "Name", "target": "name", "transforms": [{"when": {**when, "then": "yes", "else": "no"}}]})
    assert outcome(chosen, given, "name") == expected
    synced = apply(compiled({"source": "Name", "target": "name"}, when=when), given)
    assert ["no" if out else "yes" for out in array(synced.marks["outside"]).to_pylist()] == expected


def test_a_required_value_that_is_null_sets_the_record_aside_and_an_absent_one_does_not() -> None:
    mapping = compiled({"source": "Name", "target": "name", "transforms": ["empty_to_null"], "required": True})
    mapped = apply(mapping, batch({"Name": ["a", "", ABSENT]}))
    assert list(mapped.records.index) == ["r0", "r2"]
    assert mapped.rejected[["record_id", "error_type", "field", "rule"]].values.tolist() == [
        ["r1", "mapping", "name", "1: required"]
    ]


def test_a_failure_names_field_and_rule_and_keeps_the_external_record() -> None:
    mapping = compiled(
        {"source": "Name", "target": "name"},
        {"source": "Amount", "target": "credit_limit", "transforms": ["trim", "to_decimal"]},
    )
    mapped = apply(mapping, batch({"Name": ["a", "b"], "Amount": ["secret", "1.50"]}))
    (row,) = mapped.rejected.to_dict("records")
    assert (row["record_id"], row["error_type"], row["field"], row["rule"]) == (
        "r0",
        "mapping",
        "credit_limit",
        "2: to_decimal",
    )
    assert row["message"].startswith("What Amount holds is not a number written with these separators")
    assert "secret" not in row["message"] + row["details"]
    assert json.loads(row["data"]) == {"Name": "a", "Amount": "secret"}
    assert array(mapped.records["credit_limit"]).to_pylist() == [Decimal("1.50")]


def test_a_decimal_that_would_lose_digits_is_set_aside_and_not_rounded() -> None:
    mapping = compiled({"source": "Amount", "target": "credit_limit", "transforms": ["to_decimal"]})
    mapped = apply(mapping, batch({"Amount": ["0.10", "0.105"]}))
    assert array(mapped.records["credit_limit"]).to_pylist() == [Decimal("0.10")]
    assert mapped.rejected["rule"].tolist() == ["1: type"]


def test_only_the_first_rule_that_fails_is_named() -> None:
    failing = [{"source": "Phone", "target": name, "transforms": ["phone"]} for name in ("phone", "notes")]
    mapped = apply(compiled(*failing), batch({"Phone": ["x", "+4989123456"]}))
    assert mapped.rejected["rule"].tolist() == ["1: phone"]


def test_a_rule_whose_condition_does_not_hold_leaves_the_target_alone_and_cannot_fail() -> None:
    rule = {"source": "Phone", "target": "phone", "transforms": ["phone"], "when": {"source": "Kind", "in": ["a", "b"]}}
    given = batch({"Phone": ["+4989123456", "x", "x"], "Kind": ["a", "c", ABSENT]})
    assert outcome(compiled(rule), given, "phone") == ["+4989123456", ABSENT, ABSENT]


def test_a_path_leads_into_json_where_a_missing_key_is_absent_and_null_is_null() -> None:
    mapping = compiled({"source": "Address.geo.city", "target": "billing_city"})
    texts = ['{"geo":{"city":"Ulm"}}', '{"geo":{"city":null}}', '{"geo":null}', '{"geo":{}}', None, '{"geo":{"city":7.50}}']
    assert outcome(mapping, batch({"Address": texts}), "billing_city") == ["Ulm", None, None, ABSENT, None, "7.50"]


def test_values_inside_json_are_read_as_what_the_target_is() -> None:
    mapping = compiled({"source": "Address.staff", "target": "employees"}, {"source": "Address.tags.1", "target": "notes"})
    given = batch({"Address": ['{"staff":12,"tags":["a","b"]}', '{"staff":"many","tags":["a","b"]}', "not json"]})
    mapped = apply(mapping, given)
    assert array(mapped.records["employees"]).to_pylist() == [12]
    assert array(mapped.records["notes"]).to_pylist() == ["b"]
    assert mapped.rejected["rule"].tolist() == ["1: type", "1: source"]


def test_a_field_of_a_parent_is_read_under_its_dotted_name() -> None:
    given = batch({"Owner.Name": ["Ada"]})
    assert outcome(compiled({"source": "Owner.Name", "target": "notes"}), given, "notes") == ["Ada"]


def test_a_reference_holds_the_external_id_of_the_parent() -> None:
    rule = {"source": "OwnerId", "target": "customer_id", "reference": {"entity": "customer", "external": "Account"}}
    mapping = compiled(rule, target="contact_person")
    reference = mapping.references["customer_id"]
    assert (reference.erp_entity, reference.external_entity) == ("customer", "Account")
    assert outcome(mapping, batch({"OwnerId": ["001A", None]}), "customer_id") == ["001A", None]


ORDER_LINES = {
    "source": "Items",
    "target": "lines",
    "lines": [
        {"source": "No", "target": "line_number"},
        {"source": "Product.Id", "target": "item_id", "reference": "item"},
        {"source": "Qty", "target": "quantity", "transforms": [{"to_decimal": {"decimal": ","}}]},
        {"source": "Day", "target": "requested_date"},
    ],
}


def test_child_lines_become_a_list_with_the_lines_own_fields_and_types() -> None:
    mapping = compiled(ORDER_LINES, target="sales_order")
    items = [
        [{"No": 1, "Product": {"Id": "P1"}, "Qty": "1,5", "Day": "2024-02-29"}, {"No": 2, "Qty": "2", "Day": None}],
        [],
        None,
    ]
    texts = [None if item is None else json.dumps(item) for item in items]
    first, second, third = outcome(mapping, batch({"Items": texts}), "lines")
    assert json.loads(first) == [
        {"line_number": 1, "item_id": "P1", "quantity": 1.5, "requested_date": "2024-02-29"},
        {"line_number": 2, "quantity": 2, "requested_date": None},
    ]
    assert (second, third) == ("[]", None)
    assert mapping.references["lines.item_id"].erp_entity == "item"


def test_one_bad_line_sets_its_document_aside_and_no_other() -> None:
    texts = ['[{"No":1,"Qty":"1"},{"No":2,"Qty":"x"}]', '[{"No":1,"Qty":"1"}]', '{"No":1}', "["]
    mapped = apply(compiled(ORDER_LINES, target="sales_order"), batch({"Items": texts}))
    assert list(mapped.records.index) == ["r1"]
    assert mapped.rejected[["record_id", "field", "rule"]].values.tolist() == [
        ["r0", "lines.quantity", "1.3: to_decimal"],
        ["r2", "lines", "1: lines"],
        ["r3", "lines", "1: lines"],
    ]


def test_both_sides_match_keys_are_normalised_alike_and_a_missing_part_never_matches() -> None:
    mapping = compiled(
        {"source": "Name", "target": "name", "match": True},
        {"source": "Country", "target": "billing_country_code", "match": True},
        match=["collapse_spaces", "lower"],
    )
    assert mapping.match == ("name", "billing_country_code")
    mapped = apply(mapping, batch({"Name": [" ACME  Corp", "Other", " "], "Country": ["US", None, "US"]}))
    index = record_index(["e1"])
    erp = frame({"name": pa.array(["Acme corp"]), "billing_country_code": pa.array(["us"])}, index)
    external, ours = mapping.match_text(mapped.records).to_pylist(), mapping.match_text(erp).to_pylist()
    assert external == [ours[0], None, None]
    assert compiled({"source": "Name", "target": "name"}).match_text(mapped.records).to_pylist() == [None, None, None]


def salesforce(entity: str, **other: FieldType) -> Entity:
    """As a describe call tells it, as far as the seed asks."""
    seed = parse_yaml(next(SEEDS.glob(f"{entity.lower()}-*.yaml")).read_text(encoding="utf-8"), "seed")
    names = {name: other.get(name, TEXT) for rule in seed.rules for name in rule.sources}
    return Entity(entity, tuple(Field(name, kind, scale=2) for name, kind in names.items()), "Id")


def seed(file: str, source: Entity) -> Mapping:
    read = parse_yaml((SEEDS / file).read_text(encoding="utf-8"), file)
    check(read, ERP[read.target_entity], source, ERP)
    return compile_mapping(read, ERP[read.target_entity], source, ERP)


def test_the_seed_for_accounts_makes_customers_and_no_odd_phone_or_country_stops_one() -> None:
    source = salesforce("Account", AnnualRevenue=FieldType.DECIMAL, NumberOfEmployees=FieldType.INTEGER)
    mapping = seed("account-customer.yaml", source)
    given: dict[str, list[Any]] = {field.name: [None, None] for field in source.fields}
    given |= {"Name": [" ACME  AG", "Odd"], "AccountNumber": ["c-1 ", None], "Phone": ["089 123456", "ask for Bob"]}
    given |= {"BillingCountry": ["Germany", "Ruritania"], "AnnualRevenue": [Decimal("1000.50"), None]}
    mapped = apply(mapping, batch(given, source))
    assert len(mapped.rejected) == 0
    first, second = mapped.records.to_dict("records")
    assert (first["name"], first["phone"], first["billing_country_code"]) == ("ACME AG", "+4989123456", "DE")
    assert (first["annual_revenue"], first["active"]) == (Decimal("1000.50"), True)
    assert second["phone"] == "ask for Bob"
    assert array(mapped.records["billing_country_code"]).to_pylist() == ["DE", None]
    assert mapping.null_policy("billing_country_code") == "keep"
    assert mapping.match_text(mapped.records).to_pylist() == ["C-1", None]


def test_the_seed_for_contacts_makes_contact_persons_of_their_customer() -> None:
    source = salesforce("Contact", Birthdate=FieldType.DATE)
    mapping = seed("contact-contact_person.yaml", source)
    given: dict[str, list[Any]] = {field.name: [None, None] for field in source.fields}
    given |= {"LastName": ["Byron", None], "AccountId": ["001A", "001B"], "Email": [" Ada@Example.org", None]}
    given |= {"Birthdate": [date(1815, 12, 10), None], "MobilePhone": ["+44 20 7946 0018", None]}
    mapped = apply(mapping, batch(given, source))
    (person,) = mapped.records.to_dict("records")
    assert (person["customer_id"], person["birth_date"], person["mobile"]) == ("001A", date(1815, 12, 10), "+442079460018")
    assert mapping.match_text(mapped.records).to_pylist() == ["ada@example.org"]
    assert mapped.rejected[["record_id", "rule"]].values.tolist() == [["r1", "5: required"]]
