"""A plan's steps: a request each, with the request that takes it back.

A step tells its links by their numbers, as the kernel does; ``told`` puts the names in their
places, for logs and for the tests that compare whole plans.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from nodeagent.netlink import requests
from nodeagent.netlink.requests import Request
from nodeagent.netlink.values import KernelRoute, Neighbour, RoutingRule

_LINK: Final = re.compile(r"\blink (\d+)\b")


class PlanStep(NamedTuple):
    """One change. ``undo`` None: what it changes is harmless, or ends with the Pod."""

    do: Request
    undo: Request | None = None


class AttachmentPlan(NamedTuple):
    """What one ADD changes. Sysctls come first; ``marked``: families of the reply path's marks."""

    pod: tuple[PlanStep, ...]
    host: tuple[PlanStep, ...]
    sysctls: dict[str, str]
    marked: bool = False


def route_step(route: KernelRoute) -> PlanStep:
    """Add a route."""
    return _added(requests.add_route(route))


def route_gone_step(route: KernelRoute) -> PlanStep:
    """Remove a route."""
    return PlanStep(requests.delete_route(route), requests.append_route(route))


def rule_step(rule: RoutingRule) -> PlanStep:
    """Add a policy rule."""
    return _added(requests.add_rule(rule))


def neighbour_step(entry: Neighbour) -> PlanStep:
    """Say who has an address."""
    return _added(requests.set_neighbour(entry))


def _added(request: Request) -> PlanStep:
    return PlanStep(request, requests.removal(request))


def told(step: PlanStep, names: Mapping[int, str]) -> str:
    """A step in words."""
    return _LINK.sub(lambda found: names.get(int(found[1]), found[0]), step.do.what)
