"""What a Secret with certificates should become: one step at a time, decided from what is there.

A certificate of a new authority is only issued when everybody trusts that authority already, so no
peer ever sees one that it does not know; an authority that was replaced stays trusted while it is
valid, because other replicas may still show what it issued. Where nothing valid is left to protect,
everything is made at once. No I/O and no clock; two replicas that decide at once decide alike, and
the Secret's version lets one of them write.
"""

from __future__ import annotations

import datetime as dt
from typing import Final, NamedTuple

from core.errors import BadInput
from ops.kubernetes.certificates.authority import (
    CertificateRequest,
    KeyPair,
    belongs,
    is_due,
    is_valid,
    issue,
    make_authority,
    names_of,
    read,
    vouches,
)

AUTHORITIES_MAX: Final = 3
"""Kept in one bundle; older ones are dropped."""


class StoredAuthorities(NamedTuple):
    """Certificates of authorities in PEM, the newest first with its key; and what it issued."""

    authorities: tuple[bytes, ...]
    authority_key: bytes
    issued: KeyPair


def all_new(wanted: CertificateRequest, now: dt.datetime) -> StoredAuthorities:
    """Where nothing can be kept."""
    authority = make_authority(f"{wanted.common_name} authority", now)
    return StoredAuthorities((authority.certificate,), authority.key, issue(authority, wanted, now))


def next_step(
    kept: StoredAuthorities | None,
    wanted: CertificateRequest,
    now: dt.datetime,
    *,
    is_trusted: bool,
) -> StoredAuthorities | None:
    """What to write next; None when all is well.

    ``is_trusted``: everybody who must trust the newest authority does.
    """
    if kept is None or not is_usable(kept, now):
        return all_new(wanted, now)
    if is_due(kept.authorities[0], now):
        authority = make_authority(f"{wanted.common_name} authority", now)
        older = [one for one in kept.authorities if is_valid(one, now)]
        trusted = (authority.certificate, *older)[:AUTHORITIES_MAX]
        return StoredAuthorities(trusted, authority.key, kept.issued)
    if is_good(kept, wanted, now) or not (is_trusted or _is_lost(kept, now)):
        return None
    return kept._replace(issued=issued_by(kept, wanted, now))


def issued_by(kept: StoredAuthorities, wanted: CertificateRequest, now: dt.datetime) -> KeyPair:
    """A new certificate of the newest authority. Raises BadInput."""
    return issue(_newest(kept), wanted, now)


def _newest(kept: StoredAuthorities) -> KeyPair:
    return KeyPair(kept.authorities[0], kept.authority_key)


def is_usable(kept: StoredAuthorities, now: dt.datetime) -> bool:
    """Whether the newest authority is one, and can still issue."""
    try:
        return bool(kept.authorities) and belongs(_newest(kept)) and is_valid(_newest(kept)[0], now)
    except BadInput:
        return False


def is_good(kept: StoredAuthorities, wanted: CertificateRequest, now: dt.datetime) -> bool:
    """Whether what was issued needs no successor."""
    certificate = kept.issued.certificate
    try:
        return (
            belongs(kept.issued)
            and vouches(kept.authorities[0], certificate)
            and not is_due(certificate, now)
            and frozenset(wanted.names) <= names_of(certificate)
        )
    except BadInput:
        return False


def _is_lost(kept: StoredAuthorities, now: dt.datetime) -> bool:
    """Whether nobody can take what was issued any more, so that waiting protects nothing."""
    try:
        certificate = kept.issued.certificate
        known = any(vouches(one, certificate) for one in kept.authorities)
        return not (belongs(kept.issued) and known and is_valid(certificate, now))
    except BadInput:
        return True


def ends(kept: StoredAuthorities) -> dt.datetime:
    """Until when what was issued can be used. Raises BadInput."""
    return read(kept.issued.certificate).not_valid_after_utc
