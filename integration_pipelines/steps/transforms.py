"""The named transforms: every one that a mapping may use. The table in mappings/README.md lists them with their arguments."""

from collections.abc import Mapping
from types import MappingProxyType

from integration_pipelines.steps.transforms_base import Scope, Shape, Source, Step, Tables, Transform, as_text, fit, parse_step
from integration_pipelines.steps.transforms_code import CODES
from integration_pipelines.steps.transforms_number import NUMBERS
from integration_pipelines.steps.transforms_text import TEXTS, condition, constant_text
from integration_pipelines.steps.transforms_time import TIMES

__all__ = [
    "CONDITION",
    "TRANSFORMS",
    "Scope",
    "Shape",
    "Source",
    "Step",
    "Tables",
    "Transform",
    "as_text",
    "constant_text",
    "fit",
    "parse_step",
]

TRANSFORMS: Mapping[str, Transform] = MappingProxyType({t.name: t for t in (*TEXTS, *NUMBERS, *TIMES, *CODES)})
CONDITION: Mapping[str, Transform] = MappingProxyType({"when": condition})  # what a rule's own `when` is read with
