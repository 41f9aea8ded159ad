"""Expressions of rules: what nobody may write, and what bounds the rest."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from expressing import one, prepared, results
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_resources.errors import ConfigurationError, MappingFailed
from integration_pipelines.steps.calculator import FAILED, TOO_LONG, Calculator
from integration_pipelines.steps.expressions import DEEPEST, parse


@pytest.fixture(scope="module")
def duck() -> Calculator:
    return Calculator()


ATTACKS = """
Name) , (Code
Name)]), TRY([(Code
Name)]) FROM r; SELECT TRY([(Name
Name)]) UNION SELECT TRY([(Name
Name)]) AS x, TRY([(Name
Name)]) FROM read_csv('/etc/passwd') --
Name)]) FROM r WHERE TRY([(true
Name; DROP TABLE r
Name AS x
Name) AS x, (Code
/*
Name) || (SELECT '1'
(SELECT Name)
Name IN (SELECT '1')
EXISTS (SELECT 1)
Name = ANY(['a'])
(FROM r)
max(Name)
string_agg(Name, ',')
count(*) FILTER (Active)
first(Name ORDER BY Code)
upper(Name ORDER BY Code)
upper(DISTINCT Name)
row_number() OVER ()
upper(Name) OVER ()
*
r.*
COLUMNS(*)
COLUMNS('N.*')
r.Name
#1
DEFAULT
?
$1
$name
Name COLLATE de
Name::VARCHAR COLLATE nocase
[Name]
Name[1]
Name[1:2]
{'a': Name}
(Name, Code)
ROW(Name)
list_value(Name)
[x FOR x IN [Name]]
list_transform([Name], x -> x)
list_transform([Name], lambda x: x)
unnest([Name])
Name IN ()
TRY(Name)
upper(x := Name)
main.upper(Name)
system.main.upper(Name)
Name.upper()
current_setting('memory_limit') || Name
getenv('HOME') || Name
version() || Name
current_user() || Name
getvariable('x') || Name
query('select 1') || Name
read_text('/etc/passwd') || Name
glob('*') || Name
nextval(Name)
random() || Name
uuid() || Name
now() || Name
today() || Name
sleep_ms(1000) || Name
pg_sleep(1) || Name
error(Name)
setseed(0.5) || Name
write_log(Name)
stats(Name)
typeof(Name)
txid_current() || Name
current_query() || Name
json_execute_serialized_sql(Name)
json_serialize_sql(Name)
range(Quantity)
generate_series(1, Quantity)
repeat(Name, 1000000000)
lpad(Name, 1000000000, 'x')
rpad(Name, 1000000000, 'x')
printf('%1000000000d', Quantity)
format('{:1000000000}', Name)
bar(Quantity, 0, 1, 1000000000) || Name
to_base(Quantity, 2, 1000000000) || Name
array_to_string([Name], 'x')
hex(Name)
regexp_split_to_array(Name, 'x')
factorial(Quantity) || Name
Quantity!
2 ** Quantity
Quantity << 60
replace(Name, Code, Site)
replace(Name, 'a', Code)
replace(Name, 'a', null)
replace(Name, 'a', '@@' || '@@')
regexp_replace(Name, Code, 'x')
regexp_replace(Name, 'a', Code)
regexp_replace(Name, 'a', 'b', Code)
regexp_matches(Name, Code)
regexp_matches(Name, '(')
Name ~ '(?=a)'
Name ~ '(a)\\1'
Name ~ '(a?){1000}a{1000}'
Name ~ '((a{0,99}){0,99}){0,99}'
strftime(Due, Code)
strftime(Due, '%Q')
strptime(Code, Name)
strptime(Code, '%Q')
date_trunc('fortnight', Due)
date_part('soul', Due)
date_diff(Code, Due, Due)
Created AT TIME ZONE 'Mars/Olympus'
Created AT TIME ZONE Name
CAST(Name AS BIGNUM)
CAST(Name AS BLOB)
CAST(Name AS JSON)
CAST(Name AS INTEGER[])
CAST(Name AS STRUCT(a INTEGER))
CAST(Name AS UUID)
CAST(Name AS my.type)
CAST(Name AS DECIMAL)
CAST(Name AS DECIMAL((SELECT 3), 2))
CAST(Name AS DECIMAL(max(Quantity), 2))
CAST(Name AS DECIMAL(18))
CAST(Name AS VARCHAR(10))
CAST(Name AS ENUM('a'))
x'41' || Name
b'1' || Name
upper()
replace(Name, 'a')
grouping(Name)
excluded.Name
""".strip().splitlines()


@pytest.mark.parametrize("text", ATTACKS, ids=[f"attack {at}" for at in range(len(ATTACKS))])
def test_what_is_not_one_harmless_value_is_refused(duck: Calculator, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^[^\n]{15,}$"):
        parse(text, duck)


@pytest.mark.parametrize(
    "text",
    [
        "Name" + " || Name" * (DEEPEST + 1),
        "(" * 201 + "Name" + ")" * 201,
        "(" * 1900,
        "[" * 1900,
        "case when " * 190,
        "not " * 490 + "Active",
        "- " * 900 + "Quantity",
        "abs(" * 45 + "Name" + ")" * 45 + "x" * 2000,
        "Quantity" + "::BIGINT" * 200,
    ],
    ids=["joins", "brackets", "open brackets", "open lists", "open cases", "nots", "signs", "length", "casts"],
)
def test_what_is_too_deep_or_too_long_is_refused(duck: Calculator, text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse(text, duck)


@pytest.mark.parametrize(
    "text",
    [
        "replace(replace(replace(replace(Name, 'a', 'aaaaaaaaaa'), 'a', 'aaaaaaaaaa'), 'a', 'aaaaaaaaaa'), 'a', 'aaaaaaaaaa')",
        r"regexp_replace(regexp_replace(Name, '', '\0\0\0\0\0\0\0\0\0\0\0\0'), '', '\0\0\0\0\0\0\0\0\0\0\0\0', 'g')",
        f"regexp_replace(Name, '', '{'x' * 1500}', 'g')",
        "upper(lower(upper(lower(upper(lower(Name))))))",
        f"concat_ws(Name{', Name' * 40})" + " || Name" * 30,
        f"strftime(Due, '{'%c' * 600}')",
    ],
    ids=["replace", "groups", "insert", "letters", "joined", "format"],
)
def test_a_value_cannot_be_made_to_grow_without_bound(duck: Calculator, text: str) -> None:
    with pytest.raises(ConfigurationError, match="many times as long as what it reads"):
        parse(text, duck)


def test_a_record_whose_texts_would_grow_too_large_is_set_aside_alone(duck: Calculator) -> None:
    calculation = prepared(duck, "replace(Name, 'a', 'aaaaaaaaaa') || Site")
    values, reasons = results(calculation, [{"Name": "a" * 100_000, "Site": "b"}, {"Name": "a", "Site": "b"}])
    assert (values, reasons) == ([None, "aaaaaaaaaab"], [TOO_LONG, None])


def test_a_batch_is_worked_out_as_far_as_there_is_memory_for_it() -> None:
    calculation = prepared(Calculator(in_all=1_500), "Name || Name")
    rows = [{"Name": "a" * 200}, {"Name": "b" * 100}, {"Name": "c" * 200}, {"Name": "d"}]
    values, reasons = results(calculation, rows)
    assert values == ["a" * 400, "b" * 200, None, None]
    assert reasons == [None, None, TOO_LONG, TOO_LONG]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("concat_ws(Name, '', '', '', '', '')", "a"),
        ("translate(Name, 'a', '\U0001d11e')", "a"),
        ("replace(Name, 'a', 'bcdefg')", "a"),
        ("regexp_replace(Name, '', 'xyz', 'g')", "a"),
        (r"regexp_replace(Name, '(a)', '\1\1\1\1', 'g')", "a"),
        ("nfc_normalize(Name)", "\U0001d160"),
        ("upper(Name)", "\u0250"),
        ("Name || Name || Name", "a"),
    ],
)
def test_a_long_text_that_grows_as_much_as_it_can_stays_within_its_bound(duck: Calculator, text: str, letter: str) -> None:
    growth = parse(text, duck).growth
    name = letter * 5_000
    grown = len(one(duck, text, Name=name).encode())
    assert len(name.encode()) < grown <= len(name.encode()) * growth.times + growth.plus


GROWING = st.recursive(
    st.sampled_from(["Name", "Site", "'äß'", "'ŉ'"]),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["upper({})", "lower({})", "strip_accents({})", "nfc_normalize({})", "reverse({})",
            "replace({}, 'a', 'bcd')", "replace({}, '', 'bcd')", r"regexp_replace({}, '', '\0x', 'g')", "trim({})",
            r"regexp_replace({}, '(.)', '\1\1\1', 'g')", "translate({}, 'ab', 'ßﬃ')", "split_part({}, 'a', 1)"]), inner)
        .map(lambda found: found[0].format(found[1])),
        st.tuples(inner, inner).map(lambda found: f"({found[0]} || {found[1]})"),
        st.tuples(inner, inner).map(lambda found: f"concat_ws({found[0]}, {found[1]}, {found[0]})"),
        st.tuples(inner, inner).map(lambda found: f"coalesce(nullif({found[0]}, 'a'), {found[1]})"),
    ),
    max_leaves=5,
)  # fmt: skip


@given(GROWING, st.text(max_size=20), st.text("aŉßΐﬃ", max_size=20))
@settings(deadline=None, max_examples=150)
def test_no_text_is_longer_than_its_bound(duck: Calculator, text: str, name: str, site: str) -> None:
    try:
        calculation = prepared(duck, text)
    except ConfigurationError:
        return  # constants only, or too much growth
    growth = calculation.expression.growth
    value = one(duck, text, Name=name, Site=site)
    assert len((value or "").encode()) <= max(len(name.encode()), len(site.encode())) * growth.times + growth.plus


# Time, memory, connection


def test_an_expression_that_takes_too_long_is_stopped_and_its_records_are_set_aside() -> None:
    hasty = Calculator(seconds=0.001)
    pattern = "(a|b|ab){60}c"
    calculation = prepared(hasty, f"regexp_matches(Name, '{pattern}')")
    rows = [{"Name": "ab" * 60_000}] * 200
    values, reasons = results(calculation, rows)
    assert reasons[-1] == "took longer than 0.001 seconds to work out, together with its batch"
    assert [value is None for value in values] == [reason is not None for reason in reasons]
    assert len(set(reasons)) <= 2
    hasty.seconds = 60
    assert results(calculation, rows[:1]) == ([False], [None])  # the connection goes on


def test_large_batches_are_worked_out_in_slices_and_put_together_in_order() -> None:
    rows = [{"Name": None if at % 7 == 0 else f"n{at}"} for at in range(500)]
    values, reasons = results(prepared(Calculator(at_once=1_000), "upper(Name)"), rows)
    assert values == [row["Name"] and row["Name"].upper() for row in rows]
    assert reasons == [None] * 500


def test_nothing_outside_can_be_reached_even_by_sql_that_was_not_checked(duck: Calculator, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    for statement in (
        f"SELECT * FROM '{tmp_path}/x.csv'",
        f"COPY (SELECT 1) TO '{tmp_path}/y.csv'",
        f"ATTACH '{tmp_path}/z.db'",
        "INSTALL httpfs",
        "SET threads = 2",
        "SET lock_configuration = false",
        "SET enable_external_access = true",
        'SELECT * FROM "columns"',  # a name of the caller's
    ):
        with pytest.raises((ConfigurationError, MappingFailed), match="An expression broke off"):
            duck.values(statement, pa.table({"a": [1]}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv"]


def test_a_failure_of_duckdb_itself_stops_the_run_and_no_failure_quotes_a_value(duck: Calculator) -> None:
    for statement, error in (
        ("SELECT cast(a as INTEGER) FROM r", MappingFailed),
        ("SELECT list(x.range) FROM r, range(100000000) x", ConfigurationError),
    ):
        with pytest.raises(error, match=r'^An expression broke off: "SELECT .*" \(\w+Exception\); simplify it') as caught:
            duck.values(statement, pa.table({"a": ["sesame"]}))
        assert "sesame" not in str(caught.value)
        assert caught.value.__suppress_context__


@pytest.mark.parametrize("at", [0, 3, 6])
def test_a_record_whose_failure_cannot_be_caught_within_sql_is_found_all_the_same(duck: Calculator, at: int) -> None:
    calculation = prepared(duck, "cast(strptime(Code, '%Y %Z') as DATE)")
    rows = [{"Code": "2024 Nowhere/Land" if number in (at, 4) else "2024 UTC"} for number in range(7)]
    values, reasons = results(calculation, rows)
    assert reasons == [FAILED if number in (at, 4) else None for number in range(7)]
    assert values == [None if number in (at, 4) else date(2024, 1, 1) for number in range(7)]


def test_a_run_without_expressions_does_not_import_duckdb() -> None:
    code = (
        "import sys\n"
        "from integration_pipelines.steps import map as step\n"
        "from integration_pipelines.steps.mapping import from_json\n"
        "from_json('m', 'A', 'customer', [{'source': 'Name', 'target': 'name'}])\n"
        "assert 'duckdb' not in sys.modules\n"
        "from_json('m', 'A', 'customer', [{'expression': 'Name', 'target': 'name'}])\n"
        "assert 'duckdb' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
