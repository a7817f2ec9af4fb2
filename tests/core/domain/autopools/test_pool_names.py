"""Names, labels and selectors of automatic pools.

See docs/reference/automatic-pool-rules.md, "Names and labels", and docs/reference/annotations.md,
"Labels of pools and subnets".
"""

from __future__ import annotations

import pytest

from core.domain.addresses.ip_address import V6
from core.domain.autopools.pool_names import (
    ApplicationKey,
    PoolScope,
    application_of,
    pool_name,
    scope_of,
)
from core.domain.name_syntax import SUBDOMAIN_CHARS_MAX
from tests.core.domain.autopools.samples import (
    POOL_NAME,
    SUBNET4,
    WEB_KEY,
    WEB_SCOPE,
    WEB_UID,
    create_pool,
    web,
)
from tests.core.domain.subnets.samples import ConfigurationHarness


@pytest.mark.parametrize(
    ("scope", "uid", "expected"),
    [
        (WEB_SCOPE, WEB_UID, POOL_NAME),
        (WEB_SCOPE._replace(family=V6, interface="net1"), WEB_UID, "auto6-web-net1-1f2e3"),
        (
            WEB_SCOPE._replace(application=WEB_KEY._replace(name="Web")),
            "AB-CDEF12",
            "auto4-web-eth0-cdef1",
        ),
        (WEB_SCOPE, "abc", "auto4-web-eth0-abc"),
    ],
)
def test_a_pool_name_has_family_application_interface_and_part_of_the_uid(
    scope: PoolScope, uid: str, expected: str
) -> None:
    assert pool_name(scope, uid) == expected


@pytest.mark.parametrize("attempt", [1, 2, 16])
def test_a_long_application_name_is_cut_to_a_dns_subdomain(attempt: int) -> None:
    """A later attempt appends its number to the name."""
    scope = WEB_SCOPE._replace(application=WEB_KEY._replace(name="a" * 253))

    name = pool_name(scope, WEB_UID, attempt)

    assert len(name) == SUBDOMAIN_CHARS_MAX
    assert name.startswith("auto4-aaa")


def test_a_shortened_application_name_ends_with_a_letter_or_digit() -> None:
    scope = WEB_SCOPE._replace(application=WEB_KEY._replace(name="a-." * 84))

    assert "a-eth0" in pool_name(scope, WEB_UID)


def test_a_pool_has_the_labels_annotation_and_selector_of_spiderpool() -> None:
    prefix = "ipam.spidernet.io/"

    pool = create_pool(ConfigurationHarness(SUBNET4), web())

    assert {key.removeprefix(prefix): value for key, value in pool.labels.items()} == {
        "ippool-cidr": "10-7-0-0-16",
        "owner-spider-subnet": "net",
        "owner-application-gv": "apps_v1",
        "owner-application-kind": "Deployment",
        "owner-application-namespace": "shop",
        "owner-application-name": "web",
        "owner-application-uid": WEB_UID,
        "interface": "eth0",
        "ip-version": "IPv4",
        "ippool-reclaim": "true",
    }
    assert pool.annotations == {prefix + "ippool-ip-number": "+0"}
    assert pool.pod_affinity is not None
    assert pool.pod_affinity.match_labels == {
        prefix + "app-api-group": "apps",
        prefix + "app-api-version": "v1",
        prefix + "app-kind": "Deployment",
        prefix + "app-namespace": "shop",
        prefix + "app-name": "web",
    }


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (WEB_KEY, "apps_v1_Deployment_shop_web"),
        (ApplicationKey("v1", "ReplicationController", "a", "b"), "v1_ReplicationController_a_b"),
    ],
)
def test_the_text_of_an_application_key_joins_its_parts(key: ApplicationKey, text: str) -> None:
    assert str(key) == text


def test_the_labels_of_a_pool_name_its_application_and_its_nic() -> None:
    pool = create_pool(ConfigurationHarness(SUBNET4), web())

    assert application_of(pool.labels) == WEB_KEY
    assert scope_of(pool.labels, pool.family) == WEB_SCOPE
    assert application_of({}) is None
    assert scope_of({}, 4) is None
