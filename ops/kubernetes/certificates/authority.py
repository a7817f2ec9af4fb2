"""Creates certificate authorities and issues certificates, in PEM. No I/O; time is an argument.

Keys are P-256, which all TLS peers support.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from core.errors import BadInput

AUTHORITY_DAYS: Final = 3_650
CERTIFICATE_DAYS: Final = 365
BACKDATED_HOURS: Final = 1
"""Certificates are valid from this time before their issue, for peers with a slow clock."""

RENEWED_AT: Final = 2 / 3
"""A certificate is renewed after this fraction of its validity."""

_USAGES: Final = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
}


class KeyPair(NamedTuple):
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes


class CertificateRequest(NamedTuple):
    """The contents of a certificate to issue.

    ``names``: DNS names and IP addresses. ``usages``: "server", "client".
    """

    common_name: str
    names: tuple[str, ...] = ()
    usages: tuple[str, ...] = ("server",)
    days: int = CERTIFICATE_DAYS


def make_authority(common_name: str, now: dt.datetime) -> KeyPair:
    """A new self-signed authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(common_name)
    builder = _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs=True), critical=True)
    return _signed(builder, key, key)


def issue(authority: KeyPair, request: CertificateRequest, now: dt.datetime) -> KeyPair:
    """Create a key and its certificate, signed by the authority. Raises BadInput."""
    issuer, issuer_key = read(authority.certificate), _read_key(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(request.common_name)
    builder = _builder(subject, issuer.subject, key.public_key(), now, request.days)
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    builder = builder.add_extension(_key_usage(signs=False), critical=True)
    usages = x509.ExtendedKeyUsage([_USAGES[usage] for usage in request.usages])
    builder = builder.add_extension(usages, critical=False)
    if request.names:
        names = x509.SubjectAlternativeName([_alternative(name) for name in request.names])
        builder = builder.add_extension(names, critical=False)
    return _signed(builder, key, issuer_key)


def read(pem: bytes) -> x509.Certificate:
    """Parse the first certificate in a PEM text. Raises BadInput."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise BadInput(f"cannot read a certificate: {error}", subject="certificate") from None


def is_valid(pem: bytes, now: dt.datetime) -> bool:
    """Whether a certificate is valid at this time. Raises BadInput."""
    certificate = read(pem)
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def is_due(pem: bytes, now: dt.datetime) -> bool:
    """Whether a certificate must be renewed. Raises BadInput."""
    certificate = read(pem)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return not begin <= now < begin + (end - begin) * RENEWED_AT


def has_issued(authority: bytes, certificate: bytes) -> bool:
    """Whether this authority issued the certificate. Raises BadInput."""
    try:
        read(certificate).verify_directly_issued_by(read(authority))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def is_pair(pair: KeyPair) -> bool:
    """Whether the key belongs to the certificate. Raises BadInput."""
    return read(pair.certificate).public_key() == _read_key(pair).public_key()


def names_of(pem: bytes) -> frozenset[str]:
    """The DNS names and addresses of a certificate. Raises BadInput."""
    try:
        names = read(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(str(name.value) for name in names)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: dt.datetime,
    days: int,
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(hours=BACKDATED_HOURS))
    builder = builder.not_valid_after(now + dt.timedelta(days=days))
    identifier = x509.SubjectKeyIdentifier.from_public_key(key)
    return builder.add_extension(identifier, critical=False)


def _signed(
    builder: x509.CertificateBuilder,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> KeyPair:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    certificate = builder.sign(issuer_key, hashes.SHA256())
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(certificate.public_bytes(Encoding.PEM), key_pem)


def _read_key(pair: KeyPair) -> ec.EllipticCurvePrivateKey:
    what = f"the private key of certificate {read(pair.certificate).subject.rfc4514_string()}"
    try:
        key = load_pem_private_key(pair.key, None)
    except (ValueError, TypeError) as error:
        raise BadInput(f"cannot read {what}: {error}", subject="key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadInput(f"{what} is not an elliptic-curve key", subject="key")
    return key


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def bundle(authorities: Sequence[bytes]) -> bytes:
    """Join certificates into one PEM text."""
    return b"".join(authority.strip() + b"\n" for authority in authorities)


def split(pem: bytes) -> tuple[bytes, ...]:
    """Split a PEM text into its certificates. Raises BadInput."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise BadInput(
            f"cannot read certificates: {error}",
            subject="certificate",
            remedy="use a PEM file with at least one certificate",
        ) from None
    return tuple(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
