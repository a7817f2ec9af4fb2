"""ADD: allocates addresses for one attachment, for CNI calls and for the HTTP API.

``allocate_addresses`` does not probe; HTTP callers may probe, and release conflicting addresses
(docs/reference/address-assignment.md, "Batch release"). A repeated ADD for the same holder and
attachment has the same result (I7). After an ADD that fails or expires, no address stays allocated
(I4). Invariants: docs/contributing/architecture.md.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from core.allocation.add_request import AddRequest
from core.allocation.allocator import Added
from core.domain.addresses.routes import POD_ROUTES, requested_routes, unmatched_routes
from core.domain.events import Cause
from core.domain.fixed.ipam_claims import pod_of_nic
from core.domain.model import Endpoint
from core.domain.request_facts import PodFacts, RequestFacts
from core.errors import AllocationError, CallerGone, OrbweaverError
from core.process import tracing
from nodeagent.cni_protocol.failures import ALLOCATION_ERROR, CniFailure, failure_of
from nodeagent.cni_protocol.results import add_result
from nodeagent.handlers.conflict_probe import PROBE_ERRORS, ConflictProbe, nic_of
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.pod_facts import FactsSource
from nodeagent.request_runner import (
    ADD_DEADLINE_S,
    BOUND_ADD_DEADLINE_S,
    RequestRunner,
    require_caller,
)
from nodeagent.sriov_master_addresses import master_addresses
from nodeagent.telemetry.metrics import WorkCounts

ALLOCATE: Final = "ipam.allocate"

Allocate = Callable[[AddRequest, RequestFacts], Awaitable[Added]]
"""Claims the addresses of an ADD. May wait for pools or bindings."""

OnRefused = Callable[[PodFacts, str, AllocationError, Cause], None]
"""Gets the Pod, NIC, error and cause of a failed ADD. Must be fast: it delays the ADD's answer."""

CallResult = tuple[bytes, dict[str, object]]
"""The plugin's standard output, and fields for its log."""

_log: Final = logging.getLogger(__name__)


class AllocationSteps(NamedTuple):
    """How addresses are claimed. ``binds``: ADDs may wait for a network provider."""

    allocate: Allocate
    on_refused: OnRefused
    binds: bool = False


class AddHandler:
    """Handles ADDs."""

    def __init__(
        self,
        runner: RequestRunner,
        counts: WorkCounts,
        facts: FactsSource,
        executor: NetnsExecutor,
        steps: AllocationSteps,
        conflict_probe: ConflictProbe,
    ) -> None:
        self._runner = runner
        self._counts = counts
        self._facts = facts
        self._executor = executor
        self._allocate = steps.allocate
        self._conflict_probe = conflict_probe
        self._on_refused = steps.on_refused
        self.deadline_s = BOUND_ADD_DEADLINE_S if steps.binds else ADD_DEADLINE_S

    async def handle_add(self, request: AddRequest, version: str, arrived: float) -> CallResult:
        """The result of a CNI ADD. Raises CniFailure, CallerGone.

        ``arrived``: see ``allocate_addresses``. After CallerGone, nothing stays allocated.
        """
        probe = self._conflict_probe
        try:
            if probe.is_enabled:
                nic = await probe.allocate_and_probe(
                    self.allocate_addresses, request, arrived, self.deadline_s
                )
            else:
                added = await self.allocate_addresses(request, arrived)
                nic = nic_of(added, request.attachment.interface)
                if probe.announces:
                    probe.announce_later(request.attachment.netns, nic)
        except CallerGone:
            raise
        except (OrbweaverError, CniFailure) as error:
            # ``allocate_addresses`` has already reported its own refusals.
            if isinstance(error, PROBE_ERRORS):
                interface = request.attachment.interface
                pod = pod_of_nic(self._facts.facts(request.pod).pod, interface)
                self._on_refused(pod, interface, error, request.cause)
            raise failure_of(error).prefixed(ALLOCATION_ERROR) from error
        cidrs = nic.cidrs()
        return add_result(version, nic, cidrs), {"addresses": cidrs}

    async def allocate_addresses(self, request: AddRequest, arrived: float) -> Added:
        """Claim the addresses of one request.

        ``arrived``: the arrival time of the request (``time.perf_counter``). Raises
        AllocationError, StoreError, RequestError, LogError, CallerGone.
        """
        pod, attachment, has_hung_up = request.pod, request.attachment, request.has_hung_up
        with (
            self._runner.run_add(
                self.deadline_s, self._counts, arrived, attachment.container, has_hung_up
            ) as running,
            tracing.span(ALLOCATE) as span,
        ):
            if span is not None:
                cause = request.cause._replace(traceparent=span.traceparent)
                request = request._replace(cause=cause)
            facts = self._facts.complete_facts(pod)
            if facts is None:
                await self._facts.load_pod(pod)
                require_caller(has_hung_up)
                facts = self._facts.facts(pod)
            if facts.pod.claims:  # IPAMClaims of the Pod's NICs
                facts = facts._replace(pod=pod_of_nic(facts.pod, attachment.interface))
            if request.selection.match_master_subnet:
                request = await self._with_master_addresses(request)
                require_caller(has_hung_up)
            try:
                added = await self._allocate(request, facts)
            except AllocationError as error:
                self._on_refused(facts.pod, attachment.interface, error, request.cause)
                raise
            running.tries = added.tries
            if span is not None:
                _describe_added(span, added)
            # ``fresh``: no earlier ADD claimed the addresses.
            if added.fresh and POD_ROUTES in facts.pod.annotations:
                _log_unmatched_routes(facts.pod, added.endpoint)
            return added._replace(migrating=True) if facts.pod.migrating else added

    async def _with_master_addresses(self, request: AddRequest) -> AddRequest:
        netns, interface = request.attachment.netns, request.attachment.interface
        addresses = await master_addresses(self._executor, netns, interface)
        return request._replace(selection=request.selection._replace(master_addresses=addresses))


def _describe_added(span: tracing.Span, added: Added) -> None:
    pairs = added.endpoint.addresses()
    span.set_attribute("ipam.tries", added.tries)
    span.set_attribute("ipam.fresh", added.fresh)
    span.set_attribute("ipam.pool.names", sorted({pool for _, pool in pairs}))
    span.set_attribute("ipam.addresses", [address for address, _ in pairs])


def _log_unmatched_routes(pod: PodFacts, endpoint: Endpoint) -> None:
    """Log each route whose gateway no NIC reaches yet; a later NIC may reach the gateway."""
    for route in unmatched_routes(endpoint.nics, requested_routes(pod)):
        fields = {"pod": f"{pod.namespace}/{pod.name}", "route": f"{route.dst} via {route.gw}"}
        _log.info(
            "skipped a route of the Pod: its gateway is in no subnet of the NICs so far",
            extra={"fields": fields},
        )
