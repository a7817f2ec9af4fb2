"""The BPF maps: names, sizes, keys and values as bytes. Pure.

A group is the backends of one frontend. The maps, key -> value:

    services   frontend                     -> group, number of backends, seconds of affinity
    backends   group and index in the group -> backend
    members    group and backend            -> nothing; only for Services with affinity
    affinity   client and frontend          -> backend, time of last use
    reversed   socket and backend           -> replaced frontend

The programs write ``affinity`` and ``reversed``, the agent the others. Ports are in network byte
order. IPv4 addresses are mapped into IPv6: IPv4 and IPv6 sockets find the same entry.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from nodeagent.clusterip.frontends import Frontend, TransportAddress
from nodeagent.ebpf import numbers as n
from nodeagent.ebpf.calls import MapSpec

VERSION: Final = 1
"""Increase it with every change of the layout: an agent never reads maps of other versions."""

FRONTENDS_MAX: Final = 65_536

BACKENDS_MAX: Final = 131_072
"""The maps have twice this size: a plan adds new backends before it removes old backends."""

REVERSED_MAX: Final = 65_536

CLIENTS_MAX: Final = 16_384

FRONTEND: Final = Struct("=16s2sBx")
HEAD: Final = Struct("=III")
SLOT: Final = Struct("=II")
BACKEND: Final = Struct("=16s2s2x")
MEMBER: Final = Struct("=I16s2s2x")
CLIENT_BYTES: Final = 32
CHOSEN_BYTES: Final = 32
SOCKET_BYTES: Final = 32
"""``bpf_programs`` lists the fields of a client, a chosen backend and a socket."""

NOTHING: Final = bytes(4)


_NO_PREALLOC: Final = n.BPF_F_NO_PREALLOC
SERVICES: Final = MapSpec(
    "services", n.BPF_MAP_TYPE_HASH, FRONTEND.size, HEAD.size, FRONTENDS_MAX, _NO_PREALLOC
)
BACKENDS: Final = MapSpec(
    "backends", n.BPF_MAP_TYPE_HASH, SLOT.size, BACKEND.size, 2 * BACKENDS_MAX, _NO_PREALLOC
)
MEMBERS: Final = MapSpec(
    "members", n.BPF_MAP_TYPE_HASH, MEMBER.size, len(NOTHING), 2 * BACKENDS_MAX, _NO_PREALLOC
)
AFFINITY: Final = MapSpec(
    "affinity", n.BPF_MAP_TYPE_LRU_HASH, CLIENT_BYTES, CHOSEN_BYTES, CLIENTS_MAX
)
REVERSED: Final = MapSpec(
    "reversed", n.BPF_MAP_TYPE_LRU_HASH, SOCKET_BYTES, FRONTEND.size, REVERSED_MAX
)
MAPS: Final = (SERVICES, BACKENDS, MEMBERS, AFFINITY, REVERSED)


class FrontendHead(NamedTuple):
    """The value of ``services``. ``group`` and ``size`` are 0 if there are no backends."""

    group: int
    size: int
    affinity_s: int


class Slot(NamedTuple):
    """The key of ``backends``. ``number``: the backend's index in the group."""

    group: int
    number: int


class Member(NamedTuple):
    """The key of ``members``."""

    group: int
    backend: TransportAddress


def pack_frontend(frontend: Frontend) -> bytes:
    """Encode a key of ``services``."""
    port = frontend.port.to_bytes(2, "big")
    return FRONTEND.pack(frontend.address, port, frontend.protocol)


def unpack_frontend(data: bytes) -> Frontend:
    """Decode a key of ``services`` or a value of ``reversed``."""
    address, port, protocol = FRONTEND.unpack(data)
    return Frontend(address, int.from_bytes(port, "big"), protocol)


def pack_backend(backend: TransportAddress) -> bytes:
    """Encode a value of ``backends``."""
    return BACKEND.pack(backend.address, backend.port.to_bytes(2, "big"))


def unpack_backend(data: bytes) -> TransportAddress:
    """Decode a value of ``backends``."""
    address, port = BACKEND.unpack(data)
    return TransportAddress(address, int.from_bytes(port, "big"))


def pack_member(member: Member) -> bytes:
    """Encode a key of ``members``."""
    port = member.backend.port.to_bytes(2, "big")
    return MEMBER.pack(member.group, member.backend.address, port)


def unpack_member(data: bytes) -> Member:
    """Decode a key of ``members``."""
    group, address, port = MEMBER.unpack(data)
    return Member(group, TransportAddress(address, int.from_bytes(port, "big")))
