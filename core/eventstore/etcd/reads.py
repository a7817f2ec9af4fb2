"""Reading ranges of any size at one revision, in pages.

Pages let every answer arrive within the deadline of an attempt, and no answer blocks the event loop
for long. The first page is small, and nearly always enough. Later pages are large: etcd counts the
remaining keys for every page, so many small pages would take quadratic time.

A range with ``oldest_first`` is read in one page, because later pages continue by key.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import Compacted
from core.eventstore.etcd import message_conversion
from core.eventstore.etcd.calls import Calls
from core.eventstore.etcd.failures import CallFailed
from core.eventstore.etcd.settings import (
    FIRST_PAGE_KEYS,
    PAGE_BYTES,
    PAGE_KEYS_MAX,
    READ_ATTEMPTS_MAX,
)
from core.eventstore.etcd.txn_encoder import encode_reads
from core.eventstore.etcd.watch import oldest_revision
from core.eventstore.kv import Get, KeyValue, RangeResult, ReadResult

_KEY_OVERHEAD_BYTES = 32
"""Revisions and lengths of one key."""


async def read(calls: Calls, gets: Sequence[Get], revision: int) -> ReadResult:
    """Revision 0 means the newest. Raises StoreUnavailable, Compacted, StoreRejected."""
    message_conversion.check_operations(gets)
    for _ in range(READ_ATTEMPTS_MAX):
        try:
            return await _read(calls, gets, revision)
        except CallFailed:  # raised by ``repeat`` only if the revision was compacted
            # A compaction came between two pages: read a newer revision if the caller permits it.
            if revision:
                break
    raise Compacted(await oldest_revision(calls, gets[0].start, revision or 1))


async def _read(calls: Calls, gets: Sequence[Get], revision: int) -> ReadResult:
    first_gets = [
        get if get.oldest_first else get._replace(limit=_smaller(get.limit, FIRST_PAGE_KEYS))
        for get in gets
    ]
    if len(first_gets) == 1:
        response = await calls.repeat(
            "range", message_conversion.range_request(first_gets[0], revision)
        )
        results: tuple[RangeResult, ...] = (message_conversion.range_result(response),)
    else:
        response = await calls.repeat("txn", encode_reads(first_gets, revision))
        results = message_conversion.range_results(response)
    at = revision or response.header.revision
    complete_ranges = [
        await _read_remaining(calls, get, page, at) for get, page in zip(gets, results, strict=True)
    ]
    return ReadResult(at, tuple(complete_ranges))


async def _read_remaining(calls: Calls, get: Get, page: RangeResult, revision: int) -> RangeResult:
    key_count = _smaller(get.limit, page.count)
    if len(page.kvs) >= key_count or get.count_only:
        return page
    kvs = list(page.kvs)
    last_page = page.kvs
    while len(kvs) < key_count and last_page:
        limit = min(_page_keys(last_page), key_count - len(kvs))
        next_get = get._replace(start=last_page[-1].key + b"\0", limit=limit)
        response = await calls.repeat("range", message_conversion.range_request(next_get, revision))
        last_page = message_conversion.range_result(response).kvs
        kvs += last_page
    return RangeResult(tuple(kvs), page.count, page.count > len(kvs))


def _smaller(limit: int, bound: int) -> int:
    """A ``limit`` of 0 means no limit."""
    return min(limit, bound) if limit else bound


def _page_keys(previous: Sequence[KeyValue]) -> int:
    """How many keys fit into the next page, estimated from the previous page."""
    size = sum(len(kv.key) + len(kv.value) + _KEY_OVERHEAD_BYTES for kv in previous)
    return max(1, min(PAGE_KEYS_MAX, PAGE_BYTES * len(previous) // size))
