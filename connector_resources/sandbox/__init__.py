"""Stateful stand-ins of the systems we connect to, on real HTTP, with faults to switch on."""

from connector_resources.sandbox.server import Sandbox, serve

__all__ = ["Sandbox", "serve"]
