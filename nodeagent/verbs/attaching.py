"""The CNI ADD whole: addresses, a look at the link before they are on it, and what follows from it.

    allocate ──▶ look ──all is well──▶ announce, answer
       ▲          ├─ stranger ──▶ quarantine the address, release, allocate again
       │          │                 (or keep and fail: fixed addresses, or switched off)
       └──────────┘
                  └─ silent gateway ──▶ release, fail

The HTTP API answers its callers with flags instead, because they look for themselves (spec/ipam.md
2.4). Promise: at most ``ROUNDS_MAX`` allocations and the gate's deadline in all; a DEL of the same
container waits for the end; what an ADD that fails or is broken off here has got is given back,
unless it is fixed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from core.domain.facts import PodReference
from core.domain.model import Nic
from core.errors import AddressConflict, DeadlineExceeded, GatewayUnreachable, OrbweaverError
from nodeagent.cniwire.call import Call
from nodeagent.cniwire.failures import NO_ADDRESS_FOR_INTERFACE, CniFailure
from nodeagent.detection.detector import Detector, Found, Switches, Taken
from nodeagent.facts import FactsSource
from nodeagent.gate import Gate
from nodeagent.serving import Serving
from nodeagent.telemetry.tracing import Tracer
from nodeagent.verbs.adding import AddOrder, add_order
from nodeagent.verbs.withdrawing import Withdrawal, Withdrawing

ROUNDS_MAX: Final = 3
"""Allocations of one ADD, each after the first because of a stranger. More strangers than that mean
that the pool is somebody else's, and a person must look."""

GIVE_BACK_S_MAX: Final = 5.0
"""What an ADD that is broken off may take beyond its deadline to leave nothing behind."""

LOOK: Final = "ipam.look"
"""The span of a look, under the runtime's own."""

_log: Final = logging.getLogger(__name__)


class Attaching:
    """Does ADDs for the executables."""

    def __init__(
        self,
        serving: Serving,
        gate: Gate,
        detector: Detector,
        withdrawing: Withdrawing,
        facts: FactsSource,
        switches: Switches,
        tracer: Tracer | None,
    ) -> None:
        self._serving = serving
        self._gate = gate
        self._detector = detector
        self._withdrawing = withdrawing
        self._facts = facts
        self._switches = switches
        self._tracer = tracer

    async def add(self, call: Call, arrived: float) -> Nic:
        """The NIC with addresses that nobody else uses. ``arrived`` as in ``Serving.add``.

        Raises AllocationError and its kinds, StoreError, RequestError, LogError, CniFailure.
        """
        order = add_order(call)
        switches = self._switches_for(order.pod)
        if not switches.looking:  # one allocation, which its own gate bounds, and no word after it
            nic = await self._allocate(order, arrived, ())
            await self._detector.look(order.attachment.netns, nic, switches)
            return nic
        deadline_s = self._serving.add_deadline_s
        deadline = asyncio.timeout(deadline_s)
        try:
            under_way = self._serving.order.adding(call.attachment.container, call.has_hung_up)
            with under_way, self._gate.staying():
                async with deadline:
                    return await self._rounds(order, switches, arrived)
        except TimeoutError:
            if not deadline.expired():
                raise  # of the work itself, such as ETIMEDOUT
            raise DeadlineExceeded(f"not done within {deadline_s:g} s") from None

    async def _rounds(self, order: AddOrder, switches: Switches, arrived: float) -> Nic:
        strangers: tuple[Taken, ...] = ()
        for _ in range(ROUNDS_MAX):
            nic = await self._allocate(order, arrived, strangers)
            try:
                found = await self._look(order, nic, switches)
                if found == Found():
                    return nic
                strangers += found.strangers
                await self._give_up(order, found)
            except asyncio.CancelledError:
                await self._give_back(order)
                raise
            arrived = time.perf_counter()
        raise _conflict(order, strangers, f"and {ROUNDS_MAX} addresses were tried")

    async def _allocate(self, order: AddOrder, arrived: float, strangers: Sequence[Taken]) -> Nic:
        try:
            added = await self._serving.add(order, arrived)
        except OrbweaverError as error:
            if not strangers:
                raise
            raise _conflict(order, strangers, f"and there is no other address: {error}") from error
        nic = added.endpoint.find(order.attachment.interface)
        if nic is None or not (nic.ipv4 or nic.ipv6):
            raise CniFailure(
                NO_ADDRESS_FOR_INTERFACE,
                f"no Interface {order.attachment.interface} IP allocation found",
                "the Pod's annotation must list this interface",
            )
        return nic

    async def _look(self, order: AddOrder, nic: Nic, switches: Switches) -> Found:
        with self._span(order, nic) if switches.looking else nullcontext():
            try:
                return await self._detector.look(order.attachment.netns, nic, switches)
            except OrbweaverError as error:
                await self._withdrawing.give_up(order, (), error.message)
                raise

    def _span(self, order: AddOrder, nic: Nic) -> AbstractContextManager[object]:
        if self._tracer is None:
            return nullcontext()
        attributes = {
            "cni.container_id": order.attachment.container,
            "network.interface.name": nic.interface,
        }
        return self._tracer.request(LOOK, order.traceparent, attributes)

    async def _give_up(self, order: AddOrder, found: Found) -> None:
        """Return when another allocation may help, raise where it cannot."""
        why = _conflicts(order, found.strangers) or _silence(found)
        how = await self._withdrawing.give_up(order, found.strangers, why)
        if not found.strangers:
            raise GatewayUnreachable(
                why,
                subject=found.silent_gateways[0],
                remedy="is the gateway of the pool right, and the interface on its link?",
            )
        if how is not Withdrawal.DONE:
            raise _conflict(order, found.strangers, how.value)

    async def _give_back(self, order: AddOrder) -> None:
        """The deadline has come, or the agent ends: what was allocated is on no link yet."""
        try:
            async with asyncio.timeout(GIVE_BACK_S_MAX):
                await self._withdrawing.give_up(order, (), "the ADD was broken off")
        except (OrbweaverError, TimeoutError) as error:
            fields = {"container": order.attachment.container}
            _log.warning("addresses are not given back: %s", error, extra={"fields": fields})

    def _switches_for(self, pod: PodReference) -> Switches:
        switches = self._switches
        if switches.conflicts and self._facts.facts(pod).pod.migrating:
            return switches._replace(conflicts=False)  # the source has the addresses on its link
        return switches


def _conflict(order: AddOrder, strangers: Sequence[Taken], then: str) -> AddressConflict:
    return AddressConflict(
        f"{_conflicts(order, strangers)}; {then}",
        subject=strangers[0].address,
        remedy="find who has this hardware address, or reserve the address for it",
    )


def _conflicts(order: AddOrder, strangers: Sequence[Taken]) -> str:
    """In the public system's words, which its users and tests look for."""
    return "; ".join(
        f"ip conflict: pod's interface {order.attachment.interface} with an conflicting ip"
        f" {address}, {address} is located at {mac}"
        for address, mac in strangers
    )


def _silence(found: Found) -> str:
    return "; ".join(f"gateway {gateway} is unreachable" for gateway in found.silent_gateways)
