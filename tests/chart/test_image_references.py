"""Registry (``global.imageRegistryOverride``), tag and digest in image references."""

from __future__ import annotations

import pytest

from tests.chart.rendering import Object, images_of

OVERRIDE: Object = {"global": {"imageRegistryOverride": "registry.example.com/mirror/"}}


def test_only_etcd_has_a_registry_if_no_override_is_set() -> None:
    assert set(images_of({})) == {
        "orbweaver-agent:0.1.0",
        "orbweaver-controller:0.1.0",
        "quay.io/coreos/etcd:v3.5.26",
    }


def test_the_override_replaces_every_registry_of_the_chart() -> None:
    assert set(images_of(OVERRIDE)) == {
        "registry.example.com/mirror/orbweaver-agent:0.1.0",
        "registry.example.com/mirror/orbweaver-controller:0.1.0",
        "registry.example.com/mirror/coreos/etcd:v3.5.26",
    }


@pytest.mark.parametrize("registry", ["harbor.example.com", "localhost:5000"])
def test_the_override_does_not_replace_a_registry_that_the_user_sets(registry: str) -> None:
    values = OVERRIDE | {"etcd": {"embedded": {"image": {"registry": registry}}}}

    assert f"{registry}/coreos/etcd:v3.5.26" in set(images_of(values))


def test_a_digest_replaces_the_tag() -> None:
    digest = f"sha256:{'0' * 64}"

    assert f"orbweaver-agent@{digest}" in set(
        images_of({"spiderpoolAgent": {"image": {"digest": digest}}})
    )
