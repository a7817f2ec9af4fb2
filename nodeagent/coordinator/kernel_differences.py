"""Compares the objects in the kernel with the netlink requests of an ADD, for CHECK."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Address, Cidr, Family
from nodeagent.coordinator.attachment_steps import PlanStep
from nodeagent.netlink import numbers as n
from nodeagent.netlink import replies
from nodeagent.netlink.session import NetlinkSession
from nodeagent.netlink.values import KernelRoute, Mac, Neighbour, RoutingRule

_ROUTES: Final = (n.RTM_NEWROUTE, n.RTM_DELROUTE)


class _NextHop(NamedTuple):
    """A next hop of a route, without metric and protocol: the kernel may fill these in."""

    destination: Cidr
    table: int
    link: int
    gateway: Address | None


class _NeighbourKey(NamedTuple):
    link: int
    address: Address
    mac: Mac


def differences(steps: Sequence[PlanStep], session: NetlinkSession) -> list[str]:
    """One text for each object that is missing, and for each that exists but must not.

    Raises the errors of ``NetlinkSession.listing``.
    """
    routes = [
        (step.do.kind, replies.route(memoryview(step.do.body)))
        for step in _steps_of(steps, _ROUTES)
    ]
    rules = [replies.rule(memoryview(step.do.body)) for step in _steps_of(steps, (n.RTM_NEWRULE,))]
    entries = [
        replies.neighbour(memoryview(step.do.body)) for step in _steps_of(steps, (n.RTM_NEWNEIGH,))
    ]
    return [
        *_route_differences(routes, session),
        *_rule_differences(rules, session),
        *_neighbour_differences([entry for entry in entries if entry is not None], session),
    ]


def _steps_of(steps: Iterable[PlanStep], kinds: tuple[int, ...]) -> list[PlanStep]:
    return [step for step in steps if step.do.kind in kinds]


def _route_differences(
    expected: Sequence[tuple[int, KernelRoute]], session: NetlinkSession
) -> list[str]:
    existing: set[_NextHop] = set()
    for family, table in {(route.family, route.table) for _, route in expected}:
        for route in session.routes(family, table):
            existing.update(_next_hops(route))
    return [
        f"route {route} {'must not exist' if hop in existing else 'is missing'}"
        for kind, route in expected
        for hop in _next_hops(route)
        if (hop in existing) == (kind == n.RTM_DELROUTE)
    ]


def _next_hops(route: KernelRoute) -> list[_NextHop]:
    if not route.hops:
        return [_NextHop(route.destination, route.table, route.link, route.gateway)]
    return [_NextHop(route.destination, route.table, hop.link, hop.gateway) for hop in route.hops]


def _rule_differences(expected: Sequence[RoutingRule], session: NetlinkSession) -> list[str]:
    families: set[Family] = {rule.family for rule in expected}
    existing = {rule for family in families for rule in session.rules(family)}
    return [f"rule {rule} is missing" for rule in expected if rule not in existing]


def _neighbour_differences(expected: Sequence[Neighbour], session: NetlinkSession) -> list[str]:
    families: set[Family] = {entry.address.family for entry in expected}
    existing = {
        _NeighbourKey(entry.link, entry.address, entry.mac)
        for family in families
        for entry in session.neighbours(family)
    }
    return [
        f"neighbour {entry} is missing or has another MAC address"
        for entry in expected
        if _NeighbourKey(entry.link, entry.address, entry.mac) not in existing
    ]
