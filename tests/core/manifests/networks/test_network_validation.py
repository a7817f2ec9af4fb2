"""Rules refuse an invalid SpiderMultusConfig or SpiderCoordinator and name the field.

See docs/reference/admission.md, "SpiderMultusConfig" and "SpiderCoordinator".
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core.errors import BadInput
from core.manifests.kinds.multus_configs import MultusConfigSpec
from core.manifests.networks.network_defaults import completed, injected_labels
from core.manifests.networks.network_parser import (
    checked_coordinator,
    checked_network,
    network_of,
)
from core.manifests.networks.network_validation import ReviewedNetwork, network_rules

RDMA = "cni.spidernet.io/rdma-resource-inject"
NETWORK = "cni.spidernet.io/network-resource-inject"
MASTER = {"master": ["ens3"]}


def refusals_of(
    spec: dict[str, Any], before: dict[str, str] | None = None, **annotations: str
) -> list[tuple[str, str]]:
    """Return rule and field of every refusal, in order.

    ``before`` has the annotations that an update replaces.
    ``__`` in an annotation name stands for ``/``.
    """
    completed_spec = completed(msgspec.convert(spec, MultusConfigSpec))
    full_annotations = {key.replace("__", "/"): value for key, value in annotations.items()}
    refusals = network_rules(
        ReviewedNetwork("shop", "net", full_annotations, completed_spec, before)
    )
    return [(refusal.rule, refusal.field) for refusal in refusals]


def macvlan(**block: Any) -> dict[str, Any]:
    return {"cniType": "macvlan", "macvlan": MASTER | block}


@pytest.mark.parametrize(
    ("spec", "rules"),
    [
        ({"cniType": "macvlan"}, [("block-missing", "spec.macvlanConfig")]),
        (macvlan(master=[]), [("master", "spec.macvlanConfig")]),
        (macvlan(master=["a", "b"]), [("bond", "spec.macvlanConfig")]),
        (
            macvlan(master=["a", "b"], bond={"name": "", "mode": 0}),
            [("bond", "spec.macvlanConfig")],
        ),
        (macvlan(vlanID=4095), [("vlan", "spec.macvlanConfig")]),
        (macvlan(mtu=-1), [("mtu", "spec.macvlanConfig")]),
        (
            macvlan(ippools={"matchMasterSubnet": True}),
            [("match-master-subnet", "spec.macvlanConfig")],
        ),
        (macvlan() | {"ipoib": {"master": "x"}}, [("foreign-block", "spec.cniType")]),
        (macvlan() | {"customCNI": ""}, [("foreign-block", "spec.cniType")]),
        (
            {"cniType": "vlan", "vlan": MASTER | {"vlanMode": "auto", "vlanID": 3}},
            [("vlan-mode", "spec.vlan")],
        ),
        (
            {"cniType": "sriov", "sriov": {"resourceName": "x/y", "minTxRateMbps": 1}},
            [("tx-rate", "spec.sriovConfig")],
        ),
        ({"cniType": "sriov", "sriov": {}}, [("resourceName", "spec.sriovConfig")]),
        ({"cniType": "ib-sriov", "ibsriov": {}}, [("resourceName", "spec.ibsriovConfig")]),
        ({"cniType": "ipoib", "ipoib": {}}, [("master", "spec.ipoibConfig")]),
        (
            {"cniType": "ovs", "ovs": {"bridge": "b", "trunk": [{"maxID": 3}]}},
            [("trunk", "spec.ovsConfig")],
        ),
        ({"cniType": "custom", "customCNI": "{"}, [("custom-json", "spec.customCniTypeConfig")]),
        pytest.param(
            {"cniType": "custom", "customCNI": "[" * 100_000},
            [("custom-json", "spec.customCniTypeConfig")],
            id="deep JSON",
        ),
        (
            macvlan() | {"chainCNIJsonData": ["{}"]},
            [("chain-item", "spec.chainCNIJsonData")],
        ),
    ],
)
def test_a_refusal_names_the_rule_and_the_field(
    spec: dict[str, Any], rules: list[tuple[str, str]]
) -> None:
    assert refusals_of(spec) == rules


def test_faults_in_the_block_of_the_cni_type_precede_foreign_blocks() -> None:
    spec = macvlan(vlanID=4095) | {"ipoib": {"master": "x"}}

    assert [rule for rule, _ in refusals_of(spec)] == ["vlan", "foreign-block"]


def test_the_inject_rule_precedes_a_missing_block() -> None:
    assert [rule for rule, _ in refusals_of({"cniType": "ovs"}, None, **{RDMA: "x"})] == [
        "inject",
        "block-missing",
    ]


@pytest.mark.parametrize(
    ("spec", "key", "valid"),
    [
        (macvlan(rdmaResourceName="x/y", ippools={"ipv4": ["p"]}), RDMA, True),
        (macvlan(ippools={"ipv4": ["p"]}), RDMA, False),
        (macvlan(rdmaResourceName="x/y"), RDMA, False),
        (macvlan(), NETWORK, True),
        (macvlan(rdmaResourceName="x/y"), NETWORK, False),
        ({"cniType": "ipoib", "ipoib": {"master": "ib0", "ippools": {"ipv4": ["p"]}}}, RDMA, True),
        ({"customCNI": ""}, NETWORK, False),
    ],
)
def test_rdma_injection_needs_a_resource_and_a_resource_needs_pools(
    spec: dict[str, Any], key: str, valid: bool
) -> None:
    assert (refusals_of(spec, None, **{key: "team-a"}) == []) == valid


def test_inject_annotations_become_labels() -> None:
    assert injected_labels({RDMA: "a", "other": "b"}) == {RDMA: "a"}


def test_an_ipv4_mapped_address_of_a_policy_route_counts_as_ipv6() -> None:
    mapped = "::ffff:10.9.9.9"

    def refusals_of_route(dst: str, gw: str) -> list[tuple[str, str]]:
        route = {"dst": dst, "gw": gw}
        return refusals_of(macvlan() | {"coordinator": {"policyRoutes": [route]}})

    assert refusals_of_route(mapped, "fd00:6::1") == []
    assert refusals_of_route(f"{mapped}/120", "fd00:6::1") == []
    assert refusals_of_route("10.9.0.0/16", mapped) == [("policy-route", "spec.policyRoutes[0]")]


@pytest.mark.parametrize(
    ("coordinator", "rules"),
    [
        ({"podCIDRType": "sometimes"}, [("pod-cidr-type", "spec.podCIDRType")]),
        ({"hijackCIDR": ["10.0.0.0/8", "10.9.9.9", "fd00::/8"]}, []),
        # Spiderpool's errors name hijackCIDR as extraCIDR.
        ({"hijackCIDR": ["10.0.0.0/08"]}, [("hijack-cidr", "spec.extraCIDR[0]")]),
        ({"hijackCIDR": ["fe80::1%eth0"]}, [("hijack-cidr", "spec.extraCIDR[0]")]),
        (
            {"policyRoutes": [{"dst": "10.0.0.0/8", "gw": "fd00::1"}]},
            [("policy-route", "spec.policyRoutes[0]")],
        ),
        (
            {"policyRoutes": [{"dst": "10.0.0.0/8", "gw": "10.1.1.1%e"}]},
            [("policy-route", "spec.policyRoutes[0].gw")],
        ),
        ({"podMACPrefix": "0a:1b"}, []),
        ({"podMACPrefix": "01:1b"}, [("mac-prefix", "spec.podMACPrefix")]),
        ({"podMACPrefix": "+a:00"}, [("mac-prefix", "spec.podMACPrefix")]),
        ({"txQueueLen": -1}, [("tx-queue", "spec.txQueueLen")]),
        ({"podRPFilter": 3}, [("rp-filter", "spec.podRPFilter")]),
        ({"podRPFilter": -5, "hostRPFilter": -1}, []),
        ({"hostRPFilter": 3}, [("rp-filter", "spec.hostRPFilter")]),
        ({"detectOptions": {"retries": 9, "interval": "10ms", "timeout": "1m"}}, []),
        (
            {"detectOptions": {"timeout": "soon"}},
            [("detect-options", "spec.detectOptions.timeout")],
        ),
        ({"vethLinkAddress": "fe80::1"}, []),
        ({"vethLinkAddress": "x"}, [("veth-address", "spec.vethLinkAddress")]),
        ({"vethMTU": 0}, [("veth-mtu", "spec.vethMTU")]),
    ],
)
def test_invalid_coordinator_settings_are_refused_with_their_field(
    coordinator: dict[str, Any], rules: list[tuple[str, str]]
) -> None:
    assert refusals_of(macvlan() | {"coordinator": coordinator}) == rules


@pytest.mark.parametrize(
    ("before", "after", "rules"),
    [
        ({}, {"multus.spidernet.io__cr-name": "a"}, ["immutable"]),
        (
            {"multus.spidernet.io/cr-name": "a"},
            {"multus.spidernet.io__cr-name": "b"},
            ["immutable"],
        ),
        ({"multus.spidernet.io/cr-name": "a"}, {"multus.spidernet.io__cr-name": "a"}, []),
        ({"multus.spidernet.io/cr-name": "a"}, {}, []),
        (None, {"multus.spidernet.io__cr-name": "A_b"}, ["nad-name"]),
        (None, {"multus.spidernet.io__cni-version": "2.0.0"}, ["cni-version"]),
    ],
)
def test_the_nad_name_is_immutable_and_the_cni_version_must_be_known(
    before: dict[str, str] | None, after: dict[str, str], rules: list[str]
) -> None:
    assert [rule for rule, _ in refusals_of(macvlan(), before, **after)] == rules


@pytest.mark.parametrize(
    ("member", "value", "field"),
    [
        ("spec", macvlan(mastr=["ens4"]), "spec.macvlan.mastr"),
        ("spec", macvlan() | {"coordinator": {"podCidrType": "auto"}}, "spec.coordinator.podCid"),
        ("spec", {"cniType": "ovs", "ovs": {"bridge": "b", "trunk": [{"minId": 3}]}}, "minId"),
        ("spek", {}, "spek"),
    ],
)
def test_an_unknown_field_is_refused_by_name(
    member: str, value: dict[str, Any], field: str
) -> None:
    network: dict[str, Any] = {
        "apiVersion": "spiderpool.spidernet.io/v2beta1",
        "kind": "SpiderMultusConfig",
        "metadata": {"name": "net", "creationTimestamp": None},
        "spec": macvlan(),
    } | {member: value}

    with pytest.raises(BadInput, match=field):
        checked_network(network)
    assert network_of(network).name == "net"  # an agent ignores unknown fields


def test_an_unknown_field_of_a_coordinator_is_refused_by_name() -> None:
    coordinator: dict[str, Any] = {
        "apiVersion": "spiderpool.spidernet.io/v2beta1",
        "kind": "SpiderCoordinator",
        "metadata": {"name": "default"},
    }

    spec = {"detectIPConflict": True, "detectOptions": {"timeout": "1s"}, "hostRPFilter": 0}
    name, coordinator_spec = checked_coordinator(coordinator | {"spec": spec})
    assert (name, coordinator_spec.detect_ip_conflict, coordinator_spec.host_rp_filter) == (
        "default",
        True,
        0,
    )
    with pytest.raises(BadInput, match=r"spec\.detectIpConflict.*spec\.detectIPConflict"):
        checked_coordinator(coordinator | {"spec": {"detectIpConflict": True}})
