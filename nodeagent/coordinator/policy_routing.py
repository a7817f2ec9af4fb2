"""Policy routing between a Pod's NICs: the default route of the table main, rules by source. Pure.

See docs/reference/coordinator.md, "Tuning of routes". The routes of one NIC, the mover, go to its
own table, which rules select by source address; main keeps one default route and every connected
network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from core.domain.addresses.ip_address import Cidr
from core.errors import BadInput
from nodeagent.coordinator.facts import PodStack
from nodeagent.coordinator.modes import REPLY_TABLE, NicSetup
from nodeagent.coordinator.priorities import Priorities
from nodeagent.coordinator.settings import CoordinatorSettings
from nodeagent.coordinator.steps import PlanStep, route_gone_step, route_step, rule_step
from nodeagent.netlink import requests
from nodeagent.netlink.numbers import RTPROT_BOOT
from nodeagent.netlink.values import Hop, KernelRoute, Link, host_prefix

_LINK_LOCAL: Final = Cidr(6, 0xFE80 << 112, (0xFE80 << 112) | (1 << 64) - 1, 64, 0xFE80 << 112)


def tuned(
    settings: CoordinatorSettings,
    decision: NicSetup,
    pod: PodStack,
    priorities: Priorities,
    expected: frozenset[str],
) -> Iterator[PlanStep]:
    """The steps; none if no other NIC has a default route.

    Raises BadInput if the default-route NIC does not exist and is not expected.
    """
    default = default_nic(pod)
    configured = settings.default_route_nic
    if default is None:
        return
    if configured and pod.link(configured) is None:
        if configured not in expected:
            raise BadInput(
                f"podDefaultRouteNIC: {configured} don't exist in pod",
                subject="podDefaultRouteNIC",
                remedy="name a NIC of this Pod in ipam.spidernet.io/default-route-nic",
            )
        # It takes over main's default route when it is added.
        configured = ""
    mover = pod.interface if configured in ("", default.name) else default
    if configured == pod.interface.name:
        yield from _rules(pod, default, decision.table, priorities)
    else:
        yield from _rules(pod, pod.interface, decision.table, priorities)
        if decision.mode == "overlay" and decision.first:
            yield from _rules(pod, default, REPLY_TABLE, priorities)
            yield from _copied_defaults(settings, pod)
    yield from _moved(pod, mover, decision.table)


def default_nic(pod: PodStack) -> Link | None:
    """The first other NIC, by interface index, with a default route in main."""
    with_default = {number for route in _of_call(pod) if route.is_default for number in route.links}
    others = [
        link
        for link in pod.links
        if link.ifindex in with_default
        and not link.loopback
        and link.ifindex != pod.interface.ifindex
    ]
    return min(others, default=None)


def _of_call(pod: PodStack) -> Iterator[KernelRoute]:
    return (route for route in pod.routes if route.family in pod.families)


def _rules(pod: PodStack, link: Link, table: int, priorities: Priorities) -> Iterator[PlanStep]:
    for address in pod.addresses_of(link.ifindex):
        if address.family in pod.families:
            yield rule_step(priorities.next(host_prefix(address), table))


def _copied_defaults(settings: CoordinatorSettings, pod: PodStack) -> Iterator[PlanStep]:
    first = pod.link(settings.first_nic)
    for route in _of_call(pod):
        if route.is_default and first is not None and first.ifindex in route.links:
            yield route_step(_copy(_narrowed(route, first.ifindex), REPLY_TABLE))


def _moved(pod: PodStack, mover: Link, table: int) -> Iterator[PlanStep]:
    """Copies of all routes over a NIC; its default routes leave main."""
    routes = [route for route in _of_call(pod) if mover.ifindex in route.links]
    # Connected networks come first, so that gateways of later routes are reachable.
    for route in sorted(routes, key=lambda route: (route.is_default, route.gateway is not None)):
        if route.destination == _LINK_LOCAL:
            continue
        narrowed = _narrowed(route, mover.ifindex)
        copy = _copy(narrowed, table)
        if route.is_default:
            # The only default route of its table needs no metric; the kernel chooses its source.
            yield route_step(copy._replace(source=None, metric=0))
            yield from _without(route, narrowed, mover.ifindex)
        else:
            yield route_step(copy)


def _narrowed(route: KernelRoute, link: int) -> KernelRoute:
    """The next hop of a route over a link, as a route."""
    for hop in route.hops:
        if hop.link == link:
            return route._replace(link=link, gateway=hop.gateway, flags=hop.flags, hops=())
    return route


def _without(route: KernelRoute, narrowed: KernelRoute, link: int) -> Iterator[PlanStep]:
    """Remove one next hop from a route of main."""
    left = tuple(hop for hop in route.hops if hop.link != link)
    if not left:
        yield route_gone_step(route)
    elif route.family == 6:
        # The kernel stores each next hop of an IPv6 route as a route.
        yield route_gone_step(narrowed)
    else:
        yield PlanStep(requests.replace_route(_of_hops(route, left)), requests.replace_route(route))


def _of_hops(route: KernelRoute, hops: tuple[Hop, ...]) -> KernelRoute:
    if len(hops) > 1:
        return route._replace(hops=hops)
    (hop,) = hops
    return route._replace(link=hop.link, gateway=hop.gateway, flags=hop.flags, hops=())


def _copy(route: KernelRoute, table: int) -> KernelRoute:
    source = route.source if route.family == 4 else None
    return route._replace(table=table, protocol=RTPROT_BOOT, source=source)
