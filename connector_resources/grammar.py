"""A grammar as a table: what a document may say, from which its parser and its JSON Schema are both made.

A `Form` says what a value must look like; `Table` is a mapping with known keys. `check` walks a document that lined_yaml has
read and refuses the first thing that does not fit, naming file, line, key and what was expected there. `json_schema` prints
the same table for editors (JSON Schema, draft 2020-12), so that the two cannot differ.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from connector_resources import lined_yaml
from connector_resources.errors import ConfigurationError


@dataclass(frozen=True)
class Text:
    """`choices`: the only texts; `pattern`: of the whole text, described by `like`."""

    choices: tuple[str, ...] = ()
    pattern: str = ""
    like: str = "text"


@dataclass(frozen=True)
class Whole:
    least: int = 0
    most: int = 1_000_000


@dataclass(frozen=True)
class Flag:
    pass


@dataclass(frozen=True)
class Anything:
    """A template: any YAML."""


@dataclass(frozen=True)
class ListOf:
    item: "Form"


@dataclass(frozen=True)
class MapOf:
    """Keys are names that the author chooses."""

    value: "Form"
    key: Text = Text()


@dataclass(frozen=True)
class Either:
    """The first of these whose shape (text, list, mapping, …) the value has."""

    forms: tuple["Form", ...]


@dataclass(frozen=True)
class Key:
    form: "Form"
    about: str
    needed: bool = False


@dataclass(frozen=True)
class Table:
    keys: Mapping[str, Key]


Form: TypeAlias = Text | Whole | Flag | Anything | ListOf | MapOf | Either | Table

_SHAPES: Mapping[type, tuple[type, str]] = {
    Text: (str, "text"),
    Whole: (int, "a whole number"),
    Flag: (bool, "true or false"),
    ListOf: (list, "a list"),
    MapOf: (dict, "a mapping"),
    Table: (dict, "a mapping"),
}


@dataclass(frozen=True)
class Document:
    """A YAML text, its name for messages, and the line of each place in it."""

    name: str
    content: Any
    lines: Mapping[lined_yaml.Place, int]

    def refuse(self, place: lined_yaml.Place, expectation: str) -> ConfigurationError:
        line = next((self.lines[place[:end]] for end in range(len(place), -1, -1) if place[:end] in self.lines), 1)
        where = f", {'.'.join(map(str, place))}" if place else ""
        return ConfigurationError(f"{self.name}, line {line}{where}: {expectation}")


def document(name: str, text: str) -> Document:
    """Raises ConfigurationError naming file and line for what is no YAML."""
    try:
        return Document(name, *lined_yaml.load(text))
    except ConfigurationError as problem:
        raise ConfigurationError(f"{name}: {problem}") from None


def check(form: Form, source: Document, place: lined_yaml.Place = (), value: Any = None) -> None:
    """Raises ConfigurationError at the first thing below `place` that does not fit the form."""
    value = source.content if not place else value
    if isinstance(form, Anything):
        return
    if isinstance(form, Either):
        fitting = [one for one in form.forms if _has_shape(one, value)]
        if not fitting:
            expected = " or ".join(dict.fromkeys(_SHAPES[type(one)][1] for one in form.forms))
            raise source.refuse(place, f"expected {expected}")
        check(fitting[0], source, place, value)
        return
    if not _has_shape(form, value):
        raise source.refuse(place, f"expected {_expected(form)}")
    if isinstance(form, Text | Whole):
        _check_scalar(form, source, place, value)
    elif isinstance(form, ListOf):
        for at, item in enumerate(value):
            check(form.item, source, (*place, at), item)
    elif isinstance(form, MapOf):
        for key, content in value.items():
            _check_scalar(form.key, source, (*place, key), key)
            check(form.value, source, (*place, key), content)
    elif isinstance(form, Table):
        _check_table(form, source, place, value)


def _check_table(form: Table, source: Document, place: lined_yaml.Place, value: Mapping[str, Any]) -> None:
    for key, content in value.items():
        if key not in form.keys:
            raise source.refuse((*place, key), f"unknown key '{key}'{lined_yaml.suggestion(key, form.keys)}")
        check(form.keys[key].form, source, (*place, key), content)
    for key, known in form.keys.items():
        if known.needed and key not in value:
            raise source.refuse(place, f"'{key}' is missing: {known.about}")


def _check_scalar(form: Text | Whole, source: Document, place: lined_yaml.Place, value: Any) -> None:
    if isinstance(form, Whole):
        if not form.least <= value <= form.most:
            raise source.refuse(place, f"expected a whole number from {form.least} to {form.most}")
    elif form.choices and value not in form.choices:
        raise source.refuse(place, f"there is no '{value}' here{lined_yaml.suggestion(value, form.choices)}")
    elif form.pattern and not re.fullmatch(form.pattern, value):
        raise source.refuse(place, f"expected {form.like}")


def _has_shape(form: Form, value: Any) -> bool:
    if isinstance(form, Anything):
        return True
    if isinstance(form, Either):
        return any(_has_shape(one, value) for one in form.forms)
    return isinstance(value, _SHAPES[type(form)][0]) and (isinstance(form, Flag) or not isinstance(value, bool))


def _expected(form: Form) -> str:
    if isinstance(form, Text):
        return f"one of {', '.join(form.choices)}" if form.choices else form.like
    return _SHAPES[type(form)][1]


def json_schema(form: Form) -> dict[str, Any]:
    """The form as JSON Schema."""
    match form:
        case Text(choices=choices, pattern=pattern):
            limits = {"enum": list(choices)} if choices else {"pattern": f"^(?:{pattern})$"} if pattern else {}
            return {"type": "string", **limits}
        case Whole(least=least, most=most):
            return {"type": "integer", "minimum": least, "maximum": most}
        case Flag():
            return {"type": "boolean"}
        case Anything():
            return {}
        case ListOf(item=item):
            return {"type": "array", "items": json_schema(item)}
        case MapOf(value=value, key=key):
            return {"type": "object", "propertyNames": json_schema(key), "additionalProperties": json_schema(value)}
        case Either(forms=forms):
            return {"anyOf": [json_schema(one) for one in forms]}
    keys = {name: {**json_schema(key.form), "description": key.about} for name, key in form.keys.items()}
    needed = [name for name, key in form.keys.items() if key.needed]
    return {"type": "object", "properties": keys, "additionalProperties": False, **({"required": needed} if needed else {})}
