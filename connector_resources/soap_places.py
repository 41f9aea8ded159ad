"""What a WSDL says of the answers to an operation. XML leaves an empty list out: whether there are no records, or the manifest
looks in a place where there can be none, only the WSDL can tell."""

from typing import TYPE_CHECKING, Any

from zeep.xsd import Any as Wildcard
from zeep.xsd import ComplexType

if TYPE_CHECKING:
    from connector_resources.manifest import Path


def lacks(operation: Any, path: "Path") -> bool:
    """Whether no answer to this operation of zeep's has anything at this path. False where the WSDL leaves it open."""
    kind = getattr(getattr(operation.output, "body", None), "type", None)
    for step in path:
        found = [element for _, element in kind.elements] if isinstance(kind, ComplexType) else []
        if not found or any(isinstance(element, Wildcard) for element in found):
            return False
        kind = next((element.type for element in found if element.name == step), None)
        if kind is None:
            return not (step.startswith("@") or step.lstrip("-").isdecimal())
    return False
