"""The grammar of mappings, which mappings/README.md writes down: from YAML or JSON to a definition.

A mapping is YAML in a file, or the same thing as JSON in the columns `mappings` and `transformation_functions` of a row of
field_mappings. Both are read by one reader, so both are refused for the same reasons, with a line or with a rule's number.
"""

import copy
from collections.abc import Mapping as Table
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

from connector_resources import lined_yaml
from connector_resources.errors import ConfigurationError
from integration_pipelines.model import ConflictStrategy
from integration_pipelines.steps import expressions
from integration_pipelines.steps.calculator import Calculator
from integration_pipelines.steps.transforms import CONDITION, TRANSFORMS, Step, parse_step

Owner: TypeAlias = Literal["external", "erp"]
NullPolicy: TypeAlias = Literal["clear", "keep"]
Creates: TypeAlias = Literal["both", "inbound", "outbound", "none"]
Constant: TypeAlias = str | int | bool

_CONSTANT = (str, int, bool)
_TOP = {"source_entity": str, "target_entity": str, "mappings": list}
_TOP_OPTIONAL = {"mapping_name": str, "version": int, "transformation_functions": (dict, type(None))}
FUNCTIONS = {"owner": str, "on_null": str, "match": list, "lookups": dict, "when": (dict, list), "create": str}
RULE = {
    "source": str,
    "expression": str,
    "target": str,
    "transforms": list,
    "constant": _CONSTANT,
    "default": _CONSTANT,
    "default_on": (str, type(None)),
    "required": bool,
    "direction": str,
    "reference": (str, dict),
    "lines": list,
    "match": bool,
    "owner": str,
    "on_null": str,
    "conflict": str,
    "when": dict,
}
_WORDS: Table[str, tuple[str, ...]] = {
    "owner": ("external", "erp"),
    "on_null": ("clear", "keep"),
    "default_on": ("null", "absent", "both"),
    "direction": ("inbound", "outbound", "both"),
    "create": ("both", "inbound", "outbound", "none"),
    "conflict": tuple(ConflictStrategy),
}
_KINDS = {str: "text", dict: "a mapping", list: "a list", bool: "true or false", int: "a whole number"}


@dataclass(frozen=True)
class Reference:
    """A parent: its ERP entity, and the external entity whose id the field holds (None: the one that has such a record)."""

    erp_entity: str
    external_entity: str | None = None


@dataclass(frozen=True)
class Rule:
    """One rule as it was written, with every default filled in. `path`: its place in the document; `number`: "3", or "3.2" for
    the second rule of rule 3's lines; `target`: empty for a constant that goes out."""

    path: lined_yaml.Place
    number: str
    target: str
    source: str | None
    expression: expressions.Expression | None
    chain: tuple[Step, ...]
    constant: Constant | None
    default: Constant | None
    default_on: Literal["null", "absent", "both"]
    required: bool
    direction: Literal["inbound", "outbound", "both"]
    reference: Reference | None
    lines: tuple["Rule", ...]
    match: bool
    owner: Owner
    on_null: NullPolicy
    conflict: ConflictStrategy | None
    when: Step | None

    @property
    def inbound(self) -> bool:
        return self.direction != "outbound"

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source field that the value depends on (the condition's apart)."""
        own: tuple[str, ...] = () if self.source is None else (self.source,)
        own = self.expression.sources if self.expression else own
        return tuple(dict.fromkeys([*own, *(name for step in self.chain for name in step.sources)]))


@dataclass(frozen=True)
class Where:
    """Names a place of a mapping for people: by line in a file, by rule in a row of the database."""

    origin: str
    lines: Table[lined_yaml.Place, int] | None = None

    def refuse(self, path: lined_yaml.Place, sentence: str) -> ConfigurationError:
        known = self.lines or {}
        line = next((known[path[:end]] for end in range(len(path), -1, -1) if path[:end] in known), None)
        deep = 4 if path[2:3] == ("lines",) and len(path) > 3 else 2
        numbers = ".".join(str(part + 1) for part in path[:deep] if isinstance(part, int) and path[0] == "mappings")
        words = [part for part in path[deep if numbers else 0 :] if isinstance(part, str)]
        where = [f"line {line}"] * bool(line) + [f"rule {numbers}"] * bool(numbers) + words
        return ConfigurationError(f"{', '.join([self.origin, *where])}: {sentence}")


@dataclass(frozen=True)
class MappingDefinition:
    """A mapping as it was written, checked as far as it can be without the entities' descriptions."""

    mapping_name: str
    source_entity: str
    target_entity: str
    version: int
    rules: tuple[Rule, ...]
    owner: Owner
    on_null: NullPolicy
    normalise: tuple[Step, ...]
    when: tuple[Step, ...]
    create: Creates
    lookups: Table[str, Table[str, str]]
    where: Where = field(compare=False, repr=False)
    _mappings: Sequence[Any] = field(repr=False)
    _functions: Table[str, Any] = field(repr=False)

    def to_json(self) -> tuple[list[Any], dict[str, Any]]:
        """What the columns `mappings` and `transformation_functions` hold: the document as it was written."""
        return copy.deepcopy(list(self._mappings)), copy.deepcopy(dict(self._functions))


def parse_yaml(text: str, name: str) -> MappingDefinition:
    """Read a mapping file; `name` is the file's, for messages and (without its ending) as the default name of the mapping.

    Raises ConfigurationError naming file, line and rule, and what was expected there.
    """
    try:
        document, lines = lined_yaml.load(text)
    except ConfigurationError as problem:
        raise ConfigurationError(f"{name}, {problem}") from None
    return _Reader(Where(name, lines)).definition(document, name.rpartition("/")[2].removesuffix(".yaml"))


def from_json(
    mapping_name: str,
    source_entity: str,
    target_entity: str,
    mappings: Sequence[Any],
    transformation_functions: Table[str, Any] | None = None,
    version: int = 1,
) -> MappingDefinition:
    """Read the columns of a row of field_mappings. Raises ConfigurationError naming the mapping and the rule."""
    document = {
        "source_entity": source_entity,
        "target_entity": target_entity,
        "mappings": copy.deepcopy(mappings),
        "transformation_functions": copy.deepcopy(transformation_functions),
        "version": version,
    }
    return _Reader(Where(f"mapping {mapping_name}")).definition(document, mapping_name)


class _Reader:
    """One document while it is read."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.refuse = where.refuse
        self.functions: Table[str, Any] = {}

    @cached_property
    def calculator(self) -> Calculator:
        return Calculator()

    def definition(self, document: Any, name: str) -> MappingDefinition:
        top = self.table(document, (), {**_TOP, **_TOP_OPTIONAL}, needed=tuple(_TOP))
        place: lined_yaml.Place = ("transformation_functions",)
        self.functions = self.table(top.get("transformation_functions") or {}, place, FUNCTIONS)
        for table, rows in self.functions.get("lookups", {}).items():
            if not isinstance(rows, dict) or not all(isinstance(value, str) for value in rows.values()):
                raise self.refuse((*place, "lookups", table), "a lookup table has texts on both sides (put numbers in quotes)")
        if not top["mappings"]:
            raise self.refuse(("mappings",), "a mapping needs at least one rule")
        normalise = self.chain(self.functions.get("match", []), (*place, "match"))
        if any(step.sources or step.transform.gives for step in normalise):
            raise self.refuse((*place, "match"), "only transforms of one text into another can normalise a match key")
        rules = self.rules(top["mappings"], ("mappings",), "")
        if self.functions.get("create", "both") != "both" and not any(rule.match for rule in rules):
            raise self.refuse(
                (*place, "create"), "without a rule with 'match: true' no record would ever meet its counterpart"
            )
        return MappingDefinition(
            mapping_name=top.get("mapping_name", name),
            source_entity=top["source_entity"],
            target_entity=top["target_entity"],
            version=top.get("version", 1),
            rules=rules,
            owner=self.functions.get("owner", "external"),
            on_null=self.functions.get("on_null", "clear"),
            normalise=normalise,
            when=self.conditions(self.functions.get("when", []), (*place, "when")),
            create=self.functions.get("create", "both"),
            lookups=self.functions.get("lookups", {}),
            where=self.where,
            _mappings=top["mappings"],
            _functions=self.functions,
        )

    def table(self, value: Any, path: lined_yaml.Place, keys: Table[str, Any], needed: tuple[str, ...] = ()) -> dict[str, Any]:
        """A mapping with these keys of these types and no others, whose words are among those that are known."""
        if not isinstance(value, dict):
            raise self.refuse(path, "expected a mapping")
        for key, content in value.items():
            if key not in keys:
                raise self.refuse((*path, key), f"unknown key '{key}'{lined_yaml.suggestion(str(key), keys)}")
            kinds = keys[key] if isinstance(keys[key], tuple) else (keys[key],)
            if isinstance(content, float):
                raise self.refuse((*path, key), f"'{key}' is a float, which is not exact; write the number as text")
            if not isinstance(content, kinds) or (isinstance(content, bool) and bool not in kinds):
                expected = " or ".join(_KINDS[kind] for kind in kinds if kind in _KINDS)
                raise self.refuse((*path, key), f"'{key}' must be {expected}")
            if key in _WORDS and (content or "null") not in _WORDS[key]:
                known = lined_yaml.suggestion(str(content), _WORDS[key])
                raise self.refuse((*path, key), f"'{key}' cannot be '{content}'{known}")
        for key in needed:
            if key not in value:
                raise self.refuse(path, f"'{key}' is missing")
        return value

    def rules(self, raw: list[Any], path: lined_yaml.Place, prefix: str, direction: str | None = None) -> tuple[Rule, ...]:
        """`direction`: of the rule that these lines' rules belong to, where it is written down."""
        found = tuple(self.rule(item, (*path, at), f"{prefix}{at + 1}", direction) for at, item in enumerate(raw))
        for inward in (True, False):
            seen: dict[str, Rule] = {}
            for rule in found:
                if rule.direction in ("both", "inbound" if inward else "outbound"):
                    first = seen.setdefault(rule.target or f"{rule.source} over there", rule)
                    if first is not rule:
                        raise self.refuse((*rule.path, "target"), f"'{rule.target}' is set by rule {first.number} already")
        return found

    def rule(self, raw: Any, path: lined_yaml.Place, number: str, outer: str | None = None) -> Rule:
        given = self.table(raw, path, RULE)
        nested = len(path) > 2
        sent = "constant" in given and (given.get("direction") or outer) == "outbound"  # it has no field of the ERP
        if ("target" in given) is sent:
            raise self.refuse(path, "an outbound constant has a 'source' and no 'target'" if sent else "'target' is missing")
        if len(set(given) & {"source", "constant", "expression"}) != (2 if sent else 1) or (sent and "source" not in given):
            raise self.refuse(path, "a rule has either a 'source', a 'constant' or an 'expression'")
        if "constant" in given and set(given) & {"transforms", "default", "lines", "reference", "match"}:
            raise self.refuse(path, "a constant takes no transforms, default, lines, reference or match")
        if "lines" in given and (nested or set(given) & {"expression", "transforms", "default", "reference", "match"}):
            raise self.refuse((*path, "lines"), "'lines' stand in a rule of their own with a source, and only once")
        if nested and set(given) & {"match", "owner", "on_null", "conflict"}:
            raise self.refuse(path, "'match', 'owner', 'on_null' and 'conflict' belong to the rule that holds the lines")
        chain = self.chain(given.get("transforms", []), (*path, "transforms"))
        lines = self.rules(given.get("lines", []), (*path, "lines"), f"{number}.", given.get("direction"))
        when = self.when(given.get("when"), (*path, "when"))
        tidy = all(step.transform.reversible and not step.sources for step in chain)
        plain = "source" in given and (nested or "." not in given["source"])
        turnable = tidy and when is None and plain and all(r.direction == "both" for r in lines)
        direction = given.get("direction", "outbound" if outer == "outbound" else "both" if turnable else "inbound")
        if direction == "both" and not turnable:
            raise self.refuse(
                (*path, "direction"), "this rule cannot be turned round; write one inbound and one outbound rule"
            )
        if "expression" in given and direction == "outbound":
            raise self.refuse((*path, "direction"), "an expression reads external fields, so its rule is an inbound one")
        if given.get("match") and direction == "outbound":
            raise self.refuse((*path, "match"), "a match key is made of inbound rules")
        return Rule(
            path=path,
            number=number,
            target=given.get("target", ""),
            source=given.get("source"),
            expression=self.expression(given.get("expression"), (*path, "expression")),
            chain=chain,
            constant=given.get("constant"),
            default=given.get("default"),
            default_on=given.get("default_on") or "null",
            required=given.get("required", False),
            direction=direction,
            reference=self.reference(given.get("reference"), (*path, "reference")),
            lines=lines,
            match=given.get("match", False),
            owner=given.get("owner", self.functions.get("owner", "external")),
            on_null=given.get("on_null", self.functions.get("on_null", "clear")),
            conflict=ConflictStrategy(given["conflict"]) if "conflict" in given else None,
            when=when,
        )

    def expression(self, raw: str | None, path: lined_yaml.Place) -> expressions.Expression | None:
        try:
            return None if raw is None else expressions.parse(raw, self.calculator)
        except ConfigurationError as problem:
            raise self.refuse(path, str(problem)) from None

    def chain(self, raw: list[Any], path: lined_yaml.Place) -> tuple[Step, ...]:
        found = []
        for at, item in enumerate(raw):
            try:
                found.append(parse_step(item, TRANSFORMS, self.functions.get("lookups", {})))
            except ConfigurationError as problem:
                raise self.refuse((*path, at), str(problem)) from None
        return tuple(found)

    def conditions(self, raw: dict[str, Any] | list[Any], path: lined_yaml.Place) -> tuple[Step, ...]:
        """One condition, or several that all must hold."""
        found = []
        for at, one in enumerate(raw if isinstance(raw, list) else [raw]):
            place = (*path, at) if isinstance(raw, list) else path
            if not isinstance(one, dict):
                raise self.refuse(place, "a condition is a mapping such as {source: Type, equals: Customer}")
            found.append(self.when(one, place))
        return tuple(step for step in found if step)

    def when(self, raw: dict[str, Any] | None, path: lined_yaml.Place) -> Step | None:
        if raw is None:
            return None
        if "source" not in raw:
            raise self.refuse(path, "'when' needs the 'source' whose value decides")
        try:
            return parse_step({"when": raw}, CONDITION, {})
        except ConfigurationError as problem:
            raise self.refuse(path, str(problem)) from None

    def reference(self, raw: str | dict[str, Any] | None, path: lined_yaml.Place) -> Reference | None:
        if raw is None or isinstance(raw, str):
            return Reference(raw) if raw else None
        given = self.table(raw, path, {"entity": str, "external": str}, needed=("entity",))
        return Reference(given["entity"], given.get("external"))
