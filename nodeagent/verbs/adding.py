"""ADD: from what a caller says to the endpoint that has its addresses.

Promise: idempotent by holder and attachment (I7); a failed or late ADD leaves nothing behind (I4).
It decides nothing itself: ``core.service.allocator`` does.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import NamedTuple, Protocol

from core.domain.events import Cause
from core.domain.facts import PodFacts, PodReference
from core.domain.model import Attachment, Endpoint
from core.domain.routes import requested_routes, unmatched_routes
from core.domain.selection.request import SelectionRequest
from core.service.allocator import AddCall, Added
from nodeagent.cniwire.call import Call
from nodeagent.facts import FactsSource
from nodeagent.masters import master_addresses
from nodeagent.netlink.namespaces import Visitor
from nodeagent.ordering import HasHungUp, never_hung_up, require_caller

_log = logging.getLogger(__name__)


class Allocating(Protocol):
    """Whoever claims the addresses of an ADD."""

    async def add(self, call: AddCall) -> Added:
        """See ``Allocator.add``."""
        ...


class AddOrder(NamedTuple):
    """One ADD, from whichever door."""

    pod: PodReference
    attachment: Attachment
    request: SelectionRequest
    traceparent: str = ""
    has_hung_up: HasHungUp = never_hung_up


def add_order(call: Call) -> AddOrder:
    """The order of a CNI call."""
    ipam = call.conf.ipam
    return AddOrder(
        call.pod,
        call.attachment,
        SelectionRequest(
            call.attachment.interface,
            ipam.default_ipv4_ippool,
            ipam.default_ipv6_ippool,
            ipam.clean_gateway,
            ipam.match_master_subnet,
        ),
        call.traceparent,
        call.has_hung_up,
    )


class Adding:
    """Does ADDs."""

    def __init__(
        self, allocator: Allocating, facts: FactsSource, visitor: Visitor, actor: str
    ) -> None:
        self._allocator = allocator
        self._facts = facts
        self._visitor = visitor
        self._actor = actor

    async def add(self, order: AddOrder) -> Added:
        """Raises AllocationError and its kinds, StoreError, RequestError, LogError."""
        await self._facts.learn(order.pod)
        facts = self._facts.facts(order.pod)
        cause = Cause(self._actor, order.attachment.container, "", order.traceparent)
        request, attachment = order.request, order.attachment
        if request.match_master_subnet:
            netns, interface = attachment.netns, attachment.interface
            found = await master_addresses(self._visitor, netns, interface)
            request = request._replace(master_addresses=found)
        require_caller(order.has_hung_up)  # it may have given up while the Pod was looked up
        confirm = partial(self._facts.confirm_current, order.pod)
        added = await self._allocator.add(AddCall(facts, attachment, request, cause, confirm))
        if added.fresh:
            _tell_unmatched(facts.pod, added.endpoint)
        return added._replace(migrating=True) if facts.pod.migrating else added


def _tell_unmatched(pod: PodFacts, endpoint: Endpoint) -> None:
    """A route of the Pod's annotation that no NIC can take is left out; a later NIC may fit it."""
    for route in unmatched_routes(endpoint.nics, requested_routes(pod)):
        fields = {"pod": f"{pod.namespace}/{pod.name}", "route": f"{route.dst} via {route.gw}"}
        _log.info(
            "a route of the Pod has its gateway in no subnet of the NICs so far",
            extra={"fields": fields},
        )
