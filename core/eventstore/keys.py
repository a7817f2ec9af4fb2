"""The layout of etcd: all keys under ``/orbweaver/v1/<cluster>/`` are built and parsed here.

Addresses and sequence numbers are fixed-width hexadecimal, so that a range of addresses is a range
of keys. Names never contain "/": Kubernetes forbids it, and ``check_name`` checks other names.

    log/<writer>/<seq>               segment, 16 hex digits
    head/<writer>                    number of the last segment, epoch of the writer
    ip/<4|6>/<address>               claim, 32 hex digits
    rest/<4|6>/<address>             cool-down mark, under a lease
    quarantine/<4|6>/<address>
    endpoint/<namespace>/<name>
    pool/<name>, subnet/<name>
    reservation/<name>
    guid/<guid>                      claim of an InfiniBand GUID, 16 hex digits
    node-guids/<node>                GUIDs of virtual functions
    record/<kind>/<namespace>/<name> ``core.domain.events.RecordDefined``
    guard/<topic>/<4|6>              written by each change of the topic; marks a complete index
    index/<topic>/<4|6>/...          ``core.eventstore.pool_index``
    view/application/<application>   report on automatic pools, under a lease
    admitted/<kind>/<name>/<review>  admitted by a webhook, not yet in the log
    refused/<name>                   pool in Kubernetes that breaks a rule
    need/<application>               request for an automatic pool, under a lease
    binding/<namespace>/<name>       binding of an endpoint by a network provider
    meta/<name>                      single value, such as the archive cursor
    lease/<role>                     leader
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from socket import AF_INET, inet_ntop
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Address, Family, format_address, parse_address
from core.domain.name_syntax import SUBDOMAIN_CHARS_MAX, is_name
from core.errors import BadInput

LAYOUT_VERSION = "v1"
GUARD_TOPICS: Final = ("pools", "subnets", "reservations", "quarantine", "records")
"""Topics with a guard key for each family; ``records`` has only the key of family 4."""

_FAMILY_BITS: Final = {b"4/": 32, b"6/": 128}
_HEXADECIMAL_BYTES: Final = b"0123456789abcdef"
_ADDRESS_DIGITS: Final = 32
_SEQ_DIGITS: Final = 16
_GUID_DIGITS: Final = 16
_HEXADECIMAL_CHARS: Final = frozenset("0123456789abcdef")

CONTROLLER_WRITERS = "Controller."
"""Prefix of the writer names of controllers and of orbctl.

An agent may write only the logs of writers whose names begin with a digit or a lower-case letter,
because node names do (RFC 1123).
"""


def check_name(name: str, what: str) -> str:
    """Return the name of a writer, node or cluster; BadInput if no key can contain it."""
    if len(name) > SUBDOMAIN_CHARS_MAX or not is_name(name):
        raise BadInput(
            f"{what} {name[:64]!r} is not a name that an etcd key can contain",
            subject=what,
            remedy=f"use at most {SUBDOMAIN_CHARS_MAX} letters, digits, '.', '_' and '-', the first"
            " and the last a letter or digit",
        )
    return name


def controller_writer(name: str) -> str:
    """The writer name of a controller or of orbctl."""
    return CONTROLLER_WRITERS + name


def range_end(prefix: bytes) -> bytes:
    """The first key after all keys with this prefix."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


COOL_DOWN_PREFIX: Final = "rest"


class AddressKeys(NamedTuple):
    """The keys of one address."""

    ip: bytes
    cool_down: bytes
    quarantine: bytes


class Keys:
    """The keys of one cluster."""

    __slots__ = ("cluster", "root")

    def __init__(self, cluster: str) -> None:
        self.cluster = check_name(cluster, "cluster name")
        self.root = f"/orbweaver/{LAYOUT_VERSION}/{cluster}/".encode()

    def prefix(self, *parts: str) -> bytes:
        """``<root>part/part/``, the prefix of all keys of a kind."""
        return self.root + "".join(f"{part}/" for part in parts).encode()

    def range_of(self, *parts: str) -> tuple[bytes, bytes]:
        """[start, end) of the keys under ``prefix(*parts)``."""
        prefix = self.prefix(*parts)
        return prefix, range_end(prefix)

    def prefix_of(self, key: bytes) -> str:
        """The first part of a key after the root."""
        return key[len(self.root) :].partition(b"/")[0].decode()

    def log(self, writer: str, seq: int) -> bytes:
        """A segment's key."""
        return self.root + f"log/{writer}/{seq:016x}".encode()

    def head(self, writer: str) -> bytes:
        """The key of a writer's head."""
        return self.root + f"head/{writer}".encode()

    def of_address(self, family: Family, value: int) -> AddressKeys:
        """An address's three keys, built in one call for speed."""
        name = b"%d/%032x" % (family, value)
        root = self.root
        return AddressKeys(
            root + b"ip/" + name, root + b"rest/" + name, root + b"quarantine/" + name
        )

    def ip(self, family: Family, value: int) -> bytes:
        """A claim's key."""
        return self.root + b"ip/%d/%032x" % (family, value)

    def cool_down(self, family: Family, value: int) -> bytes:
        """A cool-down mark's key."""
        return self.root + b"rest/%d/%032x" % (family, value)

    def quarantine(self, family: Family, value: int) -> bytes:
        """A quarantine's key."""
        return self.root + b"quarantine/%d/%032x" % (family, value)

    def endpoint(self, namespace: str, name: str) -> bytes:
        """An endpoint's key."""
        return self.root + f"endpoint/{namespace}/{name}".encode()

    def pool(self, name: str) -> bytes:
        """A pool's key."""
        return self.root + f"pool/{name}".encode()

    def subnet(self, name: str) -> bytes:
        """A subnet's key."""
        return self.root + f"subnet/{name}".encode()

    def reservation(self, name: str) -> bytes:
        """A reservation's key."""
        return self.root + f"reservation/{name}".encode()

    def record(self, kind: str, namespace: str, name: str) -> bytes:
        """A record's key."""
        return self.root + f"record/{kind}/{namespace or '-'}/{name}".encode()

    def guid(self, guid: str) -> bytes:
        """The key of a GUID's claim."""
        return self.root + f"guid/{guid.replace(':', '')}".encode()

    def node_guids(self, node: str) -> bytes:
        """The key of a node's GUIDs."""
        return self.root + f"node-guids/{node}".encode()

    def guard(self, topic: str, family: Family) -> bytes:
        """The key of a topic's guard."""
        return self.root + f"guard/{topic}/{family}".encode()

    def application_view(self, application: str) -> bytes:
        """The key of the report on automatic pools."""
        return self.root + f"view/application/{application}".encode()

    def pool_request(self, application: str) -> bytes:
        """The key of a request for an automatic pool."""
        return self.root + f"need/{application}".encode()

    def admitted(self, kind: str, name: str, review: str) -> bytes:
        """The key of an admitted pool or subnet."""
        return self.root + f"admitted/{kind}/{name}/{review}".encode()

    def refused(self, name: str) -> bytes:
        """A refused pool's key."""
        return self.root + f"refused/{name}".encode()

    def binding(self, namespace: str, name: str) -> bytes:
        """The key of an endpoint's binding."""
        return self.root + f"binding/{namespace}/{name}".encode()

    def meta(self, name: str) -> bytes:
        """A single value's key."""
        return self.root + f"meta/{name}".encode()

    def lease(self, role: str) -> bytes:
        """The key of a role's leader."""
        return self.root + f"lease/{role}".encode()

    def tail(self, key: bytes, *parts: str) -> tuple[str, ...]:
        """The parts of a key after ``prefix(*parts)``."""
        return tuple(key[len(self.prefix(*parts)) :].decode().split("/"))

    def ip_of(self, address: str) -> bytes:
        """The claim key of an address."""
        parsed = parse_address(address)
        return self.ip(parsed.family, parsed.value)

    def quarantine_of(self, address: str) -> bytes:
        """The quarantine key of an address."""
        parsed = parse_address(address)
        return self.quarantine(parsed.family, parsed.value)

    def check_parts(self, key: bytes, count: int) -> list[str]:
        """The parts of a key after the root. Raises ValueError unless there are ``count``."""
        parts = key.removeprefix(self.root).decode().split("/")
        if len(parts) != count or not all(parts):
            raise ValueError(f"the key must have {count} parts, none of them empty")
        return parts

    def check_address(self, key: bytes, prefix: str) -> Address:
        """The address of an ``ip/``, ``rest/`` or ``quarantine/`` key. Raises ValueError."""
        start = self.root + prefix.encode() + b"/"
        tail = key[len(start) :]  # faster than a split
        family, digits = tail[:2], tail[2:]
        bits = _FAMILY_BITS.get(family)
        malformed = len(digits) != _ADDRESS_DIGITS or digits.translate(None, _HEXADECIMAL_BYTES)
        if bits is None or malformed or not key.startswith(start):
            raise ValueError(
                f"the key must be {prefix}/4/ or {prefix}/6/, followed by 32 hexadecimal digits"
            )
        value = int(digits, 16)
        if value >> bits:
            raise ValueError("the address is too large for its family")
        return Address(4 if bits == 32 else 6, value)

    def check_segment(self, key: bytes) -> tuple[str, int]:
        """Writer and number of a ``log/`` key. Raises ValueError."""
        _, writer, digits = self.check_parts(key, 3)
        if len(digits) != _SEQ_DIGITS or not _HEXADECIMAL_CHARS.issuperset(digits):
            raise ValueError("the key must be log/WRITER/, followed by 16 hexadecimal digits")
        return writer, int(digits, 16)

    def check_head(self, key: bytes) -> str:
        """The writer of a ``head/`` key. Raises ValueError."""
        return self.check_parts(key, 2)[1]

    def check_guid(self, key: bytes) -> str:
        """The GUID of a ``guid/`` key. Raises ValueError."""
        _, digits = self.check_parts(key, 2)
        if len(digits) != _GUID_DIGITS or not _HEXADECIMAL_CHARS.issuperset(digits):
            raise ValueError("the key must be guid/, followed by 16 hexadecimal digits")
        return bytes.fromhex(digits).hex(":")

    @staticmethod
    def is_writer(name: str) -> bool:
        """Whether a writer may have this name."""
        return len(name) <= SUBDOMAIN_CHARS_MAX and is_name(name)

    def check_guard(self, key: bytes) -> None:
        """Raise ValueError unless ``guard`` can build the key."""
        _, topic, family = self.check_parts(key, 3)
        if topic not in GUARD_TOPICS or family not in ("4", "6"):
            topics = ", ".join(GUARD_TOPICS)
            raise ValueError(
                f"the key must be guard/TOPIC/4 or guard/TOPIC/6, TOPIC one of {topics}"
            )

    def addresses_in(self, keys: Iterable[bytes], prefix: str) -> Iterator[Address]:
        """The addresses of these keys; skips malformed keys, which ``orbctl verify`` reports."""
        for key in keys:
            with suppress(ValueError):
                yield self.check_address(key, prefix)

    @staticmethod
    def address_in(key: bytes) -> Address:
        """The address of an ``ip/``, ``rest/`` or ``quarantine/`` key, which must be valid."""
        family: Family = 4 if key[-34:-33] == b"4" else 6
        return Address(family, int(key[-32:], 16))

    @staticmethod
    def address_text_in(key: bytes) -> str:
        """``address_in`` as canonical text, but faster."""
        if key[-34:-33] == b"4":
            return inet_ntop(AF_INET, bytes.fromhex(key[-8:].decode()))
        return format_address(6, int(key[-32:], 16))


def key_text(keys: Keys, key: bytes) -> str:
    """A key as text without the root; bytes that are not UTF-8 are escaped."""
    return key.removeprefix(keys.root).decode(errors="backslashreplace")
