"""Where things lie in etcd: every key under ``/orbweaver/v1/<cluster>/`` is made and read here.

Addresses and sequence numbers are fixed-width hexadecimal, so that a range of addresses is a range
of keys. Names never contain "/" (Kubernetes names cannot; writer names are checked).

    log/<writer>/<seq>               segment, 16 hex digits
    head/<writer>                    where the writer stands
    ip/<4|6>/<address>               claim, 32 hex digits
    rest/<4|6>/<address>             cool-down mark, under a lease
    quarantine/<4|6>/<address>       quarantine
    endpoint/<namespace>/<name>      endpoint
    pool/<name>, subnet/<name>       configuration
    reservation/<name>               configuration
    record/<kind>/<namespace>/<name> standalone facts
    guard/<topic>/<4|6>              changes with its topic; says whether its index is complete
    index/<topic>/<4|6>/...          finds pools and subnets (``core.eventstore.index``)
    view/application/<application>   what the last look at its automatic pools found, under a lease
    admitted/<kind>/<name>/<review>  a webhook has admitted a pool or subnet that the log may lack
    refused/<name>                   a pool that Kubernetes has and the log refuses
    need/<application>               an ADD waits for such a pool, under a lease
    binding/<namespace>/<name>       what a network provider has bound of an endpoint, or shall
    meta/<name>, lease/<role>        one of a kind
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from socket import AF_INET, inet_ntop
from typing import Final

from core.domain.addresses.ip_address import Address, Family, format_address, parse_address
from core.domain.names import SUBDOMAIN_CHARS_MAX, is_name
from core.errors import BadInput

LAYOUT = "v1"
GUARD_TOPICS: Final = ("pools", "subnets", "reservations", "quarantine", "records")
"""What has a guard key; ``records`` have one of family 4 alone."""

_ADDRESS_BITS: Final = {"4": 32, "6": 128}
_FAMILY_BITS: Final = {b"4/": 32, b"6/": 128}
_HEXADECIMAL_BYTES: Final = b"0123456789abcdef"
_ADDRESS_DIGITS: Final = 32
_SEQ_DIGITS: Final = 16
_HEXADECIMAL: Final = frozenset("0123456789abcdef")

CONTROLLER_WRITERS = "Controller."
"""What the writer names of controllers and of orbctl begin with.

Kubernetes' node names, after which agents name their writers, are lower-case (RFC 1123). So no node
can collide with a controller, and etcd's roles can tell the two apart by a range of keys.
"""


def check_name(name: str, what: str) -> str:
    """The name of a writer, node or cluster, if it can be part of a key."""
    if len(name) > SUBDOMAIN_CHARS_MAX or not is_name(name):
        raise BadInput(
            f"{what} {name[:64]!r} is not a name",
            subject=what,
            remedy="use letters, digits, '.', '_', '-', with a letter or digit at both ends",
        )
    return name


def controller_writer(name: str) -> str:
    """The full name of a writer that belongs to a controller or to orbctl."""
    return CONTROLLER_WRITERS + name


def range_end(prefix: bytes) -> bytes:
    """The first key after every key that begins with ``prefix``."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Keys:
    """The keys of one cluster."""

    __slots__ = ("cluster", "root")

    def __init__(self, cluster: str) -> None:
        self.cluster = check_name(cluster, "cluster name")
        self.root = f"/orbweaver/{LAYOUT}/{cluster}/".encode()

    def prefix(self, *parts: str) -> bytes:
        """``<root>part/part/``: a whole room of keys."""
        return self.root + "".join(f"{part}/" for part in parts).encode()

    def room(self, *parts: str) -> tuple[bytes, bytes]:
        """[start, end) of every key under ``prefix(*parts)``."""
        prefix = self.prefix(*parts)
        return prefix, range_end(prefix)

    def room_of(self, key: bytes) -> str:
        """The first part of a key behind the root: its kind."""
        return key[len(self.root) :].partition(b"/")[0].decode()

    def log(self, writer: str, seq: int) -> bytes:
        """A segment."""
        return self.root + f"log/{writer}/{seq:016x}".encode()

    def head(self, writer: str) -> bytes:
        """The head of a writer."""
        return self.root + f"head/{writer}".encode()

    def ip(self, family: Family, value: int) -> bytes:
        """The claim of an address."""
        return self.root + b"ip/%d/%032x" % (family, value)

    def rest(self, family: Family, value: int) -> bytes:
        """The cool-down mark of an address."""
        return self.root + b"rest/%d/%032x" % (family, value)

    def quarantine(self, family: Family, value: int) -> bytes:
        """The quarantine of an address."""
        return self.root + b"quarantine/%d/%032x" % (family, value)

    def endpoint(self, namespace: str, name: str) -> bytes:
        """An endpoint."""
        return self.root + f"endpoint/{namespace}/{name}".encode()

    def pool(self, name: str) -> bytes:
        """A pool."""
        return self.root + f"pool/{name}".encode()

    def subnet(self, name: str) -> bytes:
        """A subnet."""
        return self.root + f"subnet/{name}".encode()

    def reservation(self, name: str) -> bytes:
        """A reservation."""
        return self.root + f"reservation/{name}".encode()

    def record(self, kind: str, namespace: str, name: str) -> bytes:
        """What an operator says of a Pod, StatefulSet, Namespace or Node."""
        return self.root + f"record/{kind}/{namespace or '-'}/{name}".encode()

    def guard(self, topic: str, family: Family) -> bytes:
        """A key that changes with every change of its topic (pools, subnets, ...) in a family."""
        return self.root + f"guard/{topic}/{family}".encode()

    def application_view(self, application: str) -> bytes:
        """What the last look at an application's automatic pools found."""
        return self.root + f"view/application/{application}".encode()

    def need(self, application: str) -> bytes:
        """An ADD waits for an automatic pool of the application."""
        return self.root + f"need/{application}".encode()

    def admitted(self, kind: str, name: str, review: str) -> bytes:
        """A pool or subnet that a webhook has admitted."""
        return self.root + f"admitted/{kind}/{name}/{review}".encode()

    def refused(self, name: str) -> bytes:
        """A pool that Kubernetes has and the log refuses."""
        return self.root + f"refused/{name}".encode()

    def binding(self, namespace: str, name: str) -> bytes:
        """What a network provider has bound of an endpoint, or shall."""
        return self.root + f"binding/{namespace}/{name}".encode()

    def record_path(self, key: bytes) -> tuple[str, str, str]:
        """(kind, namespace, name) of a record's key."""
        kind, namespace, name = self.tail(key, "record")
        return kind, "" if namespace == "-" else namespace, name

    def meta(self, name: str) -> bytes:
        """One of a kind: schema version, archive cursor, projection checkpoint."""
        return self.root + f"meta/{name}".encode()

    def lease(self, role: str) -> bytes:
        """Who leads in a role."""
        return self.root + f"lease/{role}".encode()

    def tail(self, key: bytes, *parts: str) -> tuple[str, ...]:
        """The parts of a key behind ``prefix(*parts)``."""
        return tuple(key[len(self.prefix(*parts)) :].decode().split("/"))

    def ip_of(self, address: str) -> bytes:
        """The claim key of an address given as text."""
        parsed = parse_address(address)
        return self.ip(parsed.family, parsed.value)

    def quarantine_of(self, address: str) -> bytes:
        """The quarantine key of an address given as text."""
        parsed = parse_address(address)
        return self.quarantine(parsed.family, parsed.value)

    def check_parts(self, key: bytes, count: int) -> list[str]:
        """The parts of a key below the root. Raises ValueError unless there are ``count``."""
        parts = key.removeprefix(self.root).decode().split("/")
        if len(parts) != count or not all(parts):
            raise ValueError(f"a key of {len(parts)} parts where it has {count}")
        return parts

    def check_address(self, key: bytes, room: str) -> Address:
        """The address of an ``ip/``, ``rest/`` or ``quarantine/`` key. Raises ValueError."""
        start = self.root + room.encode() + b"/"
        tail = key[len(start) :]  # a scan asks for every claim: no parts are made
        family, digits = tail[:2], tail[2:]
        bits = _FAMILY_BITS.get(family)
        malformed = len(digits) != _ADDRESS_DIGITS or digits.translate(None, _HEXADECIMAL_BYTES)
        if bits is None or malformed or not key.startswith(start):
            raise ValueError("the key names no address")
        value = int(digits, 16)
        if value >> bits:
            raise ValueError("the key names an address out of its family")
        return Address(4 if bits == 32 else 6, value)

    def check_segment(self, key: bytes) -> tuple[str, int]:
        """Writer and number of a ``log/`` key. Raises ValueError."""
        _, writer, digits = self.check_parts(key, 3)
        if len(digits) != _SEQ_DIGITS or not _HEXADECIMAL.issuperset(digits):
            raise ValueError("the key names no segment")
        return writer, int(digits, 16)

    @staticmethod
    def is_writer(name: str) -> bool:
        """Whether a writer may have the name."""
        return len(name) <= SUBDOMAIN_CHARS_MAX and is_name(name)

    def check_guard(self, key: bytes) -> None:
        """Raises ValueError unless the key is one that ``guard`` makes."""
        _, topic, family = self.check_parts(key, 3)
        if topic not in GUARD_TOPICS or family not in _ADDRESS_BITS:
            raise ValueError("no change ever writes such a guard")

    def addresses_in(self, keys: Iterable[bytes], room: str) -> Iterator[Address]:
        """The addresses of these keys; one that names none is passed over (``verify`` tells)."""
        for key in keys:
            with suppress(ValueError):
                yield self.check_address(key, room)

    @staticmethod
    def address_in(key: bytes) -> Address:
        """The address at the end of an ``ip/``, ``rest/`` or ``quarantine/`` key."""
        family: Family = 4 if key[-34:-33] == b"4" else 6
        return Address(family, int(key[-32:], 16))

    @staticmethod
    def address_text_in(key: bytes) -> str:
        """The same as canonical text; a look at everything asks for every claim."""
        if key[-34:-33] == b"4":
            return inet_ntop(AF_INET, bytes.fromhex(key[-8:].decode()))
        return format_address(6, int(key[-32:], 16))
