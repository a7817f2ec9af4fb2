"""Policy routing between NICs (docs/reference/coordinator.md, "Tuning of routes"). Pure.

The routes of one NIC are copied from table main to another table, and the NIC's default routes are
removed from main. Another NIC's default route stays in main. Rules select a table by source
address.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from core.domain.addresses.ip_address import Cidr
from core.errors import BadInput
from nodeagent.coordinator.attachment_steps import (
    PlanStep,
    remove_route_step,
    route_step,
    rule_step,
)
from nodeagent.coordinator.modes import REPLY_TABLE, NicSetup
from nodeagent.coordinator.network_stacks import PodStack
from nodeagent.coordinator.rule_priorities import Priorities
from nodeagent.coordinator.settings import CoordinatorSettings
from nodeagent.netlink import requests
from nodeagent.netlink.numbers import RTPROT_BOOT
from nodeagent.netlink.values import Hop, KernelRoute, Link, host_prefix

_LINK_LOCAL: Final = Cidr(6, 0xFE80 << 112, (0xFE80 << 112) | (1 << 64) - 1, 64, 0xFE80 << 112)


def tuning_steps(
    settings: CoordinatorSettings,
    decision: NicSetup,
    pod: PodStack,
    priorities: Priorities,
    expected_nics: frozenset[str],
) -> Iterator[PlanStep]:
    """The steps of the tuning; no steps if ``current_default_nic`` returns None.

    ``expected_nics``: NICs that the Pod gets later. Raises BadInput if the default-route NIC
    neither exists nor is expected.
    """
    default_nic = current_default_nic(pod)
    configured_nic = settings.default_route_nic
    if default_nic is None:
        return
    if configured_nic and pod.link(configured_nic) is None:
        if configured_nic not in expected_nics:
            raise BadInput(  # users may match Spiderpool's text
                f"podDefaultRouteNIC: {configured_nic} don't exist in pod",
                subject="podDefaultRouteNIC",
                remedy="name a NIC of this Pod in ipam.spidernet.io/default-route-nic",
            )
        # The ADD of the configured NIC will change the default route of main.
        configured_nic = ""
    # One of two NICs keeps its default route in main. The routes of the other NIC are moved.
    moved_nic = pod.interface if configured_nic in ("", default_nic.name) else default_nic
    if configured_nic == pod.interface.name:
        yield from _source_rules(pod, default_nic, decision.table, priorities)
    else:
        yield from _source_rules(pod, pod.interface, decision.table, priorities)
        if decision.mode == "overlay" and decision.first:
            yield from _source_rules(pod, default_nic, REPLY_TABLE, priorities)
            yield from _copied_default_routes(settings, pod)
    yield from _move_routes(pod, moved_nic, decision.table)


def current_default_nic(pod: PodStack) -> Link | None:
    """Another NIC than that of this call, with a default route in main; None if there is none.

    Of several NICs, the NIC with the lowest interface index is returned.
    """
    default_routes = [route for route in _routes_of_families(pod) if route.is_default]
    with_default = {ifindex for route in default_routes for ifindex in route.links}
    other_nics = [
        link
        for link in pod.links
        if link.ifindex in with_default
        and not link.loopback
        and link.ifindex != pod.interface.ifindex
    ]
    return min(other_nics, default=None)


def _routes_of_families(pod: PodStack) -> Iterator[KernelRoute]:
    return (route for route in pod.routes if route.family in pod.families)


def _source_rules(
    pod: PodStack, link: Link, table: int, priorities: Priorities
) -> Iterator[PlanStep]:
    for address in pod.addresses_of(link.ifindex):
        if address.family in pod.families:
            yield rule_step(priorities.source_rule(host_prefix(address), table))


def _copied_default_routes(settings: CoordinatorSettings, pod: PodStack) -> Iterator[PlanStep]:
    first = pod.link(settings.first_nic)
    for route in _routes_of_families(pod):
        if route.is_default and first is not None and first.ifindex in route.links:
            yield route_step(_copy(_narrowed(route, first.ifindex), REPLY_TABLE))


def _move_routes(pod: PodStack, nic: Link, table: int) -> Iterator[PlanStep]:
    routes = [route for route in _routes_of_families(pod) if nic.ifindex in route.links]
    # Connected networks come first, so that gateways of later routes are reachable.
    for route in sorted(routes, key=lambda route: (route.is_default, route.gateway is not None)):
        if route.destination == _LINK_LOCAL:
            continue
        narrowed_route = _narrowed(route, nic.ifindex)
        copy = _copy(narrowed_route, table)
        if route.is_default:
            # A table with one default route needs no metric. The kernel sets the source.
            yield route_step(copy._replace(source=None, metric=0))
            yield from _remove_next_hop(route, narrowed_route, nic.ifindex)
        else:
            yield route_step(copy)


def _narrowed(route: KernelRoute, link: int) -> KernelRoute:
    """The route with only the next hop over this link."""
    for hop in route.hops:
        if hop.link == link:
            return route._replace(link=link, gateway=hop.gateway, flags=hop.flags, hops=())
    return route


def _remove_next_hop(
    route: KernelRoute, narrowed_route: KernelRoute, link: int
) -> Iterator[PlanStep]:
    """Remove the next hop over ``link`` from a route of main."""
    other_hops = tuple(hop for hop in route.hops if hop.link != link)
    if not other_hops:
        yield remove_route_step(route)
    elif route.family == 6:
        # The kernel stores each next hop of an IPv6 route as a separate route.
        yield remove_route_step(narrowed_route)
    else:
        replacement = _with_hops(route, other_hops)
        yield PlanStep(requests.replace_route(replacement), requests.replace_route(route))


def _with_hops(route: KernelRoute, hops: tuple[Hop, ...]) -> KernelRoute:
    if len(hops) > 1:
        return route._replace(hops=hops)
    (hop,) = hops
    return route._replace(link=hop.link, gateway=hop.gateway, flags=hop.flags, hops=())


def _copy(route: KernelRoute, table: int) -> KernelRoute:
    source = route.source if route.family == 4 else None
    return route._replace(table=table, protocol=RTPROT_BOOT, source=source)
