"""Decides the next state of a Secret with certificates, one step at a time. No I/O, no clock.

A new authority issues certificates when all clients trust it. It need not wait if clients reject
the present certificate anyway. A replaced authority stays trusted while it is valid, because other
replicas may still use its certificates.
"""

from __future__ import annotations

import datetime as dt
from typing import Final, NamedTuple

from core.errors import BadInput
from ops.kubernetes.certificates.authority import (
    CertificateRequest,
    KeyPair,
    has_issued,
    is_due,
    is_pair,
    is_valid,
    issue,
    make_authority,
    names_of,
    read,
)

AUTHORITIES_MAX: Final = 3


class StoredAuthorities(NamedTuple):
    """The content of the Secret, in PEM.

    ``authorities``: certificates, newest first. ``authority_key``: the key of the newest authority.
    ``issued``: the certificate in use, with its key.
    """

    authorities: tuple[bytes, ...]
    authority_key: bytes
    issued: KeyPair


def new_authorities(request: CertificateRequest, now: dt.datetime) -> StoredAuthorities:
    """A new authority, and a certificate that it issued."""
    authority = make_authority(f"{request.common_name} authority", now)
    return StoredAuthorities(
        (authority.certificate,), authority.key, issue(authority, request, now)
    )


def next_step(
    stored: StoredAuthorities | None,
    request: CertificateRequest,
    now: dt.datetime,
    *,
    is_trusted: bool,
) -> StoredAuthorities | None:
    """The state to write next; None if no change is due.

    ``is_trusted``: all clients trust the newest authority.
    """
    if stored is None or not is_authority_usable(stored, now):
        return new_authorities(request, now)
    if is_due(stored.authorities[0], now):
        authority = make_authority(f"{request.common_name} authority", now)
        older = [certificate for certificate in stored.authorities if is_valid(certificate, now)]
        trusted = (authority.certificate, *older)[:AUTHORITIES_MAX]
        return StoredAuthorities(trusted, authority.key, stored.issued)
    if is_certificate_good(stored, request, now) or not (
        is_trusted or _is_rejected_by_clients(stored, now)
    ):
        return None
    return stored._replace(issued=issued_by(stored, request, now))


def issued_by(stored: StoredAuthorities, request: CertificateRequest, now: dt.datetime) -> KeyPair:
    """A new certificate, issued by the newest authority. Raises BadInput."""
    return issue(_newest(stored), request, now)


def _newest(stored: StoredAuthorities) -> KeyPair:
    return KeyPair(stored.authorities[0], stored.authority_key)


def is_authority_usable(stored: StoredAuthorities, now: dt.datetime) -> bool:
    """Whether the newest authority is valid and can issue certificates."""
    try:
        return (
            bool(stored.authorities)
            and is_pair(_newest(stored))
            and is_valid(stored.authorities[0], now)
        )
    except BadInput:
        return False


def is_certificate_good(
    stored: StoredAuthorities, request: CertificateRequest, now: dt.datetime
) -> bool:
    """Whether the issued certificate can be kept."""
    certificate = stored.issued.certificate
    try:
        return (
            is_pair(stored.issued)
            and has_issued(stored.authorities[0], certificate)
            and not is_due(certificate, now)
            and frozenset(request.names) <= names_of(certificate)
        )
    except BadInput:
        return False


def _is_rejected_by_clients(stored: StoredAuthorities, now: dt.datetime) -> bool:
    try:
        certificate = stored.issued.certificate
        is_trusted = any(has_issued(authority, certificate) for authority in stored.authorities)
        return not (is_pair(stored.issued) and is_trusted and is_valid(certificate, now))
    except BadInput:
        return True


def valid_until(stored: StoredAuthorities) -> dt.datetime:
    """The end of the issued certificate's validity. Raises BadInput."""
    return read(stored.issued.certificate).not_valid_after_utc
