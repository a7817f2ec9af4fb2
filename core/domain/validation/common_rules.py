"""Validation rules of every object: name, IP version, size, labels and annotations; message texts.

One transaction stores an object twice: in a segment of the event log, and in the object's state
key. The size limits ensure that both copies fit. In standalone mode, no API server checks these
rules first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import (
    V4,
    V6,
    AddressSyntaxError,
    Family,
    parse_cidr,
    parse_range,
)
from core.domain.name_syntax import SUBDOMAIN_CHARS_MAX, is_dns_label, is_name
from core.errors import Refusal, RefusalKind, Refused

OBJECT_BYTES_MAX: Final = 320 * 1024
"""The limit of ``encoded_size_max``."""

LABELS_BYTES_MAX: Final = 64 * 1024

ANNOTATIONS_BYTES_MAX: Final = 256 * 1024
"""As in Kubernetes."""

REFUSALS_MAX: Final = 32

SUBDOMAIN_SYNTAX: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.',"
    " and must start and end with an alphanumeric character (e.g. 'example.com', regex used for"
    r" validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
"""Kubernetes' text, for which users' scripts search."""

_QUOTED_CHARS_MAX: Final = 80
_MESSAGE_CHARS_MAX: Final = 1000
_VALUE_OVERHEAD_BYTES: Final = 5  # the most that msgpack adds to one value


class ObjectReference(NamedTuple):
    """The object that a command changes. ``str()``: ``Kind/name`` or ``Kind/namespace/name``."""

    kind: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        return "/".join(shortened(part) for part in (self.kind, self.namespace, self.name) if part)

    def refuse(
        self, kind: RefusalKind, rule: str, field: str, message: str, remedy: str = ""
    ) -> Refusal:
        """A refusal about this object."""
        text = shortened(message, _MESSAGE_CHARS_MAX)
        return Refusal(kind, rule, str(self), field, text, remedy)


def require(refusals: Iterable[Refusal]) -> None:
    """Raise Refused with the first ``REFUSALS_MAX`` refusals, if there are any."""
    first = tuple(islice(refusals, REFUSALS_MAX))
    if first:
        raise Refused(first)


def unknown_object(subject: ObjectReference) -> Refused:
    """The error for an object that does not exist."""
    message = "there is no such object"
    return Refused((subject.refuse("NotFound", "unknown-name", field="", message=message),))


def shortened(text: str, characters: int = _QUOTED_CHARS_MAX) -> str:
    """Cut the text after ``characters``."""
    return text if len(text) <= characters else f"{text[:characters]}..."


def counted(number: int, singular: str, plural: str = "") -> str:
    """A number with its noun: ``1 pool``, ``3 pools``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def family_of_subnet(text: str) -> Family | None:
    """The IP version of a CIDR; None if malformed."""
    try:
        return parse_cidr(text).family
    except AddressSyntaxError:
        return None


def family_of_item(text: str) -> Family | None:
    """The IP version of an address ``A`` or a range ``A-B``; None if malformed."""
    try:
        return parse_range(text).family
    except AddressSyntaxError:
        return None


def resolve_family(
    ip_version: int | None, derived: Family | None, subject: ObjectReference, source: str
) -> Family:
    """``ip_version``, or ``derived`` if ``ip_version`` is None.

    ``source``: the field from which ``derived`` was computed, and its value, for errors. Raises
    Refused: Invalid if both versions are None, NotSupported if the version is not 4 or 6.
    """
    family = derived if ip_version is None else ip_version
    if family == V4:
        return V4
    if family == V6:
        return V6
    field = "spec.ipVersion"
    if family is None:
        message = f"ipVersion is not set and cannot be derived from {source}"
        remedy = "correct that field, or set ipVersion to 4 or 6"
        raise Refused((subject.refuse("Invalid", "ip-version", field, message, remedy),))
    message = f"ipVersion {family} is neither 4 nor 6"
    raise Refused((subject.refuse("NotSupported", "ip-version", field, message),))


def family_enabled_rule(
    subject: ObjectReference, family: Family, *, enabled: bool
) -> Iterator[Refusal]:
    """The IP version must be enabled in the cluster."""
    if not enabled:
        yield subject.refuse(
            "Forbidden",
            "ip-version-disabled",
            "spec.ipVersion",
            f"IPv{family} is disabled in this cluster",
            f"set enableIPv{family} in the configuration",
        )


def object_name_rule(subject: ObjectReference) -> Iterator[Refusal]:
    """The name must be a DNS subdomain; Kubernetes' text."""
    name, field = subject.name, "metadata.name"
    if len(name) > SUBDOMAIN_CHARS_MAX:
        message = f"{shortened(name)!r} must be no more than {SUBDOMAIN_CHARS_MAX} characters"
        yield subject.refuse("Invalid", "name", field, message)
    if not all(map(is_dns_label, name.split("."))):
        message = f"{shortened(name)!r}: {SUBDOMAIN_SYNTAX}"
        yield subject.refuse("Invalid", "name", field, message)


def key_name_rule(subject: ObjectReference, name: str, field: str) -> Iterator[Refusal]:
    """A name that becomes part of a key must have a safe syntax and a bounded length."""
    if len(name) > SUBDOMAIN_CHARS_MAX or not is_name(name):
        yield subject.refuse(
            "Invalid",
            "name",
            field,
            f"{shortened(name)!r} is not a name: letters, digits, '.', '_' and '-', beginning and"
            f" ending with a letter or digit, at most {SUBDOMAIN_CHARS_MAX} characters",
        )


def size_rule(
    subject: ObjectReference,
    value: object,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
) -> Iterator[Refusal]:
    """Only the first violation is reported."""
    for field, part, limit in (
        ("metadata.labels", labels, LABELS_BYTES_MAX),
        ("metadata.annotations", annotations, ANNOTATIONS_BYTES_MAX),
        ("", value, OBJECT_BYTES_MAX),
    ):
        size = encoded_size_max(part)
        if size > limit:
            message = f"{size} bytes are more than the limit of {limit}"
            remedy = "shorten the object" if not field else f"remove or shorten {field}"
            yield subject.refuse("Invalid", "too-large", field, message, remedy)
            return


def encoded_size_max(value: object) -> int:
    """An upper bound of the encoded size, in bytes."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace")) + _VALUE_OVERHEAD_BYTES
    if isinstance(value, Mapping):
        return _VALUE_OVERHEAD_BYTES + sum(
            encoded_size_max(key) + encoded_size_max(item) for key, item in value.items()
        )
    if isinstance(value, tuple):
        return _VALUE_OVERHEAD_BYTES + sum(map(encoded_size_max, value))
    return _VALUE_OVERHEAD_BYTES
