"""The index keys of pools and subnets, for look-ups by CIDR, by address and by application.

    index/<topic>/<family>/network/<first address>/<prefix length>/<name>
    index/pools/<family>/block/<first address>/<prefix length>/<pool>
    index/pools/<family>/application/<group and version>/<kind>/<namespace>/<application>/<pool>

The transaction that changes a pool or subnet also writes its index keys. A topic's guard key has
the value ``COMPLETE_INDEX`` while the topic's index is complete. A release of Orbweaver without the
index overwrites this value; ``core.configuration.indexer`` then rebuilds the index.

Aligned blocks cover a pool's addresses, like the prefixes of a routing table. A pool that needs
more than ``BLOCKS_MAX`` blocks gets larger ones. A look-up may then return pools that have none of
the addresses. Each kind of index key has its own range, because etcd counts every key of a range
that is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final, Literal, get_args

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import (
    ADDRESS_BITS,
    AddressSyntaxError,
    Cidr,
    Family,
    parse_cidr,
)
from core.domain.autopools.pool_names import ApplicationKey, application_of
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.model import Pool, Subnet
from core.eventstore.keys import Keys, range_end
from core.eventstore.kv import Get, RangeResult

Topic = Literal["pools", "subnets"]

COMPLETE_INDEX: Final = b"indexed"
"""The value of a topic's guard key while the topic's index is complete."""

BLOCKS_MAX: Final = 48
"""The most blocks of one pool; one transaction replaces all of them."""

LOOKUP_RANGES_MAX: Final = 24
"""The most address ranges of a look-up; it joins neighbours if there are more."""

TOPICS: Final[tuple[Topic, ...]] = get_args(Topic)
FAMILIES: Final[tuple[Family, ...]] = get_args(Family)

_DIGITS: Final = 32
_PARTS: Final = {"network": 3, "block": 3}
"""Number of parts after the kind.

``application`` is missing: its parts come from labels and are not checked.
"""


class IndexIncomplete(Exception):  # caught where the index is rebuilt
    """The index is incomplete or cannot be decoded: rebuild it."""

    def __init__(self, topic: Topic, family: Family) -> None:
        super().__init__(topic, family)
        self.topic: Topic = topic
        self.family: Family = family


class Index:
    """The index keys of one topic and family."""

    __slots__ = ("_prefix", "family", "topic")

    def __init__(self, keys: Keys, topic: Topic, family: Family) -> None:
        self._prefix = keys.prefix("index", topic, str(family))
        self.topic = topic
        self.family = family

    def all(self) -> tuple[bytes, bytes]:
        """[start, end) of all keys."""
        return self._prefix, range_end(self._prefix)

    def entries(self, value: Pool | Subnet | None) -> dict[bytes, bytes]:
        """The index keys of an object; {} if it has invalid addresses or the other family."""
        if value is None or value.family != self.family:
            return {}
        try:
            cidr = parse_cidr(value.subnet)
            owned = pool_addresses(value) if isinstance(value, Pool) else AddressSet(self.family)
        except AddressSyntaxError:
            return {}
        prefixes = [self._block("network", cidr.first, cidr.prefix_length)]
        prefixes += [self._block("block", *block) for block in blocks_of(owned)]
        application = application_of(value.labels) if isinstance(value, Pool) else None
        if application is not None:
            prefixes.append(self._application(application))
        return {prefix + value.name.encode(): b"" for prefix in prefixes}

    def with_cidr(self, cidr: Cidr) -> Get:
        """The read that finds objects with exactly this CIDR."""
        return self._under(self._block("network", cidr.first, cidr.prefix_length))

    def overlapping(self, cidr: Cidr) -> list[Get]:
        """The reads that find objects whose CIDR overlaps ``cidr`` and differs from it."""
        longer = self._block("network", cidr.first, cidr.prefix_length + 1)
        return [
            *self._containing("network", cidr.first, range(cidr.prefix_length)),
            # "0" is the character after "/", so the range includes all keys of the last address.
            Get(longer, self._key(f"network/{cidr.last:0{_DIGITS}x}0"), keys_only=True),
        ]

    def containing(self, value: int) -> list[Get]:
        """The reads that find objects whose CIDR contains an address."""
        return self._containing("network", value, range(ADDRESS_BITS[self.family] + 1))

    def owners(self, addresses: AddressSet, cidr: Cidr | None = None) -> list[Get]:
        """The reads that find pools that may have one of these addresses.

        ``cidr``: the pools' CIDR, if known.
        """
        shortest = 0 if cidr is None else cidr.prefix_length
        lengths = range(shortest, ADDRESS_BITS[self.family] + 1)
        gets: dict[Get, None] = {}
        for first, last in addresses.covering_intervals(LOOKUP_RANGES_MAX):
            gets |= dict.fromkeys(self._containing("block", first, lengths))
            start = self._key(f"block/{first:0{_DIGITS}x}/")
            end = self._key(f"block/{last:0{_DIGITS}x}0")  # "0" as in ``overlapping``
            gets[Get(start, end, keys_only=True)] = None
        return list(gets)

    def of_application(self, application: ApplicationKey) -> Get:
        """The read that finds an application's automatic pools."""
        return self._under(self._application(application))

    def names_in(self, *answers: RangeResult) -> list[str]:
        """The distinct names of the objects in these answers. Raises IndexIncomplete."""
        try:
            names = [kv.key.rpartition(b"/")[2].decode() for answer in answers for kv in answer.kvs]
        except UnicodeDecodeError as error:
            raise IndexIncomplete(self.topic, self.family) from error
        return list(dict.fromkeys(names))

    def _key(self, tail: str) -> bytes:
        return self._prefix + tail.encode()

    def _under(self, prefix: bytes) -> Get:
        return Get(prefix, range_end(prefix), keys_only=True)

    def _block(self, kind: str, first: int, length: int) -> bytes:
        return self._key(f"{kind}/{first:0{_DIGITS}x}/{length:03d}/")

    def _containing(self, kind: str, value: int, lengths: range) -> list[Get]:
        gets = []
        for length in lengths:
            host_bits = ADDRESS_BITS[self.family] - length
            gets.append(self._under(self._block(kind, value >> host_bits << host_bits, length)))
        return gets

    def _application(self, application: ApplicationKey) -> bytes:
        group_version = application.api_version.replace("/", "_")
        return self._key("/".join(("application", group_version, *application[1:], "")))


def blocks_of(addresses: AddressSet) -> list[tuple[int, int]]:
    """At most ``BLOCKS_MAX`` aligned blocks that cover the set: (first address, prefix length).

    If an exact cover needs more blocks, the smallest block size doubles until they suffice.
    """
    bits = ADDRESS_BITS[addresses.family]
    for host_bits in range(bits + 1):
        rounded = AddressSet.from_intervals(
            (
                (first >> host_bits << host_bits, last | (1 << host_bits) - 1)
                for first, last in addresses
            ),
            addresses.family,
        )
        blocks = list(islice(_aligned(rounded, bits), BLOCKS_MAX + 1))
        if len(blocks) <= BLOCKS_MAX:
            return blocks
    raise AssertionError("even the largest block size needs too many blocks")


def _aligned(addresses: AddressSet, bits: int) -> Iterator[tuple[int, int]]:
    """The largest aligned blocks that make up the set: (first address, prefix length)."""
    for start, last in addresses:
        first = start
        while first <= last:
            host_bits = (last - first + 1).bit_length() - 1
            if first:
                host_bits = min(host_bits, (first & -first).bit_length() - 1)
            yield first, bits - host_bits
            first += 1 << host_bits


def check_entry(keys: Keys, key: bytes) -> None:
    """Raise ValueError for a key that ``Index.entries`` cannot return."""
    topic, family, kind, *rest = key.removeprefix(keys.prefix("index")).decode().split("/")
    is_shaped = kind == "application" or len(rest) == _PARTS.get(kind)
    if topic not in TOPICS or family not in ("4", "6") or not is_shaped:
        raise ValueError("the key must have the form index/TOPIC/FAMILY/KIND/...")
    if kind in _PARTS:
        int(rest[0], 16)
        int(rest[1])


def read_entry(value: bytes) -> bytes:
    """Check that the value is empty. Raises ValueError."""
    if value:
        raise ValueError("an index entry must have an empty value")
    return value
