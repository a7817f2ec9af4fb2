"""The rules of records and of quarantined addresses.

A record is an object that a user applies in standalone mode, such as a Pod or a Node. Container
runtimes choose some names, so a name need not be a DNS name, but must be valid in a key.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from core.domain.addresses.ip_address import AddressSyntaxError, parse_address
from core.domain.autopools.applications import BUILT_IN
from core.domain.coordinators import COORDINATOR_KIND
from core.domain.events import RecordDefined
from core.domain.validation.common_rules import ObjectReference, key_name_rule, shortened
from core.domain.validation.service_rules import service_rules, slice_rules
from core.errors import Refusal

SERVICE_KINDS: Final = ("Service", "EndpointSlice")
RECORD_KINDS: Final = ("Pod", "Namespace", "Node", *BUILT_IN, *SERVICE_KINDS, COORDINATOR_KIND)
NAMESPACED_KINDS: Final = ("Pod", *BUILT_IN, *SERVICE_KINDS)

REPLICAS_MAX: Final = 2**31 - 1  # of spec.replicas and spec.ordinals.start: int32, as in Kubernetes

NOTE_BYTES_MAX: Final = 1024
"""As for ``note`` of a Kubernetes Event."""


def record_rules(subject: ObjectReference, record: RecordDefined) -> Iterator[Refusal]:
    """Kind, names, counts, and the Service or EndpointSlice."""
    if record.kind not in RECORD_KINDS:
        message = f"{shortened(record.kind)!r} is not one of {', '.join(RECORD_KINDS)}"
        yield subject.refuse("NotSupported", "record-kind", "kind", message)
        return
    yield from key_name_rule(subject, record.name, "metadata.name")
    if record.kind in NAMESPACED_KINDS:
        yield from key_name_rule(subject, record.namespace, "metadata.namespace")
    elif record.namespace:
        message = f"{record.kind} is cluster-scoped: remove metadata.namespace"
        yield subject.refuse("Forbidden", "record-namespace", "metadata.namespace", message)
    yield from _count_rules(subject, record)
    if record.service is not None:
        yield from service_rules(subject, record.service)
    if record.slice is not None:
        yield from slice_rules(subject, record.slice)


def _count_rules(subject: ObjectReference, record: RecordDefined) -> Iterator[Refusal]:
    for field, count in (
        ("spec.replicas", record.replicas),
        ("spec.ordinals.start", record.ordinals_start),
    ):
        if not 0 <= count <= REPLICAS_MAX:
            message = f"{count} is not between 0 and {REPLICAS_MAX}"
            yield subject.refuse("Invalid", "record-count", field, message)


def address_rule(subject: ObjectReference, address: str) -> Iterator[Refusal]:
    """One address, not a range or prefix."""
    try:
        parse_address(address)
    except AddressSyntaxError as error:
        yield subject.refuse("Invalid", "address-syntax", "address", str(error))


def reason_rule(subject: ObjectReference, reason: str) -> Iterator[Refusal]:
    """A quarantine needs a reason."""
    if not reason:
        yield subject.refuse("Required", "reason", "reason", "a quarantine needs a reason")


def note_rule(subject: ObjectReference, field: str, note: str) -> Iterator[Refusal]:
    """A reason or evidence must not be longer than ``NOTE_BYTES_MAX``."""
    size = len(note.encode("utf-8", "replace"))
    if size > NOTE_BYTES_MAX:
        message = f"{size} bytes are more than the limit of {NOTE_BYTES_MAX}"
        yield subject.refuse("Invalid", "too-large", field, message)
