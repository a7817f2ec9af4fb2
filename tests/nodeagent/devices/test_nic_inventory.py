"""Rules, labels and NICs of a node decide which resources the node offers, and how many slots."""

from __future__ import annotations

import pytest

from core.domain.patterns.labels import LabelSelector, Requirement
from core.domain.slots import (
    NIC_SLOTS,
    SLOTS_MAX,
    DeviceRules,
    HostNic,
    NicRule,
    SlotResource,
    SubEniRule,
    nic_resource,
    offered_slots,
    resource_fault,
)

LARGE = LabelSelector({"size": "large"})
ETH1 = HostNic("eth1", has_device=True)
BOND = HostNic("bond0", has_device=False)
FOREIGN_LINKS = ("cni0", "flannel.1", "veth12", "docker0", "br-lan", "virbr0", "tun1", "tap3")


def slots(rules: DeviceRules, *nics: HostNic, **labels: str) -> dict[str, int]:
    """Resource -> number of slots."""
    resources = offered_slots(rules, labels, nics)
    assert resources is not None
    return {
        name.removeprefix("spidernet.io/"): resource.slots for name, resource in resources.items()
    }


def test_nothing_is_offered_without_rules() -> None:
    assert slots(DeviceRules(), ETH1) == {}


def test_a_rule_without_names_applies_to_nics_with_a_device() -> None:
    loopback = HostNic("lo", has_device=True, is_loopback=True)

    assert slots(DeviceRules(nics=(NicRule(),)), ETH1, BOND, loopback) == {"eth1-nic": NIC_SLOTS}


def test_all_rules_apply_to_nics_without_a_device_if_one_rule_names_nics() -> None:
    rules = DeviceRules(nics=(NicRule(5, nodes=LARGE, include=("x*",)), NicRule(7)))

    assert slots(rules, ETH1, BOND) == {"eth1-nic": 7, "bond0-nic": 7}


@pytest.mark.parametrize("name", FOREIGN_LINKS)
def test_links_that_other_programs_create_are_never_offered(name: str) -> None:
    assert slots(DeviceRules(nics=(NicRule(include=("*",)),)), HostNic(name, has_device=True)) == {}


def test_patterns_include_and_exclude_nics() -> None:
    rules = DeviceRules(nics=(NicRule(3, include=("eth*", "bond?"), exclude=("eth[2-9]",)),))
    nics = [HostNic(name, has_device=False) for name in ("eth1", "eth2", "bond0", "bond10")]

    assert slots(rules, *nics) == {"eth1-nic": 3, "bond0-nic": 3}


def test_a_nic_gets_the_largest_slot_count_of_its_matching_rules() -> None:
    rules = DeviceRules(nics=(NicRule(3), NicRule(9), NicRule(5), NicRule(100, nodes=LARGE)))

    assert slots(rules, ETH1) == {"eth1-nic": 9}
    assert slots(rules, ETH1, size="large") == {"eth1-nic": 100}


def test_the_first_sub_eni_rule_that_matches_the_node_applies() -> None:
    rules = DeviceRules(
        sub_eni=(SubEniRule(slots=8, nodes=LARGE), SubEniRule(slots=2), SubEniRule(slots=4))
    )

    assert slots(rules) == {"sub-eni": 2}
    assert slots(rules, size="large") == {"sub-eni": 8}


def test_a_rule_can_offer_zero_slots() -> None:
    assert slots(DeviceRules(sub_eni=(SubEniRule(slots=0), SubEniRule(slots=4)))) == {"sub-eni": 0}


def test_a_node_that_is_not_selected_offers_nothing() -> None:
    workers = LabelSelector({}, (Requirement("control-plane", "DoesNotExist"),))
    rules = DeviceRules(nodes=workers, sub_eni=(SubEniRule(slots=2),), nics=(NicRule(),))

    assert slots(rules, ETH1) == {"eth1-nic": NIC_SLOTS, "sub-eni": 2}
    assert slots(rules, ETH1, **{"control-plane": ""}) == {}


def test_slots_are_unknown_if_rules_select_by_unknown_labels() -> None:
    """None in place of labels means that they are unknown."""
    assert offered_slots(DeviceRules(sub_eni=(SubEniRule(nodes=LARGE),)), None, []) is None
    assert offered_slots(DeviceRules(nics=(NicRule(nodes=LARGE),)), None, []) is None
    assert offered_slots(DeviceRules(nodes=LARGE), None, []) is None
    assert offered_slots(DeviceRules(nics=(NicRule(),)), None, [ETH1]) is not None


def test_slots_are_numbered_from_zero() -> None:
    offer = SlotResource("eth1-nic", 3)

    assert offer.ids() == ["eth1-nic-0", "eth1-nic-1", "eth1-nic-2"]
    assert all(map(offer.has, offer.ids()))


@pytest.mark.parametrize(
    "unknown_id", ["eth1-nic-3", "eth1-nic-01", "eth1-nic-", "eth1-nic", "eth2-nic-0", "", "-", "0"]
)
def test_an_id_that_was_not_offered_is_not_a_slot(unknown_id: str) -> None:
    assert not SlotResource("eth1-nic", 3).has(unknown_id)
    assert not SlotResource("eth1-nic", 3).has(f"eth1-nic-{'9' * 5_000}")
    assert not SlotResource("eth1-nic", 3).has("eth1-nic-²")


def test_a_link_is_not_offered_if_its_name_is_not_a_resource_name() -> None:
    odd_nic = HostNic("eth1@if2", has_device=True)

    assert nic_resource("bond0.100") == "spidernet.io/bond0.100-nic"
    assert nic_resource(odd_nic.name) == ""
    assert slots(DeviceRules(nics=(NicRule(),)), odd_nic, ETH1) == {"eth1-nic": NIC_SLOTS}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sub-eni", "no domain"),
        ("kubernetes.io/eni", "Kubernetes reserves"),
        ("node.kubernetes.io/eni", "Kubernetes reserves"),
        ("requests.x.io/eni", "Kubernetes reserves"),
        ("x.io/", "empty name"),
        ("X.io/eni", "DNS name"),
        ("x.io/a b", "letter or digit"),
    ],
)
def test_resource_names_that_kubernetes_refuses_are_faults(name: str, words: str) -> None:
    assert words in resource_fault(name)


def test_the_largest_device_list_fits_into_one_kubelet_message() -> None:
    from nodeagent.devices import kubelet_api

    devices = SlotResource(f"{'n' * 15}-nic", SLOTS_MAX).devices()

    message_bytes_max = 4 << 20  # gRPC's default
    assert len(kubelet_api.encoded(kubelet_api.devices(devices))) < message_bytes_max
