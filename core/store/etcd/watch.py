"""One watch over several ranges: whole revisions, in order, across broken connections.

All ranges share one stream, one etcd watch per range. etcd tells each watch's changes on its own, so with
one range a message is passed on at once, while with several a revision may still be incomplete when
its first part arrives. Then changes are held back until etcd, asked for progress, says for
all watches of the stream that everything up to a revision was sent. That costs one
small round trip a burst and needs no assumption about the order in which watches are served. (One
watch over everything between the first and the last range would need no merging, but would send every
agent every claim of the cluster.)

It reads the stream only as fast as it is consumed; what etcd then holds back, etcd bounds.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import grpc

from core.errors import Compacted, StoreRejected, StoreUnavailable
from core.store.etcd import messages
from core.store.etcd.calls import Calls
from core.store.etcd.channel import Link
from core.store.etcd.failures import CallFailed, Failure, Nature, classify, read_error
from core.store.etcd.settings import (
    READ_ATTEMPT_S,
    WATCH_HELD_CHANGES_MAX,
    WATCH_HELD_S,
    WATCH_IDLE_S,
    WATCH_RETRY_S_MAX,
)
from core.store.etcd.wire import changes_after
from core.store.kv import Change, WatchBatch

_FIRST_WAIT_S = 0.05
_DOUBLINGS_MAX = 10

Range = tuple[bytes, bytes]


async def watch(calls: Calls, ranges: Sequence[Range], after: int) -> AsyncIterator[WatchBatch]:
    """Yield what changes in the ranges after revision ``after``, for ever.

    Raises Compacted, StoreRejected (no permission), and StoreUnavailable once the store is closed.
    """
    position = after
    failures = 0
    wanted = disjoint(ranges)
    while True:
        started = time.perf_counter()
        stream = None
        try:
            stream = _Stream(*await calls.open_watch())
            async for batch in stream.batches(wanted, position):
                failures = 0
                position = batch.revision
                yield batch
        except CallFailed as failed:
            error = read_error(failed.failure, calls.endpoint)
            calls.observe("watch", started, error)
            if calls.closed or failures and isinstance(error, StoreRejected):
                raise error from failed
            if stream is not None:
                await _settle(calls, stream.link, failed.failure)
        finally:
            if stream is not None:
                stream.close()
        await asyncio.sleep(_pause_s(failures))
        failures += 1


async def oldest_revision(calls: Calls, key: bytes, gone: int) -> int:
    """The oldest revision that can still be read, learned from a watch that starts at ``gone``.

    A refused read does not tell it. Raises StoreUnavailable when etcd does not say.
    """
    try:
        link, call = await calls.open_watch()
        stream = _Stream(link, call)
        try:
            async with asyncio.timeout(READ_ATTEMPT_S):
                async for _ in stream.batches([(key, b"")], gone):
                    return gone
        finally:
            stream.close()
    except Compacted as compacted:
        return compacted.revision
    except (CallFailed, TimeoutError) as error:
        raise StoreUnavailable("etcd does not say what it has compacted") from error
    raise StoreUnavailable("etcd does not say what it has compacted")


def disjoint(ranges: Sequence[Range]) -> list[Range]:
    """The same keys in ranges that neither overlap nor touch, so that no change comes twice."""
    merged: list[Range] = []
    for start, end in sorted((start, end or start + b"\0") for start, end in ranges):
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


class _Stream:
    """One watch stream over one connection."""

    def __init__(self, link: Link, call: Any) -> None:
        self.link = link
        self._call = call
        self._missing = 0
        self._held: list[Change] = []
        self._heard = asyncio.Event()
        self._pulse: asyncio.Task[None] | None = None

    def close(self) -> None:
        """End the stream at both sides."""
        if self._pulse is not None:
            self._pulse.cancel()
        self._call.cancel()

    async def batches(self, ranges: Sequence[Range], after: int) -> AsyncIterator[WatchBatch]:
        """Batches until the stream breaks. Raises CallFailed, Compacted."""
        await self._create(ranges, after)
        position = after
        merging = len(ranges) > 1
        while True:
            response: messages.WatchResponse = await self._receive()
            changes = changes_after(response, position)
            if changes and not merging:
                batch = WatchBatch(changes[-1].mod_revision, tuple(changes))
            elif changes:
                self._hold(changes, response.header.revision)
                continue
            elif response.watch_id == messages.PROGRESS_WATCH_ID and not response.created:
                batch = self._release(response.header.revision)
            else:
                continue
            if batch.revision > position:
                position = batch.revision
                yield batch
"""
"""
