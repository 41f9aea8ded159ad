"""A mapping that was compiled against its two entities, ready to be applied by steps/map.py."""

from collections.abc import Mapping as Table
from dataclasses import dataclass, replace

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.contract import Entity, Field
from connector_resources.frames import arrow_type
from integration_pipelines.canonical import TEXT, array, text_of
from integration_pipelines.model import ConflictStrategy
from integration_pipelines.steps.calculator import Calculation
from integration_pipelines.steps.mapping_grammar import MappingDefinition, NullPolicy, Owner, Reference, Rule
from integration_pipelines.steps.transforms import Step, Tables

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

    source_fields  what a read must ask the connector for; lines that the source describes by the paths in them
    fields         the target's fields that this mapping sets, in the order of the rules (child lines as a JSON field)
    match          target fields of the match key, may be empty
    references     target field → parent; such a column holds the parent's external id as text until it is resolved. A
                   reference inside child lines is named "lines.item_id".
    conditions     which records are synced at all: those for which all of these hold
    """

    definition: MappingDefinition
    rules: tuple[CompiledRule, ...]
    source_fields: tuple[str, ...]
    fields: tuple[Field, ...]
    match: tuple[str, ...]
    references: Table[str, Reference]
    conditions: tuple[Step, ...]
    paths: Table[str, SourcePath]

    @property
    def keys_alone(self) -> "Mapping":
        """The rules of the match key, for every record: what is not synced, or cannot be mapped, has a key as well."""
        return replace(self, rules=tuple(one for one in self.rules if one.rule.match), conditions=())

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
