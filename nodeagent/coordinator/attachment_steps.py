"""The steps of an attachment plan: netlink requests with the requests that undo them."""

from __future__ import annotations

from typing import NamedTuple

from nodeagent.netlink import requests
from nodeagent.netlink.requests import Request
from nodeagent.netlink.values import KernelRoute, Neighbour, RoutingRule


class PlanStep(NamedTuple):
    """One change. A change without ``undo`` stays, or ends with the Pod."""

    do: Request
    undo: Request | None = None


class AttachmentPlan(NamedTuple):
    """The changes of one ADD: ``pod`` in the Pod, ``host`` on the node.

    ``sysctls`` are set first, in the Pod. ``reply_marks``: whether to add ``ReplyMarkRules`` to the
    Pod.
    """

    pod: tuple[PlanStep, ...]
    host: tuple[PlanStep, ...]
    sysctls: dict[str, str]
    reply_marks: bool = False


def route_step(route: KernelRoute) -> PlanStep:
    """The step that adds a route."""
    return _reversible(requests.add_route(route))


def remove_route_step(route: KernelRoute) -> PlanStep:
    """The step that removes a route."""
    return PlanStep(requests.delete_route(route), requests.append_route(route))


def rule_step(rule: RoutingRule) -> PlanStep:
    """The step that adds a policy rule."""
    return _reversible(requests.add_rule(rule))


def neighbour_step(entry: Neighbour) -> PlanStep:
    """The step that sets the MAC address of a neighbour."""
    return _reversible(requests.set_neighbour(entry))


def _reversible(request: Request) -> PlanStep:
    return PlanStep(request, requests.removal(request))
