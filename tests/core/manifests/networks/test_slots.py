"""The slots that a Pod requests because of its networks.

See docs/reference/admission.md, "Pods", steps B and C.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core.manifests.kinds.multus_configs import MultusConfigSpec
from core.manifests.networks.defaults import completed
from core.manifests.networks.injection import Injected
from core.manifests.networks.slots import SlotSettings, with_slots

DEFAULT = "v1.multus-cni.io/default-network"
NETWORKS = "k8s.v1.cni.cncf.io/networks"
BOTH = SlotSettings(nics=True, sub_eni="spidernet.io/sub-eni")


def network(name: str, kind: str, namespace: str = "shop", nad: str = "", **block: Any) -> Injected:
    spec = {"cniType": kind, kind: block}
    return Injected(
        namespace, name, {}, completed(msgspec.convert(spec, MultusConfigSpec)), nad or name
    )


def bound(name: str, master: str = "eth1") -> Injected:
    """One whose addresses the provider binds."""
    return network(name, "vlan", master=[master], vlanMode="auto")


def pod(*containers: dict[str, Any], **annotations: str) -> dict[str, Any]:
    told = {"networks": NETWORKS, "default": DEFAULT}
    metadata = {"annotations": {told[key]: value for key, value in annotations.items()}}
    return {"metadata": metadata, "spec": {"containers": list(containers) or [{}]}}


def asked(found: dict[str, Any], container: int = 0) -> dict[str, str]:
    """The resources of a container; limits and requests are equal."""
    resources = found["spec"]["containers"][container].get("resources", {})
    assert resources.get("limits") == resources.get("requests")
    wanted = resources.get("limits") or {}
    return {name.removeprefix("spidernet.io/"): count for name, count in wanted.items()}


KNOWN = [
    network("mac", "macvlan", master=["eth1"]),
    network("ip", "ipvlan", master=["eth1"]),
    network("pair", "macvlan", master=["eth2", "eth3"], bond={"name": "bond9", "mode": 1}),
    network("tagged", "vlan", master=["eth4"], vlanID=7),
    network("ib", "ipoib", master="ib0"),
    network("card", "sriov", resourceName="x/vf"),
    network("odd", "macvlan", master=["eth1@if7"]),
    network("renamed", "macvlan", nad="lan", master=["eth5"]),
    network("mac", "macvlan", namespace="kube-system", master=["eth6"]),
    bound("cloud-a"),
    bound("cloud-b", "eth7"),
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
        ({"default": "mac"}, {"eth6-nic": "1"}),
        ({"default": "shop/mac", "networks": "pair"}, {f"eth{n}-nic": "1" for n in (1, 2, 3)}),
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
def test_a_pod_asks_for_each_master_once_and_for_each_network_that_is_bound(
    annotations: dict[str, str], slots: dict[str, str]
) -> None:
    assert asked(with_slots(pod(**annotations), "shop", KNOWN, BOTH)) == slots


def test_each_kind_of_slot_has_its_own_switch() -> None:
    one = pod(networks="cloud-a")

    def by(**settings: Any) -> dict[str, str]:
        return asked(with_slots(one, "shop", KNOWN, SlotSettings(**settings)))

    assert by() == {}
    assert by(nics=True) == {"eth1-nic": "1"}
    assert by(sub_eni="spidernet.io/eni") == {"eni": "1"}
    assert with_slots(one, "shop", KNOWN, SlotSettings()) == one


@pytest.mark.parametrize("kind", ["limits", "requests"])
def test_what_any_container_asks_for_already_is_left_as_it_is(kind: str) -> None:
    second = {"resources": {kind: {"spidernet.io/eth1-nic": "3"}}}
    first = {"resources": {"limits": {"cpu": "1"}, "requests": None}}
    before = pod(first, second, networks="cloud-a")

    found = with_slots(before, "shop", KNOWN, BOTH)

    sub_eni = {"spidernet.io/sub-eni": "1"}
    assert found["spec"]["containers"] == [
        {"resources": {"limits": {"cpu": "1"} | sub_eni, "requests": sub_eni}},
        second,
    ]
    assert before["spec"]["containers"][0] == first
