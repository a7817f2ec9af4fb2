"""Makes the routes of a pool from the routes of a network configuration. Pure.

A configuration lists the routes of all its ranges, of both families, often also the default route,
and a route without next hop uses the gateway of the range. A pool has routes of its own family with
a next hop, and its gateway is the default route.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.domain.addresses.ip_address import V6, parse_cidr
from core.domain.claims.takeover import Finding
from core.domain.model import Pool, Route
from core.domain.validation.common_rules import ObjectReference, shortened
from core.domain.validation.pool_rules import DEFAULT_ROUTES, routes_rule


def with_routes(pool: Pool, routes: Iterable[Route], findings: list[Finding]) -> Pool:
    """The pool with the routes of a configuration; a finding for each route that it cannot have."""
    cidr = parse_cidr(pool.subnet)
    subject = ObjectReference("SpiderIPPool", pool.name)
    chosen: list[Route] = []
    for route in dict.fromkeys(routes):
        if (":" in route.dst) != (cidr.family == V6):
            continue  # of the other family's pool
        next_hop = route.gw or pool.gateway
        if route.dst in DEFAULT_ROUTES and next_hop == pool.gateway != "":
            continue  # follows from the gateway
        candidate = pool._replace(routes=(*chosen, Route(route.dst, next_hop)))
        faults = [refusal.message for refusal in routes_rule(subject, candidate, cidr)]
        if faults:
            via = shortened(next_hop) or "no gateway"
            what = f"route {shortened(route.dst)} via {via}: {faults[0]}"
            findings.append(Finding(f"pool/{pool.name}", what, "left out of the pool"))
        else:
            chosen.append(Route(route.dst, next_hop))
    return pool._replace(routes=tuple(chosen) or None)
