"""Each setting comes from the network configuration, the cluster, or the defaults."""

from __future__ import annotations

from typing import Any

import pytest

from core.domain.addresses.ip_address import parse_address, parse_cidr
from core.errors import BadInput
from core.manifests.networks.detect_options import DetectionTiming
from nodeagent.coordinator.settings import (
    NETWORKS_MAX,
    CoordinatorSettings,
    NicPolicyRoute,
    UnparsedSettings,
    effective_settings,
    read_settings,
)


def settings(cluster: dict[str, Any] | None = None, **conf: Any) -> CoordinatorSettings:
    return effective_settings(read_settings(conf), read_settings(cluster or {}))


def test_an_empty_configuration_gives_the_defaults() -> None:
    assert settings() == CoordinatorSettings(
        mode="auto",
        tune_pod_routes=True,
        default_route_nic="",
        first_nic="eth0",
        mac_prefix=b"",
        hijacked=(),
        hijack_further_nics=True,
        policy_routes=(),
        host_table=500,
        rp_filter=0,
        host_rp_filter=None,
        tx_queue_len=0,
        veth_address=None,
        veth_mtu=1500,
        detection=DetectionTiming(),
    )


def test_the_network_configuration_overrides_the_cluster() -> None:
    cluster = {"mode": "overlay", "hostRuleTable": 200, "vethMTU": 1400, "tunePodRoutes": True}
    effective = settings(cluster, mode="underlay", tunePodRoutes=False, hostRuleTable=0)
    assert (effective.mode, effective.tune_pod_routes) == ("underlay", False)
    # hostRuleTable 0 means that no table is configured.
    assert (effective.host_table, effective.veth_mtu) == (200, 1400)


def test_a_list_falls_back_to_the_cluster_only_if_it_is_empty() -> None:
    cluster = {"serviceCIDR": ["10.96.0.0/16"], "hijackCIDR": ["169.254.0.0/16"]}
    effective = settings(cluster, hijackCIDR=["10.9.0.1"], serviceCIDR=[])
    assert [str(network) for network in effective.hijacked] == ["10.96.0.0/16", "10.9.0.1/32"]


def test_field_names_match_in_any_case_and_null_values_are_ignored() -> None:
    unparsed = read_settings({"PODMACPREFIX": "0a:1b", "Mode": None, "type": "coordinator"})
    assert unparsed == UnparsedSettings(pod_mac_prefix="0a:1b")


def test_the_default_route_nic_of_the_annotation_overrides_the_network_configuration() -> None:
    conf = read_settings({"podDefaultRouteNic": "eth0"})
    assert effective_settings(conf, UnparsedSettings(), "net1").default_route_nic == "net1"


def test_the_error_names_the_annotation_if_its_nic_is_invalid() -> None:
    with pytest.raises(BadInput, match="'net/1' is not an interface name") as refused:
        effective_settings(UnparsedSettings(), UnparsedSettings(), "net/1")
    assert refused.value.subject == "ipam.spidernet.io/default-route-nic"
    assert "annotation of the Pod" in refused.value.remedy


@pytest.mark.parametrize("mode", ["disable", "disabled"])
def test_both_spellings_of_disabled_are_accepted(mode: str) -> None:
    assert settings(mode=mode).mode == "disable"


@pytest.mark.parametrize(("value", "rp_filter"), [(-1, None), (-7, None), (0, 0), (1, 1), (2, 2)])
def test_a_negative_rp_filter_is_read_as_none(value: int, rp_filter: int | None) -> None:
    assert settings(podRPFilter=value).rp_filter == rp_filter
    assert settings(hostRPFilter=value).host_rp_filter == rp_filter


def test_host_rp_filter_is_set_only_if_it_is_configured() -> None:
    assert settings({"podRPFilter": 1}).host_rp_filter is None
    assert settings({"hostRPFilter": 1}).host_rp_filter == 1
    assert settings({"hostRPFilter": 1}, hostRPFilter=0).host_rp_filter == 0


@pytest.mark.parametrize(
    ("options", "timing"),
    [
        ({}, DetectionTiming()),
        ({"retries": 0, "interval": "", "timeout": ""}, DetectionTiming()),
        ({"retries": 5}, DetectionTiming(probes=5)),
        (
            {"interval": "10ms", "timeout": "1m30.5s"},
            DetectionTiming(interval_s=0.01, timeout_s=90.5),
        ),
        ({"interval": "+.5s", "timeout": "1h"}, DetectionTiming(interval_s=0.5, timeout_s=3600.0)),
    ],
)
def test_detect_options_are_a_count_and_go_durations(
    options: dict[str, Any], timing: DetectionTiming
) -> None:
    assert settings(detectOptions=options).detection == pytest.approx(timing)


def test_detect_options_are_not_merged_with_detect_options_of_the_cluster() -> None:
    effective = settings({"detectOptions": {"timeout": "2s"}}, detectOptions={"retries": 7})
    assert effective.detection == DetectionTiming(probes=7)
    assert settings({"detectOptions": {"timeout": "2s"}}).detection.timeout_s == 2


def test_policy_routes_accept_addresses_without_prefix_and_surrounding_spaces() -> None:
    routes = [{"dst": " 10.9.0.7 ", "gw": "10.6.0.1"}, {"dst": "fd00:9::/64", "gw": "fd00:6::1"}]
    assert settings(policyRoutes=routes).policy_routes == (
        NicPolicyRoute(parse_cidr("10.9.0.7/32"), parse_address("10.6.0.1")),
        NicPolicyRoute(parse_cidr("fd00:9::/64"), parse_address("fd00:6::1")),
    )


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({"mode": "sideways"}, "unknown mode 'sideways'"),
        ({"podMACPrefix": "01:10"}, "podMACPrefix"),
        ({"podMACPrefix": "0a:1b:2c"}, "podMACPrefix"),
        ({"hijackCIDR": ["10.9.0.0/33"]}, "hijackCIDR"),
        ({"serviceCIDR": ["services"]}, "serviceCIDR"),
        ({"policyRoutes": [{"dst": "10.9.0.0/16", "gw": "fd00::1"}]}, "the same IP family"),
        ({"policyRoutes": [{"dst": "", "gw": "10.6.0.1"}]}, "invalid route dst"),
        ({"policyRoutes": [{"dst": "10.9.0.0/16", "gw": "x"}]}, "invalid route gw"),
        ({"podRPFilter": 3}, "podRPFilter"),
        ({"hostRPFilter": 3}, "hostRPFilter"),
        ({"detectOptions": {"retries": -1}}, "detectOptions.retries"),
        ({"detectOptions": {"retries": "3"}}, "detectOptions.retries"),
        ({"detectOptions": {"interval": "5"}}, "detectOptions.interval"),
        ({"detectOptions": {"interval": "0s"}}, "detectOptions.interval"),
        ({"detectOptions": {"timeout": "-1s"}}, "detectOptions.timeout"),
        ({"detectOptions": {"timeout": "1s later"}}, "detectOptions.timeout"),
        ({"detectOptions": {"timeout": "1" * 40 + "s"}}, "detectOptions.timeout"),
        ({"vethMTU": -1}, "vethMTU"),
        ({"txQueueLen": -1}, "txQueueLen"),
        ({"hostRuleTable": 254}, "hostRuleTable"),
        ({"hostRuleTable": "many"}, "hostRuleTable"),
        ({"vethLinkAddress": "everywhere"}, "vethLinkAddress"),
        ({"vethLinkAddress": "0.0.0.0"}, "vethLinkAddress"),
        ({"podDefaultRouteNic": "a name that is too long"}, "podDefaultRouteNic"),
        ({"hijackCIDR": ["10.0.0.0/8"] * (NETWORKS_MAX + 1)}, "hijackCIDR"),
    ],
)
def test_the_error_names_the_field_of_an_invalid_value(conf: dict[str, Any], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        settings(**conf)
