"""Decide whether the quarantine of an address begins or ends.

The finder of a ``conflicting_host`` starts a quarantine; silent probes or a user end it. Only a
user starts and ends a quarantine without a ``conflicting_host``. A user's quarantine replaces the
quarantine of a finder.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final

from core.domain.addresses.ip_address import parse_address
from core.domain.configuration.commands import LiftQuarantine, QuarantineAddress, ReturnAddress
from core.domain.configuration.configuration_state import Configuration
from core.domain.events import AddressQuarantined, Event, QuarantineLifted
from core.domain.model import ConflictingHost, Quarantine
from core.domain.validation.common_rules import ObjectReference, require, unknown_object
from core.domain.validation.record_rules import address_rule, note_rule, reason_rule
from core.errors import Refusal

SEEN_MS_MAX: Final = 253_402_300_799_999
"""The end of the year 9999."""


def evidence_text(quarantine: Quarantine) -> str:
    """The evidence and the conflicting host, as text."""
    host = quarantine.conflicting_host
    if host is None:
        return quarantine.evidence
    location = "/".join(filter(None, (host.node, host.interface)))
    fields = (("MAC", host.mac), ("on", location), ("seen by", host.seen_by))
    host_text = " ".join(f"{label} {value}" for label, value in fields if value)
    return "; ".join(filter(None, (quarantine.evidence, host_text)))


def decide_quarantine(
    configuration: Configuration, command: QuarantineAddress | LiftQuarantine | ReturnAddress
) -> tuple[Event, ...]:
    """The event of the command, or no event. Raises Refused.

    ``ReturnAddress`` names the host, so that a late command cannot end a newer quarantine.
    """
    match command:
        case QuarantineAddress():
            return _quarantine(configuration, command)
        case LiftQuarantine():
            return _lift(configuration, command)
        case ReturnAddress():
            return _return(configuration, command)


def _quarantine(configuration: Configuration, command: QuarantineAddress) -> tuple[Event, ...]:
    subject = ObjectReference("Quarantine", command.address)
    host = command.conflicting_host
    require(
        chain(
            address_rule(subject, command.address),
            reason_rule(subject, command.reason),
            note_rule(subject, "reason", command.reason),
            note_rule(subject, "evidence", command.evidence),
            _host_rule(subject, host) if host else (),
        )
    )
    address = parse_address(command.address)
    existing = configuration.quarantine.get(str(address))
    if existing is not None and (existing.conflicting_host is None or host is not None):
        return ()
    family, reason, evidence = address.family, command.reason, command.evidence
    return (AddressQuarantined(Quarantine(str(address), family, reason, evidence, host)),)


def _lift(configuration: Configuration, command: LiftQuarantine) -> tuple[Event, ...]:
    address = _canonical_address(command)
    if address not in configuration.quarantine:
        raise unknown_object(ObjectReference("Quarantine", command.address))
    return (QuarantineLifted(address, command.reason),)


def _return(configuration: Configuration, command: ReturnAddress) -> tuple[Event, ...]:
    address = _canonical_address(command)
    existing = configuration.quarantine.get(address)
    if existing is None or existing.conflicting_host != command.conflicting_host:
        return ()
    return (QuarantineLifted(address, command.reason),)


def _canonical_address(command: LiftQuarantine | ReturnAddress) -> str:
    """Check the command; return the address as canonical text. Raises Refused."""
    subject = ObjectReference("Quarantine", command.address)
    reason = note_rule(subject, "reason", command.reason)
    require(chain(address_rule(subject, command.address), reason))
    return str(parse_address(command.address))


def _host_rule(subject: ObjectReference, host: ConflictingHost) -> Iterator[Refusal]:
    for field in ("mac", "seen_by", "node", "interface"):
        yield from note_rule(subject, field, getattr(host, field))
    if not 0 <= host.seen_ms <= SEEN_MS_MAX:
        message = f"{host.seen_ms} is not a time in Unix milliseconds"
        yield subject.refuse("Invalid", "time", "seen_ms", message)
