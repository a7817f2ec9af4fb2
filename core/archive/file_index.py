"""The index of an archive file: the blocks that have events about a subject.

The format is eight bytes ``ORBIDX01``, then a sorted list of 8-byte big-endian numbers. A number
has 44 bits of blake2b over a token (a text that names a subject), then 20 bits of block number.
Two tokens may have the same bits: readers remove surplus events after decoding.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

from core.domain.events import (
    AddressesClaimed,
    AddressesReleased,
    AddressQuarantined,
    AllocationRefused,
    BindingChanged,
    EndpointChanged,
    Event,
    PoolDefined,
    PoolDeleted,
    PoolRetired,
    QuarantineLifted,
    SubnetDefined,
    SubnetDeleted,
    SubnetRetired,
)
from core.domain.model import Pool, Quarantine, Subnet

BLOCK_BITS: Final = 20
BLOCKS_MAX: Final = 1 << BLOCK_BITS

INDEX_MAGIC: Final = b"ORBIDX01"

_HASH_BYTES: Final = 6
_HASH_SHIFT: Final = 48 - 44  # an entry has 44 of the 48 hash bits
_ENTRY_BYTES: Final = 8
_UID_HOLDER: Final = "pod/"
"""The prefix of a Pod's UID in the name of a holder."""


def tokens_of(event: Event) -> Iterator[str]:
    """The tokens of an event's subjects.

    Each address of an endpoint gets a token: its history has the endpoint's moves to other Pods.
    """
    match event:
        case AddressesClaimed(endpoint) | EndpointChanged(endpoint):
            yield f"pod {endpoint.namespace}/{endpoint.name}"
            yield f"uid {endpoint.uid}"
            for address, pool in endpoint.addresses():
                yield f"address {address}"
                yield f"use {pool}"
        case AddressesReleased(namespace, name, releases):
            yield f"pod {namespace}/{name}"
            for release in releases:
                yield f"address {release.address}"
                yield f"use {release.pool}"
                if release.holder.startswith(_UID_HOLDER):
                    yield f"uid {release.holder.removeprefix(_UID_HOLDER)}"
        case AllocationRefused(namespace, name, uid):
            yield f"pod {namespace}/{name}"
            yield f"uid {uid}"
        case BindingChanged(namespace, name, uid=uid, addresses=addresses):
            yield f"pod {namespace}/{name}"
            yield f"uid {uid}"
            for address in addresses:
                yield f"address {address}"
        case PoolDefined(Pool(name)) | PoolRetired(name) | PoolDeleted(name):
            yield f"pool {name}"
        case SubnetDefined(Subnet(name)) | SubnetRetired(name) | SubnetDeleted(name):
            yield f"subnet {name}"
        case AddressQuarantined(Quarantine(address)) | QuarantineLifted(address):
            yield f"address {address}"
        case _:
            pass


class IndexBuilder:
    """Collects the tokens of each block. The blocks must come in order."""

    def __init__(self) -> None:
        self._entries = array("Q")
        self._block = 0
        self._tokens: set[str] = set()

    def add(self, block: int, event: Event) -> None:
        """Add the tokens of an event in this block."""
        if block != self._block:
            self._close_block()
            self._block = block
        self._tokens.update(tokens_of(event))

    def finish(self) -> bytes:
        """The bytes of the index."""
        self._close_block()
        entries = array("Q", sorted(self._entries))
        if sys.byteorder == "little":
            entries.byteswap()
        return INDEX_MAGIC + entries.tobytes()

    def _close_block(self) -> None:
        block = self._block
        assert block < BLOCKS_MAX, block
        self._entries.extend([token_key(token) | block for token in self._tokens])
        self._tokens.clear()


def token_key(token: str) -> int:
    """The 44 hash bits of a token, in the high bits of an entry."""
    digest = blake2b(token.encode(), digest_size=_HASH_BYTES).digest()
    return int.from_bytes(digest, "big") >> _HASH_SHIFT << BLOCK_BITS


def find_blocks(index: memoryview, token: str) -> list[int]:
    """The numbers of the blocks that may have events of the token, ascending."""

    def entry(position: int) -> int:
        start = len(INDEX_MAGIC) + position * _ENTRY_BYTES
        return int.from_bytes(index[start : start + _ENTRY_BYTES], "big")

    positions = range((len(index) - len(INDEX_MAGIC)) // _ENTRY_BYTES)
    key = token_key(token)
    first = bisect_left(positions, key, key=entry)
    last = bisect_left(positions, key + BLOCKS_MAX, lo=first, key=entry)
    return [entry(position) - key for position in range(first, last)]
