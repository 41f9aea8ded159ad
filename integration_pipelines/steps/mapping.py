"""Mappings: which external field becomes which ERP field, and how. The grammar is written down in mappings/README.md.

A definition is what somebody wrote; a `Mapping` is a definition compiled against the two entities, ready to be applied by
steps/map.py. This compiles the inbound rules; outward.py turns the outbound ones round and compiles those.
"""

from collections.abc import Mapping as Table
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources import lined_yaml
from connector_resources.contract import Entity, Field, FieldType, Lines
from connector_resources.errors import ConfigurationError
from connector_resources.frames import arrow_type
from integration_pipelines.canonical import TEXT, array, parse_json, text_of
from integration_pipelines.model import ConflictStrategy
from integration_pipelines.steps.calculator import Calculation, Calculator
from integration_pipelines.steps.mapping_grammar import (
    Constant,
    MappingDefinition,
    NullPolicy,
    Owner,
    Reference,
    Rule,
    from_json,
    parse_yaml,
)
from integration_pipelines.steps.transforms import TRANSFORMS, Shape, Tables, constant_text, fit

__all__ = [
    "CompiledRule",
    "Mapping",
    "MappingDefinition",
    "Reference",
    "Rule",
    "SourcePath",
    "check",
    "compile_mapping",
    "from_json",
    "parse_yaml",
    "path_of",
]

_NONE: Table[str, Entity] = MappingProxyType({})
_BETWEEN = "\x1f"  # the unit separator joins the parts of a match key


@dataclass(frozen=True)
class SourcePath:
    """Where a source's value is: a column of the external frame, and the way into the JSON that it holds."""

    column: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class CompiledRule:
    """A rule with the target's field (None: a line's field that nobody describes). `constant` and `default` are one-element
    arrays of the column's type. `calculation`: the rule's expression, ready to be worked out. `line`: describes the lines that
    the rules in `lines` read, where they are the ERP's."""

    rule: Rule
    field: Field | None
    lines: tuple["CompiledRule", ...]
    constant: pa.Array | None
    default: pa.Array | None
    calculation: Calculation | None = None
    line: Entity | None = None

    @property
    def type(self) -> pa.DataType | None:
        """The Arrow type of the mapped column: text where it holds a parent's external id."""
        if self.rule.reference:
            return TEXT
        return arrow_type(self.field) if self.field else None


@dataclass(frozen=True)
class Mapping:
    """A definition compiled against its two entities.

    source_fields  what a read must ask the connector for
    fields         the target's fields that this mapping sets, in the order of the rules (child lines as a JSON field)
    match          target fields of the match key, may be empty
    references     target field → parent; such a column holds the parent's external id as text until it is resolved. A
                   reference inside child lines is named "lines.item_id".
    """

    definition: MappingDefinition
    rules: tuple[CompiledRule, ...]
    source_fields: tuple[str, ...]
    fields: tuple[Field, ...]
    match: tuple[str, ...]
    references: Table[str, Reference]
    paths: Table[str, SourcePath]

    def match_text(self, records: pd.DataFrame) -> pa.Array:
        """The match key of records that have the target's fields, normalised, as one text each; null where a part of it is
        null or empty. Both sides' records go through this, so that equal texts are a match."""
        parts = []
        for field in (f for f in self.fields if f.name in self.match):
            values = array(records[field.name])
            part = values if field.name in self.references else text_of(values, field.type, field.scale, field.name)
            for step in self.definition.normalise:
                part, _ = step.perform(part, Tables(self.definition.lookups))
            parts.append(pc.if_else(pc.equal(part, ""), pa.scalar(None, TEXT), pc.replace_substring(part, _BETWEEN, " ")))
        return pc.binary_join_element_wise(*parts, _BETWEEN) if parts else pa.nulls(len(records), TEXT)

    def _rule(self, field: str) -> Rule | None:
        return next((c.rule for c in self.rules if c.rule.target == field), None)

    def owner(self, field: str) -> Owner:
        """The side whose value counts when a pair meets for the first time."""
        rule = self._rule(field)
        return rule.owner if rule else self.definition.owner

    def null_policy(self, field: str) -> NullPolicy:
        """What a null does to the target's field: `clear` it, or `keep` what is there."""
        rule = self._rule(field)
        return rule.on_null if rule else self.definition.on_null

    def strategy(self, field: str) -> ConflictStrategy | None:
        """The field's own conflict strategy; None: the sync config's."""
        rule = self._rule(field)
        return rule.conflict if rule else None


def check(
    definition: MappingDefinition, target: Entity, source: Entity | None = None, erp_entities: Table[str, Entity] = _NONE
) -> None:
    """Hold a definition against the ERP entity, and against the external one when its description is at hand.

    `erp_entities`, by name, lets references and child lines be checked too. Raises ConfigurationError naming line or rule: a
    field that does not exist or cannot be written, a type that does not fit, a reference to the wrong entity, a field that
    every record must have and no rule sets.
    """
    compiled = Compiler(definition, erp_entities).rules(definition.rules, target, source)
    _complete(definition, ("mappings",), compiled, target, None)
    for one in compiled:
        described = _lines(target, one.rule.target)
        if described and described.entity in erp_entities:
            child = erp_entities[described.entity]
            _complete(definition, (*one.rule.path, "lines"), one.lines, child, described.parent)


def _complete(
    definition: MappingDefinition, path: lined_yaml.Place, rules: tuple[CompiledRule, ...], target: Entity, parent: str | None
) -> None:
    names = {one.rule.target for one in rules}
    for field in target.fields:
        if not field.nullable and field.writable and not field.computed and field.name not in names and field.name != parent:
            raise definition.where.refuse(path, f"{target.name} needs '{field.name}', and no rule sets it; add a rule for it")


def compile_mapping(
    definition: MappingDefinition, target: Entity, source: Entity, erp_entities: Table[str, Entity] = _NONE
) -> Mapping:
    """The definition's inbound rules against the two entities. Raises ConfigurationError for a rule that does not fit them.

    `erp_entities` gives the fields of child lines their types; without it they stay as the transforms leave them.
    """
    return assembled(definition, Compiler(definition, erp_entities).rules(definition.rules, target, source), source)


def assembled(definition: MappingDefinition, rules: tuple[CompiledRule, ...], source: Entity) -> Mapping:
    """The mapping of these compiled rules."""
    paths: dict[str, SourcePath] = {}
    references: dict[str, Reference] = {}
    for one in rules:
        names = (*one.rule.sources, *(one.rule.when.sources if one.rule.when else ()))
        paths.update((name, path_of(source, name)) for name in names)
        for named in (one, *one.lines):
            if named.rule.reference:
                inside = "" if named is one else f"{one.rule.target}."
                references[inside + named.rule.target] = named.rule.reference
    return Mapping(
        definition=definition,
        rules=rules,
        source_fields=tuple(dict.fromkeys(path.column for path in paths.values())),
        fields=tuple(one.field for one in rules if one.field),
        match=tuple(one.rule.target for one in rules if one.rule.match),
        references=MappingProxyType(references),
        paths=MappingProxyType(paths),
    )


def path_of(source: Entity | None, name: str) -> SourcePath:
    """`BillingAddress.city` is a way into a JSON field where the entity has that field; else the name of a parent's field,
    which the connector answers under that very name."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        field = source.field(".".join(parts[:end])) if source and not source.field(name) else None
        if field and field.type is FieldType.JSON:
            return SourcePath(field.name, tuple(parts[end:]))
    return SourcePath(name)


def _lines(target: Entity | None, name: str) -> Lines | None:
    return next((lines for lines in target.lines if lines.name == name), None) if target else None


class Compiler:
    """One definition while it is compiled."""

    def __init__(self, definition: MappingDefinition, erp_entities: Table[str, Entity], *, outward: bool = False) -> None:
        self.definition = definition
        self.refuse = definition.where.refuse
        self.erp_entities = erp_entities
        self.outward = outward  # the rules are turned round: their target is the external entity

    @cached_property
    def calculator(self) -> Calculator:
        return Calculator()

    def rules(self, rules: tuple[Rule, ...], target: Entity | None, source: Entity | None) -> tuple[CompiledRule, ...]:
        return tuple(self.rule(rule, target, source) for rule in rules if rule.inbound)

    def rule(self, rule: Rule, target: Entity | None, source: Entity | None) -> CompiledRule:
        field = self.field(rule, target)
        self.reference(rule, field)
        shapes = [self.shape(rule, source, name) for name in rule.sources]
        if rule.when:
            self.shape(rule, source, rule.when.sources[0])
        child = _lines(target, rule.target)
        described = self.erp_entities.get(child.entity) if child else None
        read = _lines(source, str(rule.source)) if self.outward else None
        line = self.erp_entities.get(read.entity) if read else None
        compiled = CompiledRule(rule, field, self.rules(rule.lines, described, line), None, None)
        calculation = self.calculation(rule, source, shapes)
        if calculation:
            self.chain(rule, field, calculation.shape)
        elif rule.source is not None and not rule.lines:
            self.chain(rule, field, shapes[0])
        return CompiledRule(
            rule,
            field,
            compiled.lines,
            self.constant(rule, compiled, rule.constant, "constant"),
            self.constant(rule, compiled, rule.default, "default"),
            calculation,
            line,
        )

    def calculation(self, rule: Rule, source: Entity | None, shapes: list[Shape]) -> Calculation | None:
        """None without an expression, or while nobody describes the source's fields. What is in a line is text."""
        if rule.expression is None or (source is None and "lines" not in rule.path):
            return None
        kinds = [arrow_type(Field("", shape.kind, scale=shape.scale)) if shape.kind else TEXT for shape in shapes]
        try:
            return self.calculator.prepare(rule.expression, dict(zip(rule.expression.sources, kinds, strict=False)))
        except ConfigurationError as problem:
            raise self.refuse((*rule.path, "expression"), str(problem)) from None

    def field(self, rule: Rule, target: Entity | None) -> Field | None:
        """The target's field. A line's field is unknown where nobody describes the line."""
        if target is None:
            return None
        field, place = target.field(rule.target), (*rule.path, "target")
        if _lines(target, rule.target):
            return Field(rule.target, FieldType.JSON)
        if field is None:
            known = [*target.names, *(lines.name for lines in target.lines)]
            raise self.refuse(place, f"{target.name} has no field '{rule.target}'{lined_yaml.suggestion(rule.target, known)}")
        if field.computed or not field.writable:
            system, way = ("the other system", "make it inbound") if self.outward else ("the ERP", "leave this rule out")
            raise self.refuse(place, f"'{rule.target}' is set by {system} itself and cannot be written; {way}")
        if rule.lines and not (self.outward and field.type is FieldType.JSON):
            raise self.refuse((*rule.path, "lines"), f"'{rule.target}' holds no child lines")
        return field

    def reference(self, rule: Rule, field: Field | None) -> None:
        reference, place = rule.reference, (*rule.path, "reference")
        if self.outward:
            return
        if reference is None:
            looked_up = any(step.transform.name == "lookup" for step in rule.chain)
            if field and field.references and rule.constant is None and not looked_up:
                parents = " or ".join(field.references)
                raise self.refuse(rule.path, f"'{rule.target}' refers to {parents}; add 'reference: {field.references[0]}'")
            return
        if self.erp_entities and reference.erp_entity not in self.erp_entities:
            known = lined_yaml.suggestion(reference.erp_entity, self.erp_entities)
            raise self.refuse(place, f"the ERP has no entity '{reference.erp_entity}'{known}")
        if field and reference.erp_entity not in field.references:
            what = f"refers to {' or '.join(field.references)}" if field.references else "refers to nothing"
            raise self.refuse(place, f"'{rule.target}' {what}, not to '{reference.erp_entity}'")

    def shape(self, rule: Rule, source: Entity | None, name: str) -> Shape:
        """The type of a source field. Raises when the description is at hand and does not have it."""
        if source is None:
            return Shape(None)
        field = source.field(name)
        if field:
            return Shape(field.type, field.scale)
        if self.outward and rule.lines and _lines(source, name):
            return Shape(FieldType.JSON)
        parent = "." in name and any(one.references for one in source.fields)
        if path_of(source, name).keys or parent:
            return Shape(None)
        read = rule.expression.sources if rule.expression else ()
        place = (*rule.path, "source" if name == rule.source else "expression" if name in read else "transforms")
        raise self.refuse(place, f"{source.name} has no field '{name}'{lined_yaml.suggestion(name, source.names)}")

    def chain(self, rule: Rule, field: Field | None, shape: Shape) -> None:
        """Follow the type through the chain to the target's field."""
        for at, step in enumerate(rule.chain):
            try:
                shape = step.shape(shape)
            except ConfigurationError as problem:
                raise self.refuse((*rule.path, "transforms", at), str(problem)) from None
        kind = shape.kind
        if field is None or kind is None:
            return
        place = (*rule.path, "expression" if rule.expression else "source")
        wanted = FieldType.STRING if rule.reference else field.type
        fits = {FieldType.INTEGER: {FieldType.DECIMAL}} if not rule.reference else {FieldType.INTEGER: {FieldType.STRING}}
        if kind is not wanted and wanted not in fits.get(kind, ()):
            ways = [t.name for t in TRANSFORMS.values() if t.gives is wanted and (not t.takes or kind in t.takes)]
            way = f"; add one of the transforms {', '.join(ways)}" if ways else ""
            raise self.refuse(place, f"{kind.value} does not fit {rule.target}, which is {wanted.value}{way}")
        if wanted is FieldType.DECIMAL and not rule.chain and shape.scale > field.scale:
            what = "the expression" if rule.expression else f"'{rule.source}'"
            way = f"add {{round: {field.scale}}}"
            raise self.refuse(place, f"{what} has {shape.scale} decimals and '{rule.target}' {field.scale}; {way}")

    def constant(self, rule: Rule, compiled: CompiledRule, value: Constant | None, key: str) -> pa.Array | None:
        if value is None:
            return None
        text = pa.array([constant_text(value)], TEXT)
        found = fit(text, compiled.type) if compiled.type else text
        field = compiled.field
        if found.null_count or (field and field.type is FieldType.JSON and not _is_json(constant_text(value))):
            kind = field.type.value if field else "its type"
            raise self.refuse((*rule.path, key), f"'{key}' does not fit '{rule.target}', which is {kind}")
        if field and field.choices and constant_text(value) not in field.choices:
            raise self.refuse((*rule.path, key), f"'{rule.target}' is one of {', '.join(field.choices)}")
        return found


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except ValueError:
        return False
    return True
