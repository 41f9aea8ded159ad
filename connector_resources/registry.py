"""Connector types by their name: classes of ours, manifests, and what other packages bring.

A manifest's file is named like its type: `connector_resources/manifests/my-shop.yaml`, or `my-shop.yaml` in the folder that
the setting INTEGRATION_MANIFESTS names. Another package registers a type as an entry point of the group
`integration.connectors`, whose name is the type and whose value is a subclass of Connector, or a package that holds
`<type>.yaml`. A class or a manifest is loaded when it is first asked for; a name that two provide is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module, resources
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from connector_resources.contract import Connector
from connector_resources.errors import ConfigurationError
from connector_resources.lined_yaml import suggestion
from connector_resources.manifest import Manifest
from connector_resources.manifest_parse import parse

BUILT_IN = {"salesforce": "connector_resources.salesforce.resource:Salesforce"}
GROUP = "integration.connectors"
_CLASSES = {
    "rest": "connector_resources.rest:RestConnector",
    "soap": "connector_resources.soap:SoapConnector",
    "graphql": "connector_resources.graphql:GraphQLConnector",
}


@dataclass(frozen=True)
class ConnectorType:
    """Where a type comes from: "built in", "manifest", a file, or the name of a package."""

    name: str
    origin: str
    load: Callable[[], type[Connector]]


def connector_class(connector_type: str, folder: Path | None = None) -> type[Connector]:
    """The class of a type. Raises ConfigurationError for a type that nobody provides, or a manifest that is wrong."""
    found = connector_types(folder)
    if connector_type not in found:
        raise ConfigurationError(f"There is no connector type '{connector_type}'{suggestion(connector_type, found)}")
    return found[connector_type].load()


def connector_types(folder: Path | None = None) -> Mapping[str, ConnectorType]:
    """Every type, in the order of their names; `folder` holds manifests of one's own. Nothing is loaded.

    Raises ConfigurationError for a name that two provide."""
    found: dict[str, ConnectorType] = {}
    packaged = resources.files("connector_resources") / "manifests"
    places: list[tuple[str, Any]] = [("manifest", packaged), *([(str(folder), folder)] if folder else [])]
    offered = [ConnectorType(name, "built in", partial(_class, place)) for name, place in BUILT_IN.items()]
    for origin, place in places:
        files = [file for file in place.iterdir() if file.name.endswith(".yaml") and not file.name.startswith("_")]
        offered += [ConnectorType(file.name.removesuffix(".yaml"), origin, partial(_of_file, file)) for file in files]
    for point in entry_points(group=GROUP):
        origin = point.dist.name if point.dist else point.value
        offered.append(ConnectorType(point.name, origin, partial(_brought, point.name, point.load)))
    for one in offered:
        if one.name in found:
            raise ConfigurationError(
                f"The connector type '{one.name}' is provided twice ({found[one.name].origin}, {one.origin}): rename one."
            )
        found[one.name] = one
    return dict(sorted(found.items()))


def manifest_class(manifest: Manifest) -> type[Connector]:
    """The connector class that this manifest describes."""
    base = _class(_CLASSES[manifest.kind])
    return type(
        f"{base.__name__}:{manifest.name}",
        (base,),
        {"type": manifest.name, "capabilities": manifest.capabilities, "manifest": manifest, "__doc__": manifest.title},
    )


def read_manifest(file: Any) -> Manifest:
    """The manifest in a file (a path, or a resource of a package). Raises ConfigurationError naming the line."""
    try:
        found = parse(file.name, file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file.name} is not UTF-8 text; save it as UTF-8.") from None
    if file.name != f"{found.name}.yaml":
        raise ConfigurationError(f"{file.name}: the manifest names the type '{found.name}'; call the file {found.name}.yaml.")
    return found


def _of_file(file: Any) -> type[Connector]:
    return manifest_class(read_manifest(file))


def _brought(name: str, load: Callable[[], Any]) -> type[Connector]:
    try:
        found = load()
    except (ImportError, AttributeError) as problem:
        raise ConfigurationError(f"The connector type '{name}' cannot be loaded from its package: {problem}.") from None
    if isinstance(found, ModuleType):
        return _of_file(resources.files(found) / f"{name}.yaml")
    if isinstance(found, type) and issubclass(found, Connector):
        return found
    raise ConfigurationError(f"The connector type '{name}' of another package is no Connector and no package of manifests.")


def _class(place: str) -> type[Connector]:
    module, _, name = place.partition(":")
    found: type[Connector] = getattr(import_module(module), name)
    return found
