"""Certificates over time: no client is ever served a certificate that it does not trust."""

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
WANTED = CertificateRequest("webhooks", ("a.b", "a.b.svc"))


def days(number: float) -> dt.datetime:
    """The time after the start."""
    return NOW + dt.timedelta(days=number)


def settled(kept: StoredAuthorities | None, now: dt.datetime) -> StoredAuthorities:
    """The state after all steps, with every change distributed at once."""
    for _ in range(5):
        step = next_step(kept, WANTED, now, is_trusted=True)
        if step is None:
            break
        kept = step
    else:
        raise AssertionError("it never comes to rest")
    assert kept is not None
    return kept


def test_from_nothing_comes_a_certificate_for_every_name() -> None:
    kept = settled(None, NOW)

    assert is_pair(kept.issued)
    assert has_issued(kept.authorities[0], kept.issued.certificate)
    assert names_of(kept.issued.certificate) == {"a.b", "a.b.svc"}


def test_what_is_good_stays_as_it_is() -> None:
    kept = settled(None, NOW)

    assert next_step(kept, WANTED, days(CERTIFICATE_DAYS / 2), is_trusted=True) is None


def test_a_certificate_is_renewed_long_before_its_end_by_the_same_authority() -> None:
    before = settled(None, NOW)
    after = settled(before, days(CERTIFICATE_DAYS * 0.7))

    assert after.authorities == before.authorities
    assert after.issued != before.issued
    assert is_valid(before.issued.certificate, days(CERTIFICATE_DAYS * 0.7))


def test_a_new_name_asks_for_a_new_certificate() -> None:
    kept = settled(None, NOW)
    wider = CertificateRequest("webhooks", ("a.b", "a.b.svc", "a.b.svc.cluster.local"))
    step = next_step(kept, wider, NOW, is_trusted=True)

    assert step is not None
    assert names_of(step.issued.certificate) == set(wider.names)


def test_a_new_authority_issues_only_when_everybody_trusts_it() -> None:
    kept = settled(None, NOW)
    late = days(AUTHORITY_DAYS * 0.7)
    kept = kept._replace(issued=settled(kept, late - dt.timedelta(days=200)).issued)

    told = next_step(kept, WANTED, late, is_trusted=False)
    assert told is not None
    assert told.authorities[1:] == kept.authorities, "the old one stays trusted"
    assert told.issued == kept.issued, "and what it issued stays in use"
    assert next_step(told, WANTED, late, is_trusted=False) is None

    switched = next_step(told, WANTED, late, is_trusted=True)
    assert switched is not None
    assert has_issued(switched.authorities[0], switched.issued.certificate)
    assert switched.authorities == told.authorities


@pytest.mark.parametrize(
    "late", [CERTIFICATE_DAYS + 1, AUTHORITY_DAYS + 1], ids=["certificate", "authority"]
)
def test_what_has_ended_is_replaced_at_once_whoever_trusts_it(late: float) -> None:
    kept = settled(None, NOW)
    step: StoredAuthorities | None = kept
    for _ in range(5):
        following = next_step(step, WANTED, days(late), is_trusted=False)
        if following is None:
            break
        step = following

    assert step is not None
    assert is_valid(step.issued.certificate, days(late))
    assert has_issued(step.authorities[0], step.issued.certificate)


@pytest.mark.parametrize(
    "damaged",
    [
        lambda kept: kept._replace(authority_key=b"no key"),
        lambda kept: kept._replace(authorities=()),
        lambda kept: kept._replace(authority_key=make_authority("other", NOW).key),
        lambda kept: kept._replace(issued=KeyPair(b"", b"")),
        lambda kept: kept._replace(issued=new_authorities(WANTED, NOW).issued),
        lambda kept: kept._replace(issued=kept.issued._replace(key=make_authority("o", NOW).key)),
    ],
    ids=["key", "authority", "wrong key", "certificate", "a stranger's", "certificate's key"],
)
def test_what_is_damaged_is_made_anew(damaged: object) -> None:
    assert callable(damaged)
    kept = settled(damaged(settled(None, NOW)), NOW)

    assert is_pair(kept.issued)
    assert has_issued(kept.authorities[0], kept.issued.certificate)


def test_a_certificate_from_the_future_is_not_kept() -> None:
    ahead = settled(None, days(3))
    kept = settled(ahead, NOW)

    assert is_valid(kept.issued.certificate, NOW)


def test_old_authorities_are_not_kept_for_ever() -> None:
    kept = settled(None, NOW)
    for year in range(1, 60):
        kept = settled(kept, days(365 * year))

    assert 1 <= len(kept.authorities) <= AUTHORITIES_MAX
    assert all(is_valid(one, days(365 * 59)) for one in kept.authorities[:1])
    assert split(bundle(kept.authorities)) == kept.authorities
