"""The rules of pools and reservations (docs/reference/admission.md).

Rules 2 to 4 of "SpiderIPPool", and "SpiderReservedIP"; rule 5 is in ``subnet_rules``.

As in Spiderpool, a malformed item of ``ips`` is reported at ``spec.subnet``, and destinations of
routes are compared as texts. A stored pool with malformed addresses blocks only changes of pools
with the same CIDR. A reservation may contain claimed addresses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Final

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import (
    AddressSyntaxError,
    Cidr,
    SyntaxFault,
    parse_address,
    parse_cidr,
    parse_range,
)
from core.domain.autopools.pool_names import APPLICATION_KEYS, OWNER_NAME
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.model import Pool, Reservation, Route, Subnet
from core.domain.patterns.labels import problems
from core.domain.validation.common_rules import ObjectReference, shortened
from core.errors import Refusal

CIDRS_CACHED_MAX: Final = 16_384
"""Many, because a new pool is compared with every other pool."""

RANGES_SHOWN_MAX: Final = 4

DEFAULT_ROUTES: Final = ("0.0.0.0/0", "::/0")


def subnet_rule(
    subject: ObjectReference, pool: Pool, pools: Mapping[str, Pool]
) -> Iterator[Refusal]:
    """Rule 2: the CIDR must be canonical, and equal to or disjoint from each other pool's CIDR.

    Pools whose deletion has begun count, too. The first overlapping pool by name is reported.
    """
    fault = next(cidr_rule(subject, pool), None)
    if fault is not None:
        yield fault
        return
    cidr = cidr_of_subnet(pool.subnet)
    overlapping = (
        other.name for other in pools.values() if _differs_and_overlaps(pool, cidr, other)
    )
    name = min(overlapping, default="")
    if name:
        message = f"{cidr} overlaps {pools[name].subnet}, the subnet of SpiderIPPool/{name}"
        remedy = "use exactly that subnet, or one that does not overlap it"
        yield subject.refuse("Invalid", "subnet-overlap", "spec.subnet", message, remedy)


def cidr_rule(subject: ObjectReference, pool: Pool | Subnet) -> Iterator[Refusal]:
    """The CIDR must be canonical and of the object's family."""
    field = "spec.subnet"
    try:
        cidr = cidr_of_subnet(pool.subnet)
    except AddressSyntaxError as error:
        yield subject.refuse("Invalid", "subnet-syntax", field, str(error))
        return
    if cidr.family != pool.family:
        message = f"{pool.subnet} is not an IPv{pool.family} subnet"
        yield subject.refuse("Invalid", "subnet-family", field, message)
    elif pool.subnet != str(cidr):
        message = f"{shortened(pool.subnet)} is not in canonical form"
        yield subject.refuse("Invalid", "subnet-canonical", field, message, f"write {cidr}")


def content_rules(
    subject: ObjectReference, pool: Pool, pools: Mapping[str, Pool]
) -> Iterator[Refusal]:
    """Rules 3 (first refusal only) and 4. The caller must check ``subnet_rule`` first."""
    yield from islice(_address_rules(subject, pool, pools), 1)
    yield from _pod_affinity_rule(subject, pool)


def _address_rules(
    subject: ObjectReference, pool: Pool, pools: Mapping[str, Pool]
) -> Iterator[Refusal]:
    """Rule 3. The caller must stop at the first refusal: each part assumes the earlier parts."""
    cidr = cidr_of_subnet(pool.subnet)
    yield from _items_rule(subject, pool, cidr)
    yield from _disjoint_rule(subject, pool, pools)
    yield from gateway_rule(subject, pool, cidr)
    yield from routes_rule(subject, pool, cidr)


def _items_rule(subject: ObjectReference, pool: Pool, cidr: Cidr) -> Iterator[Refusal]:
    """Rule 3(a)."""
    for path, rule, message in faulty_items(pool, cidr):
        yield subject.refuse("Invalid", rule, "spec.subnet", f"{path}: {message}")


def faulty_items(pool: Pool | Subnet, cidr: Cidr) -> Iterator[tuple[str, str, str]]:
    """Yield (path, rule, message) for every item that is malformed or outside the CIDR."""
    for field, items in (("spec.ips", pool.ips), ("spec.excludeIPs", pool.exclude_ips)):
        for index, text in enumerate(items):
            path = f"{field}[{index}]"
            try:
                item = parse_range(text)
            except AddressSyntaxError as error:
                yield path, "item-syntax", str(error)
                continue
            if item.family != cidr.family or item.first < cidr.first or item.last > cidr.last:
                yield path, "item-outside-subnet", f"{text} is not inside {cidr}"


def _disjoint_rule(
    subject: ObjectReference, pool: Pool, pools: Mapping[str, Pool]
) -> Iterator[Refusal]:
    """Rule 3(b): two pools must not share an address. The first conflict by name is reported."""
    addresses = pool_addresses(pool)
    for name in sorted(other.name for other in pools.values() if other.subnet == pool.subnet):
        if name == pool.name:
            continue
        try:
            common_addresses = addresses & pool_addresses(pools[name])
        except AddressSyntaxError as error:
            message = f"SpiderIPPool/{name} of the same subnet has malformed addresses: {error}"
            remedy = f"correct the addresses of SpiderIPPool/{name}, or delete it"
            yield subject.refuse("Invalid", "pool-unreadable", "spec.subnet", message, remedy)
            return
        if common_addresses:
            message = f"SpiderIPPool/{name} already has {ranges_text(common_addresses)}"
            remedy = "take these addresses out of one of the two pools"
            yield subject.refuse("Forbidden", "addresses-overlap", "spec.ips", message, remedy)
            return


def gateway_rule(subject: ObjectReference, pool: Pool | Subnet, cidr: Cidr) -> Iterator[Refusal]:
    """Rule 3(c): the gateway must be inside the CIDR, but not in the pool."""
    if not pool.gateway:
        return
    message = _fault_of_address(pool.gateway, cidr)
    if message:
        yield subject.refuse("Invalid", "gateway-syntax", "spec.gateway", message)
        return
    gateway = parse_address(pool.gateway).value
    if gateway in AddressSet.from_items(pool.exclude_ips, pool.family):
        return
    for index, text in enumerate(pool.ips):
        _, first, last = parse_range(text)
        if first <= gateway <= last:
            message = f"{text} contains the gateway {pool.gateway}"
            remedy = "remove the gateway from ips, or list it in excludeIPs"
            field = f"spec.ips[{index}]"
            yield subject.refuse("Invalid", "gateway-in-ips", field, message, remedy)
            return


def routes_rule(subject: ObjectReference, pool: Pool | Subnet, cidr: Cidr) -> Iterator[Refusal]:
    """Rule 3(d).

    A destination must be of the CIDR's family and unique, and must not be a default route. A
    gateway must be inside the CIDR.
    """
    destinations: set[str] = set()
    for index, route in enumerate(pool.routes or ()):
        field = f"spec.routes[{index}]"
        message = _fault_of_destination(route, destinations, cidr)
        if message:
            yield subject.refuse("Invalid", "route-dst", f"{field}.dst", message)
        destinations.add(route.dst)
        message = _fault_of_address(route.gw, cidr)
        if message:
            yield subject.refuse("Invalid", "route-gw", f"{field}.gw", message)


def _fault_of_destination(route: Route, destinations: set[str], cidr: Cidr) -> str:
    if route.dst in DEFAULT_ROUTES:
        return f"{route.dst} is the default route: use spec.gateway"
    if route.dst in destinations:
        return f"{shortened(route.dst)} has a route already"
    try:
        family = parse_cidr(route.dst).family
    except AddressSyntaxError as error:
        return str(error)
    if family != cidr.family:
        return f"{route.dst} is not an IPv{cidr.family} destination"
    return ""


def _fault_of_address(text: str, cidr: Cidr) -> str:
    """Why the text is not an address of the CIDR; "" without a fault."""
    try:
        address = parse_address(text)
    except AddressSyntaxError as error:
        return str(error)
    if address.family != cidr.family:
        return f"{text} {SyntaxFault.WRONG_FAMILY}"
    if not cidr.first <= address.value <= cidr.last:
        return f"{text} is not inside {cidr}"
    return ""


def _pod_affinity_rule(subject: ObjectReference, pool: Pool) -> Iterator[Refusal]:
    """Rule 4."""
    selector, field = pool.pod_affinity, "spec.podAffinity"
    if selector is None:
        return
    if OWNER_NAME in pool.labels:
        foreign_labels = sorted(set(selector.match_labels).difference(APPLICATION_KEYS))
        expressions = ["matchExpressions"] if selector.match_expressions else []
        for key in (*map(shortened, foreign_labels), *expressions):
            message = f"the selector of an automatic pool may have only the app-* labels, not {key}"
            yield subject.refuse("Invalid", "auto-pool-affinity", field, message)
        return
    if selector.is_empty():
        message = "an empty selector selects every Pod"
        remedy = "leave podAffinity out to select every Pod, or set matchLabels or matchExpressions"
        yield subject.refuse("Invalid", "pod-affinity", field, message, remedy)
    for problem in problems(selector, field):
        yield subject.refuse(problem.kind, "pod-affinity", problem.path, problem.message)


def _differs_and_overlaps(pool: Pool, cidr: Cidr, other: Pool) -> bool:
    if other.family != pool.family or other.subnet == pool.subnet or other.name == pool.name:
        return False
    return overlaps(cidr, other)


def overlaps(cidr: Cidr, other: Pool | Subnet) -> bool:
    """The caller must compare the families first."""
    try:
        other_cidr = cidr_of_subnet(other.subnet)
    except AddressSyntaxError:
        return False  # ``orbctl verify`` reports the malformed object
    return cidr.first <= other_cidr.last and other_cidr.first <= cidr.last


def ranges_text(addresses: AddressSet) -> str:
    """The first ranges and the number of further ranges."""
    items = addresses.to_items()
    text = ", ".join(items[:RANGES_SHOWN_MAX])
    hidden = len(items) - RANGES_SHOWN_MAX
    return f"{text} and {hidden} more ranges" if hidden > 0 else text


@lru_cache(maxsize=CIDRS_CACHED_MAX)
def cidr_of_subnet(text: str) -> Cidr:
    """The parsed ``spec.subnet``. Raises AddressSyntaxError."""
    return parse_cidr(text)


def reservation_items_rule(subject: ObjectReference, reservation: Reservation) -> Iterator[Refusal]:
    """Items must be addresses or ranges of the reservation's family."""
    for index, text in enumerate(reservation.ips):
        try:
            family = parse_range(text).family
        except AddressSyntaxError as error:
            yield subject.refuse("Invalid", "item-syntax", f"spec.ips[{index}]", str(error))
            continue
        if family != reservation.family:
            message = f"{text} {SyntaxFault.WRONG_FAMILY}"
            yield subject.refuse("Invalid", "item-family", f"spec.ips[{index}]", message)
