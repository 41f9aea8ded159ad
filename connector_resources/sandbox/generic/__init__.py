"""A shop that speaks REST, SOAP and GraphQL over the same records."""

from connector_resources.sandbox.generic.server import ShopSandbox

__all__ = ["ShopSandbox"]
