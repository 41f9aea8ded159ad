"""Libraries that write down what they send and get: at DEBUG and INFO whole URLs, headers and XML, at ERROR values.

What they have to say of a failure, our own errors say, without it. So nothing of theirs reaches a log, however it is set.
"""

import logging

SPEAKING = (
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpcore.socks",
    "zeep",
    "zeep.cache",
    "zeep.client",
    "zeep.proxy",
    "zeep.transports",
    "zeep.wsdl.bindings.http",
    "zeep.wsdl.bindings.soap",
    "zeep.wsdl.wsdl",
    "zeep.xsd.elements.any",
    "zeep.xsd.elements.attribute",
    "zeep.xsd.elements.element",
    "zeep.xsd.schema",
    "zeep.xsd.types.any",
    "zeep.xsd.types.complex",
    "zeep.xsd.types.simple",
    "zeep.xsd.visitor",
)


def hush() -> None:
    """Silence these loggers; doing so again changes nothing."""
    for name in SPEAKING:
        logging.getLogger(name).addFilter(nothing)


def nothing(_: logging.LogRecord) -> bool:
    return False
