"""The NetworkAttachmentDefinition (NAD) of each cniType is the text that Spiderpool writes.

See docs/reference/cni-configuration.md, "NetworkAttachmentDefinition".
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core.manifests.kinds.multus_configs import MultusConfigSpec
from core.manifests.networks.nad_renderer import NetworkAttachment, render
from core.manifests.networks.network_defaults import completed
from core.manifests.networks.network_validation import ReviewedNetwork, network_rules

COORDINATOR = '{"tunePodRoutes":true,"mode":"auto","type":"coordinator"}'


def nad(name: str, spec: dict[str, Any], **annotations: str) -> NetworkAttachment:
    """Validate a spec and render its NAD. ``__`` in an annotation name stands for ``/``."""
    completed_spec = completed(msgspec.convert(spec, MultusConfigSpec))
    full_annotations = {key.replace("__", "/"): value for key, value in annotations.items()}
    assert (
        list(network_rules(ReviewedNetwork("shop", name, full_annotations, completed_spec))) == []
    )
    return render(name, full_annotations, completed_spec)


def rendered_config(name: str, spec: dict[str, Any]) -> str | None:
    return nad(name, spec).config


def expected_config(name: str, *plugins: str) -> str:
    return f'{{"cniVersion":"0.3.1","name":"{name}","plugins":[{",".join(plugins)}]}}'


def test_macvlan_with_one_master_needs_no_ifacer_plugin() -> None:
    assert rendered_config(
        "mv", {"cniType": "macvlan", "macvlan": {"master": ["ens3"]}}
    ) == expected_config(
        "mv",
        '{"type":"macvlan","master":"ens3","mode":"bridge","mtu":0,"ipam":{"type":"spiderpool"}}',
        COORDINATOR,
    )


def test_the_ifacer_plugin_creates_the_bond_and_its_vlan_for_macvlan() -> None:
    block = {"master": ["ens3", "ens4"], "vlanID": 30, "bond": {"name": "bd0", "mode": 1}}
    spec = {"cniType": "macvlan", "macvlan": block, "coordinator": {}}

    assert rendered_config("mvb", spec) == expected_config(
        "mvb",
        '{"vlanID":30,"type":"ifacer","interfaces":["ens3","ens4"],'
        '"bond":{"name":"bd0","mode":1,"options":""}}',
        '{"type":"macvlan","master":"bd0.30","mode":"bridge","mtu":0,"ipam":{"type":"spiderpool"}}',
        '{"txQueueLen":0,"tunePodRoutes":true,"mode":"auto","type":"coordinator"}',
    )


def test_ipvlan_renders_no_mode() -> None:
    block = {"master": ["ens3"], "vlanID": 7, "ippools": {"ipv4": ["a", "b"], "ipv6": ["c"]}}

    assert rendered_config("iv", {"cniType": "ipvlan", "ipvlan": block}) == expected_config(
        "iv",
        '{"vlanID":7,"type":"ifacer","interfaces":["ens3"]}',
        '{"type":"ipvlan","master":"ens3.7","mtu":0,"ipam":{"type":"spiderpool",'
        '"default_ipv4_ippool":["a","b"],"default_ipv6_ippool":["c"]}}',
        COORDINATOR,
    )


@pytest.mark.parametrize(
    ("block", "vlan_plugin"),
    [
        (
            {"master": ["ens3"], "vlanID": 9},
            (
                '{"type":"vlan","master":"ens3","vlanMode":"manual","vlanId":9,"mtu":0,'
                '"ipam":{"type":"spiderpool"}}'
            ),
        ),
        (
            {"master": ["ens3"], "vlanMode": "auto"},
            (
                '{"type":"vlan","master":"ens3","vlanMode":"auto","mtu":0,'
                '"ipam":{"type":"spiderpool"}}'
            ),
        ),
    ],
)
def test_vlan_renders_its_mode_and_a_manual_vlan_id(
    block: dict[str, Any], vlan_plugin: str
) -> None:
    assert rendered_config("v", {"cniType": "vlan", "vlan": block}) == expected_config(
        "v", vlan_plugin, COORDINATOR
    )


def test_sriov_renders_its_plugins_in_order() -> None:
    block = {"resourceName": "x/y", "rdmaIsolation": True, "mtu": 4000, "ippools": {"ipv4": ["p4"]}}
    spec = {"cniType": "sriov", "sriov": block, "chainCNIJsonData": ['{"type":"bandwidth"}']}
    rendered = nad("sr", spec)

    assert rendered.config == expected_config(
        "sr",
        '{"vlan":0,"min_tx_rate":0,"max_tx_rate":0,"type":"sriov",'
        '"ipam":{"type":"spiderpool","default_ipv4_ippool":["p4"]}}',
        '{"type":"rdma"}',
        '{"type":"bandwidth"}',
        COORDINATOR,
        '{"type":"tuning","mtu":4000}',
    )
    assert rendered.annotations == {"k8s.v1.cni.cncf.io/resourceName": "x/y"}


def test_sriov_renders_the_configured_trust_and_spoof_check() -> None:
    block = {"resourceName": "x/y", "trust": "on", "spoofChk": "off"}
    spec = {"cniType": "sriov", "sriov": block, "enableCoordinator": False}

    assert rendered_config("sr", spec) == expected_config(
        "sr",
        '{"vlan":0,"min_tx_rate":0,"max_tx_rate":0,"trust":"on","spoofchk":"off",'
        '"type":"sriov","ipam":{"type":"spiderpool"}}',
    )


def test_the_old_field_enable_rdma_renders_the_rdma_plugin() -> None:
    sriov = {"resourceName": "x/y", "enableRdma": True, "rdmaIsolation": False}
    text = rendered_config("sr", {"cniType": "sriov", "sriov": sriov})

    assert text is not None
    assert '{"type":"rdma"}' in text


@pytest.mark.parametrize("kind", ["macvlan", "ipvlan"])
def test_a_shared_rdma_device_needs_no_rdma_plugin(kind: str) -> None:
    """The rdma plugin moves a device into the Pod, and a shared device cannot move."""
    block = {"master": ["ens3"], "enableRdma": True, "rdmaResourceName": "x/y"}
    text = rendered_config("sh", {"cniType": kind, kind: block})

    assert text is not None
    assert '"rdma"' not in text


def test_the_coordinator_plugin_has_the_detection_settings() -> None:
    coordinator = {
        "detectIPConflict": True,
        "detectGateway": False,
        "hostRPFilter": 0,
        "detectOptions": {"retries": 5, "timeout": "1s"},
    }
    spec = {"cniType": "ipoib", "ipoib": {"master": "ib0"}, "coordinator": coordinator}

    assert rendered_config("ipo", spec) == expected_config(
        "ipo",
        '{"type":"ipoib","master":"ib0","ipam":{"type":"spiderpool"}}',
        '{"txQueueLen":0,"detectIPConflict":true,"detectGateway":false,"tunePodRoutes":true,'
        '"mode":"auto","type":"coordinator","hostRPFilter":0,'
        '"detectOptions":{"retries":5,"timeout":"1s"}}',
    )


def test_ib_kubernetes_is_enabled_by_either_field() -> None:
    ib = {"resourceName": "x/y", "ibKubernetesEnabled": True, "enableIbKubernetes": False}
    text = rendered_config("ib", {"cniType": "ib-sriov", "ibsriov": ib})

    assert text is not None
    assert '"ibKubernetesEnabled":true' in text


def test_ib_sriov_renders_its_pkey_and_resource() -> None:
    ib = {
        "resourceName": "spidernet.io/eno3np2",
        "pkey": "0x8001",
        "linkState": "auto",
        "enableIbKubernetes": True,
        "ippools": {"ipv4": ["gpu1-net11"]},
    }
    rendered = nad("gpu1", {"cniType": "ib-sriov", "ibsriov": ib})

    assert rendered.annotations == {"k8s.v1.cni.cncf.io/resourceName": "spidernet.io/eno3np2"}
    assert rendered.config == expected_config(
        "gpu1",
        '{"type":"ib-sriov","pkey":"0x8001","link_state":"auto","rdmaIsolation":true,'
        '"ibKubernetesEnabled":true,'
        '"ipam":{"type":"spiderpool","default_ipv4_ippool":["gpu1-net11"]}}',
        COORDINATOR,
    )


def test_sriov_renders_match_master_subnet() -> None:
    block = {"resourceName": "x/y", "ippools": {"matchMasterSubnet": True}}
    text = rendered_config("sr", {"cniType": "sriov", "sriov": block, "enableCoordinator": False})

    assert text == expected_config(
        "sr",
        '{"vlan":0,"min_tx_rate":0,"max_tx_rate":0,"type":"sriov",'
        '"ipam":{"type":"spiderpool","match_master_subnet":true}}',
    )


def test_ib_sriov_isolates_rdma_by_a_field_instead_of_the_rdma_plugin() -> None:
    assert rendered_config(
        "ib", {"cniType": "ib-sriov", "ibsriov": {"resourceName": "x/y"}}
    ) == expected_config(
        "ib",
        '{"type":"ib-sriov","pkey":"","link_state":"enable","rdmaIsolation":true,'
        '"ibKubernetesEnabled":false,"ipam":{"type":"spiderpool"}}',
        COORDINATOR,
    )


def test_a_network_with_disabled_ipam_renders_no_ipam() -> None:
    spec = {"cniType": "ipoib", "ipoib": {"master": "ib0"}, "disableIPAM": True}

    assert rendered_config("ipo", spec) == expected_config(
        "ipo", '{"type":"ipoib","master":"ib0"}', COORDINATOR
    )


def test_ovs_renders_its_trunk_its_device_and_the_resource() -> None:
    trunk = [{"minID": 10, "maxID": 20}, {"id": 42}]
    rendered = nad(
        "o", {"cniType": "ovs", "ovs": {"bridge": "br1", "trunk": trunk, "deviceID": "d"}}
    )

    assert rendered.config == expected_config(
        "o",
        '{"vlan":0,"type":"ovs","bridge":"br1","deviceID":"d","ipam":{"type":"spiderpool"},'
        '"trunk":[{"minID":10,"maxID":20},{"id":42}]}',
        COORDINATOR,
    )
    assert rendered.annotations == {
        "k8s.v1.cni.cncf.io/resourceName": "ovs-cni.network.kubevirt.io/br1"
    }


@pytest.mark.parametrize(("text", "rendered"), [('{"any": 1}', '{"any": 1}'), ("", None)])
def test_a_custom_configuration_is_unchanged_or_absent_if_empty(
    text: str, rendered: str | None
) -> None:
    assert rendered_config("c", {"customCNI": text}) == rendered


def test_coordinator_fields_are_rendered_except_host_rule_table_and_pod_cidr_type() -> None:
    coordinator = {
        "mode": "underlay",
        "hijackCIDR": ["10.9.0.0/16"],
        "policyRoutes": [{"dst": "10.8.0.0/16", "gw": "10.6.0.1"}],
        "podMACPrefix": "0a:1b",
        "tunePodRoutes": False,
        "podDefaultRouteNIC": "net1",
        "hostRuleTable": 600,
        "podRPFilter": 2,
        "podCIDRType": "none",
        "txQueueLen": 5,
        "vethLinkAddress": "169.254.1.2",
        "vethMTU": 1400,
    }
    block = {"master": ["ens3"]}
    text = rendered_config(
        "m", {"cniType": "macvlan", "macvlan": block, "coordinator": coordinator}
    )

    assert text is not None
    assert text.endswith(
        '{"txQueueLen":5,"vethLinkAddress":"169.254.1.2","vethMTU":1400,"tunePodRoutes":false,'
        '"podMACPrefix":"0a:1b","mode":"underlay","type":"coordinator",'
        '"podDefaultRouteNic":"net1","podRPFilter":2,"hijackCIDR":["10.9.0.0/16"],'
        '"policyRoutes":[{"dst":"10.8.0.0/16","gw":"10.6.0.1"}]}]}'
    )


def test_annotations_set_nad_name_network_name_and_cni_version() -> None:
    rendered = nad(
        "m",
        {"cniType": "macvlan", "macvlan": {"master": ["ens3"]}},
        **{
            "multus.spidernet.io__cr-name": "net-a",
            "multus.spidernet.io__cni-version": "1.0.0",
            "cni.spidernet.io__cniconfig-name": "conf-a",
            "team": "blue",
        },
    )

    assert rendered.name == "net-a"
    assert rendered.annotations["team"] == "blue"
    assert rendered.config is not None
    assert rendered.config.startswith('{"cniVersion":"1.0.0","name":"conf-a",')


def test_completing_a_completed_spec_changes_nothing() -> None:
    incomplete = {"cniType": "vlan", "vlan": {"master": ["ens3"]}, "coordinator": {}}
    spec = completed(msgspec.convert(incomplete, MultusConfigSpec))

    assert completed(spec) == spec
