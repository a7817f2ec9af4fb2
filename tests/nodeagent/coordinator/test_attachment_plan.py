"""Attachment plans are compared with the files in ``plans``.

To rewrite the files run the tests with REWRITE_PLANS=1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from core.domain.addresses.ip_address import Address, parse_address, parse_cidr
from core.errors import BadInput
from nodeagent.coordinator.attachment_plan import mac_of, plan
from nodeagent.coordinator.attachment_steps import AttachmentPlan, PlanStep
from nodeagent.coordinator.modes import NicSetup, decide_nic_setup
from nodeagent.coordinator.network_stacks import HostStack, PodStack, VethPair
from nodeagent.coordinator.settings import UnparsedSettings, effective_settings, read_settings
from nodeagent.netlink.numbers import IFF_BROADCAST, IFF_LOOPBACK, IFF_MULTICAST, IFF_UP
from nodeagent.netlink.values import (
    Hop,
    KernelRoute,
    Link,
    LinkAddress,
    RoutingRule,
    default_prefix,
)

_LINK: Final = re.compile(r"\blink (\d+)\b")
PLANS: Final = Path(__file__).parent / "plans"
ETHERNET: Final = IFF_UP | IFF_BROADCAST | IFF_MULTICAST
KERNEL_RULES: Final = (
    RoutingRule(4, table=255, priority=0),
    RoutingRule(4, table=254, priority=32766),
    RoutingRule(4, table=253, priority=32767),
    RoutingRule(6, table=255, priority=0),
    RoutingRule(6, table=254, priority=32766),
)
"""The rules of the tables local (255), main (254) and default (253)."""

REPLY_RULES: Final = (
    RoutingRule(4, table=100, priority=1000, mark=1),
    RoutingRule(6, table=100, priority=1000, mark=1),
)
"""The rules that the ADD of an underlay Pod's first NIC adds for replies."""

NODE_ADDRESSES: Final = tuple(map(parse_address, ("10.6.0.11", "fd00:6::11", "192.0.2.11")))
VETH_PAIR: Final = VethPair(
    pod=9,
    pod_mac=bytes.fromhex("020000000009"),
    host=77,
    host_mac=bytes.fromhex("020000000077"),
    host_name="host",
)
CONF: Final[dict[str, Any]] = {
    "overlayPodCIDR": ["10.244.0.0/16"],
    "serviceCIDR": ["10.96.0.0/16", "fd00:96::/112"],
    "hijackCIDR": ["169.254.0.0/16", "10.96.0.0/16"],
}

LO: Final = Link(1, "lo", IFF_UP | IFF_LOOPBACK)
ETH0: Final = Link(2, "eth0", ETHERNET, mac=bytes.fromhex("020000000002"), tx_queue_len=1000)
NET1: Final = Link(3, "net1", ETHERNET, mac=bytes.fromhex("020000000003"), tx_queue_len=1000)
NET2: Final = Link(4, "net2", ETHERNET)
VETH0: Final = Link(9, "veth0", ETHERNET)
# The keys are interface indexes.
POD_ADDRESSES: Final = {
    2: ("10.6.0.101", "fd00:6::101"),
    3: ("10.7.0.101", "fd00:7::101"),
    4: ("10.8.0.101",),
}
NETWORKS: Final = {2: ("10.6.0.0/24", "fd00:6::/64"), 3: ("10.7.0.0/24", "fd00:7::/64")}
GATEWAYS: Final = {2: ("10.6.0.1", "fd00:6::1"), 3: ("10.7.0.1", "fd00:7::1"), 4: ("10.8.0.1",)}


def describe_step(step: PlanStep, names: Mapping[int, str]) -> str:
    """A step as text. ``names``: link names by interface index."""
    return _LINK.sub(lambda match: names.get(int(match[1]), match[0]), step.do.what)


def pod_with(
    interface: Link,
    *links: Link,
    rules: tuple[RoutingRule, ...] = (),
    defaults: tuple[int, ...] = (),
) -> PodStack:
    """A Pod with these links, before the ADD for ``interface``.

    ``defaults``: indexes of the links with default routes; if empty, all links in ``GATEWAYS``.
    """
    addresses = tuple(
        LinkAddress(link.ifindex, parse_address(text), 64)
        for family in (4, 6)
        for link in links
        for text in POD_ADDRESSES.get(link.ifindex, ())
        if parse_address(text).family == family
    )
    routes = [
        KernelRoute(parse_cidr(network), link.ifindex, source=source_of(link.ifindex, network))
        for link in links
        for network in NETWORKS.get(link.ifindex, ())
    ]
    routes += [KernelRoute(parse_cidr("fe80::/64"), link.ifindex) for link in links]
    for number in defaults or [link.ifindex for link in links if link.ifindex in GATEWAYS]:
        for gateway in map(parse_address, GATEWAYS[number]):
            routes.append(KernelRoute(default_prefix(gateway.family), number, gateway))
    return PodStack(interface, (LO, *links), addresses, tuple(routes), (*rules, *KERNEL_RULES))


def source_of(link: int, network: str) -> Address | None:
    """The preferred source of the kernel's route to a connected network; None for IPv6."""
    return None if ":" in network else parse_address(POD_ADDRESSES[link][0])


def plan_of(
    pod: PodStack, later_nics: frozenset[str] = frozenset(), **conf: Any
) -> tuple[NicSetup, AttachmentPlan]:
    """The set-up of a Pod's NIC, and the plan. ``later_nics``: NICs that later ADDs create."""
    settings = effective_settings(read_settings({**CONF, **conf}), UnparsedSettings())
    decision = decide_nic_setup(settings, pod)
    host = HostStack(tuple(address for address in NODE_ADDRESSES if address.family in pod.families))
    return decision, plan(settings, decision, pod, host, VETH_PAIR, later_nics)


def plan_text(pod: PodStack, decision: NicSetup, attachment_plan: AttachmentPlan) -> str:
    pod_veth_name = "eth0" if decision.mode == "overlay" else "veth0"
    names = {link.ifindex: link.name for link in pod.links}
    names |= {VETH_PAIR.pod: pod_veth_name, VETH_PAIR.host: "HOST-VETH"}
    lines = [f"{decision.mode}, {'first' if decision.first else 'later'}, table {decision.table}"]
    lines += [f"sysctl: {name} = {value}" for name, value in attachment_plan.sysctls.items()]
    lines += [f"pod: {describe_step(step, names)}" for step in attachment_plan.pod]
    lines += ["pod: marks of the reply path"] if attachment_plan.reply_marks else []
    lines += [f"host: {describe_step(step, names)}" for step in attachment_plan.host]
    return "\n".join(lines) + "\n"


CASES: Final[dict[str, tuple[PodStack, dict[str, Any]]]] = {
    "underlay-first": (pod_with(ETH0, ETH0), {}),
    "underlay-first-ipv4": (
        pod_with(ETH0, ETH0)._replace(
            addresses=(LinkAddress(ETH0.ifindex, parse_address("10.6.0.101"), 24),)
        ),
        {},
    ),
    "underlay-first-all-options": (
        pod_with(ETH0, ETH0),
        {
            "podMACPrefix": "0a:1b",
            "txQueueLen": 500,
            "vethLinkAddress": "169.254.100.1",
            "podRPFilter": 2,
            "hostRuleTable": 200,
            "policyRoutes": [{"dst": "10.9.0.0/16", "gw": "10.6.0.254"}],
        },
    ),
    "underlay-second": (pod_with(NET1, ETH0, VETH0, NET1, rules=REPLY_RULES), {}),
    "underlay-second-without-hijack": (
        pod_with(NET1, ETH0, VETH0, NET1, rules=REPLY_RULES),
        {"hijackFurtherNics": False},
    ),
    "underlay-second-default-route": (
        pod_with(NET1, ETH0, VETH0, NET1, rules=REPLY_RULES),
        {"podDefaultRouteNic": "net1"},
    ),
    "underlay-third": (
        pod_with(NET2, ETH0, VETH0, NET1, NET2, rules=REPLY_RULES, defaults=(2, 4)),
        {"policyRoutes": [{"dst": "10.9.0.0/16", "gw": "10.8.0.254"}]},
    ),
    "overlay-first": (
        pod_with(NET1, ETH0, NET1),
        {"policyRoutes": [{"dst": "10.9.0.0/16", "gw": "10.7.0.254"}]},
    ),
    "overlay-first-default-route": (
        pod_with(NET1, ETH0, NET1),
        {"podDefaultRouteNic": "net1"},
    ),
    "overlay-first-untuned": (pod_with(NET1, ETH0, NET1), {"tunePodRoutes": False}),
    "overlay-second": (pod_with(NET2, ETH0, NET1, NET2, defaults=(2, 4)), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_plan_is_equal_to_its_file(name: str) -> None:
    pod, conf = CASES[name]
    text = plan_text(pod, *plan_of(pod, **conf))
    path = PLANS / f"{name}.txt"
    if os.environ.get("REWRITE_PLANS"):
        path.write_text(text)
    assert text == path.read_text()


def test_every_file_belongs_to_a_case() -> None:
    assert {path.stem for path in PLANS.iterdir()} == set(CASES)


def test_an_unknown_default_route_nic_is_refused() -> None:
    pod = pod_with(NET1, ETH0, NET1)
    with pytest.raises(BadInput, match="podDefaultRouteNIC: net9 don't exist in pod"):
        plan_of(pod, podDefaultRouteNic="net9")


def test_a_default_route_nic_of_a_later_add_does_not_change_the_plan() -> None:
    pod = pod_with(NET1, ETH0, NET1)
    later_nics = frozenset({"net2"})
    assert plan_of(pod, later_nics, podDefaultRouteNic="net2") == plan_of(pod)


def test_no_route_is_tuned_if_only_the_new_nic_has_a_default_route() -> None:
    pod = pod_with(NET1, ETH0, NET1, defaults=(3,))
    assert plan_of(pod)[1] == plan_of(pod, tunePodRoutes=False)[1]


def test_a_multipath_default_route_loses_only_the_next_hop_of_the_new_nic() -> None:
    pod = pod_with(NET1, ETH0, NET1)
    hops = tuple(Hop(ifindex, parse_address(GATEWAYS[ifindex][0])) for ifindex in (2, 3))
    multipath_route = KernelRoute(default_prefix(4), hops=hops)
    other_routes = [route for route in pod.routes if not (route.is_default and route.family == 4)]
    _, attachment_plan = plan_of(pod._replace(routes=(*other_routes, multipath_route)))
    texts = [describe_step(step, {2: "eth0", 3: "net1"}) for step in attachment_plan.pod]
    assert "replace route 0.0.0.0/0 via 10.6.0.1 on eth0 table 254" in texts
    assert "add route 0.0.0.0/0 via 10.7.0.1 on net1 table 101" in texts
    assert "add route 0.0.0.0/0 via 10.6.0.1 on eth0 table 100" in texts


@pytest.mark.parametrize(
    ("interface", "links", "conf", "expected_setup"),
    [
        (ETH0, (ETH0,), {}, NicSetup("underlay", first=True, table=101)),
        (NET1, (ETH0, NET1, VETH0), {}, NicSetup("underlay", first=False, table=101)),
        (NET2, (ETH0, NET1, NET2, VETH0), {}, NicSetup("underlay", first=False, table=102)),
        (NET1, (ETH0, NET1), {}, NicSetup("overlay", first=True, table=101)),
        (NET2, (ETH0, NET1, NET2), {}, NicSetup("overlay", first=False, table=102)),
        (NET1, (ETH0, NET1), {"mode": "overlay"}, NicSetup("overlay", first=True, table=101)),
        (ETH0, (ETH0,), {"mode": "underlay"}, NicSetup("underlay", first=True, table=101)),
    ],
)
def test_mode_and_table_depend_on_the_links_of_the_pod(
    interface: Link, links: tuple[Link, ...], conf: dict[str, Any], expected_setup: NicSetup
) -> None:
    # Tunnels, and links that are down, do not count as NICs.
    ignored_links = (Link(20, "tunl0", IFF_UP), Link(21, "off", IFF_BROADCAST | IFF_MULTICAST))
    settings = effective_settings(read_settings(conf), UnparsedSettings())
    assert decide_nic_setup(settings, pod_with(interface, *links, *ignored_links)) == expected_setup


@pytest.mark.parametrize(
    ("interface", "links", "mode", "text"),
    [
        (NET1, (ETH0, NET1), "underlay", "was not created by previous interface eth0"),
        (ETH0, (ETH0,), "overlay", "must not be used on the first NIC"),
        (NET1, (ETH0, NET1, VETH0), "overlay", "previous NIC ran in underlay mode"),
    ],
)
def test_a_mode_that_does_not_fit_the_pod_is_refused(
    interface: Link, links: tuple[Link, ...], mode: str, text: str
) -> None:
    settings = effective_settings(read_settings({"mode": mode}), UnparsedSettings())
    with pytest.raises(BadInput, match=text):
        decide_nic_setup(settings, pod_with(interface, *links))


@pytest.mark.parametrize(
    ("address", "mac"),
    [
        ("172.18.30.139", "0a1bac121e8b"),
        ("10.0.0.1", "0a1b0a000001"),
        ("64:ff9b::", "0a1b00000000"),
        ("fd00::1:2:3", "0a1b00020003"),
    ],
)
def test_a_mac_address_is_the_prefix_and_four_bytes_of_the_address(address: str, mac: str) -> None:
    settings = effective_settings(read_settings({"podMACPrefix": "0A-1b"}), UnparsedSettings())
    pod = pod_with(ETH0, ETH0)._replace(
        addresses=(LinkAddress(ETH0.ifindex, parse_address(address), 24),)
    )
    assert mac_of(settings, pod).hex() == mac


def test_a_mac_prefix_for_an_infiniband_link_is_refused() -> None:
    address = bytes.fromhex("00001049fe800000000000001070fd0300160548")
    link = ETH0._replace(name="net1", kind="ipoib", mac=address)

    with pytest.raises(BadInput, match="net1 is an InfiniBand link"):
        plan_of(pod_with(link, link), podMACPrefix="0a:1b")
