"""Certificates for loopback, made by a new authority that nobody else trusts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Made:
    """Files in PEM: the authority's certificate, and a server's with its key."""

    ca: Path
    certificate: Path
    key: Path


def authority(folder: Path, address: str = "127.0.0.1") -> Made:
    """A certificate for *address*, and who vouches for it."""
    folder.mkdir(parents=True)
    own_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
    now = datetime.now(UTC)

    def certificate(subject: x509.Name, public: ec.EllipticCurvePublicKey, *extensions: x509.ExtensionType) -> x509.Certificate:
        builder = x509.CertificateBuilder(own, subject, public, x509.random_serial_number(), now - timedelta(1), now + timedelta(2))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(own_key, hashes.SHA256())

    vouches = certificate(
        own,
        own_key.public_key(),
        x509.BasicConstraints(ca=True, path_length=None),
        x509.SubjectKeyIdentifier.from_public_key(own_key.public_key()),
    )
    served = certificate(
        name,
        key.public_key(),
        x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(own_key.public_key()),
    )
    made = Made(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    made.ca.write_bytes(vouches.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(served.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    made.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return made
