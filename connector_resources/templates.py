"""Placeholders in a manifest's requests: {since}, {id}, {record.email} and their like.

A text that is one placeholder and nothing else takes the value as it is (a number, a whole record); within a longer text the
value is put in as text. What a placeholder has nothing for is left out together with the key or list item that names it: so
one request serves a first read, which has no {since}, and all later ones.
"""

import re
from collections.abc import Container, Iterator, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from connector_resources.errors import ConfigurationError

PLACE = re.compile(r"\{([a-z_]+(?:\.\w+)?)\}")


class Nothing:
    """The value of a placeholder that has none, and of what names it."""


NOTHING = Nothing()


def places(template: Any) -> Iterator[str]:
    """Names of the placeholders in a template, keys of mappings included."""
    if isinstance(template, str):
        yield from PLACE.findall(template)
    elif isinstance(template, Mapping):
        for key, value in template.items():
            yield from places(key)
            yield from places(value)
    elif isinstance(template, list | tuple):
        for item in template:
            yield from places(item)


def dropped(template: Any, values: Mapping[str, Any], wanted: Container[str]) -> Iterator[str]:
    """Texts that name one of the wanted placeholders, and are left out because another one of theirs has no value."""
    if isinstance(template, str):
        names = PLACE.findall(template)
        if any(name in wanted for name in names) and not PLACE.fullmatch(template) and _text(template, values) is NOTHING:
            yield template
    elif isinstance(template, Mapping):
        for value in template.values():
            yield from dropped(value, values, wanted)
    elif isinstance(template, list | tuple):
        for item in template:
            yield from dropped(item, values, wanted)


def fill(template: Any, values: Mapping[str, Any]) -> Any:
    """The template with its placeholders filled; NOTHING where one of them has no value."""
    if isinstance(template, str):
        return _text(template, values)
    if isinstance(template, Mapping):
        filled = {key: fill(value, values) for key, value in template.items()}
        return {key: value for key, value in filled.items() if value is not NOTHING}
    if isinstance(template, list | tuple):
        return [value for item in template if (value := fill(item, values)) is not NOTHING]
    return template


def texts(template: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """For headers: everything as text, null left out."""
    return {key: shown(value) for key, value in fill(template, values).items() if value is not None}


def query(template: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """For query parameters: everything as text, null left out; what the template writes as a list is a parameter that is said
    once for each item (`id: ["{ids}"]` becomes id=1&id=2)."""
    filled = {key: value for key, value in fill(template, values).items() if value is not None}
    return {key: _each(value) if isinstance(template[key], list) else shown(value) for key, value in filled.items()}


def _each(items: list[Any]) -> list[str]:
    return [text for item in items for text in (_each(item) if isinstance(item, list) else [shown(item)])]


def path(system: str, template: str, values: Mapping[str, Any]) -> str:
    """A URL's path: each value percent-encoded. Raises ConfigurationError where one is missing."""
    for name in PLACE.findall(template):
        if value_of(name, values) in (NOTHING, None, ""):
            raise ConfigurationError(f"The path {template} of {system} needs {{{name}}}, and there is none.")
    return PLACE.sub(lambda match: quote(shown(value_of(match[1], values)), safe=""), template)


def shown(value: Any) -> str:
    """A value as text: true and false as JSON writes them, numbers without an exponent, lists joined by commas."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f")
    return ",".join(map(shown, value)) if isinstance(value, list | tuple) else str(value)


def value_of(name: str, values: Mapping[str, Any]) -> Any:
    first, point, rest = name.partition(".")
    found = values.get(first, NOTHING)
    if not point:
        return NOTHING if found is None else found
    return found.get(rest, NOTHING) if isinstance(found, Mapping) else NOTHING


def _text(template: str, values: Mapping[str, Any]) -> Any:
    whole = PLACE.fullmatch(template)
    if whole:
        return value_of(whole[1], values)
    found = {name: value_of(name, values) for name in PLACE.findall(template)}
    if any(value is NOTHING or value is None for value in found.values()):
        return NOTHING
    return PLACE.sub(lambda match: shown(found[match[1]]), template)
