"""ADD and DEL with all that surrounds them: the gate, the deadline, spans, counts, the fence.

Both doors come through here, so that a request means the same wherever it came in. Without
a tracer a span costs one comparison. It decides nothing about addresses.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

from core.service.allocator import Added
from nodeagent.gate import ADD_DEADLINE_S, BOUND_ADD_DEADLINE_S, DEL_DEADLINE_S, Gate
from nodeagent.ordering import ContainerOrder
from nodeagent.telemetry.metrics import Metrics, Work
from nodeagent.telemetry.tracing import (
    Attributes,
    Tracer,
    valid_traceparent,
)
from nodeagent.verbs.adding import Adding, AddOrder
from nodeagent.verbs.deleting import Deleted, DeleteOrder, Deleting

ALLOCATE: Final = "ipam.allocate"
RELEASE: Final = "ipam.release"


class Tried(Protocol):
    """An outcome that knows how many transactions it took."""

    @property
    def tries(self) -> int:
        """1 if no race was lost."""
        ...


Outcome = TypeVar("Outcome", bound=Tried)


class Serving:
    """Does ADDs and DELs for the doors. ``order``: what a DEL of a container has to wait for.

    ``binds``: some ADDs wait for a network provider.
    """

    def __init__(
        self,
        gate: Gate,
        metrics: Metrics,
        tracer: Tracer | None,
        adding: Adding,
        deleting: Deleting,
        *,
        binds: bool = False,
    ) -> None:
        self._gate = gate
        self._metrics = metrics
        self._tracer = tracer
        self._adding = adding
        self._deleting = deleting
        self.add_deadline_s = BOUND_ADD_DEADLINE_S if binds else ADD_DEADLINE_S
        # A DEL waits for its container's ADD: given up before, it would leave what that gets.
        self.delete_deadline_s = max(DEL_DEADLINE_S, self.add_deadline_s)
        self.order = ContainerOrder()

    async def add(self, order: AddOrder, arrived: float) -> Added:
        """``arrived``: when the request was there, by ``time.perf_counter``.

        Raises AllocationError and its kinds, StoreError, RequestError, LogError.
        """
        work = self._metrics.allocation
        with self.order.adding(order.attachment.container, order.has_hung_up):
            return await self._counted(lambda: self._add(order), self.add_deadline_s, work, arrived)

    async def delete(self, order: DeleteOrder, arrived: float) -> Deleted:
        """``arrived`` as in ``add``. Raises StoreError, RequestError, LogError."""
        work = self._metrics.release
        do, deadline_s = lambda: self._delete(order), self.delete_deadline_s
        return await self._counted(do, deadline_s, work, arrived)

    async def _counted(
        self, do: Callable[[], Awaitable[Outcome]], deadline_s: float, work: Work, arrived: float
    ) -> Outcome:
        started = time.perf_counter()
        tries, failure = 0, None
        try:
            outcome = await self._gate.run(do, deadline_s)
            tries = outcome.tries
            return outcome
        except Exception as error:
            failure = error
            raise
        finally:
            work.record(time.perf_counter() - started, started - arrived, tries, failure)

    async def _add(self, order: AddOrder) -> Added:
        if self._tracer is None:
            if order.traceparent:
                order = order._replace(traceparent=valid_traceparent(order.traceparent))
            return await self._adding.add(order)
        with (
            self._tracer.request("CNI ADD", order.traceparent, _attributes("ADD", order)),
            self._tracer.step(ALLOCATE) as span,
        ):
            added = await self._adding.add(order._replace(traceparent=span.traceparent))
            held = added.endpoint.addresses()
            span.set_attribute("ipam.tries", added.tries)
            span.set_attribute("ipam.fresh", added.fresh)
            span.set_attribute("ipam.pool.names", sorted({pool for _, pool in held}))
            span.set_attribute("ipam.addresses", [address for address, _ in held])
            return added

    async def _delete(self, order: DeleteOrder) -> Deleted:
        await self.order.added(order.attachment.container)
        if self._tracer is None:
            if order.traceparent:
                order = order._replace(traceparent=valid_traceparent(order.traceparent))
            return await self._deleting.delete(order)
        with (
            self._tracer.request("CNI DEL", order.traceparent, _attributes("DEL", order)),
            self._tracer.step(RELEASE) as span,
        ):
            deleted = await self._deleting.delete(order._replace(traceparent=span.traceparent))
            span.set_attribute("ipam.tries", deleted.tries)
            span.set_attribute("ipam.addresses", list(deleted.released.addresses))
            return deleted


def _attributes(verb: str, order: AddOrder | DeleteOrder) -> Attributes:
    pod = order.pod
    said = {
        "cni.command": verb,
        "cni.container_id": order.attachment.container,
        "cni.network.name": order.attachment.network,
        "network.interface.name": order.attachment.interface,
        "k8s.namespace.name": pod.namespace,
        "k8s.pod.name": pod.name,
        "k8s.pod.uid": pod.uid,
    }
    return {name: value for name, value in said.items() if value}
