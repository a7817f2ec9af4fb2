"""An authority of our own and what it issues, in PEM. No I/O; time is an argument.

Keys are P-256: made in a millisecond, known to every peer. What is issued begins an hour ago, so
that a clock which is a little late takes it too.
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
RENEWED_AT: Final = 2 / 3
"""The part of its life after which a certificate is replaced."""

_USAGES: Final = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
}


class KeyPair(NamedTuple):
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes


class CertificateRequest(NamedTuple):
    """What a certificate shall say. ``usages``: server, client. ``days``: how long it lasts."""

    common_name: str
    names: tuple[str, ...] = ()
    usages: tuple[str, ...] = ("server",)
    days: int = CERTIFICATE_DAYS


def make_authority(common_name: str, now: dt.datetime) -> KeyPair:
    """A new authority that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(common_name)
    builder = _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs=True), critical=True)
    return _signed(builder, key, key)


def issue(authority: KeyPair, wanted: CertificateRequest, now: dt.datetime) -> KeyPair:
    """A new key, and the authority's certificate for it. Raises BadInput."""
    issuer, issuer_key = read(authority.certificate), _read_key(authority.key)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(wanted.common_name)
    builder = _builder(subject, issuer.subject, key.public_key(), now, wanted.days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_key_usage(signs=False), critical=True)
    usages = x509.ExtendedKeyUsage([_USAGES[usage] for usage in wanted.usages])
    builder = builder.add_extension(usages, critical=False)
    if wanted.names:
        names = x509.SubjectAlternativeName([_alternative(one) for one in wanted.names])
        builder = builder.add_extension(names, critical=False)
    return _signed(builder, key, issuer_key)


def read(pem: bytes) -> x509.Certificate:
    """The first certificate of a text. Raises BadInput."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise BadInput(f"no certificate in PEM: {error}", subject="certificate") from None


def is_valid(pem: bytes, now: dt.datetime) -> bool:
    """Whether a peer with the right time takes it. Raises BadInput."""
    found = read(pem)
    return found.not_valid_before_utc <= now < found.not_valid_after_utc


def is_due(pem: bytes, now: dt.datetime) -> bool:
    """Whether it is time for its successor. Raises BadInput."""
    found = read(pem)
    life = found.not_valid_after_utc - found.not_valid_before_utc
    return not found.not_valid_before_utc <= now < found.not_valid_before_utc + life * RENEWED_AT


def vouches(authority: bytes, certificate: bytes) -> bool:
    """Whether this authority has issued it. Raises BadInput."""
    try:
        read(certificate).verify_directly_issued_by(read(authority))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def belongs(identity: KeyPair) -> bool:
    """Whether the key is the certificate's. Raises BadInput."""
    return read(identity.certificate).public_key() == _read_key(identity.key).public_key()


def names_of(pem: bytes) -> frozenset[str]:
    """The names and addresses it is for. Raises BadInput."""
    try:
        found = read(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(str(one.value) for one in found)


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
    written = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(certificate.public_bytes(Encoding.PEM), written)


def _read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise BadInput(f"no key in PEM: {error}", subject="key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadInput("a key that is not of ours", subject="key")
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
    """Several certificates in one text."""
    return b"".join(one.strip() + b"\n" for one in authorities)


def split(pem: bytes) -> tuple[bytes, ...]:
    """The certificates of a text, each by itself. Raises BadInput."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise BadInput(f"no certificates in PEM: {error}", subject="certificate") from None
    return tuple(one.public_bytes(Encoding.PEM) for one in found)
