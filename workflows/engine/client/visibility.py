"""Lists, descriptions and histories of executions, also of archived ones. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

from core.errors import BadInput, ExecutionNotFound, UnusableValue
from core.eventstore.kv import Get, KeyValue, KeyValueStore
from workflows.engine.store.archive_files import ExecutionFiles, read_archived
from workflows.engine.store.history_reader import (
    attempts_of,
    closed_head_of,
    find_run,
    head_of,
    read_history,
)
from workflows.engine.store.keys import SHARD_COUNT, WorkflowKeys, shard_of
from workflows.engine.store.records import Attempt, RunHead
from workflows.engine.store.unusable_values import DECODING_ERRORS
from workflows.engine.worker.ownership import OWNER_RECORD
from workflows.model.errors import LimitExceeded
from workflows.model.events import HistoryEvent
from workflows.model.payloads import Payload
from workflows.model.policies import ExecutionStatus

PAGE_SIZE = 10_000
"""The default size of a page of executions. ``page`` accepts larger sizes."""

HEADS_MAX = 1_000_000
"""A list or count with more matches fails."""


class AttributeRange(NamedTuple):
    """A range of a search attribute, [``at_least``, ``below``); None: no limit.

    A value that cannot be compared with a limit is outside.
    """

    name: str
    at_least: float | str | None = None
    below: float | str | None = None

    def contains(self, value: Payload) -> bool:
        """Whether a value of the attribute is in the range."""
        try:
            return (self.at_least is None or value >= self.at_least) and (
                self.below is None or value < self.below
            )
        except TypeError:
            return False


class Filter(NamedTuple):
    """The executions to list; empty fields match all.

    ``started_ms`` and ``closed_ms``: ranges (from, before) in milliseconds since 1970, 0: no limit.
    A limit in ``closed_ms`` excludes open executions.
    """

    workflow_type: str = ""
    statuses: tuple[ExecutionStatus, ...] = ()
    attributes: Mapping[str, Payload] = {}
    id_prefix: str = ""
    started_ms: tuple[int, int] = (0, 0)
    closed_ms: tuple[int, int] = (0, 0)
    ranges: tuple[AttributeRange, ...] = ()

    def matches(self, head: RunHead) -> bool:
        """Whether the execution matches."""
        return (
            self.workflow_type in ("", head.workflow_type)
            and (not self.statuses or head.status in self.statuses)
            and head.workflow_id.startswith(self.id_prefix)
            and _is_within(head.started_ms, self.started_ms)
            and _is_within(head.closed_ms, self.closed_ms)
            and all(
                head.search_attributes.get(name) == value for name, value in self.attributes.items()
            )
            and all(part.contains(head.search_attributes.get(part.name)) for part in self.ranges)
        )


class ExecutionPage(NamedTuple):
    """A page of executions. ``next``: token of the next page, "" on the last."""

    heads: Sequence[RunHead]
    next: str = ""


class Description(NamedTuple):
    """One run. ``owner``: the session that owns the run's shard, "" for none."""

    head: RunHead
    attempts: Mapping[int, Attempt]
    inbox_messages: int
    owner: str


class Visibility:
    """Reads executions by their heads. A head (RunHead) is the present state of a run.

    ``left_out``: heads that cannot be decoded; lists do not contain them.
    """

    def __init__(
        self, store: KeyValueStore, keys: WorkflowKeys, files: ExecutionFiles | None = None
    ) -> None:
        self._store = store
        self._keys = keys
        self._files = files
        self.left_out: list[UnusableValue] = []

    async def heads(self, query: Filter = Filter()) -> AsyncIterator[RunHead]:
        """Yield all matches: open executions first, then closed ones.

        A run that closes during the iteration is yielded once, as open. Raises StoreUnavailable,
        LimitExceeded.
        """
        matched = 0
        opened: set[str] = set()
        closed_too = not query.statuses or any(not status.open for status in query.statuses)
        open_too = not query.statuses or any(status.open for status in query.statuses)
        kinds = (["open"] if open_too else []) + (["closed"] if closed_too else [])
        for kind in kinds:
            decode = head_of if kind == "open" else closed_head_of
            for shard in range(SHARD_COUNT):
                result = await self._store.read([Get(*self._keys.range_of(kind, shard))])
                for kv in result.ranges[0].kvs:
                    try:
                        head = decode(self._keys, kv)
                    except UnusableValue as error:
                        self.left_out.append(error)
                        continue
                    if query.matches(head) and head.run_id not in opened:
                        if kind == "open":
                            opened.add(head.run_id)
                        matched += 1
                        if matched > HEADS_MAX:
                            what = f"more than {HEADS_MAX:,} executions match (HEADS_MAX)"
                            raise LimitExceeded(f"{what}: filter by type, status or time")
                        yield head

    async def types(self) -> list[str]:
        """The types that workers have registered. Raises StoreUnavailable."""
        start, end = self._keys.range_of("type")
        kvs = (await self._store.read([Get(start, end, keys_only=True)])).ranges[0].kvs
        return [kv.key[len(start) :].decode(errors="replace") for kv in kvs]

    async def newest_first(self, query: Filter = Filter()) -> list[RunHead]:
        """All matches, the newest first. Raises the errors of ``heads``."""
        return sorted([head async for head in self.heads(query)], key=newest_first_key)

    async def count(self, query: Filter = Filter()) -> Counter[tuple[str, ExecutionStatus]]:
        """Count executions by type and status. Raises the errors of ``heads``."""
        return Counter([(head.workflow_type, head.status) async for head in self.heads(query)])

    async def page(
        self, query: Filter = Filter(), after: str = "", size: int = PAGE_SIZE
    ) -> ExecutionPage:
        """One page of ``size`` executions. ``after``: ``next`` of the previous page.

        Executions that start after the first page are on no later page. Raises BadInput and the
        errors of ``heads``.
        """
        start = _parse_page_token(after) if after else None
        newest = await self.newest_first(query)
        following = [head for head in newest if start is None or newest_first_key(head) > start]
        heads = following[:size]
        if len(heads) == len(following):
            return ExecutionPage(heads)
        last = heads[-1]
        return ExecutionPage(heads, f"{last.started_ms}/{last.run_id}")

    async def describe(self, workflow_id: str, run_id: str = "") -> Description:
        """One run. Raises ExecutionNotFound."""
        keys = self._keys
        head = await find_run(self._store, keys, workflow_id, run_id)
        result = await self._store.read(
            [
                Get(*keys.attempts(workflow_id, head.run_id)),
                Get(*keys.inbox_of(workflow_id), keys_only=True),
                Get(keys.owner(shard_of(workflow_id))),
            ]
        )
        attempts, messages, owner = (stored.kvs for stored in result.ranges)
        return Description(
            head,
            attempts_of(keys, attempts, head.activities),
            # The range may have messages to ids that start with this id and a slash.
            sum(keys.inbox_parts(kv.key)[1] == workflow_id for kv in messages),
            _session_of(owner[0]) if owner else "",
        )

    async def history(
        self, workflow_id: str, run_id: str = ""
    ) -> tuple[RunHead, list[HistoryEvent]]:
        """One run with its events. An archived run needs ``run_id``. Raises ExecutionNotFound."""
        try:
            head = await find_run(self._store, self._keys, workflow_id, run_id)
        except ExecutionNotFound:
            archived_run = await read_archived(self._files, run_id)
            if archived_run is None:
                raise
            return archived_run
        return head, await read_history(self._store, self._keys, workflow_id, head.run_id)


def _is_within(at_ms: int, bounds: tuple[int, int]) -> bool:
    """A bound of 0 is no limit. An open run (``at_ms`` 0) is outside every range with a limit."""
    first, before = bounds
    return (not first or first <= at_ms) and (not before or 0 < at_ms < before)


def newest_first_key(head: RunHead) -> tuple[int, str]:
    """A sort key: the newest run first, then by id."""
    return -head.started_ms, head.run_id


def _parse_page_token(text: str) -> tuple[int, str]:
    started_ms, _, run_id = text.partition("/")
    if not (started_ms.isdigit() and run_id):
        raise BadInput(
            f"{text[:64]!r} is not a valid page token",
            subject="next",
            remedy="pass the token that the previous list ended with",
        )
    return -int(started_ms), run_id


def _session_of(owner: KeyValue) -> str:
    try:
        return OWNER_RECORD.decode(owner.value).session
    except DECODING_ERRORS as error:
        return f"unknown: {error}"
