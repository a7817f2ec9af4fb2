"""The networks of a Pod decide which device slots (``*-nic``, ``sub-eni``) it requests.

See docs/reference/admission.md, "Pods", steps B and C.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core.manifests.kinds.multus_configs import MultusConfigSpec
from core.manifests.networks.network_defaults import completed
from core.manifests.networks.pod_networks import InjectableNetwork
from core.manifests.networks.pod_slots import SlotSettings, with_slots

DEFAULT = "v1.multus-cni.io/default-network"
NETWORKS = "k8s.v1.cni.cncf.io/networks"
ALL_SLOTS = SlotSettings(request_nic_slots=True, provider_resource="spidernet.io/sub-eni")


def network(
    name: str, kind: str, namespace: str = "shop", nad: str = "", **block: Any
) -> InjectableNetwork:
    spec = {"cniType": kind, kind: block}
    return InjectableNetwork(
        namespace, name, {}, completed(msgspec.convert(spec, MultusConfigSpec)), nad or name
    )


def provider_bound_network(name: str, master: str = "eth1") -> InjectableNetwork:
    """A network whose addresses the network provider binds."""
    return network(name, "vlan", master=[master], vlanMode="auto")


def pod(*containers: dict[str, Any], **annotations: str) -> dict[str, Any]:
    keys = {"networks": NETWORKS, "default": DEFAULT}
    metadata = {"annotations": {keys[key]: value for key, value in annotations.items()}}
    return {"metadata": metadata, "spec": {"containers": list(containers) or [{}]}}


def requested_slots(pod: dict[str, Any], container: int = 0) -> dict[str, str]:
    """The limits of a container by resource; checks that the requests are equal."""
    resources = pod["spec"]["containers"][container].get("resources", {})
    assert resources.get("limits") == resources.get("requests")
    limits = resources.get("limits") or {}
    return {name.removeprefix("spidernet.io/"): count for name, count in limits.items()}


NETWORKS_OF_CLUSTER = [
    network("mac", "macvlan", master=["eth1"]),
    network("ip", "ipvlan", master=["eth1"]),
    network("pair", "macvlan", master=["eth2", "eth3"], bond={"name": "bond9", "mode": 1}),
    network("tagged", "vlan", master=["eth4"], vlanID=7),
    network("ib", "ipoib", master="ib0"),
    network("card", "sriov", resourceName="x/vf"),
    network("odd", "macvlan", master=["eth1@if7"]),
    network("renamed", "macvlan", nad="lan", master=["eth5"]),
    network("mac", "macvlan", namespace="kube-system", master=["eth6"]),
    provider_bound_network("cloud-a"),
    provider_bound_network("cloud-b", "eth7"),
]


@pytest.mark.parametrize(
    ("annotations", "slots"),
    [
        ({"networks": "mac"}, {"eth1-nic": "1"}),
        ({"networks": "mac, shop/ip@net7"}, {"eth1-nic": "1"}),
        ({"networks": '[{"name": "pair"}]'}, {"eth2-nic": "1", "eth3-nic": "1"}),
        ({"networks": "tagged,ib"}, {"eth4-nic": "1", "ib0-nic": "1"}),
        ({"networks": "card,odd,nowhere,kube-system/ip"}, {}),
        ({"networks": "lan,renamed"}, {"eth5-nic": "1"}),
        # A default network without a namespace is in kube-system.
        ({"default": "mac"}, {"eth6-nic": "1"}),
        (
            {"default": "shop/mac", "networks": "pair"},
            {f"eth{number}-nic": "1" for number in (1, 2, 3)},
        ),
        ({"networks": "cloud-a"}, {"eth1-nic": "1", "sub-eni": "1"}),
        (
            {"default": "shop/cloud-a", "networks": "cloud-b,cloud-a,cloud-a"},
            {"eth1-nic": "1", "eth7-nic": "1", "sub-eni": "2"},
        ),
        ({"networks": "not a @ network / at all", "default": "shop/mac"}, {"eth1-nic": "1"}),
        ({"networks": ""}, {}),
        ({}, {}),
    ],
)
def test_a_pod_requests_slots_for_master_interfaces_and_provider_bound_networks(
    annotations: dict[str, str], slots: dict[str, str]
) -> None:
    assert (
        requested_slots(
            with_slots(
                pod(**annotations),
                pod_namespace="shop",
                networks=NETWORKS_OF_CLUSTER,
                settings=ALL_SLOTS,
            )
        )
        == slots
    )


def test_nic_slots_and_sub_eni_slots_are_enabled_separately() -> None:
    before = pod(networks="cloud-a")

    def slots_with(**settings: Any) -> dict[str, str]:
        return requested_slots(
            with_slots(
                before,
                pod_namespace="shop",
                networks=NETWORKS_OF_CLUSTER,
                settings=SlotSettings(**settings),
            )
        )

    assert slots_with() == {}
    assert slots_with(request_nic_slots=True) == {"eth1-nic": "1"}
    assert slots_with(provider_resource="spidernet.io/eni") == {"eni": "1"}
    assert (
        with_slots(
            before, pod_namespace="shop", networks=NETWORKS_OF_CLUSTER, settings=SlotSettings()
        )
        == before
    )


@pytest.mark.parametrize("kind", ["limits", "requests"])
def test_a_resource_that_a_container_already_requests_is_not_added(kind: str) -> None:
    second = {"resources": {kind: {"spidernet.io/eth1-nic": "3"}}}
    first = {"resources": {"limits": {"cpu": "1"}, "requests": None}}
    before = pod(first, second, networks="cloud-a")

    after = with_slots(
        before, pod_namespace="shop", networks=NETWORKS_OF_CLUSTER, settings=ALL_SLOTS
    )

    sub_eni = {"spidernet.io/sub-eni": "1"}
    assert after["spec"]["containers"] == [
        {"resources": {"limits": {"cpu": "1"} | sub_eni, "requests": sub_eni}},
        second,
    ]
    assert before["spec"]["containers"][0] == first
