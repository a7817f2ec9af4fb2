"""Makes the probes that a network's coordinator requests: ``detectIPConflict``, ``detectGateway``.

The coordinator runs after the IPAM plugin: the interface already has addresses, so this ADD cannot
get other addresses. An address with a conflict is quarantined and released, unless another IPAM
plugin assigned it, and the ADD fails.
"""

from __future__ import annotations

from typing import Any, Final

from core.allocation.add_request import AddRequest
from core.domain.addresses.ip_address import AddressSyntaxError, parse_address
from core.domain.events import Cause
from core.domain.model import Nic
from core.domain.selection.selection_request import SelectionRequest
from core.process import tracing
from nodeagent.cni_protocol.cni_call import Call
from nodeagent.cni_protocol.failures import INVALID_CONFIG, CniFailure
from nodeagent.cni_protocol.netconf import PreviousAddress, previous_addresses
from nodeagent.conflict_detection.detector import DetectionSwitches, Detector
from nodeagent.handlers.conflict_probe import conflict_error, gateway_error
from nodeagent.handlers.withdrawal_handler import Withdrawal, WithdrawalHandler
from nodeagent.pod_facts import FactsSource

FOREIGN: Final = (
    "another IPAM plugin assigned the address, so it is neither quarantined nor released"
)

RELEASED: Final = (
    "the address was quarantined, and the next sandbox of the Pod gets another address"
)


class AssignedAddressProbe:
    """The probe of the addresses in a coordinator's prevResult.

    ``probed``: the probes that every IPAM ADD has already made.
    """

    def __init__(
        self,
        detector: Detector,
        withdrawal_handler: WithdrawalHandler,
        facts: FactsSource,
        probed: DetectionSwitches,
        actor: str,
    ) -> None:
        self._detector = detector
        self._withdrawal_handler = withdrawal_handler
        self._facts = facts
        self._probed = probed
        self._actor = actor

    async def probe(self, call: Call, requested: DetectionSwitches) -> None:
        """Make the requested probes.

        Raises AddressConflict, GatewayUnreachable, DetectionFailed, CniFailure, StoreError.
        """
        if not requested.needs_probe:
            return
        # The source Pod of a live migration has the same addresses, so a probe would find a
        # conflict.
        skips_conflicts = self._probed.conflicts or self._facts.facts(call.pod).pod.migrating
        switches = requested._replace(
            conflicts=requested.conflicts and not skips_conflicts,
            gateway=requested.gateway and not self._probed.gateway,
        )
        interface = call.attachment.interface
        nic = assigned_nic(call.conf.previous or {}, interface)
        if not switches.needs_probe or not (nic.ipv4 or nic.ipv6):
            return
        result = await self._detector.probe(call.attachment.netns, nic, switches)
        if result.conflicts:
            request = self._request(call)
            addresses = [address for address, _ in result.conflicts]
            if not await self._withdrawal_handler.has_any(request, addresses):
                raise conflict_error(interface, result.conflicts, FOREIGN)
            error = conflict_error(interface, result.conflicts, RELEASED)
            withdrawal = await self._withdrawal_handler.withdraw_nic(
                request, result.conflicts, error.message
            )
            if withdrawal is not Withdrawal.DONE:
                raise conflict_error(interface, result.conflicts, withdrawal.value)
            raise error
        if result.silent_gateways:
            raise gateway_error(result)

    def _request(self, call: Call) -> AddRequest:
        container = call.attachment.container
        trace = tracing.event_traceparent(call.traceparent)
        return AddRequest(
            call.pod,
            call.attachment,
            SelectionRequest(call.attachment.interface),
            Cause(self._actor, container, traceparent=trace),
        )


def assigned_nic(previous: dict[str, Any], interface: str) -> Nic:
    """The NIC with the first address and gateway of each family in a prevResult.

    Raises CniFailure with code 7.
    """
    nic = Nic(interface)
    for address in previous_addresses(previous):
        if address.interface not in ("", interface):
            continue
        if ":" in address.cidr and not nic.ipv6:
            nic = nic._replace(ipv6=address.cidr, ipv6_gateway=_gateway(address))
        elif ":" not in address.cidr and not nic.ipv4:
            nic = nic._replace(ipv4=address.cidr, ipv4_gateway=_gateway(address))
    return nic


def _gateway(address: PreviousAddress) -> str:
    try:
        return str(parse_address(address.gateway)) if address.gateway else ""
    except AddressSyntaxError as error:
        raise CniFailure(INVALID_CONFIG, f"prevResult.ips: gateway: {error}", "") from None
