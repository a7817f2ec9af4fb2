"""Conflict detection of an ADD: probes the addresses on the link before the Pod uses them.

    allocate ──▶ probe ──no conflict──▶ announce, answer
       ▲           ├─ conflicting host ──▶ quarantine the address, release, allocate again
       │           │                        (if fixed, or release is disabled: keep, fail)
       └───────────┘
                   └─ silent gateway ──▶ release, fail

An ADD makes at most ``ROUNDS_MAX`` allocations, which share one deadline. A DEL of the same
container waits for the end of the ADD. If the ADD fails or is cancelled, its addresses are
released, except fixed addresses.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from core.allocation.add_request import AddRequest
from core.allocation.allocator import Added
from core.domain.model import Nic
from core.errors import (
    AddressConflict,
    DeadlineExceeded,
    DetectionFailed,
    GatewayUnreachable,
    OrbweaverError,
)
from nodeagent.cni_protocol.failures import NO_ADDRESS_FOR_INTERFACE, CniFailure
from nodeagent.conflict_detection.detector import (
    ConflictingAddress,
    DetectionResult,
    DetectionSwitches,
    Detector,
)
from nodeagent.handlers.withdrawal_handler import Withdrawal, WithdrawalHandler
from nodeagent.request_runner import RequestRunner

ROUNDS_MAX: Final = 3
"""If all allocations have conflicts, the pool probably belongs to another network."""

WITHDRAW_S_MAX: Final = 5.0
"""Seconds to release the addresses of a cancelled ADD."""

PROBE_ERRORS: Final = (AddressConflict, GatewayUnreachable, DetectionFailed)

AllocateAddresses = Callable[[AddRequest, float], Awaitable[Added]]

_log: Final = logging.getLogger(__name__)


class ConflictProbe:
    """The probe of the addresses of ADDs. ``switches``: what conf.yml enables.

    ``is_enabled``: whether ADDs have to call ``allocate_and_probe``.
    """

    def __init__(
        self,
        runner: RequestRunner,
        detector: Detector,
        withdrawal_handler: WithdrawalHandler,
        switches: DetectionSwitches,
    ) -> None:
        self._runner = runner
        self._detector = detector
        self._withdrawal_handler = withdrawal_handler
        self._switches = switches
        self.is_enabled = switches.needs_probe
        self.announces = switches.announce

    def announce_later(self, netns: str, nic: Nic) -> None:
        """Announce addresses in the background, without a probe."""
        self._detector.announce_later(netns, nic)

    async def allocate_and_probe(
        self,
        allocate: AllocateAddresses,
        request: AddRequest,
        arrived: float,
        deadline_s: float,
    ) -> Nic:
        """The NIC of the request, with addresses that no other host uses.

        Raises AddressConflict, GatewayUnreachable, DetectionFailed, DeadlineExceeded, and the
        errors of ``allocate``.
        """
        deadline = asyncio.timeout(deadline_s)
        try:
            with self._runner.hold(request.attachment.container, request.has_hung_up):
                async with deadline:
                    return await self._try_addresses(allocate, request, arrived)
        except TimeoutError:
            if not deadline.expired():
                raise  # another timeout, such as ETIMEDOUT of a socket
            raise DeadlineExceeded(
                f"the ADD was not done within {deadline_s:g} s",
                remedy="repeat the ADD; the addresses of this ADD are released",
            ) from None

    async def _try_addresses(
        self, allocate: AllocateAddresses, request: AddRequest, arrived: float
    ) -> Nic:
        conflicts: tuple[ConflictingAddress, ...] = ()
        for _ in range(ROUNDS_MAX):
            added = await _allocate_next(allocate, request, arrived, conflicts)
            nic = nic_of(added, request.attachment.interface)
            try:
                result = await self._probe(request, nic, self._switches_for(added))
                if result == DetectionResult():
                    return nic
                conflicts += result.conflicts
                await self._withdraw(request, result)
            except asyncio.CancelledError:
                await self._withdraw_cancelled(request)
                raise
            arrived = time.perf_counter()
        outcome = f"and {ROUNDS_MAX} addresses were tried"
        raise conflict_error(request.attachment.interface, conflicts, outcome)

    def _switches_for(self, added: Added) -> DetectionSwitches:
        """The probes of the addresses that an ADD allocated.

        The target of a live migration is not probed for conflicts, because the source Pod has the
        same addresses.
        """
        return self._switches._replace(conflicts=self._switches.conflicts and not added.migrating)

    async def _probe(
        self, request: AddRequest, nic: Nic, switches: DetectionSwitches
    ) -> DetectionResult:
        if not switches.needs_probe:
            if switches.announce:
                self.announce_later(request.attachment.netns, nic)
            return DetectionResult()
        try:
            return await self._detector.probe(request.attachment.netns, nic, switches)
        except OrbweaverError as error:
            await self._withdrawal_handler.withdraw_nic(request, (), error.message)
            raise

    async def _withdraw(self, request: AddRequest, result: DetectionResult) -> None:
        """Release the addresses. Raises the ADD's error unless the ADD may allocate again."""
        interface = request.attachment.interface
        why = _conflict_texts(interface, result.conflicts) or _silent_gateway_texts(result)
        withdrawal = await self._withdrawal_handler.withdraw_nic(request, result.conflicts, why)
        if not result.conflicts:
            raise gateway_error(result)
        if withdrawal is not Withdrawal.DONE:
            raise conflict_error(interface, result.conflicts, withdrawal.value)

    async def _withdraw_cancelled(self, request: AddRequest) -> None:
        try:
            async with asyncio.timeout(WITHDRAW_S_MAX):
                await self._withdrawal_handler.withdraw_nic(request, (), "the ADD was cancelled")
        except (OrbweaverError, TimeoutError) as error:
            fields = {"container": request.attachment.container}
            _log.warning(
                "cannot release the addresses of a cancelled ADD; its DEL must release them: %s",
                error,
                extra={"fields": fields},
            )


async def _allocate_next(
    allocate: AllocateAddresses,
    request: AddRequest,
    arrived: float,
    conflicts: Sequence[ConflictingAddress],
) -> Added:
    try:
        return await allocate(request, arrived)
    except OrbweaverError as error:
        if not conflicts:
            raise
        outcome = f"and there is no other address: {error}"
        raise conflict_error(request.attachment.interface, conflicts, outcome) from error


def nic_of(added: Added, interface: str) -> Nic:
    """Raises CniFailure if the interface has no address."""
    nic = added.endpoint.find(interface)
    if nic is None or not (nic.ipv4 or nic.ipv6):
        raise CniFailure(
            NO_ADDRESS_FOR_INTERFACE,
            f"no Interface {interface} IP allocation found",  # Spiderpool's text: users match it
            "the Pod's annotation must list this interface",
        )
    return nic


def conflict_error(
    interface: str, conflicts: Sequence[ConflictingAddress], outcome: str
) -> AddressConflict:
    """The error of an ADD with conflicts. ``outcome``: the end of the error text."""
    return AddressConflict(
        f"{_conflict_texts(interface, conflicts)}; {outcome}",
        subject=conflicts[0].address,
        remedy="find the host with this MAC address and make it release the address, or exclude the"
        " address from the pool with a SpiderReservedIP",
    )


def gateway_error(result: DetectionResult) -> GatewayUnreachable:
    """The error of an ADD whose gateways do not answer."""
    return GatewayUnreachable(
        _silent_gateway_texts(result),
        subject=result.silent_gateways[0],
        remedy="check the pool's gateway, and that the interface is on the gateway's link",
    )


def _conflict_texts(interface: str, conflicts: Sequence[ConflictingAddress]) -> str:
    # Spiderpool's text: users match it.
    return "; ".join(
        f"ip conflict: pod's interface {interface} with an conflicting ip"
        f" {address}, {address} is located at {mac}"
        for address, mac in conflicts
    )


def _silent_gateway_texts(result: DetectionResult) -> str:
    return "; ".join(f"gateway {gateway} is unreachable" for gateway in result.silent_gateways)
