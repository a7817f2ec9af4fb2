"""The maps that programs and agent share: names, sizes, keys and values as bytes. Pure.

    services   frontend                     -> which group of backends, how many, affinity
    backends   group and place in it        -> backend
    members    group and backend            -> nothing; of Services with affinity alone
    affinity   client and frontend          -> backend, when it was last used      (programs write)
    reversed   socket and backend           -> frontend that it stands for         (programs write)

IPv4 addresses are mapped into IPv6, so that one map serves both families and an IPv6 socket that
asks for an IPv4 address finds the same. Ports are in network order. ``VERSION`` changes with any
of it, and names the directory of the pins: an agent never reads what another layout wrote.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from nodeagent.clusterip.frontends import Frontend, TransportAddress
from nodeagent.ebpf import numbers as n
from nodeagent.ebpf.calls import MapSpec

VERSION: Final = 1

FRONTENDS_MAX: Final = 65_536
"""Addresses with a port of all Services; what is beyond is left out, and said."""

BACKENDS_MAX: Final = 131_072
"""Of all frontends together; the map has room for twice as many, old and new ones."""

REVERSED_MAX: Final = 65_536
"""Sockets that asked for a Service; the one not used for longest is forgotten first."""

CLIENTS_MAX: Final = 16_384
"""Clients with affinity; the one not used for longest is forgotten first."""

FRONTEND: Final = Struct("=16s2sBx")
HEAD: Final = Struct("=III")
SLOT: Final = Struct("=II")
PLACE: Final = Struct("=16s2s2x")
MEMBER: Final = Struct("=I16s2s2x")
CLIENT_BYTES: Final = 32
CHOSEN_BYTES: Final = 32
SOCKET_BYTES: Final = 32
NOTHING: Final = bytes(4)

_GROWS: Final = n.BPF_F_NO_PREALLOC
SERVICES: Final = MapSpec(
    "services", n.BPF_MAP_TYPE_HASH, FRONTEND.size, HEAD.size, FRONTENDS_MAX, _GROWS
)
BACKENDS: Final = MapSpec(
    "backends", n.BPF_MAP_TYPE_HASH, SLOT.size, PLACE.size, 2 * BACKENDS_MAX, _GROWS
)
MEMBERS: Final = MapSpec(
    "members", n.BPF_MAP_TYPE_HASH, MEMBER.size, len(NOTHING), 2 * BACKENDS_MAX, _GROWS
)
AFFINITY: Final = MapSpec(
    "affinity", n.BPF_MAP_TYPE_LRU_HASH, CLIENT_BYTES, CHOSEN_BYTES, CLIENTS_MAX
)
REVERSED: Final = MapSpec(
    "reversed", n.BPF_MAP_TYPE_LRU_HASH, SOCKET_BYTES, FRONTEND.size, REVERSED_MAX
)
MAPS: Final = (SERVICES, BACKENDS, MEMBERS, AFFINITY, REVERSED)


class FrontendHead(NamedTuple):
    """What stands at a frontend. ``group`` 0 with ``size`` 0: nobody is there."""

    group: int
    size: int
    affinity_s: int


class Slot(NamedTuple):
    """One backend's place."""

    group: int
    number: int


class Member(NamedTuple):
    """A backend of a group."""

    group: int
    backend: TransportAddress


def pack_frontend(one: Frontend) -> bytes:
    """As a key of ``services``."""
    return FRONTEND.pack(one.address, one.port.to_bytes(2, "big"), one.protocol)


def unpack_frontend(data: bytes) -> Frontend:
    """The key of ``services``, and the value of ``reversed``."""
    address, port, protocol = FRONTEND.unpack(data)
    return Frontend(address, int.from_bytes(port, "big"), protocol)


def pack_place(one: TransportAddress) -> bytes:
    """As a value of ``backends``."""
    return PLACE.pack(one.address, one.port.to_bytes(2, "big"))


def unpack_place(data: bytes) -> TransportAddress:
    """The value of ``backends``."""
    address, port = PLACE.unpack(data)
    return TransportAddress(address, int.from_bytes(port, "big"))


def pack_member(one: Member) -> bytes:
    """As a key of ``members``."""
    return MEMBER.pack(one.group, one.backend.address, one.backend.port.to_bytes(2, "big"))


def unpack_member(data: bytes) -> Member:
    """The key of ``members``."""
    group, address, port = MEMBER.unpack(data)
    return Member(group, TransportAddress(address, int.from_bytes(port, "big")))
