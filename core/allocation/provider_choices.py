"""Record the MAC addresses and VLANs that a network provider chose for the NICs of an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from core.allocation.releaser import (
    ClaimRevisions,
    EndpointState,
    EndpointWriter,
)
from core.domain.events import Cause, EndpointChanged
from core.domain.evolution import EndpointKey
from core.domain.model import Nic

_ENDED = "its claims have ended"
_UNCHANGED = "the endpoint has these choices already"


class ProviderChoice(NamedTuple):
    """The MAC address and VLAN that the provider chose for a NIC; "" and 0: no choice."""

    mac: str = ""
    vlan: int = 0


async def record_choices(
    endpoints: EndpointWriter,
    key: EndpointKey,
    claims: ClaimRevisions,
    choices: Mapping[str, ProviderChoice],
    cause: Cause,
) -> bool:
    """Write the choices into the endpoint; returns False if ``claims`` have ended.

    ``choices``: IPv4 address of a NIC -> its choice. Raises StoreUnavailable, OutcomeUnknown, and
    LostRace after the last try.
    """

    def decide(state: EndpointState) -> EndpointChanged | str:
        endpoint = state.endpoint
        if endpoint is None or state.claim_revisions != claims:
            return _ENDED
        after = endpoint._replace(nics=tuple(_with_choice(nic, choices) for nic in endpoint.nics))
        return _UNCHANGED if after == endpoint else EndpointChanged(after)

    addresses = [address for address, _ in claims]
    changed = await endpoints.change(key, addresses, decide, cause)
    return changed.why != _ENDED


def _with_choice(nic: Nic, choices: Mapping[str, ProviderChoice]) -> Nic:
    choice = choices.get(nic.ipv4.partition("/")[0], ProviderChoice())
    return nic._replace(mac=choice.mac or nic.mac, vlan=choice.vlan or nic.vlan)
