"""What a mapping may say, and how it is refused."""

import inspect
import re
from pathlib import Path

import pytest

from connector_resources import catalogue
from connector_resources.catalogue import load_catalogue
from connector_resources.contract import Entity, Field, FieldType, Lines
from connector_resources.errors import ConfigurationError
from integration_pipelines.steps.mapping import MappingDefinition, check, compile_mapping, from_json, parse_yaml
from integration_pipelines.steps.mapping_grammar import FUNCTIONS, RULE
from integration_pipelines.steps.transforms import TRANSFORMS

MAPPINGS = Path(__file__).parents[2] / "mappings"
ERP = {name: described.entity for name, described in load_catalogue().items()}
HEAD = "source_entity: Account\ntarget_entity: customer\n"
ACCOUNT = Entity(
    "Account",
    (
        Field("Id", FieldType.STRING),
        Field("Name", FieldType.STRING),
        Field("Staff", FieldType.INTEGER),
        Field("Revenue", FieldType.DECIMAL, scale=4),
        Field("Created", FieldType.INSTANT),
        Field("Address", FieldType.JSON),
        Field("ParentId", FieldType.STRING, references=("Account",)),
    ),
    "Id",
)
ACTIVE = {"constant": True, "target": "active"}
NAME = {"source": "Name", "target": "name"}


def definition(*rules: object, **functions: object) -> MappingDefinition:
    return from_json("accounts", "Account", "customer", list(rules), functions)


def test_the_example_of_the_requirement_is_a_mapping() -> None:
    found = from_json("example", "Account", "customer", [{"source": "customer_name", "target": "name"}], None)
    assert [(rule.source, rule.target, rule.direction) for rule in found.rules] == [("customer_name", "name", "both")]


def test_a_file_and_its_row_of_the_database_are_the_same_mapping() -> None:
    for path in sorted(MAPPINGS.glob("salesforce/*.yaml")):
        read = parse_yaml(path.read_text(encoding="utf-8"), path.name)
        assert from_json(read.mapping_name, read.source_entity, read.target_entity, *read.to_json()) == read


def test_what_is_handed_out_as_json_cannot_change_the_definition() -> None:
    found = definition(NAME)
    found.to_json()[0][0]["target"] = "email"
    assert found.to_json()[0] == [NAME]


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (
            "{source: A, target: name, transforms: [trim, uper]}",
            "line 4, rule 1, transforms: unknown transform 'uper'; did you mean 'upper'?",
        ),
        ("{source: A, target: name, transfroms: [trim]}", "unknown key 'transfroms'; did you mean 'transforms'?"),
        ("{source: A}", "line 4, rule 1: 'target' is missing"),
        ("{target: name}", "either a 'source', a 'constant' or an 'expression'"),
        ("{source: A, target: name, transforms: [{truncate: long}]}", "'length' of 'truncate' must be a whole number"),
        ("{source: A, target: name, transforms: [truncate]}", "'truncate' needs 'length': a whole number"),
        ("{source: A, target: name, transforms: [{truncate: {length: 3, on_error: ignore}}]}", "'on_error' is one of reject"),
        ("{source: A, target: name, transforms: [{trim: 3}]}", "'trim' takes no arguments"),
        ("{source: A, target: name, transforms: [{lookup: terms}]}", "there is no lookup table 'terms'"),
        ("{source: A, target: name, transforms: [{regex_replace: '(a'}]}", "'regex_replace': Invalid regular expression"),
        ("{source: A, target: name, transforms: [{regex_replace: {pattern: a, by: \\1}}]}", "Invalid replacement string"),
        ("{source: A, target: name, transforms: [{in_zone: Europe/Berlim}]}", "there is no time zone 'Europe/Berlim'"),
        ("{source: A, target: name, transforms: [{to_date: [DD.MM.YYYY]}]}", "'DD.MM.YYYY' is no format"),
        ("{source: A, target: name, transforms: [{to_date: ['%d.%m.']}]}", "'%d.%m.' has no year"),
        ("{source: A, target: name, transforms: [{to_date: ['%Y-%m-%Y']}]}", "'%Y-%m-%Y' names a part twice"),
        (
            "{source: A, target: name, transforms: [{lookup: {table: {a: x, A: y}, ignore_case: true}}]}",
            "the table tells keys apart by their case",
        ),
        ("{source: A, target: name, transforms: [{divide: 0}]}", "must not be zero"),
        ("{source: A, target: name, transforms: [{to_decimal: {group: '-'}}]}", "neither is a digit, + or -"),
        ("{source: A, target: name, transforms: [{phone: Ruritania}]}", "is an ISO 3166-1 code"),
        ("{source: A, target: name, transforms: [{money: {}}]}", "say either 'scale' or 'currency_field'"),
        ("{source: A, target: name, owner: both}", "'owner' cannot be 'both'"),
        ("{source: A, target: name, when: {source: B}}", "say one of 'equals', 'in', 'not_in' and 'is_null'"),
        ("{source: A, target: name, when: {equals: x}}", "'when' needs the 'source'"),
        ("{source: A, target: name, transforms: [upper], direction: both}", "cannot be turned round"),
        ("{constant: x, target: name, transforms: [upper]}", "a constant takes no transforms"),
        ("{source: L, target: lines, lines: [{source: a, target: b, transforms: [uper]}]}", "rule 1.1, transforms: unknown"),
        (
            "{source: A, target: name}\n  - {source: B, target: name}",
            "line 5, rule 2, target: 'name' is set by rule 1 already",
        ),
    ],
)
def test_a_mistake_is_refused_with_its_line_and_the_way_out(rule: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(sentence)) as caught:
        parse_yaml(f"{HEAD}mappings:\n  - {rule}\n", "account-customer.yaml")
    assert str(caught.value).startswith("account-customer.yaml, line ")


def test_json_is_refused_with_the_number_of_the_rule() -> None:
    with pytest.raises(ConfigurationError, match=r"^mapping accounts, rule 2, transforms: unknown transform 'uper'"):
        definition(NAME, {"source": "Name", "target": "email", "transforms": ["uper"]})


def test_a_float_is_refused_because_it_is_not_exact() -> None:
    with pytest.raises(ConfigurationError, match="must be text or a whole number"):
        definition({"source": "Revenue", "target": "credit_limit", "transforms": [{"multiply": 0.1}]})
    with pytest.raises(ConfigurationError, match="float, which is not exact"):
        definition({"constant": 0.1, "target": "credit_limit"})


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"source": "Name", "target": "nmae"}, "customer has no field 'nmae'; did you mean 'name'?"),
        ({"source": "Naem", "target": "email"}, "Account has no field 'Naem'; did you mean 'Name'?"),
        ({"source": "Naem.x", "target": "email", "when": {"source": "Stuff", "is_null": True}}, "has no field 'Stuff'"),
        ({"source": "Id", "target": "id"}, "set by the ERP itself"),
        ({"source": "Name", "target": "credit_limit"}, "add one of the transforms to_decimal, parse_money"),
        ({"source": "Created", "target": "customer_since"}, "add one of the transforms in_zone"),
        ({"source": "Revenue", "target": "credit_limit"}, "'Revenue' has 4 decimals and 'credit_limit' 2; add {round: 2}"),
        ({"source": "Revenue", "target": "website", "transforms": ["trim"]}, "'trim' takes string, and here comes decimal"),
        ({"source": "ParentId", "target": "email", "reference": "customer"}, "'email' refers to nothing"),
        ({"source": "Address", "target": "email", "lines": [NAME]}, "'email' holds no child lines"),
        ({"constant": "many", "target": "employees"}, "'constant' does not fit 'employees', which is integer"),
    ],
)
def test_a_rule_that_does_not_fit_the_entities_is_refused(rule: object, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        check(definition(NAME, ACTIVE, rule), ERP["customer"], ACCOUNT, ERP)


def test_a_field_that_each_record_must_have_needs_a_rule() -> None:
    with pytest.raises(ConfigurationError, match="customer needs 'active', and no rule sets it"):
        check(definition(NAME), ERP["customer"], ACCOUNT)
    check(definition(NAME, ACTIVE), ERP["customer"], ACCOUNT)


def test_a_reference_must_lead_where_the_field_leads() -> None:
    def orders(rule: object) -> MappingDefinition:
        return from_json("orders", "Order", "invoice", [rule], {})

    for rule, sentence in (
        ({"source": "A", "target": "customer_id"}, "add 'reference: customer'"),
        ({"source": "A", "target": "customer_id", "reference": "vendor"}, "refers to customer, not to 'vendor'"),
        ({"source": "A", "target": "customer_id", "reference": "custmer"}, "no entity 'custmer'; did you mean 'customer'?"),
    ):
        with pytest.raises(ConfigurationError, match=re.escape(sentence)):
            check(orders(rule), ERP["invoice"], None, ERP)


def test_child_lines_are_held_against_the_entity_of_the_line() -> None:
    target = Entity(
        "order", (Field("id", FieldType.STRING),), "id", lines=(Lines("lines", "order_line", "order_id", "number"),)
    )
    line = Entity(
        "order_line",
        (Field("order_id", FieldType.STRING, nullable=False), Field("number", FieldType.INTEGER, nullable=False)),
        "id",
    )

    def lines(*rules: object) -> MappingDefinition:
        return from_json("orders", "Order", "order", [{"source": "Items", "target": "lines", "lines": list(rules)}], {})

    with pytest.raises(ConfigurationError, match=r"rule 1\.1, target: order_line has no field 'nr'"):
        check(lines({"source": "No", "target": "nr"}), target, None, {"order_line": line})
    with pytest.raises(ConfigurationError, match="rule 1, lines: order_line needs 'number'"):
        check(lines({"source": "No", "target": "order_id"}), target, None, {"order_line": line})
    check(lines({"source": "No", "target": "number"}), target, None, {"order_line": line})


def test_a_read_asks_for_every_field_that_a_rule_needs_once() -> None:
    mapping = compile_mapping(
        definition(
            {"source": "Address.city", "target": "billing_city"},
            {"source": "Address.country", "target": "billing_country_code", "transforms": ["country"]},
            {"source": "Parent.Name", "target": "notes"},
            {"source": "Name", "target": "name", "when": {"source": "Staff", "not_in": [0]}},
            {"source": "Id", "target": "phone", "transforms": [{"phone": {"country_field": "Address.country"}}]},
            {"source": "Nowhere", "target": "email", "direction": "outbound"},
        ),
        ERP["customer"],
        ACCOUNT,
    )
    assert mapping.source_fields == ("Address", "Parent.Name", "Name", "Staff", "Id")
    assert [f.name for f in mapping.fields] == ["billing_city", "billing_country_code", "notes", "name", "phone"]


def test_owner_null_policy_and_strategy_are_the_rules_or_else_the_mappings() -> None:
    rule = {"source": "Id", "target": "email", "owner": "external", "on_null": "clear", "conflict": "manual"}
    mapping = compile_mapping(definition(NAME, rule, owner="erp", on_null="keep"), ERP["customer"], ACCOUNT)
    assert (mapping.owner("name"), mapping.null_policy("name"), mapping.strategy("name")) == ("erp", "keep", None)
    assert (mapping.owner("email"), mapping.null_policy("email"), mapping.strategy("email")) == ("external", "clear", "manual")


def test_the_readme_lists_each_transform_with_its_arguments() -> None:
    listed = {}
    for name, arguments, _, fails in re.findall(
        r"^\| `(\w+)` \| (.*?) \| (.*? → .*?) \| (yes|no) \|", (MAPPINGS / "README.md").read_text("utf-8"), re.MULTILINE
    ):
        listed[name] = (re.findall(r"`(\w+)`(\??)", arguments), fails == "yes")
    there = {}
    for one in TRANSFORMS.values():
        marks = [
            (name, "" if parameter.default is inspect.Parameter.empty else "?") for name, parameter in one.parameters.items()
        ]
        there[one.name] = (marks, one.reason is not None)
    assert listed == there


def first_column(heading: str) -> set[str]:
    """The words in the first column of the table that follows this text in the README."""
    rows = (MAPPINGS / "README.md").read_text("utf-8").split(heading)[1].split("|---", 1)[1].split("\n\n")[0]
    return {word for row in rows.splitlines()[1:] for word in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_the_readme_lists_each_key_of_mappings_rules_and_catalogue_fields() -> None:
    assert first_column("| in `transformation_functions`") == set(FUNCTIONS)
    assert first_column("### A rule") == set(RULE)
    assert first_column("A field is:") == set(catalogue._FIELD)
