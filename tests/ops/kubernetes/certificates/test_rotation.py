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


def days_after_now(number: float) -> dt.datetime:
    return NOW + dt.timedelta(days=number)


def after_all_steps(stored: StoredAuthorities | None, now: dt.datetime) -> StoredAuthorities:
    """The state after all rotation steps, if clients trust each new authority immediately."""
    for _ in range(5):
        step = next_step(stored, REQUEST, now, is_trusted=True)
        if step is None:
            break
        stored = step
    else:
        raise AssertionError("expected at most four steps, found a fifth step")
    assert stored is not None
    return stored


def test_the_first_certificate_has_every_requested_name() -> None:
    stored = after_all_steps(None, NOW)

    assert is_pair(stored.issued)
    assert has_issued(stored.authorities[0], stored.issued.certificate)
    assert names_of(stored.issued.certificate) == {"a.b", "a.b.svc"}


def test_valid_certificates_are_not_replaced() -> None:
    stored = after_all_steps(None, NOW)

    assert next_step(stored, REQUEST, days_after_now(CERTIFICATE_DAYS / 2), is_trusted=True) is None


def test_a_certificate_is_renewed_early_by_the_same_authority() -> None:
    before = after_all_steps(None, NOW)
    after = after_all_steps(before, days_after_now(CERTIFICATE_DAYS * 0.7))

    assert after.authorities == before.authorities
    assert after.issued != before.issued
    assert is_valid(before.issued.certificate, days_after_now(CERTIFICATE_DAYS * 0.7))


def test_a_new_name_requires_a_new_certificate() -> None:
    stored = after_all_steps(None, NOW)
    wider_request = CertificateRequest("webhooks", ("a.b", "a.b.svc", "a.b.svc.cluster.local"))
    step = next_step(stored, wider_request, NOW, is_trusted=True)

    assert step is not None
    assert names_of(step.issued.certificate) == set(wider_request.names)


def test_a_new_authority_issues_certificates_only_after_all_clients_trust_it() -> None:
    stored = after_all_steps(None, NOW)
    # The authority is due for renewal. The certificate, issued 200 days earlier, is not.
    renewal_time = days_after_now(AUTHORITY_DAYS * 0.7)
    stored = stored._replace(
        issued=after_all_steps(stored, renewal_time - dt.timedelta(days=200)).issued
    )

    announced_step = next_step(stored, REQUEST, renewal_time, is_trusted=False)
    assert announced_step is not None
    assert announced_step.authorities[1:] == stored.authorities, (
        "expected the old authority to stay"
    )
    assert announced_step.issued == stored.issued, "expected the old certificate to stay"
    assert next_step(announced_step, REQUEST, renewal_time, is_trusted=False) is None

    switched_step = next_step(announced_step, REQUEST, renewal_time, is_trusted=True)
    assert switched_step is not None
    assert has_issued(switched_step.authorities[0], switched_step.issued.certificate)
    assert switched_step.authorities == announced_step.authorities


@pytest.mark.parametrize(
    "expired_days", [CERTIFICATE_DAYS + 1, AUTHORITY_DAYS + 1], ids=["certificate", "authority"]
)
def test_an_expired_certificate_is_replaced_before_clients_trust_the_new_authority(
    expired_days: float,
) -> None:
    stored = after_all_steps(None, NOW)
    step: StoredAuthorities | None = stored
    for _ in range(5):
        next_stored = next_step(step, REQUEST, days_after_now(expired_days), is_trusted=False)
        if next_stored is None:
            break
        step = next_stored

    assert step is not None
    assert is_valid(step.issued.certificate, days_after_now(expired_days))
    assert has_issued(step.authorities[0], step.issued.certificate)


@pytest.mark.parametrize(
    "damage",
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
def test_damaged_certificates_are_replaced(damage: object) -> None:
    assert callable(damage)
    stored = after_all_steps(damage(after_all_steps(None, NOW)), NOW)

    assert is_pair(stored.issued)
    assert has_issued(stored.authorities[0], stored.issued.certificate)


def test_a_certificate_that_is_not_valid_yet_is_replaced() -> None:
    future_certificates = after_all_steps(None, days_after_now(3))
    stored = after_all_steps(future_certificates, NOW)

    assert is_valid(stored.issued.certificate, NOW)


def test_old_authorities_are_removed() -> None:
    stored = after_all_steps(None, NOW)
    for year in range(1, 60):
        stored = after_all_steps(stored, days_after_now(365 * year))

    assert 1 <= len(stored.authorities) <= AUTHORITIES_MAX
    assert all(
        is_valid(authority, days_after_now(365 * 59)) for authority in stored.authorities[:1]
    )
    assert split(bundle(stored.authorities)) == stored.authorities
