"""Mappings: which external field becomes which ERP field, and how. The grammar is written down in mappings/README.md.

A definition is what somebody wrote (mapping_grammar.py); a `Mapping` is a definition compiled against the two entities
(compiled_mapping.py). This compiles the inbound rules; mapping_outward.py turns the outbound ones round and compiles those.
"""

from collections.abc import Mapping as Table
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType

import pyarrow as pa

from connector_resources import lined_yaml
from connector_resources.contract import Entity, Field, FieldType, Lines
from connector_resources.errors import ConfigurationError
from connector_resources.frames import arrow_type
from integration_pipelines.canonical import TEXT, parse_json
from integration_pipelines.steps.calculator import Calculation, Calculator
from integration_pipelines.steps.compiled_mapping import CompiledRule, Mapping, SourcePath
from integration_pipelines.steps.mapping_grammar import (
    Constant,
    MappingDefinition,
    Reference,
    Rule,
    from_json,
    parse_yaml,
)
from integration_pipelines.steps.transforms import TRANSFORMS, Shape, Step, as_text, constant_text, fit

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
    compiler = Compiler(definition, erp_entities)
    conditions = compiler.conditions(source)
    mapping = assembled(definition, compiler.rules(definition.rules, target, source), source, conditions)
    described = {lines.name for lines in source.lines}
    inside = {one.rule.source: _inner_paths(one) for one in mapping.rules if one.rule.lines and one.rule.source in described}
    fields = [path for name in mapping.source_fields for path in inside.get(name, (name,))]
    return replace(mapping, source_fields=tuple(dict.fromkeys(fields)))


def _inner_paths(rule: CompiledRule) -> list[str]:
    """What is asked for of lines that the source's description knows: OrderItems.Quantity."""
    conditions = [name for one in rule.lines if one.rule.when for name in one.rule.when.sources]
    return [f"{rule.rule.source}.{name}" for name in [*(name for one in rule.lines for name in one.rule.sources), *conditions]]


def assembled(
    definition: MappingDefinition, rules: tuple[CompiledRule, ...], source: Entity, conditions: tuple[Step, ...] = ()
) -> Mapping:
    """The mapping of these compiled rules, for records for which these conditions hold."""
    paths = {name: path_of(source, name) for step in conditions for name in step.sources}
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
        conditions=conditions,
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
        rule = self.parent_named(rule, field, source)
        shapes = [self.shape(rule, source, name) for name in rule.sources]
        known = dict(zip(rule.sources, shapes, strict=True))
        rule = replace(rule, chain=tuple(_spelled(step, known) for step in rule.chain))
        if rule.when:
            tested = rule.when.sources[0]
            rule = replace(rule, when=_spelled(rule.when, {tested: self.shape(rule, source, tested)}))
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

    def parent_named(self, rule: Rule, field: Field | None, source: Entity | None) -> Rule:
        """The rule with the external entity of its reference, where the external field holds ids of one entity alone. Nobody
        describes a field inside lines, and transforms may make another id of it unless they only tidy."""
        reference = rule.reference
        if reference is None or reference.external_entity or "lines" in rule.path:
            return rule
        tidy = all(step.transform.reversible and not step.sources for step in rule.chain)
        external = field if self.outward else source.field(rule.source) if source and rule.source and tidy else None
        if external is None or len(external.references) != 1:
            return rule
        return replace(rule, reference=replace(reference, external_entity=external.references[0]))

    def conditions(self, source: Entity | None) -> tuple[Step, ...]:
        """The mapping's conditions. Raises for one on a field that is not there."""
        place = ("transformation_functions", "when")
        shapes = {name: self.described(source, name, place) for step in self.definition.when for name in step.sources}
        return tuple(_spelled(step, shapes) for step in self.definition.when)

    def shape(self, rule: Rule, source: Entity | None, name: str) -> Shape:
        """The type of a source field. Raises when the description is at hand and does not have it."""
        if source is not None and rule.lines and _lines(source, name):
            return Shape(FieldType.JSON)
        read = rule.expression.sources if rule.expression else ()
        place = "source" if name == rule.source else "expression" if name in read else "transforms"
        return self.described(source, name, (*rule.path, place))

    def described(self, source: Entity | None, name: str, place: lined_yaml.Place) -> Shape:
        if source is None:
            return Shape(None)
        field = source.field(name)
        if field:
            return Shape(field.type, field.scale)
        parent = "." in name and any(one.references for one in source.fields)
        if path_of(source, name).keys or parent:
            return Shape(None)
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
        if self.outward and compiled.type is None:  # in a line, JSON has the value as it is written here
            return pa.array([value])
        text = pa.array([constant_text(value)], TEXT)
        found = fit(text, compiled.type) if compiled.type else text
        field = compiled.field
        if found.null_count or (field and field.type is FieldType.JSON and not _is_json(constant_text(value))):
            kind = field.type.value if field else "its type"
            raise self.refuse((*rule.path, key), f"'{key}' does not fit '{rule.target}', which is {kind}")
        if field and field.choices and constant_text(value) not in field.choices:
            raise self.refuse((*rule.path, key), f"'{rule.target}' is one of {', '.join(field.choices)}")
        return found


def _spelled(step: Step, shapes: Table[str, Shape]) -> Step:
    """A test of another field, with its constants as that field's values are spelled: 100 as 100.00 where it has two decimals.
    What is none of its values stays as it is, and equals none."""
    shape = shapes.get(step.arguments.get("source", ""))
    if shape is None or shape.kind in (None, FieldType.STRING, FieldType.JSON):
        return step
    kind = arrow_type(Field("", shape.kind, scale=shape.scale))

    def one(value: Constant) -> str:
        text = constant_text(value)
        return as_text(fit(pa.array([text], TEXT), kind))[0].as_py() or text

    tests = {key: value for key, value in step.arguments.items() if key in ("equals", "in", "not_in") and value is not None}
    spelled = {key: [one(item) for item in value] if isinstance(value, list) else one(value) for key, value in tests.items()}
    return replace(step, arguments=MappingProxyType({**step.arguments, **spelled}))


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except ValueError:
        return False
    return True
