"""Routes of a Pod: those of the annotation, their NICs, and the routes in the result of an ADD.

See docs/reference/pool-selection.md, "Routes" and docs/reference/annotations.md, "Annotations of
Pods". Texts stay as written: host bits, duplicates and a default route by annotation are kept. A
first and a repeated ADD return the same order: for each NIC IPv4 before IPv6, and in each family
the pool's routes, the annotation's, then the default route by the gateway. An endpoint stores the
first two; the default route follows from its gateway and ``clean_gateway``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from core.domain.addresses import ip_address as addresses
from core.domain.addresses.ip_address import AddressSyntaxError, Cidr
from core.domain.facts import PodFacts
from core.domain.model import Nic, Pool, Route
from core.domain.selection import jsontext
from core.domain.selection.annotations import invalid_pod_annotation
from core.errors import BadInput

POD_ROUTES: Final = "ipam.spidernet.io/routes"
ROUTES_MAX: Final = 256
"""Routes of one annotation: they are stored in the endpoint and repeated in its events."""

DEFAULT_IPV4: Final = "0.0.0.0/0"
DEFAULT_IPV6: Final = "::/0"


def requested_routes(pod: PodFacts) -> tuple[Route, ...]:
    """The routes of the Pod's annotation, as written. Raises WrongInput."""
    if POD_ROUTES not in pod.annotations:
        return ()
    try:
        return _read(pod.annotations[POD_ROUTES])
    except BadInput as error:
        raise invalid_pod_annotation(pod, POD_ROUTES, error.message) from None


def distribute_routes(
    nics: Sequence[Nic], pools: Mapping[str, Pool], requested: Iterable[Route]
) -> list[Nic]:
    """Add to the NICs the routes of their pools, then those of the Pod's annotation.

    A route of the annotation goes to the first NIC with an address whose subnet has the gateway;
    without such a NIC it is dropped (``unmatched_routes``). ``pools`` has every pool of the NICs.
    """
    requested = tuple(requested)
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
    """The requested routes whose gateway is in no subnet of these NICs, to be logged."""
    requested = tuple(requested)
    if not requested:
        return ()
    subnets = list(_nic_subnets(nics))
    return tuple(route for route in requested if _subnet_index(route, subnets) is None)


def answer_routes(nic: Nic) -> tuple[Route, ...]:
    """All routes of a stored NIC, the default ones included, in the order of an answer."""
    stored: tuple[list[Route], list[Route]] = ([], [])
    for route in nic.routes:
        stored[_is_ipv6(route)].append(route)
    return (
        *stored[False],
        *_default_route(nic, nic.ipv4, nic.ipv4_gateway, DEFAULT_IPV4),
        *stored[True],
        *_default_route(nic, nic.ipv6, nic.ipv6_gateway, DEFAULT_IPV6),
    )


def _default_route(nic: Nic, address: str, gateway: str, destination: str) -> Iterator[Route]:
    if address and gateway and not nic.clean_gateway:
        yield Route(destination, gateway)


def _is_ipv6(route: Route) -> bool:
    """By spelling, which is right for all but IPv4-mapped texts, and those only change places."""
    return ":" in route.dst


def _nic_subnets(nics: Sequence[Nic]) -> Iterator[Cidr | None]:
    """The subnets of each NIC, IPv4 then IPv6, None where it has no such address."""
    for nic in nics:
        for cidr in (nic.ipv4, nic.ipv6):
            yield addresses.parse_cidr(cidr) if cidr else None


def _subnet_index(route: Route, subnets: list[Cidr | None]) -> int | None:
    family, gateway = addresses.parse_address(route.gw)
    for index, subnet in enumerate(subnets):
        if subnet and subnet.family == family and subnet.first <= gateway <= subnet.last:
            return index
    return None


def _read(document: str) -> tuple[Route, ...]:
    entries = jsontext.items(jsontext.parse(document), "value")
    if len(entries) > ROUTES_MAX:
        raise BadInput(f"{len(entries)} routes, at most {ROUTES_MAX} are possible")
    return tuple(_read_one(entry) for entry in entries)


def _read_one(entry: object) -> Route:
    value = jsontext.members(entry, "each route")
    route = Route(jsontext.text(value.get("dst"), "dst"), jsontext.text(value.get("gw"), "gw"))
    try:
        subnet = addresses.parse_cidr(route.dst)
        gateway = addresses.parse_address(route.gw)
    except AddressSyntaxError as error:
        raise BadInput(f"route {route.dst} via {route.gw}: {error}") from None
    if subnet.family != gateway.family:
        raise BadInput(f"route {route.dst} via {route.gw} mixes IPv4 and IPv6")
    return route
