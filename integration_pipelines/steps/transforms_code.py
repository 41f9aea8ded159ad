"""Transforms to codes that the world agrees on: E.164, ISO 3166-1, ISO 4217, ISO 639."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Literal

import phonenumbers
import pyarrow as pa
import pyarrow.compute as pc
import pycountry

from connector_resources.contract import FieldType
from integration_pipelines.canonical import TEXT, per_unique
from integration_pipelines.steps.transforms_base import Scope, Source, transform

STRING = FieldType.STRING
_BETWEEN = "\x1f"  # the unit separator, which is part of no number and no country

# Common names that ISO 3166-1 does not list. Not: "America", "Korea", "Congo", "Ireland, Northern and Southern" (ambiguous).
_ALIASES = {
    "US": "usa u.s. u.s.a. united-states-of-america the-united-states",
    "GB": "uk u.k. great-britain britain england scotland wales northern-ireland united-kingdom-of-great-britain",
    "DE": "deutschland germany-(deutschland) allemagne federal-republic-of-germany",
    "AT": "österreich oesterreich",
    "CH": "schweiz suisse svizzera",
    "FR": "frankreich",
    "IT": "italia italien",
    "ES": "españa espana spanien",
    "NL": "holland the-netherlands nederland niederlande",
    "BE": "belgië belgique belgien",
    "DK": "danmark",
    "SE": "sverige",
    "NO": "norge",
    "FI": "suomi",
    "PL": "polska polen",
    "PT": "portugal",
    "GR": "hellas ελλάδα",
    "CZ": "czech-republic česko",
    "HU": "magyarország",
    "TR": "turkey türkei",
    "RU": "russia",
    "KR": "south-korea korea-(south) republic-of-korea",
    "KP": "north-korea",
    "VN": "vietnam",
    "CI": "ivory-coast",
    "MK": "macedonia",
    "SZ": "swaziland",
    "CV": "cape-verde",
    "MM": "burma",
    "AE": "uae u.a.e.",
    "BR": "brasil",
    "MX": "méxico",
    "JP": "nippon 日本",
    "CN": "china prc 中国",
    "CD": "dr-congo democratic-republic-of-the-congo",
    "VA": "vatican vatican-city",
    "PS": "palestine",
    "LA": "laos",
    "SY": "syria",
    "IR": "iran",
}


@cache
def countries() -> Mapping[str, str]:
    """Folded name, alpha-2, alpha-3 or alias → alpha-2. A code wins over a name."""
    found: dict[str, str] = {}
    for code, names in _ALIASES.items():
        found.update((name.replace("-", " "), code) for name in names.split())
    for country in pycountry.countries:
        spellings = (getattr(country, key, None) for key in ("name", "official_name", "common_name", "alpha_3", "alpha_2"))
        found.update((spelling.casefold(), country.alpha_2) for spelling in spellings if spelling)
    return found


def alpha2(text: str) -> str | None:
    """The alpha-2 code of a country by name, code or common alias, whatever the case."""
    return countries().get(" ".join(text.casefold().split()))


@transform(STRING, reason="is no country that ISO 3166-1 knows")
def country_(values: pa.Array, _: Scope, *, to: Literal["alpha2", "alpha3", "name"] = "alpha2") -> pa.Array:
    """The country's code or English name, from a name, code or common alias."""

    def one(text: str) -> str | None:
        code = alpha2(text)
        known = pycountry.countries.get(alpha_2=code) if code else None
        if known is None or to == "alpha2":
            return code
        return str(known.alpha_3 if to == "alpha3" else getattr(known, "common_name", known.name))

    return per_unique(values, one, TEXT)


@transform(STRING, reversible=True, reason="is not an ISO 4217 code")
def currency(values: pa.Array, _: Scope) -> pa.Array:
    """The currency's alphabetic code in capitals."""

    def one(text: str) -> str | None:
        code = text.strip().upper()
        return code if len(code) == 3 and pycountry.currencies.get(alpha_3=code) else None

    return per_unique(values, one, TEXT)


@cache
def _languages() -> Mapping[str, str]:
    """Folded name or alpha-3 code → alpha-3 code, and alpha-2 → alpha-3."""
    found: dict[str, str] = {}
    for language in pycountry.languages:
        names = (getattr(language, name, None) for name in ("name", "bibliographic", "alpha_3", "alpha_2"))
        found.update((name.casefold(), language.alpha_3) for name in names if name)
    return found


@transform(STRING, reason="is no language that ISO 639 knows")
def language(values: pa.Array, _: Scope, *, to: Literal["alpha2", "alpha3", "name"] = "alpha2") -> pa.Array:
    """The language's code, from a name, code or locale (`de_AT` is `de`); one without a two-letter code fails as alpha2."""

    def one(text: str) -> str | None:
        folded = text.strip().casefold()
        code = _languages().get(folded) or _languages().get(folded.replace("_", "-").partition("-")[0])
        known = pycountry.languages.get(alpha_3=code) if code else None
        names = {"alpha2": "alpha_2", "alpha3": "alpha_3", "name": "name"}
        return getattr(known, names[to], None) if known else None

    return per_unique(values, one, TEXT)


_WRITTEN_OUT = re.compile(r"\+[1-9][0-9 ().-]+")
_SEPARATORS = str.maketrans("", "", " ().-")


@cache
def _numbering(code: str) -> tuple[frozenset[int], re.Pattern[str]] | None:
    """Of a country calling code: how long a number behind it may be, and what such a number begins with only where the prefix
    for calls within the country was left in. None where there is no such code, or it is no country's."""
    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(code), ("001",))
    known = phonenumbers.PhoneMetadata.metadata_for_region(regions[0])
    if known is None or known.general_desc is None:
        return None
    lengths = frozenset((*known.general_desc.possible_length, *known.general_desc.possible_length_local_only))
    return lengths, re.compile(known.national_prefix_for_parsing or "(?!)")


def _written_out(text: str) -> str | None:
    """The number as E.164, where it stands there with its country code and nothing else that needs thought: what
    phonenumbers.parse finds, too, at eleven times the price. None where that must decide."""
    if not _WRITTEN_OUT.fullmatch(text):
        return None
    digits = text[1:].translate(_SEPARATORS)
    for end in (1, 2, 3):  # no code is the beginning of another one
        if numbering := _numbering(digits[:end]):
            lengths, prefix = numbering
            number = digits[end:]
            return f"+{digits}" if len(number) in lengths and len(number) > 1 and not prefix.match(number) else None
    return None


@transform(STRING, reason="is not a phone number of its country")
def phone(
    values: pa.Array,
    scope: Scope,
    *,
    country: str | None = None,
    country_field: Source | None = None,
    extension: Literal["keep", "drop"] = "keep",
) -> pa.Array:
    """The number as E.164, an extension as `;ext=12` behind it (RFC 3966). A number without country code is of the country in
    `country_field`, or else of `country`; with neither it fails. Checked for a possible length, as new ranges open each month.
    """
    usual = alpha2(country) if country else None
    if country and usual is None:
        raise ValueError(f"'country' is an ISO 3166-1 code, and '{country}' is none")

    def one(pair: str) -> str | None:
        text, _, where = pair.rpartition(_BETWEEN)
        if written_out := _written_out(text):
            return written_out
        try:
            number = phonenumbers.parse(text, (alpha2(where) if where else None) or usual)
        except phonenumbers.NumberParseException:
            return None
        if not phonenumbers.is_possible_number(number):
            return None
        plain = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        return f"{plain};ext={number.extension}" if number.extension and extension == "keep" else plain

    place = pc.coalesce(scope.text(country_field), "") if country_field else ""
    return per_unique(pc.binary_join_element_wise(values, place, _BETWEEN), one, TEXT)


CODES = (country_, currency, language, phone)
