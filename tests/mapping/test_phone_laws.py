"""Numbers that are written out with their country code are taken as they stand; phonenumbers must say the same of each."""

from typing import ClassVar

import phonenumbers
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from integration_pipelines.steps.transforms import TRANSFORMS, parse_step

CODES = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
NUMBERS = st.builds(
    "+{}{}{}".format,
    st.one_of(st.sampled_from(CODES), st.sampled_from(CODES), st.integers(1, 9999)),
    st.sampled_from(["", " ", "-"]),
    st.text("0123456789 ().-", min_size=1, max_size=18),
)
REGIONS = st.sampled_from([None, "DE", "US", "CA", "IT", "AR"])


class Alone:
    tables: ClassVar[dict[str, dict[str, str]]] = {}

    def text(self, source: str) -> pa.Array:
        raise KeyError(source)


def by_the_library(text: str, region: str | None) -> str | None:
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    possible = phonenumbers.is_possible_number(number)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) if possible else None


@settings(max_examples=20)
@given(st.lists(NUMBERS, min_size=200, max_size=400), REGIONS)
@example(
    ["+49 (0)30 1234567", "+49 30 1234567", "+39 06 1234567", "+1 1 212 555 0100", "+7 8 912 345 67 89", "+800 1234 5678"],
    "DE",
)
@example(["+4", "+49", "+49 3", "+0 12345", "+999 12345678", "+54 9 11 2345 6789", "+54 0 11 15 2345 6789", "+49-000"], None)
def test_a_number_with_its_country_code_is_what_the_library_takes_it_for(texts: list[str], region: str | None) -> None:
    step = parse_step({"phone": region} if region else "phone", TRANSFORMS, {})
    result, failed = step.perform(pa.array(texts, pa.string()), Alone())
    expected = [by_the_library(text, region) for text in texts]
    assert result.to_pylist() == expected
    assert failed.to_pylist() == [one is None for one in expected]
