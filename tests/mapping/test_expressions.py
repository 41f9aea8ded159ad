"""Expressions of rules: what they give, and what fails."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from expressing import ABSENT, ERP, SOURCE, batch, compiled, one, outcome, prepared, results
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_resources.errors import ConfigurationError
from integration_pipelines.canonical import array
from integration_pipelines.steps.calculator import FAILED, Calculator
from integration_pipelines.steps.expression_functions import FUNCTIONS
from integration_pipelines.steps.map import apply
from integration_pipelines.steps.mapping import check, compile_mapping, from_json, parse_yaml
from integration_pipelines.steps.transforms import as_text, fit

README = (Path(__file__).parents[2] / "mappings" / "README.md").read_text(encoding="utf-8").split("### Expressions")[1]


@pytest.fixture(scope="module")
def duck() -> Calculator:
    return Calculator()


def examples() -> list[tuple[str, str, str]]:
    block = README.split("```sql\n")[1].split("```")[0]
    return re.findall(r"^(.+)\n-- (\{.*\}) gives \"(.*)\"$", block, re.MULTILINE)


@pytest.mark.parametrize(("text", "row", "expected"), examples(), ids=[f"example {at}" for at in range(len(examples()))])
def test_the_readme_examples_give_what_it_says(duck: Calculator, text: str, row: str, expected: str) -> None:
    calculation = prepared(duck, text)
    texts = {name: None if value is None else str(value) for name, value in json.loads(row).items()}
    columns = {name: fit(pa.array([texts[name]], pa.string()), kind) for name, kind in calculation.types.items()}
    values, failures = calculation.perform(columns, np.ones(1, dtype=bool))
    assert not any(mask.any() for mask in failures.values())
    assert as_text(values).to_pylist() == [expected]


def test_the_readme_rules_fit_a_customer() -> None:
    rules = "source_entity: Account\ntarget_entity: customer\nmappings:\n" + README.split("```yaml\n")[1].split("```")[0]
    definition = parse_yaml(rules + "- {constant: true, target: active}\n", "README.md")
    check(definition, ERP["customer"], SOURCE, ERP)
    mapped = apply(
        compile_mapping(definition, ERP["customer"], SOURCE, ERP), batch({"Amount": [Decimal("0.10"), Decimal(-1)]})
    )
    assert array(mapped.records["credit_limit"]).to_pylist() == [Decimal("0.11"), Decimal("0.00")]


def test_the_readme_has_examples_and_lists_each_function() -> None:
    assert len(examples()) == README.split("```sql\n")[1].split("```")[0].count("\n") // 2 > 10
    rows = re.findall(r"^\| (`.*?`) \|", README.split("| functions |")[1].split("\n\n")[0], re.MULTILINE)
    assert {word for row in rows for word in re.findall(r"`(\w+)`", row)} == {
        name for name in FUNCTIONS if name.isidentifier()
    }


# What they give


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        ("Amount + 0.1", {"Amount": Decimal("0.20")}, Decimal("0.30")),
        ("Amount * 3", {"Amount": Decimal("33333333333333333333.33")}, Decimal("99999999999999999999.99")),
        ("Quantity // 2", {"Quantity": 7}, 3),
        ("Code || ''", {"Code": "00123"}, "00123"),
        ("Name", {"Name": "a"}, "a"),
        ("nullif(Name, '')", {"Name": ""}, None),
        ("concat(Name, Site)", {"Name": "a", "Site": None}, "a"),
        ("Name || Site", {"Name": "a", "Site": None}, None),
        ("Site IS NULL", {"Site": None}, True),
        ("if(Active, 'yes', 'no')", {"Active": True}, "yes"),
        ("Name LIKE '100!%' ESCAPE '!'", {"Name": "100%"}, True),
        ("Name ~ '^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$'", {"Name": "DE89370400440532013000"}, True),
        ("Name -- a remark", {"Name": "a"}, "a"),
        ("Name /* a remark */ || '!'", {"Name": "a"}, "a!"),
        ("round(Amount, 1)", {"Amount": Decimal("0.25")}, Decimal("0.3")),
        ("least(cast(Amount as DECIMAL(38, 3)), 0.125)", {"Amount": Decimal("0.13")}, Decimal("0.125")),
        ("coalesce(Amount, 0)", {"Amount": None}, Decimal("0.00")),
        ("extract(year FROM Due)", {"Due": date(2024, 2, 29)}, 2024),
        ("Due - DATE '2024-01-01'", {"Due": date(2024, 2, 29)}, 59),
        ("Created + INTERVAL 1 DAY", {"Created": datetime(2024, 3, 30, 1, tzinfo=UTC)}, datetime(2024, 3, 31, 1, tzinfo=UTC)),
        ("cast(Created as VARCHAR)", {"Created": datetime(2024, 3, 30, 1, tzinfo=UTC)}, "2024-03-30 01:00:00+00"),
        ("cast(Created as DATE)", {"Created": datetime(2024, 3, 30, 23, 59, tzinfo=UTC)}, date(2024, 3, 30)),
        ("coalesce(try_cast(Code as INTEGER), 0)", {"Code": "x"}, 0),
        ("case when Quantity = 0 then 0 else 100 // Quantity end", {"Quantity": 0}, 0),
        ("greatest(Quantity, 0)", {"Quantity": -1}, 0),
        ("\"a \"\"b\"\"; drop\"", {'a "b"; drop': "x"}, "x"),
        ("rowid || current_date || \"user\"", {"rowid": "1", "current_date": "2", "user": "3"}, "123"),
    ],
)  # fmt: skip
def test_an_expression_gives(duck: Calculator, text: str, row: dict[str, Any], expected: Any) -> None:
    found = one(duck, text, **row)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("cast(Code as INTEGER)", {"Code": "secret"}),
        ("cast(Code as INTEGER)", {"Code": ""}),
        ("Quantity + 1", {"Quantity": 2**63 - 1}),
        ("10 // Quantity", {"Quantity": 0}),
        ("10 % Quantity", {"Quantity": 0}),
        ("cast(Amount / Quantity as DECIMAL(18, 2))", {"Amount": Decimal(1), "Quantity": 0}),
        ("cast(Amount as DECIMAL(4, 2))", {"Amount": Decimal("100.00")}),
        ("make_date(Quantity, 2, 30)", {"Quantity": 2024}),
        ("strptime(Code, '%Y') AT TIME ZONE 'UTC'", {"Code": "MMXXIV"}),
        ("cast(Due + INTERVAL 1 DAY as DATE)", {"Due": date.max}),
        ("Created + INTERVAL 1 YEAR", {"Created": datetime.max.replace(tzinfo=UTC)}),
        ("cast(Code as DATE)", {"Code": "infinity"}),
        ("cast(Code as TIMESTAMPTZ)", {"Code": "-infinity"}),
        ("cast(Code as DATE)", {"Code": "0044-03-15 (BC)"}),
    ],
)
def test_a_value_that_cannot_be_worked_out_fails(duck: Calculator, text: str, row: dict[str, Any]) -> None:
    assert one(duck, text, **row) == FAILED


def test_records_that_fail_are_set_aside_without_their_values_and_the_others_go_on() -> None:
    mapping = compiled({"source": "Name", "target": "name"}, {"expression": "cast(Code as INTEGER)", "target": "employees"})
    mapped = apply(mapping, batch({"Name": ["a", "b", "c"], "Code": ["1", "sesame", None]}))
    assert array(mapped.records["employees"]).to_pylist() == [1, None]
    (row,) = mapped.rejected.to_dict("records")
    assert (row["record_id"], row["error_type"], row["field"], row["rule"]) == ("r1", "mapping", "employees", "2: expression")
    assert row["message"].startswith("What the expression gives cannot be worked out for this record")
    assert row["message"].endswith("so employees cannot be set: correct it at the source, or change the rule.")
    assert "sesame" not in row["message"] + row["details"]


NUMERALS = st.one_of(st.none(), st.integers(-(2**64), 2**64).map(str), st.sampled_from(["", "x", " 7 ", "1e3", "07"]))


@given(st.lists(NUMERALS, max_size=30))
@settings(deadline=None, max_examples=60)
def test_a_batch_gives_what_its_records_give_one_by_one_and_fails_for_the_same(duck: Calculator, codes: list[Any]) -> None:
    calculation = prepared(duck, "100 // nullif(try_cast(Code as BIGINT), 1) + cast(Code as BIGINT)")
    together = results(calculation, [{"Code": code} for code in codes])
    alone = [results(calculation, [{"Code": code}]) for code in codes]
    assert together == ([values[0] for values, _ in alone], [reasons[0] for _, reasons in alone])
    for code, value, reason in zip(codes, *together, strict=True):
        assert code is not None or (value, reason) == (None, None)  # a null is a null and no failure


@given(st.decimals(-(10**15), 10**15, places=2), st.decimals(-(10**6), 10**6, places=2))
@settings(deadline=None, max_examples=60)
def test_decimals_are_exact(duck: Calculator, amount: Decimal, other: Decimal) -> None:
    assert one(duck, f"Amount * {other:f}", Amount=amount) == amount * other
    assert one(duck, f"Amount - {other:f}", Amount=amount) == amount - other


# In a rule


def test_null_and_absent_stay_different() -> None:
    mapping = compiled({"expression": "coalesce(Name, '-') || coalesce(Site, '-')", "target": "name"})
    given_batch = batch({"Name": ["a", None, ABSENT, "d"], "Site": ["b", None, "c", ABSENT]})
    assert outcome(mapping, given_batch, "name") == ["ab", "--", ABSENT, ABSENT]
    assert outcome(mapping, batch({"Name": ["a"]}), "name") == [ABSENT]


def test_batches_that_are_worked_on_side_by_side_do_not_mix(duck: Calculator) -> None:
    calculation = prepared(duck, "Name || '!'")

    def calculated(batch: int) -> tuple[list[str], list[str]]:
        given = [f"{batch}/{record}" for record in range(200)]
        columns = {name: fit(pa.array(given, pa.string()), kind) for name, kind in calculation.types.items()}
        values, _ = calculation.perform(columns, np.ones(200, dtype=bool))
        return values.to_pylist(), [text + "!" for text in given]

    with ThreadPoolExecutor(4) as lanes:
        for found, expected in lanes.map(calculated, range(60)):
            assert found == expected


def test_what_else_a_rule_has_works_with_an_expression() -> None:
    rule = {
        "expression": "nullif(Name || Site, '')",
        "target": "name",
        "transforms": ["upper", {"truncate": 3}],
        "default": "none",
        "default_on": "both",
        "when": {"source": "Code", "not_in": ["x"]},
        "match": True,
        "owner": "erp",
        "on_null": "keep",
        "conflict": "manual",
    }
    mapping = compiled(rule)
    given_batch = batch({"Name": ["ab", "", ABSENT, "a"], "Site": ["cd", "", "", "b"], "Code": ["y", "y", "y", "x"]})
    assert outcome(mapping, given_batch, "name") == ["ABC", "none", "none", ABSENT]
    assert (mapping.owner("name"), mapping.match, mapping.strategy("name")) == ("erp", ("name",), "manual")
    assert mapping.source_fields == ("Name", "Site", "Code")
    assert mapping.definition.rules[0].direction == "inbound"


def test_a_rule_that_does_not_apply_cannot_fail_and_a_required_value_that_is_null_does() -> None:
    casting = {"expression": "cast(Code as INTEGER)", "target": "employees", "required": True}
    guarded = {**casting, "when": {"source": "Name", "equals": "a"}}
    given_batch = batch({"Name": ["a", "b", "a"], "Code": ["1", "x", None]})
    mapped = apply(compiled(guarded), given_batch)
    assert mapped.rejected[["record_id", "rule"]].values.tolist() == [["r2", "1: required"]]
    gone = apply(compiled(casting), batch({"Code": ["x"]}, deleted=[True]))
    assert (list(gone.records.index), len(gone.rejected)) == (["r0"], 0)


def test_a_way_into_json_and_a_field_of_a_parent_are_quoted_names_and_text() -> None:
    mapping = compiled(
        {"expression": 'upper("BillingAddress.city") || \' \' || "Parent.Name"', "target": "name"},
        {"expression": 'cast("BillingAddress.staff" as INTEGER) + 1', "target": "employees"},
    )
    texts = ['{"city":"Ulm","staff":12}', '{"staff":1}', "broken"]
    mapped = apply(mapping, batch({"BillingAddress": texts, "Parent.Name": ["A", "B", "C"]}))
    assert array(mapped.records["name"]).to_pylist() == ["ULM A", None]
    assert mapped.absence("name").tolist() == [False, True]
    assert array(mapped.records["employees"]).to_pylist() == [13, 2]
    assert mapping.source_fields == ("BillingAddress", "Parent.Name")
    assert mapped.rejected["message"].tolist()[0].startswith("A field of the expression is not what its description promises")


def test_a_reference_may_be_put_together() -> None:
    rule = {"expression": "'C' || Code", "target": "customer_id", "reference": "customer"}
    assert outcome(compiled(rule, target="contact_person"), batch({"Code": ["07", None]}), "customer_id") == ["C07", None]


def test_child_lines_may_have_expressions_over_the_line() -> None:
    lines = [
        {"source": "No", "target": "line_number"},
        {"expression": "cast(\"Order.Qty\" as DECIMAL(18, 4)) * cast(Factor as DECIMAL(4, 2))", "target": "quantity",
         "transforms": [{"round": 4}]},
    ]  # fmt: skip
    mapping = compiled({"source": "Items", "target": "lines", "lines": lines}, target="sales_order")
    texts = ['[{"No":1,"Order":{"Qty":"1.5"},"Factor":2},{"No":2}]', '[{"No":1,"Order":{"Qty":"x"},"Factor":1}]']
    mapped = apply(mapping, batch({"Items": texts}))
    assert json.loads(array(mapped.records["lines"])[0].as_py()) == [{"line_number": 1, "quantity": 3}, {"line_number": 2}]
    assert mapped.rejected[["field", "rule"]].values.tolist() == [["lines.quantity", "1.2: expression"]]


# What is refused


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"expression": "upper(Naem)"}, "rule 1, expression: Account has no field 'Naem'; did you mean 'Name'?"),
        ({"expression": "upper(name)"}, "Account has no field 'name'; did you mean 'Name'?"),
        ({"expression": "uper(Name)"}, "the function 'uper' is not allowed; did you mean 'upper'?"),
        ({"expression": "Name +"}, "this is not an SQL expression: syntax error"),
        ({"expression": " "}, "the expression is empty; write one SQL value"),
        ({"expression": "current_date"}, "Account has no field 'current_date'"),
        ({"expression": "1 + 1"}, "reads no field; write a 'constant'"),
        ({"expression": "BillingAddress.city"}, 'write a way into a field in double quotes: "BillingAddress.city"'),
        ({"expression": "Name || NAME"}, "SQL cannot tell 'Name' from 'NAME'; write the field in one way"),
        ({"expression": "Name + 1"}, "cast the field first (a value inside JSON, of a parent or of a line is text)"),
        ({"expression": "Amount / 3"}, "a floating-point number, which is not exact; cast it to DECIMAL(18, 2)"),
        ({"expression": "Due + INTERVAL 1 DAY"}, "a local time without a zone; cast it to DATE, or say where"),
        ({"expression": "Due * 2"}, "expression: No function matches the given name and argument types"),
        ({"expression": "INTERVAL (Quantity) DAY"}, "the expression gives INTERVAL; cast it to"),
        ({"expression": "'x' || Name || null"}, "null whatever the record holds"),
        ({"expression": "Amount * 1.555", "target": "credit_limit"}, "has 5 decimals and 'credit_limit' 2; add {round: 2}"),
        (
            {"expression": "CASE WHEN Active THEN Amount * 1.10 ELSE Amount END"},
            "'CASE' would round what it chooses from to 2 decimals",
        ),
        (
            {"expression": "1 + coalesce(Amount, Rate)"},
            "'coalesce' would round what it chooses from to 2 decimals; cast each of",
        ),
        ({"expression": "if(Active, Amount, 0.125)"}, "'if' would round what it chooses from to 2 decimals"),
        ({"expression": "greatest(Amount, 0.005)"}, "'greatest' would round what it chooses from to 2 decimals"),
        ({"expression": "Rate * Rate * Rate", "target": "credit_limit"}, "Needed scale 54"),
        ({"expression": "Quantity = 1"}, "boolean does not fit name, which is string; add one of the transforms to_text"),
        ({"expression": "Name", "target": "credit_limit"}, "string does not fit credit_limit, which is decimal"),
        ({"expression": "Name", "transforms": [{"round": 2}]}, "'round' takes decimal or integer, and here comes string"),
        ({"expression": "Name", "source": "Name"}, "either a 'source', a 'constant' or an 'expression'"),
        ({"expression": "Name", "direction": "outbound"}, "so its rule is an inbound one"),
        ({"expression": "Name", "direction": "both"}, "this rule cannot be turned round"),
        ({"expression": "Name", "lines": []}, "'lines' stand in a rule of their own with a source"),
        ({"expression": 7}, "'expression' must be text"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused_with_the_way_out(rule: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        check(from_json("m", "Account", "customer", [{"target": "name", **rule}]), ERP["customer"], SOURCE, ERP)


def test_a_file_is_refused_with_its_line_before_any_source_is_described() -> None:
    text = "source_entity: A\ntarget_entity: customer\nmappings:\n  - target: name\n    expression: repeat(Name, 9)\n"
    with pytest.raises(ConfigurationError, match=r"^a.yaml, line 5, rule 1, expression: the function 'repeat' is not allowed"):
        parse_yaml(text, "a.yaml")


def test_a_mapping_is_stored_before_the_source_is_described_and_typed_when_it_is() -> None:
    definition = from_json("m", "Account", "customer", [{"target": "name", "expression": "Name + 1"}])
    with pytest.raises(ConfigurationError, match="customer needs 'active'"):  # nothing is known against the expression
        check(definition, ERP["customer"])
    with pytest.raises(ConfigurationError, match="No function matches"):
        compile_mapping(definition, ERP["customer"], SOURCE)
