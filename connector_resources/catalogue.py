"""The ERP's entity catalogue: which entities there are, what their fields promise, and where they are stored.

One YAML file a module (the grammar stands in mappings/README.md). A user's own ERP is described by a folder of the same
grammar that points at its own schema, tables and columns.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from connector_resources import lined_yaml
from connector_resources.contract import Condition, Entity, Field, FieldType, Lines
from connector_resources.errors import ConfigurationError


@dataclass(frozen=True)
class CatalogueEntity:
    """One entity and its place in the ERP's database. `columns`: field name → column name, the key included.

    A field that holds child lines (`entity.lines`) is no column and is not among `entity.fields`."""

    entity: Entity
    table: str
    schema: str | None
    columns: Mapping[str, str]
    module: str
    tenant_column: str | None


class _Source(Protocol):
    @property
    def name(self) -> str: ...

    def read_text(self, encoding: str) -> str: ...


def load_catalogue(path: Path | None = None) -> Mapping[str, CatalogueEntity]:
    """Every entity by name, from a folder of YAML files or from one file; without a path the catalogue of our own ERP.

    Raises ConfigurationError naming file, line, entity and field, and what was expected there.
    """
    return _ours() if path is None else _load(path)


@cache
def _ours() -> Mapping[str, CatalogueEntity]:
    """It comes with the product, and does not change while a process lives."""
    return _load(None)


def _load(path: Path | None) -> Mapping[str, CatalogueEntity]:
    found: dict[str, CatalogueEntity] = {}
    files: dict[str, _File] = {}
    for source in _sources(path):
        file = _File.of(source)
        for name, entity in file.entities():
            if name in found:
                raise file.refuse(("entities", name), f"this entity is described in {files[name].name} already")
            found[name], files[name] = entity, file
    if not found:
        raise ConfigurationError(f"The catalogue {path} describes no entity.")
    for name, file in files.items():
        file.check_links(found[name].entity, found)
    return MappingProxyType(found)


def _sources(path: Path | None) -> list[_Source]:
    if path is None:
        packaged = resources.files("mappings") / "erp"
        return sorted((f for f in packaged.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ConfigurationError(f"The catalogue {path} does not exist: give a folder of YAML files, or one file.")
    return [*sorted(path.glob("*.yaml"))]


_FILE = {"module": str, "schema": (str, type(None)), "tenant_column": (str, type(None)), "entities": dict}
_ENTITY = {
    "label": str,
    "table": str,
    "schema": (str, type(None)),
    "tenant_column": (str, type(None)),
    "key": (str, dict),
    "modified": (str, type(None)),
    "active": str,
    "fields": dict,
    "lines": dict,
    "immutable_when": dict,
}
_FIELD = {
    "type": str,
    "label": str,
    "column": str,
    "personal": bool,
    "nullable": bool,
    "writable": bool,
    "computed": bool,
    "unique": bool,
    "max_length": int,
    "scale": int,
    "choices": list,
    "references": (str, list),
    "currency": str,
}
_LINES = {"entity": str, "parent": str, "key": str}
_CONDITION = {"field": str, "values": list}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # of an entity or a field; what the database calls them is another matter
_WORDS: Mapping[type, str] = {str: "text", dict: "a mapping", list: "a list", bool: "true or false", int: "a whole number"}


class _File:
    """One file of the catalogue while it is read."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        try:
            self.document, self.lines = lined_yaml.load(text)
        except ConfigurationError as problem:
            raise ConfigurationError(f"{name}: {problem}") from None

    @classmethod
    def of(cls, source: _Source) -> "_File":
        try:
            return cls(source.name, source.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            raise ConfigurationError(f"{source.name} is not UTF-8 text; save it as UTF-8.") from None

    def refuse(self, path: lined_yaml.Place, expectation: str) -> ConfigurationError:
        line = next((self.lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.lines), 1)
        parts = [word for at, word in enumerate(path) if at not in (0, 2)]
        where = f", {'.'.join(map(str, parts))}" if parts else ""
        return ConfigurationError(f"{self.name}, line {line}{where}: {expectation}")

    def table(self, value: Any, path: lined_yaml.Place, keys: Mapping[str, Any], needed: tuple[str, ...]) -> dict[str, Any]:
        """A mapping with these keys of these types and no others."""
        if not isinstance(value, dict):
            raise self.refuse(path, "expected a mapping")
        for key, content in value.items():
            if key not in keys:
                raise self.refuse((*path, key), f"unknown key '{key}'{lined_yaml.suggestion(key, keys)}")
            kinds = keys[key] if isinstance(keys[key], tuple) else (keys[key],)
            if not isinstance(content, kinds) or (isinstance(content, bool) and bool not in kinds):
                expected = " or ".join(_WORDS[kind] for kind in kinds if kind in _WORDS)
                raise self.refuse((*path, key), f"'{key}' must be {expected}")
        for key in needed:
            if key not in value:
                raise self.refuse(path, f"'{key}' is missing")
        return value

    def entities(self) -> Iterator[tuple[str, CatalogueEntity]]:
        top = self.table(self.document, (), _FILE, ("module", "entities"))
        for name, raw in top["entities"].items():
            path = ("entities", name)
            self.named(name, path)
            entity = self.table(raw, path, _ENTITY, ("fields",))
            yield name, self.entity(name, entity, path, top)

    def named(self, name: str, path: lined_yaml.Place) -> None:
        if not _NAME.fullmatch(name):
            raise self.refuse(path, f"the name '{name}' must consist of letters without accents, digits and underscores")

    def entity(self, name: str, raw: dict[str, Any], path: lined_yaml.Place, top: dict[str, Any]) -> CatalogueEntity:
        key, key_column = self.key(raw.get("key", "id"), (*path, "key"))
        modified = raw.get("modified", "updated_at")
        fields = {key: Field(key, FieldType.STRING, "Id", False, False, writable=False, computed=True, unique=True)}
        columns = {key: key_column}
        if modified == "updated_at" and "updated_at" not in raw["fields"]:
            fields[modified] = Field(modified, FieldType.INSTANT, "Updated at", False, writable=False, computed=True)
            columns[modified] = modified
        for field_name, raw_field in raw["fields"].items():
            place = (*path, "fields", field_name)
            self.named(field_name, place)
            if field_name == key:
                raise self.refuse(place, f"'{key}' is the key and needs no description; its column is named under 'key'")
            fields[field_name] = self.field(field_name, raw_field, place)
            columns[field_name] = raw_field.get("column", field_name)
        described = Entity(
            name=name,
            fields=tuple(fields.values()),
            key=key,
            label=raw.get("label", name.replace("_", " ").capitalize()),
            modified=modified,
            active=raw.get("active"),
            lines=self.child_lines(raw.get("lines", {}), (*path, "lines"), fields),
            immutable_when=self.condition(raw.get("immutable_when"), (*path, "immutable_when"), fields),
        )
        self.check(described, path)
        stored = CatalogueEntity(
            entity=described,
            table=raw.get("table", name),
            schema=raw["schema"] if "schema" in raw else top.get("schema", "erp"),
            columns=MappingProxyType(columns),
            module=top["module"],
            tenant_column=raw["tenant_column"] if "tenant_column" in raw else top.get("tenant_column", "tenant_id"),
        )
        for word in (stored.table, stored.schema, stored.tenant_column, *columns.values()):
            if word is not None and (not word or ":" in word):  # a colon begins a bound value in our statements
                raise self.refuse(
                    path, f"'{word}' cannot be the name of a schema, table or column here: give a view another name"
                )
        return stored

    def key(self, raw: str | dict[str, Any], path: lined_yaml.Place) -> tuple[str, str]:
        if isinstance(raw, str):
            return raw, raw
        named = self.table(raw, path, {"name": str, "column": str}, ("name", "column"))
        return named["name"], named["column"]

    def field(self, name: str, raw: Any, path: lined_yaml.Place) -> Field:
        given = self.table(raw, path, _FIELD, ("type",))
        if given["type"] not in list(FieldType):
            known = lined_yaml.suggestion(given["type"], list(FieldType))
            raise self.refuse((*path, "type"), f"there is no type '{given['type']}'{known}")
        kind = FieldType(given["type"])
        references = given.get("references", ())
        choices = tuple(given.get("choices", ()))
        for key, allowed in (("max_length", FieldType.STRING), ("choices", FieldType.STRING), ("scale", FieldType.DECIMAL)):
            if key in given and kind is not allowed:
                raise self.refuse((*path, key), f"'{key}' is for the type {allowed.value}, and this field is {kind.value}")
        if not all(isinstance(target, str) for target in references):
            raise self.refuse((*path, "references"), "'references' must name entities")
        if not all(isinstance(choice, str) for choice in choices):
            raise self.refuse((*path, "choices"), "'choices' must be texts (put them in quotes)")
        if not 0 <= given.get("scale", 0) <= 18 or given.get("max_length", 1) < 1:
            raise self.refuse(path, "'scale' goes from 0 to 18, 'max_length' from 1")
        computed = given.get("computed", False)
        return Field(
            name=name,
            type=kind,
            label=given.get("label", name.replace("_", " ").capitalize()),
            personal=given.get("personal"),
            nullable=given.get("nullable", True),
            writable=given.get("writable", not computed),
            computed=computed,
            unique=given.get("unique", False),
            max_length=given.get("max_length"),
            scale=given.get("scale", 0),
            choices=choices,
            references=(references,) if isinstance(references, str) else tuple(references),
            currency=given.get("currency"),
        )

    def child_lines(self, raw: dict[str, Any], path: lined_yaml.Place, fields: Mapping[str, Field]) -> tuple[Lines, ...]:
        lines = []
        for name, given in raw.items():
            if name in fields:
                raise self.refuse((*path, name), f"'{name}' is a field already; lines need a name of their own")
            line = self.table(given, (*path, name), _LINES, ("entity", "parent"))
            lines.append(Lines(name, line["entity"], line["parent"], line.get("key")))
        return tuple(lines)

    def condition(self, raw: Any, path: lined_yaml.Place, fields: Mapping[str, Field]) -> Condition | None:
        if raw is None:
            return None
        given = self.table(raw, path, _CONDITION, ("field", "values"))
        field = fields.get(given["field"])
        if field is None:
            raise self.refuse(path, f"no field '{given['field']}'{lined_yaml.suggestion(given['field'], fields)}")
        for value in given["values"]:
            if field.choices and value not in field.choices:
                raise self.refuse(
                    path, f"'{value}' is no choice of {field.name}{lined_yaml.suggestion(str(value), field.choices)}"
                )
        return Condition(field.name, tuple(str(value) for value in given["values"]))

    def check(self, entity: Entity, path: lined_yaml.Place) -> None:
        """The fields that the entity names exist and are of the right type."""
        named = [("modified", entity.modified, FieldType.INSTANT), ("active", entity.active, FieldType.BOOLEAN)]
        for key, name, kind in named:
            field = entity.field(name) if name else None
            if name and (field is None or field.type is not kind):
                raise self.refuse((*path, key), f"'{key}' must name a field of type {kind.value}")
        for field in entity.fields:
            money = entity.field(field.currency) if field.currency else None
            if field.currency and (money is None or money.type is not FieldType.STRING):
                place = (*path, "fields", field.name, "currency")
                raise self.refuse(place, "'currency' must name the text field that holds the ISO 4217 code")

    def check_links(self, entity: Entity, found: Mapping[str, CatalogueEntity]) -> None:
        """References, lines and their keys lead somewhere."""
        for field in entity.fields:
            for target in field.references:
                if target not in found:
                    place = ("entities", entity.name, "fields", field.name, "references")
                    raise self.refuse(place, f"there is no entity '{target}'{lined_yaml.suggestion(target, found)}")
        for line in entity.lines:
            at = ("entities", entity.name, "lines", line.name)
            if line.entity not in found:
                raise self.refuse(at, f"there is no entity '{line.entity}'{lined_yaml.suggestion(line.entity, found)}")
            child = found[line.entity].entity
            for name in (line.parent, line.key):
                if name and child.field(name) is None:
                    raise self.refuse(at, f"{child.name} has no field '{name}'{lined_yaml.suggestion(name, child.names)}")
