"""Route lookups in one network stack, and the network namespace of a Pod."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from errno import EHOSTUNREACH, EINVAL, ENETUNREACH, EXDEV
from pathlib import Path
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Address, Cidr, Family, format_address
from core.errors import DatapathError
from nodeagent.coordinator.attachment_records import AttachmentRecords
from nodeagent.netlink import numbers, replies
from nodeagent.netlink.requests import ALL_BITS, RouteLookup, get_route_of_packet
from nodeagent.netlink.session import NetlinkSession
from nodeagent.netlink.values import KernelRoute, Link, Neighbour, RoutingRule, mac_text

TABLES: Final = {
    numbers.RT_TABLE_MAIN: "main",
    numbers.RT_TABLE_LOCAL: "local",
    numbers.RT_TABLE_DEFAULT: "default",
}
_ROUTE_TYPES: Final = {numbers.RTN_LOCAL: "local", 3: "broadcast", 5: "multicast", 6: "blackhole"}
"""RTN_* of include/uapi/linux/rtnetlink.h."""

_SPOOFED: Final = "dropped on arrival: rp_filter, or an invalid source address"
"""Linux returns EXDEV until 6.12, and EINVAL in later versions."""

_ERRNO_MEANINGS: Final = {
    EXDEV: _SPOOFED,
    EINVAL: _SPOOFED,
    ENETUNREACH: "no route",
    EHOSTUNREACH: "no route, or this stack does not forward",
}
_NEIGHBOUR_STATES: Final = {
    0x01: "incomplete",
    0x02: "reachable",
    0x04: "stale",
    0x08: "delay",
    0x10: "probe",
    0x20: "failed",
    0x40: "noarp",
    numbers.NUD_PERMANENT: "permanent",
}


class RouteResult(NamedTuple):
    """The kernel's decision about a packet.

    ``source``: the source address that the stack would choose. ``neighbour``: MAC address and state
    of the next hop, or "". ``why_not``: why the kernel drops the packet, or "".
    """

    question: RouteLookup
    rule: RoutingRule | None = None
    route: KernelRoute | None = None
    link: Link | None = None
    source: Address | None = None
    neighbour: str = ""
    why_not: str = ""

    @property
    def is_local(self) -> bool:
        """Whether the packet is for this stack."""
        return self.route is not None and self.route.kind == numbers.RTN_LOCAL


class Stack:
    """The network stack of a netlink session."""

    def __init__(self, name: str, session: NetlinkSession) -> None:
        self.name = name
        self._session = session
        self.links = {link.ifindex: link for link in session.links()}
        self._rules: dict[Family, Sequence[RoutingRule]] = {}

    def ask(self, question: RouteLookup) -> RouteResult:
        """Look up the route of a packet. Raises NetlinkLost, NetlinkRefused."""
        # The first answer has the source address, the second the matching entry of the table.
        exact, matched = self._session.attempt(
            [get_route_of_packet(question), get_route_of_packet(question, matched=True)]
        )
        errno = exact.errno or matched.errno
        if errno or not matched.answer:
            text = os.strerror(errno) if errno else "no answer"
            return RouteResult(question, why_not=_ERRNO_MEANINGS.get(errno, text))
        route = replies.route(memoryview(matched.answer))
        source = replies.route(memoryview(exact.answer)).source if exact.answer else None
        hop = route.hops[0] if route.hops else None
        link = self.links.get(hop.link if hop else route.link)
        rule = rule_of(self.rules(question.destination.family), question, route.table, self.links)
        answer = RouteResult(question, rule, route, link, source)
        return answer._replace(neighbour=self._neighbour(answer))

    def rules(self, family: Family) -> Sequence[RoutingRule]:
        """The rules of a family, by priority. Raises NetlinkLost, NetlinkRefused."""
        if family not in self._rules:
            rules = self._session.rules(family)
            self._rules[family] = sorted(rules, key=lambda rule: rule.priority)
        return self._rules[family]

    def _neighbour(self, answer: RouteResult) -> str:
        route, link = answer.route, answer.link
        if route is None or link is None or answer.is_local or link.loopback:
            return ""
        hop = route.hops[0] if route.hops else None
        next_address = (hop.gateway if hop else route.gateway) or answer.question.destination
        for entry in self._session.neighbours(next_address.family):
            if (entry.address, entry.link) == (next_address, link.ifindex):
                return _neighbour_text(entry)
        return f"no neighbour entry for {format_address(*next_address)}"


def rule_of(
    rules: Sequence[RoutingRule], question: RouteLookup, table: int, links: dict[int, Link]
) -> RoutingRule | None:
    """The first rule that matches the packet and leads to ``table``.

    The kernel does not report this rule, so the rules are searched by priority.
    """
    # The incoming interface of a packet from this stack is ``lo``.
    incoming = links[question.incoming].name if question.incoming in links else "lo"
    for rule in rules:
        is_match = (
            rule.table == table
            and (rule.source is None or _selects(rule, question.source, of_source=True))
            and (rule.destination is None or _selects(rule, question.destination, of_source=False))
            and (not rule.mark or question.mark & (rule.mask or ALL_BITS) == rule.mark)
            and rule.incoming in ("", incoming)
        )
        if is_match:
            return rule
    return None


def table_name(number: int) -> str:
    """The name of a routing table, or its number."""
    return TABLES.get(number, str(number))


def rule_text(rule: RoutingRule | None) -> str:
    """The rule in the style of ``ip rule``; "" for None."""
    if rule is None:
        return ""
    parts = [f"{rule.priority}:"]
    parts += [f"from {_prefix(rule.source)}"] if rule.source else []
    parts += [f"to {_prefix(rule.destination)}"] if rule.destination else []
    parts += [f"fwmark {rule.mark:#x}"] if rule.mark else []
    parts += [f"iif {rule.incoming}"] if rule.incoming else []
    return " ".join((*parts, f"lookup {table_name(rule.table)}"))


def route_text(answer: RouteResult) -> str:
    """The route in the style of ``ip route``; "" if there is none."""
    route = answer.route
    if route is None:
        return ""
    hop = route.hops[0] if route.hops else None
    gateway = hop.gateway if hop else route.gateway
    parts = [_ROUTE_TYPES[route.kind]] if route.kind in _ROUTE_TYPES else []
    parts.append("default" if route.is_default else _prefix(route.destination))
    parts += [f"via {format_address(*gateway)}"] if gateway else []
    parts += [f"dev {answer.link.name}"] if answer.link else []
    return " ".join(parts)


def _prefix(cidr: Cidr) -> str:
    text = format_address(cidr.family, cidr.first)
    address_bits = 32 if cidr.family == 4 else 128
    return text if cidr.prefix_length == address_bits else f"{text}/{cidr.prefix_length}"


def _selects(rule: RoutingRule, address: Address | None, *, of_source: bool) -> bool:
    cidr = rule.source if of_source else rule.destination
    return cidr is not None and address is not None and cidr.first <= address.value <= cidr.last


def _neighbour_text(entry: Neighbour) -> str:
    state = _NEIGHBOUR_STATES.get(entry.state, f"state {entry.state:#x}")
    return f"{mac_text(entry.mac)} {state}" if entry.mac else state


def namespace_of(pod: str, containers: Collection[str], datapath: Path) -> str:
    """The path of the Pod's network namespace. Raises DatapathError.

    ``datapath`` is the directory of attachment records.
    """
    for record in AttachmentRecords(datapath).all():
        if record.container in containers:
            return record.netns
    raise DatapathError(
        f"the coordinator of this node has no record of Pod {pod} in {datapath}",
        subject="trace-path",
        remedy="run this command on the Pod's node, or pass the Pod's network namespace (--netns)",
    )
