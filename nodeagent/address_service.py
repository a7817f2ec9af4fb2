"""ADD and DEL with all that surrounds them: gate, deadline, spans, counts, lock, facts.

Both servers come through here, so that a request means the same wherever it came in. Without
a tracer a span costs one comparison. It decides nothing about addresses: the allocator and the
handler of DELs do. Promise: idempotent by holder and attachment (I7); a failed or late ADD leaves
nothing behind (I4).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Final, Self

from core.allocation.add_request import AddRequest
from core.allocation.allocator import Added
from core.domain.addresses.routes import requested_routes, unmatched_routes
from core.domain.facts import PodFacts, RequestFacts
from core.domain.model import Endpoint
from nodeagent.container_lock import ContainerLock, require_caller
from nodeagent.facts import FactsSource
from nodeagent.gate import ADD_DEADLINE_S, BOUND_ADD_DEADLINE_S, DEL_DEADLINE_S, Gate
from nodeagent.handlers.delete_handler import Deleted, DeleteHandler, DeleteRequest
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.sriov_master import master_addresses
from nodeagent.telemetry.metrics import AgentMetrics, WorkCounts
from nodeagent.telemetry.tracing import Attributes, Span, Tracer, valid_traceparent

ALLOCATE: Final = "ipam.allocate"
RELEASE: Final = "ipam.release"

Allocate = Callable[[AddRequest, RequestFacts], Awaitable[Added]]
"""Claims the addresses of an ADD (``Allocator.allocate``), or waits for what it needs first."""

_NO_SPAN: Final = nullcontext()
_log: Final = logging.getLogger(__name__)


class AddressService:
    """Serves ADDs and DELs. ``lock``: what a DEL of a container has to wait for.

    ``binds``: some ADDs wait for a network provider.
    """

    def __init__(
        self,
        gate: Gate,
        metrics: AgentMetrics,
        tracer: Tracer | None,
        facts: FactsSource,
        executor: NetnsExecutor,
        allocate: Allocate,
        delete_handler: DeleteHandler,
        *,
        binds: bool = False,
    ) -> None:
        self._gate = gate
        self._metrics = metrics
        self._tracer = tracer
        self._facts = facts
        self._executor = executor
        self._allocate = allocate
        self._delete_handler = delete_handler
        self.add_deadline_s = BOUND_ADD_DEADLINE_S if binds else ADD_DEADLINE_S
        # A DEL waits for its container's ADD: given up before, it would leave what that gets.
        self.delete_deadline_s = max(DEL_DEADLINE_S, self.add_deadline_s)
        self.lock = ContainerLock()

    async def serve_add(self, request: AddRequest, arrived: float) -> Added:
        """``arrived``: when the request was there, by ``time.perf_counter``.

        Raises AllocationError and its kinds, StoreError, RequestError, LogError, CallerGone.
        """
        attachment = request.attachment
        with (
            self.lock.run_add(attachment.container, request.has_hung_up),
            _Measured(self._metrics.allocation, arrived) as measured,
            self._gate.admit(self.add_deadline_s),
            self._span("ADD", ALLOCATE, request, request.cause.traceparent) as span,
        ):
            if span is not None:
                cause = request.cause._replace(traceparent=span.traceparent)
                request = request._replace(cause=cause)
            await self._facts.learn(request.pod)
            facts = self._facts.facts(request.pod)
            if request.selection.match_master_subnet:
                netns, interface = attachment.netns, attachment.interface
                found = await master_addresses(self._executor, netns, interface)
                selection = request.selection._replace(master_addresses=found)
                request = request._replace(selection=selection)
            require_caller(request.has_hung_up)  # it may have given up while the Pod was looked up
            added = await self._allocate(request, facts)
            measured.tries = added.tries
            if span is not None:
                _describe_added(span, added)
            if added.fresh:
                _log_unmatched(facts.pod, added.endpoint)
            return added._replace(migrating=True) if facts.pod.migrating else added

    async def serve_delete(self, order: DeleteRequest, arrived: float) -> Deleted:
        """``arrived`` as in ``serve_add``. Raises StoreError, RequestError, LogError."""
        with (
            _Measured(self._metrics.release, arrived) as measured,
            self._gate.admit(self.delete_deadline_s),
        ):
            await self.lock.wait_for_adds(order.attachment.container)
            with self._span("DEL", RELEASE, order, order.traceparent) as span:
                traceparent = (
                    span.traceparent if span is not None else valid_traceparent(order.traceparent)
                )
                deleted = await self._delete_handler.delete(order._replace(traceparent=traceparent))
                measured.tries = deleted.tries
                if span is not None:
                    span.set_attribute("ipam.tries", deleted.tries)
                    span.set_attribute("ipam.addresses", list(deleted.released.addresses))
                return deleted

    def _span(
        self, command: str, step: str, request: AddRequest | DeleteRequest, traceparent: str
    ) -> AbstractContextManager[Span | None]:
        if self._tracer is None:
            return _NO_SPAN
        return _traced(self._tracer, command, step, request, traceparent)


class _Measured:
    """Counts one request when it is over, with its time and what ended it."""

    __slots__ = ("_arrived", "_started", "_work", "tries")

    def __init__(self, work: WorkCounts, arrived: float) -> None:
        self._work = work
        self._arrived = arrived
        self._started = time.perf_counter()
        self.tries = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds, waited = time.perf_counter() - self._started, self._started - self._arrived
        failure = error if isinstance(error, Exception) else None
        self._work.record(seconds, waited, self.tries, failure)


@contextmanager
def _traced(
    tracer: Tracer, command: str, step: str, request: AddRequest | DeleteRequest, traceparent: str
) -> Iterator[Span]:
    """The span of the request, and in it the one whose context the events keep."""
    attributes = _attributes(command, request)
    with tracer.request(f"CNI {command}", traceparent, attributes), tracer.step(step) as span:
        yield span


def _describe_added(span: Span, added: Added) -> None:
    held = added.endpoint.addresses()
    span.set_attribute("ipam.tries", added.tries)
    span.set_attribute("ipam.fresh", added.fresh)
    span.set_attribute("ipam.pool.names", sorted({pool for _, pool in held}))
    span.set_attribute("ipam.addresses", [address for address, _ in held])


def _attributes(command: str, request: AddRequest | DeleteRequest) -> Attributes:
    pod, attachment = request.pod, request.attachment
    named = {
        "cni.command": command,
        "cni.container_id": attachment.container,
        "cni.network.name": attachment.network,
        "network.interface.name": attachment.interface,
        "k8s.namespace.name": pod.namespace,
        "k8s.pod.name": pod.name,
        "k8s.pod.uid": pod.uid,
    }
    return {name: value for name, value in named.items() if value}


def _log_unmatched(pod: PodFacts, endpoint: Endpoint) -> None:
    """A route of the Pod's annotation that no NIC can take is left out; a later NIC may fit it."""
    requested = requested_routes(pod)
    for route in unmatched_routes(endpoint.nics, requested) if requested else ():
        fields = {"pod": f"{pod.namespace}/{pod.name}", "route": f"{route.dst} via {route.gw}"}
        _log.info(
            "a route of the Pod has its gateway in no subnet of the NICs so far",
            extra={"fields": fields},
        )
