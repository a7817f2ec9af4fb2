"""The index of pools and subnets: which keys find them by CIDR, by address and by application.

A command reads what it touches through these keys, whatever else exists. They follow from the pools
and subnets alone and are written in the transaction that changes those; the guard key of the topic
says whether they are complete (``COMPLETE``). A version that does not know the index writes another
value there, and then the index is built anew (``core.service.indexer``). Nothing here talks to the
store.

    index/<topic>/<family>/network/<last address>/<prefix length>/<name>
    index/pools/<family>/range/<last address>                 value: <first address>/<pool>
    index/pools/<family>/scattered/<pool>                     more ranges than are listed
    index/pools/<family>/application/<group and version>/<kind>/<namespace>/<application>/<pool>

Keys are ordered by the last address: of ranges that do not overlap, the first one that ends at or
after an address is the only one that may contain it. CIDRs of one topic are equal or apart, and no
address belongs to two pools, so that one key answers whether a CIDR or a range is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, NamedTuple, get_args

from core.domain.addresses import AddressSyntaxError, Cidr, Family, parse_cidr
from core.domain.autopools.naming import ApplicationKey, application_of
from core.domain.configuration import pool_addresses
from core.domain.model import Pool, Subnet
from core.store.keys import Keys
from core.store.kv import Get, RangeResult

Topic = Literal["pools", "subnets"]

COMPLETE: Final = b"indexed"
"""Value of a topic's guard key while its index has everything."""

LISTED_RANGES_MAX: Final = 24
"""Ranges of a pool in the index; a pool of more is read with every look-up by address.

Its old and its new ranges fit into one transaction.
"""

TOPICS: Final = get_args(Topic)

_DIGITS: Final = 32
_PARTS: Final = {"network": 3, "range": 1, "scattered": 1, "application": 5}
"""Parts of a key behind its sort."""


class IndexIncomplete(Exception):  # a state of the index, met and mended
    """The index of a topic and family lacks something or cannot be read: build it anew."""

    def __init__(self, topic: Topic, family: Family) -> None:
        super().__init__(topic, family)
        self.topic: Topic = topic
        self.family: Family = family


class Network(NamedTuple):
    """A CIDR in the index, and one that has it."""

    first: int
    last: int
    name: str

    def overlaps(self, cidr: Cidr) -> bool:
        """Whether it has an address of this CIDR."""
        return self.first <= cidr.last and cidr.first <= self.last

    def is_same(self, cidr: Cidr) -> bool:
        """Whether it is this CIDR."""
        return (self.first, self.last) == (cidr.first, cidr.last)


class Range(NamedTuple):
    """A range of a pool in the index."""

    first: int
    last: int
    pool: str


class Index:
    """The keys of one topic and family."""

    __slots__ = ("_prefix", "family", "topic")

    def __init__(self, keys: Keys, topic: Topic, family: Family) -> None:
        self._prefix = keys.prefix("index", topic, str(family))
        self.topic = topic
        self.family = family

    def all(self) -> tuple[bytes, bytes]:
        """[start, end) of all of it."""
        return self._prefix, self._prefix[:-1] + b"0"

    def entries(self, value: Pool | Subnet | None) -> dict[bytes, bytes]:
        """The keys that find this pool or subnet, with their values.

        None for one that cannot be read: what ``decide`` lets in can be.
        """
        if value is None or value.family != self.family:
            return {}
        try:
            cidr = parse_cidr(value.subnet)
            ranges = list(pool_addresses(value)) if isinstance(value, Pool) else []
        except AddressSyntaxError:
            return {}
        entries = {self._network(cidr) + value.name.encode(): b""}
        if len(ranges) > LISTED_RANGES_MAX:
            entries[self._key(f"scattered/{value.name}")] = b""
        else:
            for first, last in ranges:
                entries[self._range(last)] = f"{first:0{_DIGITS}x}/{value.name}".encode()
        application = application_of(value.labels) if isinstance(value, Pool) else None
        if application is not None:
            entries[self._application(application) + value.name.encode()] = b""
        return entries

    def network_at(self, cidr: Cidr) -> Get:
        """The first CIDR that may have an address of this one, for ``networks_in``."""
        start = self._key(f"network/{cidr.first:0{_DIGITS}x}")
        return Get(start, self._key("network0"), limit=1, keys_only=True)

    def names_at(self, cidr: Cidr) -> Get:
        """Everything of exactly this CIDR, for ``names_in``."""
        start = self._network(cidr)
        return Get(start, start[:-1] + b"0", keys_only=True)

    def range_at(self, first: int) -> Get:
        """The first range that ends at or after an address, for ``ranges_in``."""
        return Get(self._range(first), self._key("range0"), limit=1)

    def scattered(self) -> Get:
        """The pools whose ranges are not listed, for ``names_in``."""
        return Get(self._key("scattered/"), self._key("scattered0"), keys_only=True)

    def of_application(self, application: ApplicationKey) -> Get:
        """The automatic pools of an application, for ``names_in``."""
        start = self._application(application)
        return Get(start, start[:-1] + b"0", keys_only=True)

    def networks_in(self, found: RangeResult) -> list[Network]:
        """What keys of ``network_at`` say. Raises IndexIncomplete."""
        bits = 32 if self.family == 4 else 128
        networks = []
        with self._reading():
            for kv in found.kvs:
                digits, length, name = kv.key[len(self._key("network/")) :].decode().split("/", 2)
                last, low = int(digits, 16), bits - int(length)
                networks.append(Network((last >> low) << low, last, name))
        return networks

    def ranges_in(self, found: RangeResult) -> list[Range]:
        """What keys of ``range_at`` say. Raises IndexIncomplete."""
        ranges = []
        with self._reading():
            for kv in found.kvs:
                first, pool = kv.value.decode().split("/", 1)
                ranges.append(Range(int(first, 16), int(kv.key[-_DIGITS:], 16), pool))
        return ranges

    def names_in(self, found: RangeResult) -> list[str]:
        """The names at the end of keys. Raises IndexIncomplete."""
        with self._reading():
            return [kv.key.rpartition(b"/")[2].decode() for kv in found.kvs]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise IndexIncomplete(self.topic, self.family) from error

    def _key(self, tail: str) -> bytes:
        return self._prefix + tail.encode()

    def _network(self, cidr: Cidr) -> bytes:
        return self._key(f"network/{cidr.last:0{_DIGITS}x}/{cidr.prefix_length:03d}/")

    def _range(self, last: int) -> bytes:
        return self._key(f"range/{last:0{_DIGITS}x}")

    def _application(self, application: ApplicationKey) -> bytes:
        group_version = application.api_version.replace("/", "_")
        return self._key("/".join(("application", group_version, *application[1:], "")))


def check_entry(keys: Keys, key: bytes) -> None:
    """Raises ValueError for a key that is not one of ``Index.entries``."""
    topic, family, what, *rest = key.removeprefix(keys.prefix("index")).decode().split("/")
    expected = _PARTS.get(what)
    if topic not in TOPICS or family not in ("4", "6") or len(rest) != expected:
        raise ValueError("the key is not one of an index")
    if what in ("network", "range"):
        int(rest[0], 16)


def read_entry(value: bytes) -> str:
    """The pool that an entry names, "" when its key does. Raises ValueError."""
    if not value:
        return ""
    first, name = value.decode().split("/", 1)
    int(first, 16)
    return name
