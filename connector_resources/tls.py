"""TLS of our clients: whom we trust, and who we are."""

import ssl
import tempfile
from functools import cache

from connector_resources.errors import ConfigurationError


def trust(system: str, ca_file: str | None, certificate: tuple[str, str] | None) -> ssl.SSLContext:
    """TLS with the operating system's roots, and those in `ca_file`. Raises ConfigurationError when one cannot be read."""
    if not (ca_file or certificate):
        return roots()
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError:  # ssl.SSLError is one
            raise ConfigurationError(f"The certificate file {ca_file} is missing or is no PEM file.") from None
    if certificate:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # mode 0600; OpenSSL reads from files only
            file.write("\n".join(certificate))
            file.flush()
            try:
                context.load_cert_chain(file.name, password=lambda: "")
            except (OSError, ValueError):
                raise ConfigurationError(
                    f"The client certificate of the connector to {system} and its private_key are no PEM texts that belong "
                    "together; store both again, with their BEGIN and END lines and without a passphrase."
                ) from None
    return context


@cache
def roots() -> ssl.SSLContext:
    """The operating system's, read once a process: they are some hundred, and OpenSSL takes 40 ms."""
    return ssl.create_default_context()
