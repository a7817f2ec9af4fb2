"""Traces a packet from network stack to network stack, between a Pod and a destination.

There are three legs: **there**, from the Pod; **back**, on the path by which the packet left; and
**marked**, the Pod's reply to a packet that arrived through the node. A leg ends where the packet
arrives, is dropped, or leaves the node. It reads only routes and rules, through ``NetworkStack``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, Protocol

from core.domain.addresses.ip_address import Address, Family, format_address
from nodeagent.netlink.requests import RouteLookup
from nodeagent.netlink.values import Link, RoutingRule
from ops.diagnostics.paths.route_lookup import RouteResult

VETH: Final = "veth"
ABOVE: Final = ("macvlan", "ipvlan", "vlan")
"""Kinds of links that are children of one of the node's."""

Way = Literal["nowhere", "itself", "node", "by node", "by nic"]


class NetworkStack(Protocol):
    """A network stack with route lookups (``route_lookup.Stack``)."""

    name: str
    links: dict[int, Link]

    def ask(self, question: RouteLookup) -> RouteResult:
        """The kernel's decision about this packet."""
        ...

    def rules(self, family: Family) -> Sequence[RoutingRule]:
        """Its rules, in their order."""
        ...


class PathHop(NamedTuple):
    """One stack on the path, and its decision."""

    stack: str
    packet: str
    answer: RouteResult


class PathSegment(NamedTuple):
    """One leg. ``end``: what happens to the packet at its end."""

    name: str
    stops: tuple[PathHop, ...]
    end: str


class _Left(NamedTuple):
    """How packets left the Pod: ``link`` is the Pod's, or the node's for ``by node``."""

    leg: PathSegment
    way: Way
    source: Address | None = None
    link: Link | None = None


def legs(pod: NetworkStack, node: NetworkStack, destination: Address) -> list[PathSegment]:
    """All legs between a Pod and a destination. Raises NetlinkLost, NetlinkRefused."""
    left = _from_pod("there", pod, node, RouteLookup(destination))
    segments = [left.leg]
    if left.source is None:
        return segments
    back = _back(pod, node, left, left.source, destination)
    segments += [back] if back is not None else []
    for mark in dict.fromkeys(rule.mark for rule in pod.rules(destination.family) if rule.mark):
        question = RouteLookup(destination, left.source, mark=mark)
        segments.append(_from_pod("marked", pod, node, question).leg)
    return segments


def _from_pod(name: str, pod: NetworkStack, node: NetworkStack, question: RouteLookup) -> _Left:
    if question.source is None:
        # As connect() does: first the source address, then the route for that source.
        source = pod.ask(question).source
        question = question._replace(source=source)
    answer = pod.ask(question)
    stops = [_stop(pod, answer)]
    source, link = question.source, answer.link
    if answer.why_not or link is None:
        return _Left(
            PathSegment(name, tuple(stops), answer.why_not or "not sent"), "nowhere", source
        )
    if answer.is_local:
        return _Left(PathSegment(name, tuple(stops), "arrives in the Pod itself"), "itself", source)
    peer = far_end(link, node)
    if peer is None:
        return _Left(PathSegment(name, tuple(stops), _out(link, node)), "by nic", source, link)
    onward = node.ask(RouteLookup(question.destination, source, peer.ifindex))
    stops.append(_stop(node, onward))
    return _through_node(name, stops, onward, source)


def _through_node(
    name: str, stops: list[PathHop], onward: RouteResult, source: Address | None
) -> _Left:
    if onward.why_not or onward.link is None:
        return _Left(
            PathSegment(name, tuple(stops), onward.why_not or "not sent"), "nowhere", source
        )
    if onward.is_local:
        return _Left(PathSegment(name, tuple(stops), "arrives at the node"), "node", source)
    end = f"leaves the node by {onward.link.name}"
    return _Left(PathSegment(name, tuple(stops), end), "by node", source, onward.link)


def _back(
    pod: NetworkStack, node: NetworkStack, left: _Left, source: Address, destination: Address
) -> PathSegment | None:
    """The leg of replies to the packet of ``left``."""
    if left.way in ("nowhere", "itself"):
        return None
    if left.way == "by nic":
        assert left.link is not None
        return _into_pod([], pod, RouteLookup(source, destination, left.link.ifindex))
    incoming = left.link.ifindex if left.way == "by node" and left.link is not None else 0
    answer = node.ask(RouteLookup(source, destination, incoming))
    stops = [_stop(node, answer)]
    if answer.why_not or answer.link is None:
        return PathSegment("back", tuple(stops), answer.why_not or "not sent")
    inner = near_end(answer.link, pod)
    if inner is not None:
        return _into_pod(stops, pod, RouteLookup(source, destination, inner.ifindex))
    parents = {link.parent for link in pod.links.values() if link.kind in ABOVE}
    if answer.link.ifindex in parents:
        end = f"lost: {answer.link.name} does not reach the interfaces whose master it is"
        return PathSegment("back", tuple(stops), end)
    return PathSegment("back", tuple(stops), f"leaves the node by {answer.link.name}")


def _into_pod(stops: list[PathHop], pod: NetworkStack, question: RouteLookup) -> PathSegment:
    answer = pod.ask(question)
    end = answer.why_not or ("arrives in the Pod" if answer.is_local else "not the Pod's address")
    return PathSegment("back", (*stops, _stop(pod, answer)), end)


def far_end(link: Link, node: NetworkStack) -> Link | None:
    """The node's end of a Pod's link; None: it is not a veth to the node."""
    peer = node.links.get(link.parent) if link.kind == VETH else None
    both = peer is not None and peer.kind == VETH and peer.parent == link.ifindex
    return peer if both else None


def near_end(link: Link, pod: NetworkStack) -> Link | None:
    """The Pod's end of a link of the node; None: it is not a veth to this Pod."""
    inner = pod.links.get(link.parent) if link.kind == VETH else None
    both = inner is not None and inner.kind == VETH and inner.parent == link.ifindex
    return inner if both else None


def _out(link: Link, node: NetworkStack) -> str:
    master = node.links.get(link.parent) if link.kind in ABOVE else None
    if master is None:
        return f"leaves by {link.name}"
    return f"leaves by {link.name} onto the network of {master.name}, past the node"


def _stop(stack: NetworkStack, answer: RouteResult) -> PathHop:
    question = answer.question
    source = format_address(*question.source) if question.source else "?"
    parts = [f"{source} → {format_address(*question.destination)}"]
    if question.incoming:
        parts.append(f"in by {stack.links[question.incoming].name}")
    if question.mark:
        parts.append(f"mark {question.mark:#x}")
    return PathHop(stack.name, ", ".join(parts), answer)
