"""Reads the results of past ADDs of one Pod from the log.

The events contain the decision of pool selection. The Pod object is not needed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.archive.replay import LogView
from core.audit.history import events_about
from core.audit.history_entries import HistorySubject
from core.domain.events import (
    AddressesClaimed,
    AddressesReleased,
    AllocationRefused,
    BindingChanged,
    EndpointChanged,
    Recorded,
)
from core.domain.evolution import EndpointKey, evolve_endpoint
from core.domain.model import Endpoint


class LogMoment(NamedTuple):
    """The last position and the last time (Unix ms) to read; None: no limit."""

    position: int | None = None
    time_ms: int | None = None

    def includes(self, recorded: Recorded) -> bool:
        if self.position is not None and recorded.position > self.position:
            return False
        return self.time_ms is None or recorded.recorded_at_ms <= self.time_ms


NOW: Final = LogMoment()


class PastAdds(NamedTuple):
    """The results of a Pod's ADDs since the Pod last had no address.

    refused     the newest refused ADD after the newest claim event
    released    the event that left the Pod without an address; None if the Pod has an address
    binding     the newest event about the binding of the addresses at a network provider; None
                after the addresses were unbound
    """

    claims: tuple[Recorded, ...] = ()
    refused: Recorded | None = None
    released: Recorded | None = None
    endpoint: Endpoint | None = None
    binding: Recorded | None = None

    @property
    def names_selection_level(self) -> bool:
        """Whether the newest claim event names the level of pool selection that named the pools."""
        event = self.claims[-1].event if self.claims else None
        return isinstance(event, AddressesClaimed) and bool(event.source)


async def read_past_adds(view: LogView, pod: EndpointKey, moment: LogMoment = NOW) -> PastAdds:
    """The ADDs of a Pod. Raises LogCorrupt, LogGap, Compacted."""
    adds = PastAdds()
    async for recorded in events_about(view, HistorySubject("pod", "/".join(pod))):
        if moment.includes(recorded):
            adds = _after(adds, recorded, pod)
    return adds


def _after(adds: PastAdds, recorded: Recorded, pod: EndpointKey) -> PastAdds:
    match recorded.event:
        case AddressesClaimed(endpoint) if endpoint.key == pod:
            return PastAdds((*adds.claims, recorded), endpoint=endpoint, binding=adds.binding)
        case EndpointChanged(endpoint) if endpoint.key == pod:
            return adds._replace(endpoint=endpoint)
        case AddressesReleased(namespace, name) as event if (namespace, name) == pod:
            after = evolve_endpoint(adds.endpoint, event)
            return adds._replace(endpoint=after) if after else PastAdds(released=recorded)
        case AllocationRefused(namespace, name) if (namespace, name) == pod:
            return adds._replace(refused=recorded)
        case BindingChanged(namespace, name) as event if (namespace, name) == pod:
            return adds._replace(binding=None if event.state == "released" else recorded)
        case _:
            return adds
