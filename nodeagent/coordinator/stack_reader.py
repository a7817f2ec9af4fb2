"""Reads the network stacks of a Pod and of the node from the kernel.

The number of netlink requests does not depend on the number of Pods. ``read_pod`` also sets the NIC
up, and ``read_host`` also removes stale routes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from core.domain.addresses.ip_address import Address, Family
from core.errors import DatapathError
from nodeagent.coordinator.network_stacks import (
    POD_VETH,
    HostStack,
    PodStack,
    VethPair,
    is_routable_unicast,
)
from nodeagent.netlink import replies, requests
from nodeagent.netlink.numbers import RT_SCOPE_LINK, RT_TABLE_MAIN
from nodeagent.netlink.requests import AF_OF, IFADDRMSG_SCOPE, packed_address
from nodeagent.netlink.session import NetlinkSession
from nodeagent.netlink.values import Link, LinkAddress, Neighbour, host_prefix

VIRTUAL_LINKS: Final = re.compile(
    r"docker|cbr|dummy|virbr|lxcbr|veth|lo$|cali|flannel|kube-ipvs|cni|vx-submariner|cilium*"
)
"""Links whose addresses are not node addresses (docs/reference/coordinator.md, "Node addresses").
"""


def read_pod(session: NetlinkSession, interface: str) -> PodStack:
    """Set the NIC up and read the Pod's stack. Raises DatapathError if the NIC has no address."""
    links = tuple(session.links())
    nic = _named(links, interface)
    if not nic.up:
        session.apply([requests.set_link_up(nic.ifindex)])
        links = tuple(session.links())
        nic = _named(links, interface)
    loopbacks = {link.ifindex for link in links if link.loopback}
    addresses = tuple(
        entry
        for entry in session.addresses()
        if entry.link not in loopbacks and is_routable_unicast(entry.address)
    )
    pod = PodStack(nic, links, addresses, routes=(), rules=())
    if not pod.nic_addresses:
        text = f'no usable IP addresses on "{interface}"'
        raise DatapathError(text, subject=interface, remedy="the main plugin has to add addresses")
    return pod._replace(
        routes=tuple(session.routes(table=RT_TABLE_MAIN)),
        rules=tuple(session.rules()),
    )


def read_host(session: NetlinkSession, pod: PodStack, table: int) -> HostStack:
    """Remove routes that earlier Pods left for the Pod's addresses, and read the node's stack.

    ``table``: the host table. Raises NetlinkRefused.
    """
    addresses = [
        entry.address for entry in _in_link_order(pod) if entry.address.family in pod.families
    ]
    removals = [requests.clear_route(host_prefix(address), table) for address in pod.nic_addresses]
    lookups = [requests.get_route_to_address(address) for address in addresses]
    outcomes = session.apply([*removals, *lookups])[len(removals) :]
    # The addresses from which the node sends to the Pod come first, for ``HostStack.gateway``.
    sources = [
        replies.route(memoryview(outcome.answer)).source for outcome in outcomes if outcome.answer
    ]
    node_addresses = [source for source in sources if source is not None]
    node_addresses += _node_addresses(session, pod.families)
    stale_neighbours = _neighbours_for(session, pod.nic_addresses)
    return HostStack(tuple(dict.fromkeys(node_addresses)), tuple(stale_neighbours))


def read_veth(pod_session: NetlinkSession, host_session: NetlinkSession, name: str) -> VethPair:
    """Find a link of the Pod by name, and return ``veth_of`` the link. Raises DatapathError."""
    pod_veth = pod_session.link(name)
    if pod_veth is None:
        raise DatapathError(
            f"there is no link {name} in the Pod",
            subject=name,
            remedy="check the plugin of the Pod's first network, and podDefaultCniNic",
        )
    return veth_of(pod_veth, host_session)


def veth_of(pod_veth: Link, host_session: NetlinkSession) -> VethPair:
    """The veth pair of a link. Raises DatapathError if the link is not a veth."""
    host_veth = None
    if pod_veth.kind == "veth" and pod_veth.parent:
        answer = host_session.ask(requests.get_link_by_index(pod_veth.parent))
        host_veth = None if answer is None else replies.link(memoryview(answer))
    if host_veth is None or host_veth.kind != "veth" or host_veth.parent != pod_veth.ifindex:
        text = f"{pod_veth.name} of the Pod is not a veth with its other end on this node"
        remedy = "in overlay mode the first NIC has to be a veth (Calico, Cilium, flannel)"
        if pod_veth.name == POD_VETH:  # overlay mode refuses a Pod with this link
            remedy = (
                f"no other plugin may create {POD_VETH}; delete the Pod, and its controller creates"
                " a new Pod"
            )
        raise DatapathError(text, subject=pod_veth.name, remedy=remedy)
    return VethPair(
        pod_veth.ifindex, pod_veth.mac, host_veth.ifindex, host_veth.mac, host_veth.name
    )


def _named(links: Iterable[Link], name: str) -> Link:
    for link in links:
        if link.name == name:
            return link
    raise DatapathError(
        f"there is no link {name} in the Pod",
        subject=name,
        remedy="the main plugin has to create the link before the coordinator runs",
    )


def _in_link_order(pod: PodStack) -> list[LinkAddress]:
    order = {link.ifindex: index for index, link in enumerate(pod.links)}
    return sorted(pod.addresses, key=lambda entry: order.get(entry.link, len(order)))


def _node_addresses(session: NetlinkSession, families: Iterable[Family]) -> list[Address]:
    address_families = {AF_OF[family] for family in families}

    def read(body: memoryview) -> LinkAddress | None:
        address_family, scope = body[0], body[IFADDRMSG_SCOPE]
        # Skip link-local addresses before decoding: each host veth has one.
        if address_family not in address_families or (
            address_family == AF_OF[6] and scope == RT_SCOPE_LINK
        ):
            return None
        return replies.link_address(body)

    listed_entries = session.listing(requests.all_addresses(), read)
    entries = [
        entry
        for entry in listed_entries
        if entry is not None and is_routable_unicast(entry.address)
    ]
    links = {entry.link for entry in entries}
    node_links = {ifindex for ifindex in links if _is_node_link(session, ifindex)}
    return [entry.address for entry in entries if entry.link in node_links]


def _is_node_link(session: NetlinkSession, ifindex: int) -> bool:
    name = session.link_name(ifindex)
    # The name is "" if the link has been removed.
    return bool(name) and not VIRTUAL_LINKS.match(name)


def _neighbours_for(session: NetlinkSession, addresses: Iterable[Address]) -> list[Neighbour]:
    """The neighbour entries of these addresses. Others, possibly thousands, are not decoded."""
    packed = [packed_address(address) for address in addresses]
    has_address = re.compile(b"|".join(map(re.escape, packed))).search

    def read(body: memoryview) -> Neighbour | None:
        return replies.neighbour(body) if has_address(body) else None

    entries = session.listing(requests.all_neighbours(), read)
    return [
        entry for entry in entries if entry is not None and packed_address(entry.address) in packed
    ]
