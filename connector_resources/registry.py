"""Connector types by their code. A class is imported when it is first asked for."""

from importlib import import_module

from connector_resources.contract import Connector
from connector_resources.errors import ConfigurationError
from connector_resources.lined_yaml import suggestion

BUILT_IN = {"salesforce": "connector_resources.salesforce.resource:Salesforce"}


def connector_class(connector_type: str) -> type[Connector]:
    """Raises ConfigurationError for a type that nobody provides."""
    place = BUILT_IN.get(connector_type)
    if place is None:
        raise ConfigurationError(f"There is no connector type '{connector_type}'{suggestion(connector_type, BUILT_IN)}")
    module, _, name = place.partition(":")
    found: type[Connector] = getattr(import_module(module), name)
    return found
