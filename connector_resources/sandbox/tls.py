"""A local certificate authority that lives for one start, and a server certificate for this machine."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_NAMES = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
_ONLY = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_network("127.0.0.1/32")))
_USES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign")


def make_certificates(home: Path) -> tuple[Path, Path]:
    """Paths of the root certificate (sandbox-ca.pem) and of the server's certificate with its key (sandbox-server.pem, 0600).

    The authority may vouch for localhost and 127.0.0.1 only, and its key is forgotten at once: whoever trusts the root trusts
    nobody else.
    """
    home.mkdir(parents=True, exist_ok=True)
    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sandbox authority")])
    root = (
        _certificate(name, name, authority, authority)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.NameConstraints(permitted_subtrees=_ONLY, excluded_subtrees=None), critical=True)
        .add_extension(_usage("key_cert_sign"), critical=True)
        .sign(authority, hashes.SHA256())
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    leaf = (
        _certificate(subject, name, server, authority)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(_NAMES), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_usage("digital_signature"), critical=True)
        .sign(authority, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key = server.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    ca_file, server_file = home / "sandbox-ca.pem", home / "sandbox-server.pem"
    ca_file.write_bytes(root.public_bytes(pem))
    server_file.touch(mode=0o600)
    server_file.write_bytes(leaf.public_bytes(pem) + key)
    return ca_file, server_file


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    today = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=365))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )


def _usage(allowed: str) -> x509.KeyUsage:
    uses = {name: name == allowed for name in (*_USES, "crl_sign", "encipher_only", "decipher_only")}
    return x509.KeyUsage(**uses)
