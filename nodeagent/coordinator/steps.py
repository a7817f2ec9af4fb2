"""The steps of an attachment plan: a netlink request each, with the request that undoes it.

A step names links by interface index, as the kernel does.
"""

from __future__ import annotations

from typing import NamedTuple

from nodeagent.netlink import requests
from nodeagent.netlink.requests import Request
from nodeagent.netlink.values import KernelRoute, Neighbour, RoutingRule


class PlanStep(NamedTuple):
    """One change. ``undo`` None: nothing to undo, or it disappears with the Pod."""

    do: Request
    undo: Request | None = None


class AttachmentPlan(NamedTuple):
    """What one ADD changes. Sysctls are set first.

    ``reply_marks``: whether the Pod's namespace gets the reply-path firewall-mark rules.
    """

    pod: tuple[PlanStep, ...]
    host: tuple[PlanStep, ...]
    sysctls: dict[str, str]
    reply_marks: bool = False


def route_step(route: KernelRoute) -> PlanStep:
    """Add a route."""
    return _reversible(requests.add_route(route))


def route_gone_step(route: KernelRoute) -> PlanStep:
    """Remove a route."""
    return PlanStep(requests.delete_route(route), requests.append_route(route))


def rule_step(rule: RoutingRule) -> PlanStep:
    """Add a policy rule."""
    return _reversible(requests.add_rule(rule))


def neighbour_step(entry: Neighbour) -> PlanStep:
    """Set the MAC address of a neighbour."""
    return _reversible(requests.set_neighbour(entry))


def _reversible(request: Request) -> PlanStep:
    return PlanStep(request, requests.removal(request))
