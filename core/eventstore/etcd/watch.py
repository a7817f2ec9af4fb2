"""One watch over several ranges, which yields complete revisions and survives broken connections.

All ranges share one stream, with one etcd watch for each range. A watch of a single range yields
every message directly. etcd sends the changes of each range separately, so with several ranges a
revision may arrive in parts. The watch then holds changes back and sends a progress request. etcd's
answer confirms that all changes up to a revision were sent for all ranges. The watch then yields
these changes, sorted by revision.

The caller's ``is_whole`` may decide that a revision is complete; the watch then yields it without a
confirmation. An older revision of another range may follow, but the changes of one range stay in
order: etcd sends the revisions of a range in order, and a revision's changes in one message.

The stream is read only as fast as the caller consumes the changes.
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

from core.errors import Compacted, StoreUnavailable, WatchTooFarBehind
from core.eventstore.etcd import messages
from core.eventstore.etcd.calls import Calls
from core.eventstore.etcd.channel import EndpointChannel
from core.eventstore.etcd.failures import (
    CallFailed,
    CallFailure,
    CallState,
    as_call_failed,
    classify,
    read_error,
)
from core.eventstore.etcd.http2 import RpcError, StatusCode, StreamingCall
from core.eventstore.etcd.message_conversion import changes_after
from core.eventstore.etcd.settings import (
    READ_ATTEMPT_S,
    WATCH_HELD_CHANGES_MAX,
    WATCH_HELD_S,
    WATCH_RETRY_S_MAX,
)
from core.eventstore.kv import (
    FROM_NOW,
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
"""[start, end) of keys; an empty end means only the key ``start``."""

_REVISION_AND_KEY = attrgetter("mod_revision", "key")


async def watch(
    calls: Calls, ranges: Sequence[Range], after: int, is_whole: IsWhole | None = None
) -> AsyncIterator[WatchBatch]:
    """Yield the changes after the revision ``after``, which may be ``FROM_NOW``.

    Raises Compacted, WatchTooFarBehind, StoreRejected (no permission), and StoreUnavailable after
    the store was closed.
    """
    position = after
    failures = 0
    token_was_stale = False
    watched = disjoint(ranges)
    early = None if is_whole is None else _EarlyRevisions(watched, is_whole)
    while True:
        started = time.perf_counter()
        stream = _Stream(calls, early)
        try:
            starts_now = position == FROM_NOW
            position = await stream.open(watched, position)
            failures, token_was_stale = 0, False
            if starts_now:
                yield WatchBatch(position, ())
            while True:
                batch = await stream.next_batch(position)
                position = batch.revision
                yield batch
        except CallFailed as failed:
            error = read_error(failed.failure, calls.endpoint)
            calls.observe("watch", started, error)
            token_is_stale = failed.failure.state is CallState.STALE_TOKEN
            refused = failed.failure.state is CallState.REJECTED
            if calls.closed or refused or (token_is_stale and token_was_stale):
                raise error from failed
            token_was_stale = token_is_stale
            stream.give_up(failed.failure)
        finally:
            stream.close()
        await asyncio.sleep(_reopen_pause_s(failures))
        failures += 1


async def oldest_revision(calls: Calls, key: bytes, compacted: int) -> int:
    """The oldest readable revision. etcd reports it to a watch of the compacted revision.

    Raises StoreUnavailable.
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
            f"revision {compacted} was compacted; etcd did not say which revision is the oldest",
            subject=calls.endpoint,
            remedy="try again",
        ) from error
    finally:
        stream.close()
    return compacted


def disjoint(ranges: Sequence[Range]) -> list[Range]:
    """Merge ranges that overlap or touch, so that no change is delivered twice."""
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
    """Selects revisions that ``is_whole`` accepts.

    After a broken connection, the next stream begins at the last confirmed revision, so etcd sends
    some yielded changes again; ``_yielded`` has each range's last yielded revision.
    """

    def __init__(self, ranges: Sequence[Range], is_whole: IsWhole) -> None:
        self._starts = [start for start, _ in ranges]
        self._yielded = [0] * len(ranges)
        self._is_whole = is_whole

    def new(self, changes: Sequence[KeyChange]) -> list[KeyChange]:
        return [
            change
            for change in changes
            if change.mod_revision > self._yielded[self._range_of(change)]
        ]

    def take(self, held: Sequence[KeyChange]) -> list[KeyChange]:
        """The changes of complete revisions, up to the first incomplete one.

        Later revisions must wait, so that the changes of a range stay in order.
        """
        complete_changes: list[KeyChange] = []
        for _, group in groupby(held, key=attrgetter("mod_revision")):
            changes = list(group)
            if not self._is_whole(changes):
                break
            complete_changes += changes
        for change in complete_changes:
            self._yielded[self._range_of(change)] = change.mod_revision
        return complete_changes

    def _range_of(self, change: KeyChange) -> int:
        return bisect_right(self._starts, change.key) - 1


class _Stream:
    """One watch stream over one connection."""

    def __init__(self, calls: Calls, early: _EarlyRevisions | None = None) -> None:
        self._calls = calls
        self._early_revisions = early
        self._request_timer: asyncio.TimerHandle | None = None
        self._channel: EndpointChannel | None = None
        self._call: StreamingCall | None = None
        self._merging = False
        self._held_changes: list[KeyChange] = []
        self._request_now = asyncio.Event()
        self._progress_task: asyncio.Task[None] | None = None

    async def open(self, ranges: Sequence[Range], after: int) -> int:
        """Create one etcd watch per range. Returns a revision: all later changes arrive.

        Raises CallFailed, Compacted, WatchTooFarBehind.
        """
        self._channel, self._call = await self._calls.open_watch()
        self._merging = len(ranges) > 1
        try:
            async with asyncio.timeout(READ_ATTEMPT_S):
                if after == FROM_NOW:
                    after = await self._start_now(ranges[0])
                    ranges = ranges[1:]
                for start, end in ranges:
                    self._send(_create_request(start, end, after))
                missing_watches = len(ranges)
                while missing_watches:
                    response = await self._receive()
                    missing_watches -= response.created
                    self._hold(changes_after(response, after), response.header.revision)
        except TimeoutError as error:
            raise CallFailed(
                CallFailure(CallState.UNKNOWN, "a watch was not created in time")
            ) from error
        # Until all watches exist, an answer to a progress request may overtake changes.
        self._progress_task = asyncio.create_task(self._request_progress())
        return after

    async def _start_now(self, first: Range) -> int:
        """Returns the newest revision."""
        start, end = first
        create = messages.WatchCreateRequest(key=start, range_end=end)
        self._send(messages.WatchRequest(create_request=create))
        revision: int = (await self._receive()).header.revision
        return revision

    async def next_batch(self, position: int) -> WatchBatch:
        """The changes after ``position``. Raises CallFailed, Compacted, WatchTooFarBehind."""
        while True:
            response = await self._receive_in_time()
            changes = changes_after(response, position)
            if changes and self._merging:
                self._hold(changes, response.header.revision)
                complete_changes = self._take_whole()
                if complete_changes:
                    # ``position``: the last confirmed revision
                    return WatchBatch(position, complete_changes)
            elif changes:
                return WatchBatch(changes[-1].mod_revision, tuple(changes))
            elif _is_progress(response) and response.header.revision >= position:
                return self._take_confirmed(response.header.revision)

    def give_up(self, failure: CallFailure) -> None:
        if self._channel is not None:
            self._calls.watch_failed(self._channel, failure)

    def close(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
        if self._progress_task is not None:
            self._progress_task.cancel()
        if self._call is not None:
            self._call.cancel()

    async def _receive_in_time(self) -> messages.WatchResponse:
        """Raises CallFailed if etcd sends nothing for ``WATCH_SILENT_S_MAX``."""
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
            raise as_call_failed(error) from error
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
            raise as_call_failed(error) from error

    def _hold(self, changes: Sequence[KeyChange], newest: int) -> None:
        """Hold changes back until etcd confirms their revisions. Raises WatchTooFarBehind."""
        if self._early_revisions is not None:
            changes = self._early_revisions.new(changes)
        if len(self._held_changes) + len(changes) > WATCH_HELD_CHANGES_MAX:
            raise WatchTooFarBehind(
                newest,
                f"the watch was ended: more than {WATCH_HELD_CHANGES_MAX} changes wait for etcd to"
                " confirm their revisions",
            )
        if not changes:
            return
        if not self._held_changes:
            self._request_soon()
        self._held_changes += changes

    def _take_whole(self) -> tuple[KeyChange, ...]:
        """Remove and return the held changes that need no confirmation by etcd."""
        if self._early_revisions is None:
            return ()
        self._held_changes.sort(key=_REVISION_AND_KEY)
        complete_changes = self._early_revisions.take(self._held_changes)
        del self._held_changes[: len(complete_changes)]
        return tuple(complete_changes)

    def _request_soon(self) -> None:
        """Request progress now, or after ``WATCH_HELD_S`` if ``is_whole`` may save the request."""
        if self._early_revisions is None:
            self._request_now.set()
        elif self._request_timer is None:
            loop = asyncio.get_running_loop()
            self._request_timer = loop.call_later(WATCH_HELD_S, self._request_if_held)

    def _request_if_held(self) -> None:
        self._request_timer = None
        if self._held_changes:
            self._request_now.set()

    def _take_confirmed(self, revision: int) -> WatchBatch:
        """Remove and return the held changes up to a revision that etcd has confirmed."""
        self._held_changes.sort(key=_REVISION_AND_KEY)
        confirmed_changes = [
            change for change in self._held_changes if change.mod_revision <= revision
        ]
        self._held_changes = self._held_changes[len(confirmed_changes) :]
        if self._held_changes:
            self._request_now.set()
        return WatchBatch(revision, tuple(confirmed_changes))

    async def _request_progress(self) -> None:
        request = messages.WatchRequest(progress_request=messages.WatchProgressRequest())
        # ``_receive`` raises the error of a broken stream.
        with suppress(CallFailed):
            while True:
                # etcd does not answer while a watch catches up, so requests are repeated.
                wait_s = WATCH_HELD_S if self._held_changes else until_tick_s(WATCH_PROGRESS_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._request_now.wait()
                self._request_now.clear()
                self._send(request)


def _create_request(start: bytes, end: bytes, after: int) -> messages.ProtobufMessage:
    # The caller needs the changes from ``after`` + 1, but the watch starts at ``after``;
    # ``changes_after`` drops the changes of ``after``. A compaction at ``after`` + 1 removes the
    # deletions of that revision; etcd reports this compaction only to a watch that starts before.
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
    head, _, details = reason.rpartition("desc = ")
    refused = "PermissionDenied" in head
    code = StatusCode.PERMISSION_DENIED if refused else StatusCode.UNKNOWN
    return classify(code, details)


def _reopen_pause_s(failures: int) -> float:
    longest = pause_s(failures + 1, _FIRST_WAIT_S, WATCH_RETRY_S_MAX)
    return random.uniform(0, longest)  # noqa: S311  # spreads clients; no secret
