"""Calico's pools and IPAM blocks become pools, endpoints and a reservation.

``allocations`` of a block has one item for each address: None or an index into ``attributes``.
"""

from __future__ import annotations

from typing import Any

import pytest

from core.domain.model import Reservation, pod_holder
from core.errors import BadInput
from core.manifests.foreign.calico import read_calico
from core.manifests.spiderpool import Dump
from tests.core.manifests.test_whereabouts import running_pod

RawObject = dict[str, Any]
POD = {"handle_id": "k8s-pod-network.1", "secondary": {"namespace": "shop", "pod": "web-0"}}
TUNNEL = {"handle_id": "ipip-tunnel-addr-node-a", "secondary": {"node": "node-a", "type": "ipip"}}


def ip_pool(cidr: str = "10.6.0.0/24", **spec: Any) -> RawObject:
    return {"kind": "IPPool", "metadata": {"name": "lan"}, "spec": {"cidr": cidr, **spec}}


def block(cidr: str, allocations: list[int | None], *attributes: RawObject) -> RawObject:
    spec = {"cidr": cidr, "allocations": allocations, "attributes": list(attributes)}
    return {"kind": "IPAMBlock", "metadata": {"name": cidr.replace("/", "-")}, "spec": spec}


def read(*objects: RawObject) -> Dump:
    return read_calico((f"object {index}", value) for index, value in enumerate(objects))


def test_an_allocated_address_becomes_an_endpoint_of_its_pod() -> None:
    used_block = block("10.6.0.64/30", [None, 1, 0, None], TUNNEL, POD)

    cluster = read(ip_pool(), used_block, running_pod("web-0")).cluster

    (endpoint,) = cluster.endpoints
    assert endpoint.holder == pod_holder("uid-web-0")
    assert (endpoint.nics[0].interface, endpoint.nics[0].ipv4) == ("eth0", "10.6.0.65/24")
    assert cluster.reservations == (Reservation("calico-v4", 4, ("10.6.0.66",)),)
    assert cluster.pools[0].pool.ips == ("10.6.0.0-10.6.0.255",)


def test_a_disabled_pool_stays_disabled() -> None:
    assert read(ip_pool(disabled=True)).cluster.pools[0].pool.disabled


@pytest.mark.parametrize(
    ("uses", "disabled"),
    [(["Tunnel"], True), (["LoadBalancer"], True), (["Workload", "Tunnel"], False), ([], False)],
)
def test_a_pool_that_is_not_for_pods_is_disabled(uses: list[str], *, disabled: bool) -> None:
    assert read(ip_pool(allowedUses=uses)).cluster.pools[0].pool.disabled is disabled


def test_selectors_of_a_pool_are_reported_because_they_are_not_taken_over() -> None:
    selectors = {"nodeSelector": "zone == 'a'", "namespaceSelector": "team == 'b'"}

    findings = read(ip_pool(**selectors)).cluster.findings

    assert [finding.what for finding in findings] == [
        "nodeSelector is zone == 'a'",
        "namespaceSelector is team == 'b'",
    ]
    assert read(ip_pool(nodeSelector="all()")).cluster.findings == ()


def test_an_address_of_a_deleted_pod_is_reported_as_leaked() -> None:
    cluster = read(ip_pool(), block("10.6.0.64/32", [0], POD)).cluster

    assert cluster.endpoints == ()
    assert "10.6.0.64 is allocated to shop/web-0" in cluster.findings[0].what


@pytest.mark.parametrize(
    ("objects", "text"),
    [
        ([block("10.9.0.0/32", [0], POD)], "no IPPool contains it"),
        ([ip_pool(), block("10.6.0.64/32", [3], POD)], "attributes has no such item"),
        ([ip_pool("ten")], "object 0"),
    ],
)
def test_the_error_of_an_unreadable_object_says_what_is_wrong(
    objects: list[RawObject], text: str
) -> None:
    with pytest.raises(BadInput, match=text):
        read(*objects, running_pod("web-0"))
