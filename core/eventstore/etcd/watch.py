"""One watch over several ranges: whole revisions, in order, across broken connections.

All ranges share one stream, one etcd watch per range. etcd tells each watch's changes on its own,
so with one range a message is passed on at once, while with several a revision may still be
incomplete when its first part arrives. Then changes are held back until etcd, asked for progress,
says for all watches of the stream that everything up to a revision was sent. That costs one small
round trip a burst and needs no assumption about the order in which watches are served. (One watch
over everything between the first and the last range would need no merging, but would send every
agent every claim of the cluster.) A caller who can tell from the changes of a revision that they
are all (``IsWhole``) saves that round trip, which is most of what a change costs an agent and etcd:
etcd sends what one revision has in one range in one message, and a range's messages in order.

It reads the stream only as fast as it is consumed; what etcd then holds back, etcd bounds.
"""

from __future__ import annotations

import asyncio
import random
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter

from core.errors import Compacted, StoreUnavailable
from core.eventstore.etcd import messages
from core.eventstore.etcd.calls import Calls
from core.eventstore.etcd.channel import EndpointChannel
from core.eventstore.etcd.failures import (
    CallFailed,
    CallFailure,
    CallState,
    classify,
    judged,
    read_error,
)
from core.eventstore.etcd.http2 import RpcError, StatusCode, StreamingCall
from core.eventstore.etcd.settings import (
    READ_ATTEMPT_S,
    WATCH_HELD_CHANGES_MAX,
    WATCH_HELD_S,
    WATCH_RETRY_S_MAX,
)
from core.eventstore.etcd.wire import changes_after
from core.eventstore.kv import (
    WATCH_PROGRESS_S,
    WATCH_SILENT_S_MAX,
    IsWhole,
    KeyChange,
    WatchBatch,
)
from core.process.concurrency import until_tick_s
from core.process.retry import pause_s
from core.protobuf import DecodeError

_FIRST_WAIT_S = 0.05
_decode = messages.decoder("WatchResponse")

Range = tuple[bytes, bytes]

_IN_ORDER = attrgetter("mod_revision", "key")


async def watch(
    calls: Calls, ranges: Sequence[Range], after: int, is_whole: IsWhole | None = None
) -> AsyncIterator[WatchBatch]:
    """Yield the changes in the ranges after revision ``after``, without end.

    Raises Compacted, StoreRejected (no permission), and StoreUnavailable once the store is closed.
    """
    position = after
    failures = 0
    was_stale = False
    watched = disjoint(ranges)
    early = None if is_whole is None else _EarlyRevisions(watched, is_whole)
    while True:
        started = time.perf_counter()
        stream = _Stream(calls, early)
        try:
            await stream.open(watched, position)
            failures, was_stale = 0, False
            while True:
                batch = await stream.next_batch(position)
                position = batch.revision
                yield batch
        except CallFailed as failed:
            error = read_error(failed.failure, calls.endpoint)
            calls.observe("watch", started, error)
            is_stale = failed.failure.nature is CallState.STALE_TOKEN
            refused = failed.failure.nature is CallState.REFUSED
            if calls.closed or refused or (is_stale and was_stale):
                raise error from failed
            was_stale = is_stale
            stream.give_up(failed.failure)
        finally:
            stream.close()
        await asyncio.sleep(_pause_s(failures))
        failures += 1


async def oldest_revision(calls: Calls, key: bytes, compacted: int) -> int:
    """The oldest readable revision, which etcd returns to a watch from revision ``compacted``.

    The error of a read does not contain it. Raises StoreUnavailable if etcd does not return it.
    """
    stream = _Stream(calls)
    try:
        async with asyncio.timeout(READ_ATTEMPT_S):
            await stream.open([(key, key + b"\0")], compacted)
            await stream.next_batch(compacted)
    except Compacted as error:
        return error.revision
    except (CallFailed, TimeoutError) as error:
        raise StoreUnavailable(
            f"revision {compacted} was compacted, and etcd did not return its oldest one",
            subject=calls.endpoint,
            remedy="try again",
        ) from error
    finally:
        stream.close()
    return compacted


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


class _EarlyRevisions:
    """Whole revisions, passed on before etcd has confirmed that nothing older is missing.

    Of each range it keeps how far it was passed on: the next stream begins at what was confirmed.
    """

    def __init__(self, ranges: Sequence[Range], is_whole: IsWhole) -> None:
        self._starts = [start for start, _ in ranges]
        self._passed = [0] * len(ranges)
        self._is_whole = is_whole

    def new(self, changes: Sequence[KeyChange]) -> list[KeyChange]:
        """Those of the changes that were not passed on by an earlier stream."""
        return [one for one in changes if one.mod_revision > self._passed[self._range_of(one)]]

    def take(self, held: Sequence[KeyChange]) -> list[KeyChange]:
        """The changes of whole revisions, up to the first one that is not whole.

        Never one behind it: a key changes in the order of revisions.
        """
        whole: list[KeyChange] = []
        for _, group in groupby(held, key=attrgetter("mod_revision")):
            changes = list(group)
            if not self._is_whole(changes):
                break
            whole += changes
        for one in whole:
            self._passed[self._range_of(one)] = one.mod_revision
        return whole

    def _range_of(self, change: KeyChange) -> int:
        return bisect_right(self._starts, change.key) - 1


class _Stream:
    """One watch stream over one connection."""

    def __init__(self, calls: Calls, early: _EarlyRevisions | None = None) -> None:
        self._calls = calls
        self._early = early
        self._asking_at: asyncio.TimerHandle | None = None
        self._link: EndpointChannel | None = None
        self._call: StreamingCall | None = None
        self._merging = False
        self._held: list[KeyChange] = []
        self._ask_now = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None

    async def open(self, ranges: Sequence[Range], after: int) -> None:
        """Create one watch per range. Raises CallFailed, Compacted."""
        self._link, self._call = await self._calls.open_watch()
        self._merging = len(ranges) > 1
        try:
            async with asyncio.timeout(READ_ATTEMPT_S):
                for start, end in ranges:
                    self._send(_create_request(start, end, after))
                missing = len(ranges)
                while missing:
                    response = await self._receive()
                    missing -= response.created
                    self._hold(changes_after(response, after), response.header.revision)
        except TimeoutError as error:
            raise CallFailed(
                CallFailure(CallState.UNKNOWN, "a watch was not created in time")
            ) from error
        # Only now: before all watches are created, an answer about progress may overtake changes.
        self._asking = asyncio.create_task(self._ask())

    async def next_batch(self, position: int) -> WatchBatch:
        """The changes after ``position``. Raises CallFailed, Compacted."""
        while True:
            response = await self._receive_in_time()
            changes = changes_after(response, position)
            if changes and self._merging:
                self._hold(changes, response.header.revision)
                if whole := self._take_whole():
                    return WatchBatch(position, whole)
            elif changes:
                return WatchBatch(changes[-1].mod_revision, tuple(changes))
            elif _is_progress(response) and response.header.revision >= position:
                return self._release(response.header.revision)

    def give_up(self, failure: CallFailure) -> None:
        """Let the next stream avoid what broke this one."""
        if self._link is not None:
            self._calls.watch_failed(self._link, failure)

    def close(self) -> None:
        """End the stream on both sides."""
        if self._asking_at is not None:
            self._asking_at.cancel()
        if self._asking is not None:
            self._asking.cancel()
        if self._call is not None:
            self._call.cancel()

    async def _receive_in_time(self) -> messages.WatchResponse:
        """The next message; etcd answers each question for progress, so silence is a failure."""
        try:
            async with asyncio.timeout(WATCH_SILENT_S_MAX):
                return await self._receive()
        except TimeoutError as error:
            text = f"a watch received nothing for {WATCH_SILENT_S_MAX:g} s"
            raise CallFailed(CallFailure(CallState.UNKNOWN, text)) from error

    async def _receive(self) -> messages.WatchResponse:
        assert self._call is not None, "the stream is open"
        try:
            content = await self._call.receive()
        except RpcError as error:
            raise judged(error) from error
        if content is None:
            raise CallFailed(CallFailure(CallState.UNKNOWN, "etcd ended the watch"))
        response: messages.WatchResponse = _decoded(content)
        if response.compact_revision:
            raise Compacted(response.compact_revision)
        if response.canceled:
            raise CallFailed(_failure_of(response.cancel_reason))
        return response

    def _send(self, request: messages.ProtobufMessage) -> None:
        assert self._call is not None, "the stream is open"
        try:
            self._call.send(request.SerializeToString())
        except RpcError as error:
            raise judged(error) from error

    def _hold(self, changes: Sequence[KeyChange], newest: int) -> None:
        if self._early is not None:
            changes = self._early.new(changes)
        if len(self._held) + len(changes) > WATCH_HELD_CHANGES_MAX:
            # Too far behind to put in order within bounds: what helps is what helps after a
            # compaction, to read the present state and to watch from there.
            raise Compacted(newest)
        if not changes:
            return
        if not self._held:
            self._ask_soon()
        self._held += changes

    def _take_whole(self) -> tuple[KeyChange, ...]:
        """What need not wait for etcd's confirmation."""
        if self._early is None:
            return ()
        self._held.sort(key=_IN_ORDER)
        whole = self._early.take(self._held)
        del self._held[: len(whole)]
        return tuple(whole)

    def _ask_soon(self) -> None:
        """Ask for a confirmation now, or in ``WATCH_HELD_S`` if the revision may become whole."""
        if self._early is None:
            self._ask_now.set()
        elif self._asking_at is None:
            loop = asyncio.get_running_loop()
            self._asking_at = loop.call_later(WATCH_HELD_S, self._ask_if_held)

    def _ask_if_held(self) -> None:
        self._asking_at = None
        if self._held:
            self._ask_now.set()

    def _release(self, revision: int) -> WatchBatch:
        self._held.sort(key=_IN_ORDER)
        ready = [change for change in self._held if change.mod_revision <= revision]
        self._held = self._held[len(ready) :]
        if self._held:
            self._ask_now.set()
        return WatchBatch(revision, tuple(ready))

    async def _ask(self) -> None:
        """Request progress: periodically, and at once when changes are held back."""
        request = messages.WatchRequest(progress_request=messages.WatchProgressRequest())
        # A broken stream shows itself to the reader.
        with suppress(CallFailed):
            while True:
                # etcd does not answer while one of the watches still catches up: hence repeatedly.
                pause_s = WATCH_HELD_S if self._held else until_tick_s(WATCH_PROGRESS_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._ask_now.wait()
                self._ask_now.clear()
                self._send(request)


def _create_request(start: bytes, end: bytes, after: int) -> messages.ProtobufMessage:
    # From ``after`` itself, whose changes are dropped again: so etcd refuses exactly the positions
    # that were compacted away. From one later it would accept the last of them, whose deletions
    # are gone.
    create = messages.WatchCreateRequest(key=start, range_end=end, start_revision=max(after, 1))
    request: messages.ProtobufMessage = messages.WatchRequest(create_request=create)
    return request


def _decoded(content: bytes) -> messages.WatchResponse:
    try:
        response: messages.WatchResponse = _decode(content)
    except DecodeError as error:
        text = f"a message of a watch is not readable: {error}"
        raise CallFailed(CallFailure(CallState.UNKNOWN, text)) from error
    return response


def _is_progress(response: messages.WatchResponse) -> bool:
    return response.watch_id == messages.PROGRESS_WATCH_ID and not response.created


def _failure_of(reason: str) -> CallFailure:
    """The reason of a cancelled watch, which etcd gives as the text of a gRPC status."""
    head, _, details = reason.rpartition("desc = ")
    refused = "PermissionDenied" in head
    code = StatusCode.PERMISSION_DENIED if refused else StatusCode.UNKNOWN
    return classify(code, details)


def _pause_s(failures: int) -> float:
    longest = pause_s(failures + 1, _FIRST_WAIT_S, WATCH_RETRY_S_MAX)
    return random.uniform(0, longest)  # noqa: S311  # spreads clients, guards nothing
