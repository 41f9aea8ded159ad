"""The outbound rules of a mapping, turned round: which ERP field becomes which external field.

A rule of the direction `both` is turned round as it is; of one that is `outbound` the chain runs from the ERP's field to the
external one. Rules for child lines are turned round line by line; expressions are inbound. A constant that goes out is written
when a record is made, and never again.
"""

from collections.abc import Mapping as Table
from dataclasses import replace

from connector_resources.contract import Entity
from connector_resources.errors import ConfigurationError
from integration_pipelines.steps.mapping import Compiler, Mapping, MappingDefinition, Rule, assembled


def compile_outward(
    definition: MappingDefinition, target: Entity, source: Entity, erp_entities: Table[str, Entity]
) -> Mapping:
    """A mapping whose sources are the ERP's fields (`target` describes them) and whose targets are the external ones.

    Raises ConfigurationError for a rule that does not fit, and where no rule is left."""
    rules = tuple(_turned(rule) for rule in definition.rules if _outward(rule, source))
    if not rules:
        raise ConfigurationError(
            f"The mapping {definition.mapping_name} has no outbound rule, so nothing can be written to {source.name}: give "
            "one of its rules the direction outbound or both, or make the sync inbound."
        )
    seen: dict[str, Rule] = {}
    for rule in rules:
        first = seen.setdefault(rule.target, rule)
        if first is not rule:
            raise definition.where.refuse(rule.path, f"rule {first.number} sets '{rule.target}' on the way out already")
    compiled = Compiler(definition, erp_entities, outward=True).rules(rules, source, target)
    return assembled(definition, compiled, target)


def _outward(rule: Rule, source: Entity) -> bool:
    """A rule that was written for both directions stays inbound where the external field cannot be written."""
    if rule.source is None or rule.direction == "inbound":
        return False
    field = source.field(rule.source)
    return rule.direction == "outbound" or (field is not None and field.writable and not field.computed)


def _turned(rule: Rule) -> Rule:
    own = rule.direction == "outbound"
    return replace(
        rule,
        source=rule.target or None,
        target=str(rule.source),
        default=rule.default if own else None,
        required=rule.required and own,
        direction="inbound",  # as the compiler sees it: from its source to its target
        match=False,
        lines=tuple(_turned(line) for line in rule.lines if line.source is not None and line.direction != "inbound"),
    )
