"""Routes of a Pod: parses the annotation, distributes routes to NICs, lists routes for a result.

Routes of the annotation stay as written, with host bits, duplicates and default routes. An endpoint
does not store the default route through the gateway; ``result_routes`` adds it unless
``Nic.clean_gateway`` is set. Order in a result: IPv4 before IPv6; in a family, routes of the pool,
of the annotation, the default route.

See docs/reference/pool-selection.md, "Routes".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from core.domain.addresses.ip_address import (
    AddressSyntaxError,
    Cidr,
    parse_address,
    parse_cidr,
)
from core.domain.model import Nic, Pool, Route
from core.domain.request_facts import PodFacts
from core.domain.selection import jsontext
from core.domain.selection.pool_annotations import invalid_pod_annotation
from core.errors import BadInput

POD_ROUTES: Final = "ipam.spidernet.io/routes"
ROUTES_MAX: Final = 256
"""Limit of routes in one annotation: each event of the endpoint stores all routes."""

DEFAULT_IPV4: Final = "0.0.0.0/0"
DEFAULT_IPV6: Final = "::/0"


def requested_routes(pod: PodFacts) -> tuple[Route, ...]:
    """The routes of the Pod's annotation. Raises WrongInput."""
    if POD_ROUTES not in pod.annotations:
        return ()
    try:
        return _parse_routes(pod.annotations[POD_ROUTES])
    except BadInput as error:
        raise invalid_pod_annotation(pod, POD_ROUTES, error.message) from None


def distribute_routes(
    nics: Sequence[Nic], pools: Mapping[str, Pool], requested: Iterable[Route]
) -> list[Nic]:
    """Add the routes of the pools, then the routes of the annotation, to the NICs.

    A route of the annotation goes to the first NIC whose subnet contains the route's gateway;
    without such a NIC, the route is dropped (``unmatched_routes``). ``pools`` has every pool of the
    NICs.
    """
    requested = tuple(requested)
    # Two lists for each NIC, in the order of ``_nic_subnets``.
    routes = [
        list(pools[pool].routes or ()) if pool else []
        for nic in nics
        for pool in (nic.ipv4_pool, nic.ipv6_pool)
    ]
    if requested:
        subnets = list(_nic_subnets(nics))
        for route in requested:
            index = _subnet_index(route, subnets)
            if index is not None:
                routes[index].append(route)
    return [
        nic._replace(routes=(*routes[2 * index], *routes[2 * index + 1]))
        for index, nic in enumerate(nics)
    ]


def unmatched_routes(nics: Sequence[Nic], requested: Iterable[Route]) -> tuple[Route, ...]:
    """The requested routes whose gateway is in no subnet of these NICs."""
    requested = tuple(requested)
    if not requested:
        return ()
    subnets = list(_nic_subnets(nics))
    return tuple(route for route in requested if _subnet_index(route, subnets) is None)


def result_routes(nic: Nic) -> tuple[Route, ...]:
    """The routes of a NIC, with default routes, in the order of an ADD result."""
    ipv4_routes = [route for route in nic.routes if not _is_ipv6(route)]
    ipv6_routes = [route for route in nic.routes if _is_ipv6(route)]
    return (
        *ipv4_routes,
        *_default_route(nic, nic.ipv4, nic.ipv4_gateway, DEFAULT_IPV4),
        *ipv6_routes,
        *_default_route(nic, nic.ipv6, nic.ipv6_gateway, DEFAULT_IPV6),
    )


def _default_route(nic: Nic, address: str, gateway: str, destination: str) -> Iterator[Route]:
    if address and gateway and not nic.clean_gateway:
        yield Route(destination, gateway)


def _is_ipv6(route: Route) -> bool:
    """Whether the destination is written as IPv6, IPv4-mapped texts included; for sorting only."""
    return ":" in route.dst


def _nic_subnets(nics: Sequence[Nic]) -> Iterator[Cidr | None]:
    """Two subnets for each NIC, IPv4 then IPv6; None if the NIC has no address of the family."""
    for nic in nics:
        for cidr in (nic.ipv4, nic.ipv6):
            yield parse_cidr(cidr) if cidr else None


def _subnet_index(route: Route, subnets: list[Cidr | None]) -> int | None:
    family, gateway = parse_address(route.gw)
    for index, subnet in enumerate(subnets):
        if subnet and subnet.family == family and subnet.first <= gateway <= subnet.last:
            return index
    return None


def _parse_routes(document: str) -> tuple[Route, ...]:
    entries = jsontext.items(jsontext.parse(document), "value")
    if len(entries) > ROUTES_MAX:
        raise BadInput(f"{len(entries)} routes, at most {ROUTES_MAX} are possible")
    return tuple(_parse_route(entry) for entry in entries)


def _parse_route(entry: object) -> Route:
    value = jsontext.members(entry, "each route")
    route = Route(jsontext.text(value.get("dst"), "dst"), jsontext.text(value.get("gw"), "gw"))
    try:
        destination = parse_cidr(route.dst)
        gateway = parse_address(route.gw)
    except AddressSyntaxError as error:
        raise BadInput(f"route {route.dst} via {route.gw}: {error}") from None
    if destination.family != gateway.family:
        raise BadInput(f"route {route.dst} via {route.gw} mixes IPv4 and IPv6")
    return route
