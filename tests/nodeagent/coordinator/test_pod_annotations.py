"""Annotations of a Pod name its further NICs and the NIC of its default route."""

from __future__ import annotations

import pytest

from nodeagent.coordinator.pod_annotations import NETWORKS_MAX, default_route_nic, expected_nics

NETWORKS = "k8s.v1.cni.cncf.io/networks"


def test_the_default_route_nic_is_read_from_the_annotation() -> None:
    assert default_route_nic({"ipam.spidernet.io/default-route-nic": " net1 "}) == "net1"
    assert default_route_nic({}) == ""


@pytest.mark.parametrize(
    ("text", "nics"),
    [
        ("", set()),
        ("shop/lan", {"net1"}),
        ("shop/lan,wan", {"net1", "net2"}),
        ("shop/lan@eth5, wan", {"eth5", "net2"}),
        ('[{"name": "lan"}, {"name": "wan", "interface": "eth5"}]', {"net1", "eth5"}),
        ('[\n  {"name": "lan",\n "namespace": "shop"}\n]', {"net1"}),
        ("[", set()),
        pytest.param("[" * 100_000, set(), id="nested too deeply"),
        ('["lan"]', set()),
    ],
)
def test_further_nics_are_read_from_the_annotation(text: str, nics: set[str]) -> None:
    assert expected_nics({NETWORKS: text}) == nics


def test_networks_beyond_the_maximum_are_ignored() -> None:
    assert len(expected_nics({NETWORKS: ",".join(["lan"] * 1_000)})) == NETWORKS_MAX
