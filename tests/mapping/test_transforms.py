"""What each transform makes of values, one table of cases after another."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from integration_pipelines.steps.transforms import TRANSFORMS, fit, parse_step

FAILS = object()


class Beside:
    """Other fields of the same records."""

    def __init__(self, tables: Mapping[str, Mapping[str, str]], **fields: list[str | None]) -> None:
        self.tables = tables
        self.fields = fields

    def text(self, source: str) -> pa.Array:
        return pa.array(self.fields[source], pa.string())


def run(step: Any, value: Any, kind: pa.DataType | None = None, **fields: str | None) -> Any:
    """What becomes of one value, or FAILS. Fields stand beside it."""
    tables = {"terms": {"N30": "30", "n60": "60"}}
    parsed = parse_step(step, TRANSFORMS, tables)
    beside = Beside(tables, **{name: [text] for name, text in fields.items()})
    result, failed = parsed.perform(pa.array([value], kind), beside)
    assert not any(pa.types.is_floating(t) for t in (result.type,))
    return FAILS if failed.to_pylist() == [True] else result.to_pylist()[0]


@pytest.mark.parametrize(
    ("step", "value", "expected"),
    [
        ("trim", "\u00a0 a b\t", "a b"),
        ("collapse_spaces", " a \u00a0\n b ", "a b"),
        ("upper", "für", "FÜR"),
        ("lower", "ÄB", "äb"),
        ("title", "anna o'neil", "Anna O'Neil"),
        ({"replace": {"find": ".", "by": ","}}, "1.2", "1,2"),
        ({"regex_replace": {"pattern": "^0+([0-9])", "by": r"\1"}}, "0042", "42"),
        ({"regex_replace": "(a+)+$"}, "a" * 50_000 + "b", "a" * 50_000 + "b"),
        ({"substring": {"start": 2, "length": 3}}, "äbcdef", "bcd"),
        ({"substring": 3}, "abcd", "cd"),
        ({"truncate": 2}, "äöü", "äö"),
        ({"pad_left": 5}, "42", "00042"),
        ({"strip_prefix": "DE"}, "DE123", "123"),
        ({"strip_prefix": "DE"}, "AT123", "AT123"),
        ({"split": {"by": ",", "part": 2}}, "a,b,c", "b"),
        ({"split": {"by": ",", "part": -1}}, "a,b,c", "c"),
        ({"split": {"by": ",", "part": 4}}, "a,b,c", None),
        ("empty_to_null", " \t", None),
        ("empty_to_null", "a", "a"),
        ({"if_null": "none"}, None, "none"),
        ({"if_null": "none"}, "a", "a"),
        ("map_boolean", " Yes", True),
        ({"map_boolean": {"true": ["Ja"], "false": ["Nein"]}}, "nein", False),
        ("map_boolean", "perhaps", FAILS),
        ({"map_boolean": {"true": ["ΑΛΗΘΗΣ"], "false": ["ΨΕΥΔΗΣ "]}}, "ψευδησ", False),
        ({"map_boolean": {"true": ["İyi"], "false": ["x"]}}, "İyi", True),
        ({"lookup": {"table": {"ΟΔΟΣ": "street"}, "ignore_case": True}}, "ΟΔΟΣ", "street"),
        ({"lookup": {"table": {"a": "b", "A": "b"}, "ignore_case": True}}, "A", "b"),
        ({"lookup": "terms"}, "N30", "30"),
        ({"lookup": "terms"}, "n30", FAILS),
        ({"lookup": {"table": "terms", "ignore_case": True}}, "N60", "60"),
        ({"lookup": {"table": "terms", "default": "14"}}, "N90", "14"),
        ({"lookup": {"table": "terms", "default": "14"}}, None, None),
        ({"lookup": {"table": {"a": "b"}, "on_error": "keep"}}, "c", "c"),
        ({"lookup": {"table": {"a": "b"}, "on_error": None}}, "c", None),
        ({"when": {"equals": "a", "then": "x"}}, "a", "x"),
        ({"when": {"equals": "a", "then": "x"}}, "b", "b"),
        ({"when": {"in": ["a", "b"], "then": "x", "else": "y"}}, "c", "y"),
        ({"when": {"not_in": ["a"], "then": "x"}}, None, "x"),
        ({"when": {"is_null": True, "then": "x"}}, None, "x"),
    ],
)
def test_text(step: Any, value: Any, expected: Any) -> None:
    assert run(step, value, pa.string()) == expected


def test_joining_fields_leaves_nulls_out() -> None:
    step = {"concat": ["Last", "Suffix"]}
    assert run(step, "Ada", Last="Byron", Suffix=None) == "Ada Byron"
    assert run(step, None, pa.string(), Last=None, Suffix=None) is None
    assert run({"if_null": {"source": "Last"}}, None, pa.string(), Last="Byron") == "Byron"


@pytest.mark.parametrize(
    ("step", "value", "expected"),
    [
        ("to_integer", " +042 ", 42),
        ("to_integer", "4.0", FAILS),
        ("base62", "10", 62),
        ("base62", "zz", 3843),
        ("base62", "0000000a9", 2241),
        ("base62", "zzzzzzzzzz", 62**10 - 1),
        ("base62", "zzzzzzzzzzz", FAILS),
        ("base62", "", FAILS),
        ("base62", "a-b", FAILS),
        ("to_integer", "9223372036854775808", FAILS),
        ("to_integer", "9" * 5000, FAILS),
        ("to_integer", Decimal("4.00"), 4),
        ("to_integer", Decimal("4.01"), FAILS),
        ("to_decimal", "0.1", Decimal("0.1")),
        ("to_decimal", "1,234.5", FAILS),
        ("to_decimal", "1.1234567890123456789", FAILS),
        ("to_decimal", "1" * 21, FAILS),
        ("to_decimal", "770875344471038601664", FAILS),
        ("to_decimal", "1.50" + "0" * 60, Decimal("1.5")),
        ("to_decimal", "NaN", FAILS),
        ({"to_decimal": {"decimal": ",", "group": "."}}, "-1.234.567,89", Decimal("-1234567.89")),
        ({"to_decimal": {"decimal": ",", "group": "."}}, "1.23,4", FAILS),
        ({"to_decimal": {"decimal": ",", "group": " "}}, "1\u202f234,5", Decimal("1234.5")),
        ("parse_money", "$1,234.50", Decimal("1234.5")),
        ("parse_money", "-€ 12.30", Decimal("-12.3")),
        ("parse_money", "(12.30)", Decimal("-12.3")),
        ("parse_money", "US$ 5", Decimal(5)),
        ("parse_money", "CHF 5", Decimal(5)),
        ({"parse_money": {"decimal": ",", "group": "."}}, "1.234,50 EUR", Decimal("1234.5")),
        ("parse_money", "five dollars", FAILS),
        ({"round": 1}, Decimal("0.25"), Decimal("0.2")),
        ({"round": {"scale": 1, "mode": "half_up"}}, Decimal("-0.25"), Decimal("-0.3")),
        ({"round": {"scale": 0, "mode": "down"}}, Decimal("-1.9"), Decimal(-1)),
        ({"round": 17}, Decimal("44444444444444444444444.2205561959221"), FAILS),
        ({"money": 2}, Decimal("1.005"), Decimal("1.00")),
        ({"multiply": "0.1"}, Decimal("0.3"), Decimal("0.03")),
        ({"multiply": 1000}, 7, Decimal(7000)),
        ({"multiply": "1e18"}, Decimal("12345678901234567890.00"), FAILS),
        ({"divide": 3}, 1, Decimal("0.333333333333333333")),
        ("abs", -3, 3),
        ("negate", Decimal("1.50"), Decimal("-1.50")),
        ("negate", -(2**63), FAILS),
    ],
)
def test_numbers(step: Any, value: Any, expected: Any) -> None:
    assert run(step, value) == expected


@pytest.mark.parametrize(
    ("code", "expected"), [("EUR", "1.23"), ("jpy", "1"), ("KWD", "1.235"), ("CLF", "1.2346"), (None, FAILS), ("euro", FAILS)]
)
def test_money_follows_the_minor_unit_of_its_currency(code: str | None, expected: Any) -> None:
    found = run({"money": {"currency_field": "Code", "mode": "half_up"}}, Decimal("1.23456"), Code=code)
    assert found == (FAILS if expected is FAILS else Decimal(expected).quantize(Decimal("0.0001")))


@pytest.mark.parametrize(
    ("step", "value", "expected"),
    [
        ("to_date", "2024-02-29", date(2024, 2, 29)),
        ("to_date", "2023-02-29", FAILS),
        ({"to_date": ["%d.%m.%Y", "%Y/%m/%d"]}, "2024/03/01", date(2024, 3, 1)),
        ("to_instant", "2024-03-31T01:00:00.000+0000", datetime(2024, 3, 31, 1, tzinfo=UTC)),
        ("to_instant", "2024-03-31T03:00:00+02:00", datetime(2024, 3, 31, 1, tzinfo=UTC)),
        ("to_instant", "2024-03-31T01:00:00", FAILS),
        ({"to_instant": {"zone": "Europe/Berlin"}}, "2024-07-01T12:00:00", datetime(2024, 7, 1, 10, tzinfo=UTC)),
        ({"to_instant": {"zone": "Europe/Berlin"}}, "2024-10-27T02:30:00", datetime(2024, 10, 27, 0, 30, tzinfo=UTC)),
        (
            {"to_instant": {"zone": "Europe/Berlin", "dst": "later"}},
            "2024-10-27T02:30:00",
            datetime(2024, 10, 27, 1, 30, tzinfo=UTC),
        ),
        ({"to_instant": {"zone": "Europe/Berlin", "dst": "reject"}}, "2024-10-27T02:30:00", FAILS),
        (
            {"to_instant": {"zone": "Europe/Berlin", "dst": "later"}},
            "2024-03-31T02:30:00",
            datetime(2024, 3, 31, 1, 30, tzinfo=UTC),
        ),
        (
            {"to_instant": {"formats": ["%d.%m.%Y %H:%M"], "zone": "UTC"}},
            "01.03.2024 08:15",
            datetime(2024, 3, 1, 8, 15, tzinfo=UTC),
        ),
        ("to_instant", "0001-01-01T00:00:00+14:00", FAILS),
    ],
)
def test_dates_and_instants_from_text(step: Any, value: str, expected: Any) -> None:
    assert run(step, value) == expected


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00"])
def test_an_instant_inside_json_that_utc_has_no_day_for_does_not_fit(text: str) -> None:
    assert fit(pa.array([text]), pa.timestamp("us", "UTC")).to_pylist() == [None]


def test_an_instant_becomes_the_date_that_its_zone_has() -> None:
    late = datetime(2024, 3, 31, 23, 30, tzinfo=UTC)
    instant = pa.timestamp("us", "UTC")
    assert run({"in_zone": "UTC"}, late, instant) == date(2024, 3, 31)
    assert run({"in_zone": "Europe/Berlin"}, late, instant) == date(2024, 4, 1)
    assert run({"add_days": 30}, date(2024, 2, 1)) == date(2024, 3, 2)
    assert run({"add_days": 1}, date.max) is FAILS


@pytest.mark.parametrize(
    ("step", "value", "expected"),
    [
        ("country", "Germany", "DE"),
        ("country", " united  states ", "US"),
        ("country", "USA", "US"),
        ("country", "UK", "GB"),
        ("country", "no", "NO"),
        ("country", "Deutschland", "DE"),
        ("country", "Ruritania", FAILS),
        ({"country": "alpha3"}, "ch", "CHE"),
        ({"country": "name"}, "TWN", "Taiwan"),
        ("currency", " eur", "EUR"),
        ("currency", "EURO", FAILS),
        ("language", "de_AT", "de"),
        ("language", "German", "de"),
        ({"language": "alpha3"}, "fr", "fra"),
        ("language", "Klingonese", FAILS),
        ({"phone": "DE"}, "(089) 123 456", "+4989123456"),
        ({"phone": "Germany"}, "+1 212-555-0100", "+12125550100"),
        ("phone", "+49 89 123456", "+4989123456"),
        ("phone", "089 123456", FAILS),
        ({"phone": "US"}, "(212) 555-0100 ext. 12", "+12125550100;ext=12"),
        ({"phone": {"country": "US", "extension": "drop"}}, "(212) 555-0100 x12", "+12125550100"),
        ({"phone": {"country": "US", "on_error": "keep"}}, "ask for Bob", "ask for Bob"),
        ({"phone": {"country": "US", "on_error": "null"}}, "ask for Bob", None),
    ],
)
def test_codes(step: Any, value: str, expected: Any) -> None:
    assert run(step, value) == expected


@pytest.mark.parametrize(("where", "expected"), [("Austria", "+431234567"), (None, "+491234567"), ("Ruritania", "+491234567")])
def test_a_phone_number_belongs_to_the_country_beside_it_or_else_to_the_usual_one(where: str | None, expected: str) -> None:
    assert run({"phone": {"country": "DE", "country_field": "Country"}}, "01234567", Country=where) == expected


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_null_stays_null_and_is_no_failure(name: str) -> None:
    arguments: dict[str, Any] = {
        "replace": {"find": "a"},
        "regex_replace": "a",
        "substring": 1,
        "truncate": 1,
        "pad_left": 1,
        "strip_prefix": "a",
        "concat": ["Other"],
        "split": {"by": ",", "part": 1},
        "if_null": {"source": "Other"},
        "lookup": "terms",
        "when": {"equals": "a", "then": "b"},
        "round": 2,
        "money": 2,
        "multiply": 2,
        "divide": 2,
        "in_zone": "UTC",
        "add_days": 1,
    }
    kinds = {"in_zone": pa.timestamp("us", "UTC"), "add_days": pa.date32(), "abs": pa.int64(), "negate": pa.int64()}
    step = {name: arguments[name]} if name in arguments else name
    kind = kinds.get(name, pa.int64() if name in ("round", "money", "multiply", "divide") else pa.string())
    assert run(step, None, kind, Other=None) is None
