"""Makes the certificates of a stack: those of its authority, of the node and of a client.

The authority's key is never written: it signs and is forgotten, so that nobody can make another
certificate that this stack would trust.
"""

import ipaddress
import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY = "authority.pem"

_LIFETIME = timedelta(days=800)  # some clients refuse more than 825 days
_RENEWED_BEFORE = timedelta(days=30)
_CLOCK_TOLERANCE = timedelta(hours=1)
_KEY_USES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def ensure_certificates(directory: Path, names: Iterable[str]) -> None:
    """Make certificates, unless there are some that are valid for a month or more.

    It writes ``authority.pem``, which clients are given, and for each name ``NAME.pem``, a private
    key and its certificate, which only the owner can read.

    Args:
        directory: the directory in which they are kept; made if it is missing.
        names: the common names, which are the users' names to Kafka. Each certificate is valid for
            a server on 127.0.0.1 and localhost, and for a client.
    """
    authority = directory / AUTHORITY
    if not _lasts(authority):
        authority.unlink(missing_ok=True)
        make_certificates(directory, names, datetime.now(UTC) + _LIFETIME)


def make_certificates(directory: Path, names: Iterable[str], expires: datetime) -> None:
    """Make certificates as ``ensure_certificates`` does, with their end of validity.

    Args:
        directory: the directory in which they are kept; made if it is missing.
        names: the common names.
        expires: the time until which they are valid, with its time zone.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _named("mmbroker local stack")
    authority = (
        _certificate(subject, subject, key.public_key(), expires)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        .sign(key, hashes.SHA256())
    )
    for name in names:
        own_key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = (
            _certificate(_named(name), subject, own_key.public_key(), expires)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
            .add_extension(issuer, critical=False)
            .sign(key, hashes.SHA256())
        )
        private = own_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(directory / f"{name}.pem", private + certificate.public_bytes(Encoding.PEM))
    # It comes last: without an authority, all is made again after an interruption.
    (directory / AUTHORITY).write_bytes(authority.public_bytes(Encoding.PEM))


def write_private(file: Path, content: bytes) -> None:
    """Write a file that only its owner can read, at every moment."""
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)


def _lasts(authority: Path) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(authority.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return certificate.not_valid_after_utc > datetime.now(UTC) + _RENEWED_BEFORE


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, expires: datetime
) -> x509.CertificateBuilder:
    begins = min(datetime.now(UTC), expires - timedelta(days=1)) - _CLOCK_TOLERANCE
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(expires)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*uses: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{use: use in uses for use in _KEY_USES})
