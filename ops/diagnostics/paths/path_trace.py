"""Traces packets between a Pod and a destination, through the network stacks of Pod and node.

The legs of a trace are

    there   a packet from the Pod to the destination
    back    the reply to this packet
    marked  a reply of the Pod to a packet that arrived through the node;
            one leg for each firewall mark in the Pod's rules
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from core.domain.addresses.ip_address import Address, format_address
from nodeagent.netlink.requests import RouteLookup
from nodeagent.netlink.values import Link
from ops.diagnostics.paths.route_lookup import RouteResult, Stack

VETH: Final = "veth"
CHILD_KINDS: Final = ("macvlan", "ipvlan", "vlan")
"""The parent of such a link is a link of the node."""

ExitPath = Literal["nowhere", "itself", "node", "by node", "by nic"]
"""Where a packet goes. ``node``: to the node. ``by node``: through it. ``by nic``: past it."""


class PathHop(NamedTuple):
    """One network stack and its decision about the packet."""

    stack: str
    packet: str
    answer: RouteResult


class PathLeg(NamedTuple):
    """One leg of a trace. ``end``: what happens to the packet after the last hop."""

    name: str
    hops: tuple[PathHop, ...]
    end: str


class _Departure(NamedTuple):
    """A leg from the Pod. ``link``: where the packet leaves the Pod (``by nic``) or the node."""

    leg: PathLeg
    exit_path: ExitPath
    source: Address | None = None
    link: Link | None = None


def legs(pod: Stack, node: Stack, destination: Address) -> list[PathLeg]:
    """Trace all legs. Raises NetlinkLost, NetlinkRefused."""
    departure = _from_pod("there", pod, node, RouteLookup(destination))
    result = [departure.leg]
    if departure.source is None:
        return result
    back = _back(pod, node, departure, departure.source, destination)
    result += [back] if back is not None else []
    for mark in dict.fromkeys(rule.mark for rule in pod.rules(destination.family) if rule.mark):
        question = RouteLookup(destination, departure.source, mark=mark)
        result.append(_from_pod("marked", pod, node, question).leg)
    return result


def _from_pod(name: str, pod: Stack, node: Stack, question: RouteLookup) -> _Departure:
    if question.source is None:
        # The order of connect(): first the source address, then the route for that source.
        source = pod.ask(question).source
        question = question._replace(source=source)
    answer = pod.ask(question)
    hops = [_hop(pod, answer)]
    source, link = question.source, answer.link
    if answer.why_not or link is None:
        return _Departure(
            PathLeg(name, tuple(hops), answer.why_not or "not sent"), "nowhere", source
        )
    if answer.is_local:
        return _Departure(PathLeg(name, tuple(hops), "arrives in the Pod itself"), "itself", source)
    peer = _veth_peer(link, node)
    if peer is None:
        return _Departure(
            PathLeg(name, tuple(hops), _end_by_nic(link, node)), "by nic", source, link
        )
    onward = node.ask(RouteLookup(question.destination, source, incoming=peer.ifindex))
    hops.append(_hop(node, onward))
    return _through_node(name, hops, onward, source)


def _through_node(
    name: str, hops: list[PathHop], onward: RouteResult, source: Address | None
) -> _Departure:
    if onward.why_not or onward.link is None:
        return _Departure(
            PathLeg(name, tuple(hops), onward.why_not or "not sent"), "nowhere", source
        )
    if onward.is_local:
        return _Departure(PathLeg(name, tuple(hops), "arrives at the node"), "node", source)
    end = f"leaves the node by {onward.link.name}"
    return _Departure(PathLeg(name, tuple(hops), end), "by node", source, onward.link)


def _back(
    pod: Stack,
    node: Stack,
    departure: _Departure,
    source: Address,
    destination: Address,
) -> PathLeg | None:
    """The leg of the reply; None if the packet did not leave the Pod."""
    link, exit_path = departure.link, departure.exit_path
    if exit_path in ("nowhere", "itself"):
        return None
    if exit_path == "by nic":
        assert link is not None
        return _into_pod([], pod, RouteLookup(source, destination, incoming=link.ifindex))
    incoming = link.ifindex if exit_path == "by node" and link is not None else 0
    answer = node.ask(RouteLookup(source, destination, incoming=incoming))
    hops = [_hop(node, answer)]
    if answer.why_not or answer.link is None:
        return PathLeg("back", tuple(hops), answer.why_not or "not sent")
    pod_link = _veth_peer(answer.link, pod)
    if pod_link is not None:
        reply = RouteLookup(source, destination, incoming=pod_link.ifindex)
        return _into_pod(hops, pod, reply)
    parents = {link.parent for link in pod.links.values() if link.kind in CHILD_KINDS}
    if answer.link.ifindex in parents:
        end = f"lost: the node cannot reach the child interfaces of {answer.link.name}"
        return PathLeg("back", tuple(hops), end)
    return PathLeg("back", tuple(hops), f"leaves the node by {answer.link.name}")


def _into_pod(hops: list[PathHop], pod: Stack, question: RouteLookup) -> PathLeg:
    answer = pod.ask(question)
    end = answer.why_not or ("arrives in the Pod" if answer.is_local else "not the Pod's address")
    return PathLeg("back", (*hops, _hop(pod, answer)), end)


def _veth_peer(link: Link, stack: Stack) -> Link | None:
    """The peer in ``stack``; None unless both links form a veth pair."""
    # The ``parent`` of a veth is the index of its peer.
    peer = stack.links.get(link.parent) if link.kind == VETH else None
    is_pair = peer is not None and peer.kind == VETH and peer.parent == link.ifindex
    return peer if is_pair else None


def _end_by_nic(link: Link, node: Stack) -> str:
    master = node.links.get(link.parent) if link.kind in CHILD_KINDS else None
    if master is None:
        return f"leaves by {link.name}"
    return f"leaves by {link.name} onto the network of {master.name}, past the node"


def _hop(stack: Stack, answer: RouteResult) -> PathHop:
    question = answer.question
    source = format_address(*question.source) if question.source else "?"
    parts = [f"{source} → {format_address(*question.destination)}"]
    if question.incoming:
        parts.append(f"in by {stack.links[question.incoming].name}")
    if question.mark:
        parts.append(f"mark {question.mark:#x}")
    return PathHop(stack.name, ", ".join(parts), answer)
