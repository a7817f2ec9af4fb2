"""Certificates and certificate authorities are renewed before they expire."""

from __future__ import annotations

import datetime as dt

import pytest

from ops.kubernetes.certificates.authority import (
    AUTHORITY_DAYS,
    CERTIFICATE_DAYS,
    CertificateRequest,
    KeyPair,
    bundle,
    has_issued,
    is_pair,
    is_valid,
    make_authority,
    names_of,
    split,
)
from ops.kubernetes.certificates.rotation import (
    AUTHORITIES_MAX,
    StoredAuthorities,
    new_authorities,
    next_step,
)

NOW = dt.datetime(2026, 11, 28, 12, 0, tzinfo=dt.UTC)
REQUEST = CertificateRequest("webhooks", ("a.b", "a.b.svc"))


def days(number: float) -> dt.datetime:
    """The time ``number`` days after ``NOW``."""
    return NOW + dt.timedelta(days=number)


def settled(stored: StoredAuthorities | None, now: dt.datetime) -> StoredAuthorities:
    """The state after all steps, if clients trust each new authority immediately."""
    for _ in range(5):
        step = next_step(stored, REQUEST, now, is_trusted=True)
        if step is None:
            break
        stored = step
    else:
        raise AssertionError("the steps do not end")
    assert stored is not None
    return stored


def test_the_first_certificate_has_every_requested_name() -> None:
    stored = settled(None, NOW)

    assert is_pair(stored.issued)
    assert has_issued(stored.authorities[0], stored.issued.certificate)
    assert names_of(stored.issued.certificate) == {"a.b", "a.b.svc"}


def test_valid_certificates_are_not_replaced() -> None:
    stored = settled(None, NOW)

    assert next_step(stored, REQUEST, days(CERTIFICATE_DAYS / 2), is_trusted=True) is None


def test_the_same_authority_renews_a_certificate_long_before_it_expires() -> None:
    before = settled(None, NOW)
    after = settled(before, days(CERTIFICATE_DAYS * 0.7))

    assert after.authorities == before.authorities
    assert after.issued != before.issued
    assert is_valid(before.issued.certificate, days(CERTIFICATE_DAYS * 0.7))


def test_a_new_name_requires_a_new_certificate() -> None:
    stored = settled(None, NOW)
    wider = CertificateRequest("webhooks", ("a.b", "a.b.svc", "a.b.svc.cluster.local"))
    step = next_step(stored, wider, NOW, is_trusted=True)

    assert step is not None
    assert names_of(step.issued.certificate) == set(wider.names)


def test_a_new_authority_issues_certificates_only_after_all_clients_trust_it() -> None:
    stored = settled(None, NOW)
    # The authority must be renewed now; the certificate, issued 200 days ago, need not be.
    renewal_time = days(AUTHORITY_DAYS * 0.7)
    stored = stored._replace(issued=settled(stored, renewal_time - dt.timedelta(days=200)).issued)

    announced = next_step(stored, REQUEST, renewal_time, is_trusted=False)
    assert announced is not None
    assert announced.authorities[1:] == stored.authorities, "expected the old authority to stay"
    assert announced.issued == stored.issued, "expected the old certificate to stay"
    assert next_step(announced, REQUEST, renewal_time, is_trusted=False) is None

    switched = next_step(announced, REQUEST, renewal_time, is_trusted=True)
    assert switched is not None
    assert has_issued(switched.authorities[0], switched.issued.certificate)
    assert switched.authorities == announced.authorities


@pytest.mark.parametrize(
    "expired_days", [CERTIFICATE_DAYS + 1, AUTHORITY_DAYS + 1], ids=["certificate", "authority"]
)
def test_an_expired_certificate_is_replaced_before_clients_trust_the_new_authority(
    expired_days: float,
) -> None:
    stored = settled(None, NOW)
    step: StoredAuthorities | None = stored
    for _ in range(5):
        following = next_step(step, REQUEST, days(expired_days), is_trusted=False)
        if following is None:
            break
        step = following

    assert step is not None
    assert is_valid(step.issued.certificate, days(expired_days))
    assert has_issued(step.authorities[0], step.issued.certificate)


@pytest.mark.parametrize(
    "damaged",
    [
        lambda stored: stored._replace(authority_key=b"no key"),
        lambda stored: stored._replace(authorities=()),
        lambda stored: stored._replace(authority_key=make_authority("other", NOW).key),
        lambda stored: stored._replace(issued=KeyPair(b"", b"")),
        lambda stored: stored._replace(issued=new_authorities(REQUEST, NOW).issued),
        lambda stored: stored._replace(
            issued=stored.issued._replace(key=make_authority("o", NOW).key)
        ),
    ],
    ids=[
        "no authority key",
        "no authority",
        "key of another authority",
        "no certificate",
        "certificate of another authority",
        "key of another certificate",
    ],
)
def test_damaged_certificates_are_replaced(damaged: object) -> None:
    assert callable(damaged)
    stored = settled(damaged(settled(None, NOW)), NOW)

    assert is_pair(stored.issued)
    assert has_issued(stored.authorities[0], stored.issued.certificate)


def test_a_certificate_that_is_not_valid_yet_is_replaced() -> None:
    future = settled(None, days(3))
    stored = settled(future, NOW)

    assert is_valid(stored.issued.certificate, NOW)


def test_old_authorities_are_removed() -> None:
    stored = settled(None, NOW)
    for year in range(1, 60):
        stored = settled(stored, days(365 * year))

    assert 1 <= len(stored.authorities) <= AUTHORITIES_MAX
    assert all(is_valid(authority, days(365 * 59)) for authority in stored.authorities[:1])
    assert split(bundle(stored.authorities)) == stored.authorities
