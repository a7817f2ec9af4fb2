"""Makes the routes of a pool from the routes of a network configuration. Pure.

A configuration has one list of routes for its ranges of both families. The list may contain default
routes, and routes without a next hop, which use the gateway of the range. Each route of a pool has
the family of the pool and a next hop; the default route of a pool follows from its gateway.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.domain.addresses.ip_address import V6, parse_cidr
from core.domain.claims.takeover import Finding
from core.domain.model import Pool, Route
from core.domain.validation.common_rules import ObjectReference, shortened
from core.domain.validation.pool_rules import DEFAULT_ROUTES, routes_rule


def with_routes(pool: Pool, routes: Iterable[Route], findings: list[Finding]) -> Pool:
    """The pool with the routes of its family; a finding for each invalid route."""
    cidr = parse_cidr(pool.subnet)
    subject = ObjectReference("SpiderIPPool", pool.name)
    chosen: list[Route] = []
    for route in dict.fromkeys(routes):
        if (":" in route.dst) != (cidr.family == V6):
            continue  # it belongs to a pool of the other family
        next_hop = route.gw or pool.gateway
        if route.dst in DEFAULT_ROUTES and next_hop == pool.gateway != "":
            continue  # it follows from the gateway
        candidate = pool._replace(routes=(*chosen, Route(route.dst, next_hop)))
        faults = [refusal.message for refusal in routes_rule(subject, candidate, cidr)]
        if faults:
            via = shortened(next_hop) or "no gateway"
            what = f"route {shortened(route.dst)} via {via}: {faults[0]}"
            findings.append(Finding(f"pool/{pool.name}", what, "left out of the pool"))
        else:
            chosen.append(Route(route.dst, next_hop))
    return pool._replace(routes=tuple(chosen) or None)
