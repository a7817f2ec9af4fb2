"""The CNI ADD whole: addresses, a look at the link before they are on it, and what follows from it.

    allocate ──▶ look ──all is well──▶ announce, answer
       ▲          ├─ stranger ──▶ quarantine the address, release, allocate again
       │          │                 (or keep and fail: fixed addresses, or switched off)
       └──────────┘
                  └─ silent gateway ──▶ release, fail

The HTTP API answers its callers with flags instead, because they look for themselves
(docs/reference/address-assignment.md, "Batch release"). Promise: at most ``ROUNDS_MAX`` allocations
and the gate's deadline in all; a DEL of the same container waits for the end; what an ADD that
fails or is broken off here has got is given back, unless it is fixed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from core.allocation.add_request import AddRequest
from core.allocation.allocator import Added
from core.domain.facts import PodReference
from core.domain.model import Nic
from core.errors import AddressConflict, DeadlineExceeded, GatewayUnreachable, OrbweaverError
from nodeagent.address_service import AddressService
from nodeagent.cni_protocol.failures import (
    ALLOCATION_ERROR,
    NO_ADDRESS_FOR_INTERFACE,
    CniFailure,
    failure_of,
)
from nodeagent.cni_protocol.results import add_result
from nodeagent.conflict_detection.detector import (
    ConflictingAddress,
    DetectionResult,
    DetectionSwitches,
    Detector,
)
from nodeagent.facts import FactsSource
from nodeagent.gate import Gate
from nodeagent.handlers.withdrawal_handler import Withdrawal, WithdrawalHandler
from nodeagent.telemetry.tracing import Tracer

ROUNDS_MAX: Final = 3
"""Allocations of one ADD, each after the first because of a stranger. More strangers than that mean
that the pool is somebody else's, and a person must look."""

GIVE_BACK_S_MAX: Final = 5.0
"""What an ADD that is broken off may take beyond its deadline to leave nothing behind."""

LOOK: Final = "ipam.look"
"""The span of a look, under the runtime's own."""

_log: Final = logging.getLogger(__name__)

Done = tuple[bytes, dict[str, object]]
"""Standard output, and what the plugin's log shall say of it."""


class AddHandler:
    """Handles ADDs of the executables."""

    def __init__(
        self,
        addresses: AddressService,
        gate: Gate,
        detector: Detector,
        withdrawal_handler: WithdrawalHandler,
        facts: FactsSource,
        switches: DetectionSwitches,
        tracer: Tracer | None,
    ) -> None:
        self._addresses = addresses
        self._gate = gate
        self._detector = detector
        self._withdrawal_handler = withdrawal_handler
        self._facts = facts
        self._switches = switches
        self._tracer = tracer

    async def handle_add(self, request: AddRequest, version: str, arrived: float) -> Done:
        """The result with addresses that nobody else uses, in this version of CNI.

        ``arrived`` as in ``AddressService.serve_add``. Raises CniFailure.
        """
        try:
            switches = self._switches_for(request.pod)
            if switches.needs_probe:
                nic = await self._allocate_and_probe(request, switches, arrived)
            else:  # one allocation, which its own deadline bounds, and no word after it
                added = await self._addresses.serve_add(request, arrived)
                nic = _nic_of(added, request.attachment.interface)
                if switches.announce:
                    self._detector.announce_later(request.attachment.netns, nic)
        except (OrbweaverError, CniFailure) as error:
            raise failure_of(error).prefixed(ALLOCATION_ERROR) from error
        return add_result(version, nic), {"addresses": nic.cidrs()}

    async def _allocate_and_probe(
        self, request: AddRequest, switches: DetectionSwitches, arrived: float
    ) -> Nic:
        deadline_s = self._addresses.add_deadline_s
        deadline = asyncio.timeout(deadline_s)
        try:
            container = request.attachment.container
            under_way = self._addresses.lock.run_add(container, request.has_hung_up)
            with under_way, self._gate.hold_open():
                async with deadline:
                    return await self._retry_rounds(request, switches, arrived)
        except TimeoutError:
            if not deadline.expired():
                raise  # of the work itself, such as ETIMEDOUT
            raise DeadlineExceeded(f"not done within {deadline_s:g} s") from None

    async def _retry_rounds(
        self, request: AddRequest, switches: DetectionSwitches, arrived: float
    ) -> Nic:
        conflicts: tuple[ConflictingAddress, ...] = ()
        for _ in range(ROUNDS_MAX):
            nic = await self._allocate(request, arrived, conflicts)
            try:
                detected = await self._probe(request, nic, switches)
                if detected == DetectionResult():
                    return nic
                conflicts += detected.conflicts
                await self._withdraw_conflicts(request, detected)
            except asyncio.CancelledError:
                await self._withdraw_all(request)
                raise
            arrived = time.perf_counter()
        raise _conflict(request, conflicts, f"and {ROUNDS_MAX} addresses were tried")

    async def _allocate(
        self, request: AddRequest, arrived: float, conflicts: Sequence[ConflictingAddress]
    ) -> Nic:
        try:
            added = await self._addresses.serve_add(request, arrived)
        except OrbweaverError as error:
            if not conflicts:
                raise
            outcome = f"and there is no other address: {error}"
            raise _conflict(request, conflicts, outcome) from error
        return _nic_of(added, request.attachment.interface)

    async def _probe(
        self, request: AddRequest, nic: Nic, switches: DetectionSwitches
    ) -> DetectionResult:
        with self._probe_span(request, nic):
            try:
                return await self._detector.probe(request.attachment.netns, nic, switches)
            except OrbweaverError as error:
                await self._withdrawal_handler.give_up(request, (), error.message)
                raise

    def _probe_span(self, request: AddRequest, nic: Nic) -> AbstractContextManager[object]:
        if self._tracer is None:
            return nullcontext()
        attributes = {
            "cni.container_id": request.attachment.container,
            "network.interface.name": nic.interface,
        }
        return self._tracer.request(LOOK, request.cause.traceparent, attributes)

    async def _withdraw_conflicts(self, request: AddRequest, detected: DetectionResult) -> None:
        """Return when another allocation may help, raise where it cannot."""
        why = _conflict_texts(request, detected.conflicts) or _silent_gateway_texts(detected)
        withdrawal = await self._withdrawal_handler.give_up(request, detected.conflicts, why)
        if not detected.conflicts:
            raise GatewayUnreachable(
                why,
                subject=detected.silent_gateways[0],
                remedy="is the gateway of the pool right, and the interface on its link?",
            )
        if withdrawal is not Withdrawal.DONE:
            raise _conflict(request, detected.conflicts, withdrawal.value)

    async def _withdraw_all(self, request: AddRequest) -> None:
        """The deadline has come, or the agent ends: what was allocated is on no link yet."""
        try:
            async with asyncio.timeout(GIVE_BACK_S_MAX):
                await self._withdrawal_handler.give_up(request, (), "the ADD was broken off")
        except (OrbweaverError, TimeoutError) as error:
            fields = {"container": request.attachment.container}
            _log.warning("addresses are not given back: %s", error, extra={"fields": fields})

    def _switches_for(self, pod: PodReference) -> DetectionSwitches:
        switches = self._switches
        if switches.conflicts and self._facts.facts(pod).pod.migrating:
            return switches._replace(conflicts=False)  # the source has the addresses on its link
        return switches


def _nic_of(added: Added, interface: str) -> Nic:
    """What the requesting interface has. Raises CniFailure when that is nothing."""
    nic = added.endpoint.find(interface)
    if nic is None or not (nic.ipv4 or nic.ipv6):
        raise CniFailure(
            NO_ADDRESS_FOR_INTERFACE,
            f"no Interface {interface} IP allocation found",
            "the Pod's annotation must list this interface",
        )
    return nic


def _conflict(
    request: AddRequest, conflicts: Sequence[ConflictingAddress], outcome: str
) -> AddressConflict:
    return AddressConflict(
        f"{_conflict_texts(request, conflicts)}; {outcome}",
        subject=conflicts[0].address,
        remedy="find who has this hardware address, or reserve the address for it",
    )


def _conflict_texts(request: AddRequest, conflicts: Sequence[ConflictingAddress]) -> str:
    """In Spiderpool's words, which its users and tests look for."""
    return "; ".join(
        f"ip conflict: pod's interface {request.attachment.interface} with an conflicting ip"
        f" {address}, {address} is located at {mac}"
        for address, mac in conflicts
    )


def _silent_gateway_texts(detected: DetectionResult) -> str:
    return "; ".join(f"gateway {gateway} is unreachable" for gateway in detected.silent_gateways)
