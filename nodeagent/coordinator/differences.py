"""The kernel against what an ADD has done: CHECK's differences, each in words.

A record holds requests as bytes, and the kernel's own reader understands them: what a request would
add must be there, what it would remove must not. Promise: one listing for each kind and family that
is needed. It repairs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Address, Cidr, Family
from nodeagent.coordinator.steps import PlanStep
from nodeagent.netlink import numbers as n
from nodeagent.netlink import replies
from nodeagent.netlink.session import NetlinkSession
from nodeagent.netlink.values import KernelRoute, Mac, Neighbour, RoutingRule

_ROUTES: Final = (n.RTM_NEWROUTE, n.RTM_DELROUTE)


class _Way(NamedTuple):
    """What makes a route the same: not its metric and protocol, which the kernel fills in."""

    destination: Cidr
    table: int
    link: int
    gateway: Address | None


class _Owner(NamedTuple):
    link: int
    address: Address
    mac: Mac


def differences(steps: Sequence[PlanStep], session: NetlinkSession) -> list[str]:
    """What is missing, or there although it should not be. Raises as ``NetlinkSession.listing``."""
    routes = [
        (step.do.kind, replies.route(memoryview(step.do.body))) for step in _of(steps, _ROUTES)
    ]
    rules = [replies.rule(memoryview(step.do.body)) for step in _of(steps, (n.RTM_NEWRULE,))]
    entries = [replies.neighbour(memoryview(s.do.body)) for s in _of(steps, (n.RTM_NEWNEIGH,))]
    return [
        *_route_differences(routes, session),
        *_rule_differences(rules, session),
        *_neighbour_differences([entry for entry in entries if entry is not None], session),
    ]


def _of(steps: Iterable[PlanStep], kinds: tuple[int, ...]) -> list[PlanStep]:
    return [step for step in steps if step.do.kind in kinds]


def _route_differences(
    wanted: Sequence[tuple[int, KernelRoute]], session: NetlinkSession
) -> list[str]:
    there: set[_Way] = set()
    for family, table in {(route.family, route.table) for _, route in wanted}:
        for route in session.routes(family, table):
            there.update(_ways(route))
    return [
        f"route {route} is {'there' if way in there else 'missing'}"
        for kind, route in wanted
        for way in _ways(route)
        if (way in there) == (kind == n.RTM_DELROUTE)
    ]


def _ways(route: KernelRoute) -> list[_Way]:
    if not route.hops:
        return [_Way(route.destination, route.table, route.link, route.gateway)]
    return [_Way(route.destination, route.table, hop.link, hop.gateway) for hop in route.hops]


def _rule_differences(wanted: Sequence[RoutingRule], session: NetlinkSession) -> list[str]:
    families: set[Family] = {rule.family for rule in wanted}
    there = {rule for family in families for rule in session.rules(family)}
    return [f"rule {rule} is missing" for rule in wanted if rule not in there]


def _neighbour_differences(wanted: Sequence[Neighbour], session: NetlinkSession) -> list[str]:
    families: set[Family] = {entry.address.family for entry in wanted}
    there = {
        _Owner(entry.link, entry.address, entry.mac)
        for family in families
        for entry in session.neighbours(family)
    }
    return [
        f"neighbour {entry} is missing or has another MAC address"
        for entry in wanted
        if _Owner(entry.link, entry.address, entry.mac) not in there
    ]
