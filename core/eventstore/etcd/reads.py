"""Reading ranges of any size at one revision.

A range is read in pages, so that every answer arrives within the deadline of an attempt, and no
answer blocks the event loop for long. The first page is small; nearly every read needs only this
page. Later pages are large: etcd counts the remaining keys of the range for every page, so many
small pages would take quadratic time.
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
"""Rough size of the revisions and lengths of one key in an answer."""


async def read(calls: Calls, gets: Sequence[Get], revision: int) -> ReadResult:
    """Read all ranges at one revision; revision 0 means the newest.

    Raises StoreUnavailable, Compacted, StoreRejected.
    """
    message_conversion.check_operations(gets)
    for _ in range(READ_ATTEMPTS_MAX):
        try:
            return await _read(calls, gets, revision)
        except CallFailed:  # raised by ``repeat`` only if the revision was compacted
            # If the caller requested the revision, no attempt can succeed. Otherwise, a compaction
            # came between two pages: read again at a newer revision.
            if revision:
                break
    raise Compacted(await oldest_revision(calls, gets[0].start, revision or 1))


async def _read(calls: Calls, gets: Sequence[Get], revision: int) -> ReadResult:
    first = [get._replace(limit=_smaller(get.limit, FIRST_PAGE_KEYS)) for get in gets]
    if len(first) == 1:
        response = await calls.repeat("range", message_conversion.range_request(first[0], revision))
        results: tuple[RangeResult, ...] = (message_conversion.range_result(response),)
    else:
        response = await calls.repeat("txn", encode_reads(first, revision))
        results = message_conversion.range_results(response)
    at = revision or response.header.revision
    complete = [
        await _read_remaining(calls, get, page, at) for get, page in zip(gets, results, strict=True)
    ]
    return ReadResult(at, tuple(complete))


async def _read_remaining(calls: Calls, get: Get, page: RangeResult, revision: int) -> RangeResult:
    key_count = _smaller(get.limit, page.count)
    if len(page.kvs) >= key_count or get.count_only:
        return page
    kvs = list(page.kvs)
    last = page.kvs
    while len(kvs) < key_count and last:
        limit = min(_page_keys(last), key_count - len(kvs))
        following = get._replace(start=last[-1].key + b"\0", limit=limit)
        response = await calls.repeat(
            "range", message_conversion.range_request(following, revision)
        )
        last = message_conversion.range_result(response).kvs
        kvs += last
    return RangeResult(tuple(kvs), page.count, page.count > len(kvs))


def _smaller(limit: int, bound: int) -> int:
    return min(limit, bound) if limit else bound


def _page_keys(previous: Sequence[KeyValue]) -> int:
    """The number of keys for a page of ``PAGE_BYTES``, estimated from the previous page."""
    size = sum(len(kv.key) + len(kv.value) + _KEY_OVERHEAD_BYTES for kv in previous)
    return max(1, min(PAGE_KEYS_MAX, PAGE_BYTES * len(previous) // size))
