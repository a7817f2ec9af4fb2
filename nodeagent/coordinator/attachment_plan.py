"""Computes the netlink requests that set up a NIC. Pure. Each step can be repeated.

docs/reference/coordinator.md specifies order, tables, priorities and preferred sources.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from core.domain.addresses.ip_address import Address, Family
from core.errors import BadInput
from nodeagent.coordinator.attachment_steps import (
    AttachmentPlan,
    PlanStep,
    neighbour_step,
    route_step,
    rule_step,
)
from nodeagent.coordinator.modes import REPLY_TABLE, NicSetup
from nodeagent.coordinator.network_stacks import POD_VETH, HostStack, PodStack, VethPair
from nodeagent.coordinator.policy_routing import tuning_steps
from nodeagent.coordinator.rule_priorities import Priorities
from nodeagent.coordinator.settings import CoordinatorSettings
from nodeagent.netlink import requests
from nodeagent.netlink.numbers import RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, RT_TABLE_MAIN
from nodeagent.netlink.values import (
    INFINIBAND_ADDRESS_BYTES,
    KernelRoute,
    LinkAddress,
    Mac,
    Neighbour,
    RoutingRule,
    default_prefix,
    host_prefix,
)

RULE_PRIORITY: Final = 1_000
"""The priority of the Pod's rule for replies and of the node's rule for the host table."""

REPLY_MARK: Final = 0x1
"""The mark of connections that came in through veth0. Their replies leave through veth0."""

MARK_MASK: Final = 0xFFFFFFFF


def plan(
    settings: CoordinatorSettings,
    decision: NicSetup,
    pod: PodStack,
    host: HostStack,
    veth: VethPair,
    expected_nics: frozenset[str] = frozenset(),
) -> AttachmentPlan:
    """The plan of one NIC. ``expected_nics``: names of NICs that the Pod gets later.

    Raises BadInput if the default-route NIC neither exists nor is expected, or if ``mac_of``
    raises.
    """
    source = _preferred_source(settings, pod)
    priorities = Priorities(pod.rules)
    has_own_veth = decision.mode == "underlay" and decision.first
    steps: list[PlanStep] = []
    if has_own_veth:
        steps += _pod_veth_steps(settings, pod, veth)
    steps += _nic_steps(settings, pod)
    if decision.first:
        steps += [
            neighbour_step(Neighbour(veth.pod, address, veth.host_mac))
            for address in host.node_addresses
        ]
    host_routes = [
        *_node_routes(decision, host, veth, source),
        *_hijack_routes(settings, decision, host, veth, source),
    ]
    steps += map(route_step, host_routes)
    if has_own_veth:
        steps += _reply_path(pod, host, veth, source)
        for family in pod.families:
            priorities.reserve(family, RULE_PRIORITY)
    if settings.tune_pod_routes and (decision.mode == "overlay" or not decision.first):
        # In overlay mode, ``host_routes`` use the first NIC, so tuning may move them too.
        main_routes = tuple(route for route in host_routes if route.table == RT_TABLE_MAIN)
        pod_with_routes = pod._replace(routes=(*pod.routes, *main_routes))
        steps += tuning_steps(settings, decision, pod_with_routes, priorities, expected_nics)
    steps += _policy_routes(settings, decision, pod)
    return AttachmentPlan(
        tuple(steps),
        tuple(_host_steps(settings, pod, veth)),
        _sysctls(settings, pod, POD_VETH if has_own_veth else ""),
        reply_marks=has_own_veth,
    )


def mac_of(settings: CoordinatorSettings, pod: PodStack) -> Mac:
    """The NIC's new MAC address; b"" if ``podMACPrefix`` is not set.

    The last four bytes are those of the NIC's first IP address. Raises BadInput for ipvlan and
    InfiniBand.
    """
    if not settings.mac_prefix:
        return b""
    if pod.interface.kind == "ipvlan":
        raise BadInput(
            f"podMACPrefix: {pod.interface.name} is an ipvlan, which has its master's MAC address",
            subject="podMACPrefix",
            remedy="leave podMACPrefix empty for this network, or use macvlan",
        )
    if len(pod.interface.mac) == INFINIBAND_ADDRESS_BYTES:
        raise BadInput(
            f"podMACPrefix: {pod.interface.name} is an InfiniBand link, whose address is given"
            " by the GUID of its port",
            subject="podMACPrefix",
            remedy="leave podMACPrefix empty for this network",
        )
    return settings.mac_prefix + (pod.nic_addresses[0].value & 0xFFFFFFFF).to_bytes(4, "big")


def _preferred_source(settings: CoordinatorSettings, pod: PodStack) -> Address | None:
    """The first NIC's IPv4 address. Old kernels refuse a preferred source in IPv6 routes."""
    first = pod.link(settings.first_nic)
    if first is None:
        return None
    return next(
        (address for address in pod.addresses_of(first.ifindex) if address.family == 4), None
    )


def _pod_veth_steps(
    settings: CoordinatorSettings, pod: PodStack, veth: VethPair
) -> Iterator[PlanStep]:
    yield PlanStep(requests.set_link_up(veth.pod))
    address = settings.veth_address
    if address is not None and (address.family == 6 or 4 in pod.families):
        veth_address = LinkAddress(veth.pod, address, host_prefix(address).prefix_length)
        yield PlanStep(requests.add_address(veth_address), requests.delete_address(veth_address))


def _nic_steps(settings: CoordinatorSettings, pod: PodStack) -> Iterator[PlanStep]:
    link = pod.interface
    mac = mac_of(settings, pod)
    if mac:
        restore_mac = requests.set_mac(link.ifindex, link.mac)
        yield PlanStep(requests.set_mac(link.ifindex, mac), restore_mac)
    if settings.tx_queue_len:
        yield PlanStep(
            requests.set_tx_queue_len(link.ifindex, settings.tx_queue_len),
            requests.set_tx_queue_len(link.ifindex, link.tx_queue_len),
        )


def _node_routes(
    decision: NicSetup, host: HostStack, veth: VethPair, source: Address | None
) -> Iterator[KernelRoute]:
    tables = (RT_TABLE_MAIN, decision.table) if decision.first else (decision.table,)
    for address in host.node_addresses:
        for table in tables:
            yield _route_to(address, veth.pod, table, _source_for(address.family, source))


def _hijack_routes(
    settings: CoordinatorSettings,
    decision: NicSetup,
    host: HostStack,
    veth: VethPair,
    source: Address | None,
) -> Iterator[KernelRoute]:
    """Routes through the node: to Pods and Services, and to ``hijackCIDR``."""
    if not decision.first and not settings.hijack_further_nics:
        return
    table = RT_TABLE_MAIN if decision.first else decision.table
    for network in dict.fromkeys(settings.hijacked):
        gateway = host.gateway(network.family)
        if gateway is None:
            continue
        preferred = _source_for(network.family, source)
        # Clear the host bits: the kernel refuses a destination with host bits.
        destination = network._replace(address=network.first)
        yield KernelRoute(destination, veth.pod, gateway, table, preferred)


def _reply_path(
    pod: PodStack, host: HostStack, veth: VethPair, source: Address | None
) -> Iterator[PlanStep]:
    for family in pod.families:
        yield rule_step(
            RoutingRule(family, REPLY_TABLE, RULE_PRIORITY, mark=REPLY_MARK, mask=MARK_MASK)
        )
        gateway = host.gateway(family)
        if gateway is not None:
            preferred = _source_for(family, source)
            yield route_step(
                KernelRoute(default_prefix(family), veth.pod, gateway, REPLY_TABLE, preferred)
            )


def _policy_routes(
    settings: CoordinatorSettings, decision: NicSetup, pod: PodStack
) -> Iterator[PlanStep]:
    # No rule selects the table of the first underlay NIC, so main gets its policy routes.
    uses_main = decision.mode == "underlay" and decision.first
    table = RT_TABLE_MAIN if uses_main else decision.table
    for route in settings.policy_routes:
        if route.destination.family in pod.families:
            destination = route.destination._replace(address=route.destination.first)
            yield route_step(KernelRoute(destination, pod.interface.ifindex, route.gateway, table))


def _host_steps(settings: CoordinatorSettings, pod: PodStack, veth: VethPair) -> Iterator[PlanStep]:
    for family in pod.families:
        # No undo: all Pods of the node share this rule.
        yield PlanStep(requests.add_rule(RoutingRule(family, settings.host_table, RULE_PRIORITY)))
    for address in pod.nic_addresses:
        yield neighbour_step(Neighbour(veth.host, address, veth.pod_mac))
    for address in pod.nic_addresses:
        yield route_step(_route_to(address, veth.host, settings.host_table, None))


def _sysctls(settings: CoordinatorSettings, pod: PodStack, veth_name: str) -> dict[str, str]:
    links = [link.name for link in pod.links if not link.loopback]
    links += [veth_name] if veth_name else []
    values: dict[str, str] = {}
    if 6 in pod.families:
        # Set each link too: "all" reaches the links only if the value of "all" changes.
        names = ["all", "default", *(name for name in links if name != pod.interface.name)]
        values |= {f"net/ipv6/conf/{name}/disable_ipv6": "0" for name in names}
    if settings.rp_filter is not None:
        # The kernel uses the larger of the values of "all" and the link.
        names = ["all", *links]
        values |= {f"net/ipv4/conf/{name}/rp_filter": str(settings.rp_filter) for name in names}
    return values


def _route_to(address: Address, link: int, table: int, source: Address | None) -> KernelRoute:
    scope = RT_SCOPE_LINK if address.family == 4 else RT_SCOPE_UNIVERSE
    return KernelRoute(host_prefix(address), link, table=table, source=source, scope=scope)


def _source_for(family: Family, source: Address | None) -> Address | None:
    return source if family == 4 else None
