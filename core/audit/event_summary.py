"""Summarises an event in one line, for filters and users. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from core.audit.object_history import change_of, describe_object, size_in_words
from core.domain.events import (
    BINDING_WORDS,
    EVENT_TYPES,
    TYPE_NAMES,
    AddressesClaimed,
    AddressesReleased,
    AddressQuarantined,
    AllocationRefused,
    ApplicationScaled,
    BindingChanged,
    EndpointChanged,
    GuidsAssigned,
    GuidsReleased,
    QuarantineLifted,
    Recorded,
)
from core.domain.model import Endpoint
from core.errors import BadInput


class EventSummary(NamedTuple):
    """One event in one line. ``subject`` has the form that ``orbctl history`` accepts."""

    type: str
    subject: str
    detail: str
    pools: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    node: str = ""


def check_types(names: Iterable[str], subject: str) -> tuple[str, ...]:
    """Return the names; raise BadInput if one is not an event type."""
    checked = tuple(names)
    for name in checked:
        if name not in EVENT_TYPES:
            raise BadInput(
                f"there is no event type {name[:64]!r}",
                subject=subject,
                remedy=f"use one of {', '.join(EVENT_TYPES)}",
            )
    return checked


class EventFilter(NamedTuple):
    """Conditions that an event must meet; "" and () mean no condition.

    ``pod``: NAMESPACE/NAME. ``node``: the node in the event, or the name of the event's writer.
    ``actor``: a part of the actor's name.
    """

    types: tuple[str, ...] = ()
    pool: str = ""
    pod: str = ""
    node: str = ""
    address: str = ""
    actor: str = ""

    def matches(self, recorded: Recorded, summary: EventSummary) -> bool:
        """Whether the event meets all conditions."""
        return (
            (not self.types or summary.type in self.types)
            and (not self.pool or self.pool in summary.pools)
            and (not self.pod or summary.subject == f"pod/{self.pod}")
            and (not self.node or self.node in (summary.node, recorded.writer))
            and (not self.address or self.address in summary.addresses)
            and (not self.actor or self.actor in recorded.cause.actor)
        )


def summary_of(recorded: Recorded) -> EventSummary:
    """The summary of an event."""
    event = recorded.event
    type_name = TYPE_NAMES[type(event)]
    match event:
        case AddressesClaimed(endpoint, new_nics):
            pairs = [pair for index in new_nics for pair in endpoint.nics[index].addresses()]
            return _of_endpoint(type_name, endpoint, pairs)
        case EndpointChanged(endpoint):
            return _of_endpoint(type_name, endpoint, endpoint.addresses())
        case AddressesReleased():
            return _of_release(type_name, event)
        case AllocationRefused():
            return _of_refusal(type_name, event)
        case AddressQuarantined(quarantine):
            detail = "; ".join(part for part in (quarantine.reason, quarantine.evidence) if part)
            address = quarantine.address
            return EventSummary(type_name, f"address/{address}", detail, addresses=(address,))
        case QuarantineLifted(address, reason):
            return EventSummary(type_name, f"address/{address}", reason, addresses=(address,))
        case ApplicationScaled():
            subject = f"application/{event.namespace}/{event.name}"
            return EventSummary(type_name, subject, size_in_words(event))
        case BindingChanged():
            subject = f"pod/{event.namespace}/{event.name}"
            detail = f"{', '.join(event.addresses)}: {binding_in_words(event)}"
            return EventSummary(
                type_name, subject, detail, addresses=event.addresses, node=event.node
            )
        case GuidsAssigned() | GuidsReleased():
            return _of_guids(type_name, event)
        case _:
            change = change_of(recorded)
            assert change is not None, type_name  # every other type changes a configuration object
            detail = describe_object(change.value) if change.value is not None else ""
            pools = (change.name,) if change.kind == "pool" else ()
            return EventSummary(type_name, f"{change.kind}/{change.name}", detail, pools)


def _of_endpoint(
    type_name: str, endpoint: Endpoint, pairs: Sequence[tuple[str, str]]
) -> EventSummary:
    return EventSummary(
        type_name,
        f"pod/{endpoint.namespace}/{endpoint.name}",
        f"{_addresses_and_pools(pairs)} on {endpoint.node}",
        tuple(pool for _, pool in pairs),
        tuple(address for address, _ in pairs),
        endpoint.node,
    )


def _of_release(type_name: str, event: AddressesReleased) -> EventSummary:
    pairs = [(release.address, release.pool) for release in event.releases]
    reason = f"{event.reason}: {event.evidence}" if event.evidence else event.reason
    return EventSummary(
        type_name,
        f"pod/{event.namespace}/{event.name}",
        f"{_addresses_and_pools(pairs)}, {reason}",
        tuple(pool for _, pool in pairs),
        event.addresses(),
    )


def _of_refusal(type_name: str, event: AllocationRefused) -> EventSummary:
    return EventSummary(
        type_name,
        f"pod/{event.namespace}/{event.name}",
        f"{event.interface} on {event.node}, {refusal_in_words(event)}",
        tuple(dict.fromkeys(verdict.pool for verdict in event.verdicts)),
        node=event.node,
    )


def _of_guids(type_name: str, event: GuidsAssigned | GuidsReleased) -> EventSummary:
    texts = [f"{guid.guid} (virtual function {guid.vf} of {guid.nic})" for guid in event.guids]
    reason = f", {event.reason}" if isinstance(event, GuidsReleased) else ""
    detail = ", ".join(texts) + reason
    return EventSummary(type_name, f"node/{event.node}", detail, node=event.node)


def binding_in_words(event: BindingChanged) -> str:
    """The state of a binding at the network provider, and the reason."""
    why = f" ({event.why})" if event.why else ""
    return f"network provider: {BINDING_WORDS.get(event.state, event.state)}{why}"


def refusal_in_words(event: AllocationRefused) -> str:
    """The reason, the count (if above 1) and the message of a refused ADD."""
    repeated = f" ({event.times} times)" if event.times > 1 else ""
    return f"{event.reason}{repeated}: {event.message}"


def _addresses_and_pools(pairs: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{address} ({pool})" for address, pool in pairs) or "no addresses"
