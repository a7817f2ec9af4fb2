"""Facts from the kernel: the Pod's network stack, and what matters of the node's.

Promise: a bounded number of questions, whatever the node carries; entries for other Pods are passed
over before they are read. What is cleaned here is dirt by definition: routes and neighbour entries
for addresses that a Pod is about to get (docs/reference/coordinator.md, "Order of ADD"). It plans
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from core.domain.addresses.ip_address import Address, Family
from core.errors import DatapathError
from nodeagent.coordinator.facts import HostStack, PodStack, VethPair, is_pod_address
from nodeagent.netlink import replies, requests
from nodeagent.netlink.numbers import RT_SCOPE_LINK, RT_TABLE_MAIN
from nodeagent.netlink.requests import AF_OF, IFADDRMSG_SCOPE, packed_address
from nodeagent.netlink.session import NetlinkSession
from nodeagent.netlink.values import Link, LinkAddress, Neighbour, host_prefix

NOT_OF_THE_NODE: Final = re.compile(
    r"docker|cbr|dummy|virbr|lxcbr|veth|lo$|cali|flannel|kube-ipvs|cni|vx-submariner|cilium*"
)
"""Links whose addresses are no addresses of the node.

See docs/reference/coordinator.md, "Node addresses".
"""


def read_pod(session: NetlinkSession, interface: str) -> PodStack:
    """The Pod's side, with the NIC up. Raises DatapathError when it has no usable address."""
    links = tuple(session.links())
    nic = _named(links, interface)
    if not nic.up:
        session.apply([requests.set_up(nic.number)])
        links = tuple(session.links())
        nic = _named(links, interface)
    lo = {link.number for link in links if link.loopback}
    addresses = tuple(
        each for each in session.addresses() if each.link not in lo and is_pod_address(each.address)
    )
    pod = PodStack(nic, links, addresses, (), ())
    if not pod.current:
        text = f'no usable IP addresses on "{interface}"'
        raise DatapathError(text, subject=interface, remedy="the main plugin has to set them")
    return pod._replace(
        routes=tuple(session.routes(table=RT_TABLE_MAIN)),
        rules=tuple(session.rules()),
    )


def read_host(session: NetlinkSession, pod: PodStack, table: int) -> HostStack:
    """The node's side. Leftovers for the Pod's addresses in the host's table are removed first.

    A dead veth's route there would change what the node takes for its way to the Pod. A node with
    no way to the Pod's network has one through the wire soon. Raises NetlinkRefused.
    """
    wanted = [each.address for each in _in_order(pod) if each.address.family in pod.families]
    cleaning = [requests.clear_route(host_prefix(address), table) for address in pod.current]
    asking = [requests.get_route(address) for address in wanted]
    outcomes = session.apply([*cleaning, *asking])[len(cleaning) :]
    sources = [
        replies.route(memoryview(outcome.answer)).source for outcome in outcomes if outcome.answer
    ]
    found = [source for source in sources if source is not None]
    found += _node_addresses(session, pod.families)
    stale = _neighbours_for(session, pod.current)
    return HostStack(tuple(dict.fromkeys(found)), tuple(stale))


def read_veth(pod_session: NetlinkSession, host_session: NetlinkSession, name: str) -> VethPair:
    """The wire that begins as ``name`` in the Pod. Raises DatapathError when it is no such wire."""
    end = pod_session.link(name)
    if end is None:
        raise DatapathError(f"there is no link {name} in the Pod", subject=name)
    return veth_of(end, host_session)


def veth_of(end: Link, host_session: NetlinkSession) -> VethPair:
    """The wire that begins with a link of the Pod. Raises DatapathError."""
    peer = None
    if end.kind == "veth" and end.parent:
        answer = host_session.ask(requests.get_link_number(end.parent))
        peer = None if answer is None else replies.link(memoryview(answer))
    if peer is None or peer.kind != "veth" or peer.parent != end.number:
        text = f"{end.name} of the Pod is no veth with its other end on this node"
        remedy = "overlay mode needs a first NIC that is one (Calico, Cilium, flannel)"
        raise DatapathError(text, subject=end.name, remedy=remedy)
    return VethPair(end.number, end.mac, peer.number, peer.mac, peer.name)


def _named(links: Iterable[Link], name: str) -> Link:
    for link in links:
        if link.name == name:
            return link
    raise DatapathError(
        f"there is no link {name} in the Pod",
        subject=name,
        remedy="the main plugin has to make it before the coordinator runs",
    )


def _in_order(pod: PodStack) -> list[LinkAddress]:
    order = {link.number: place for place, link in enumerate(pod.links)}
    return sorted(pod.addresses, key=lambda each: order.get(each.link, len(order)))


def _node_addresses(session: NetlinkSession, families: Iterable[Family]) -> list[Address]:
    wanted = {AF_OF[family] for family in families}

    def read(body: memoryview) -> LinkAddress | None:
        kind, scope = body[0], body[IFADDRMSG_SCOPE]
        # Each Pod's wire has an address of IPv6 for itself, which the kernel knows as such.
        if kind not in wanted or (kind == AF_OF[6] and scope == RT_SCOPE_LINK):
            return None
        return replies.link_address(body)

    listed = session.listing(requests.all_addresses(), read)
    found = [each for each in listed if each is not None and is_pod_address(each.address)]
    of_node = {number for number in {each.link for each in found} if _is_of_node(session, number)}
    return [each.address for each in found if each.link in of_node]


def _is_of_node(session: NetlinkSession, number: int) -> bool:
    name = session.link_name(number)
    # One that has gone meanwhile has no addresses any more.
    return bool(name) and not NOT_OF_THE_NODE.match(name)


def _neighbours_for(session: NetlinkSession, addresses: Iterable[Address]) -> list[Neighbour]:
    """Entries for these addresses; a node may have thousands for others."""
    wanted = [packed_address(address) for address in addresses]
    mentions_wanted = re.compile(b"|".join(map(re.escape, wanted))).search

    def read(body: memoryview) -> Neighbour | None:
        return replies.neighbour(body) if mentions_wanted(body) else None

    entries = session.listing(requests.all_neighbours(), read)
    return [e for e in entries if e is not None and packed_address(e.address) in wanted]
