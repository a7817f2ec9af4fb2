"""The executions of one shard, from taking it over to giving it up.

Loading reads three ranges: open heads, attempts, inbox. From then on the watch tells what is new,
and everything else this owner did itself. What comes while the shard is loading waits.
It never writes for a shard whose fence is broken: every transaction carries it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial

from core.errors import LostRace, OrbweaverError, SessionLost, UnusableValue
from core.eventstore.batch import Lost
from core.eventstore.kv import Get, KeyValue, Unchanged
from workflows.engine.run.execution import STORE_PAUSE_S, Execution
from workflows.engine.run.resets import reset_run
from workflows.engine.run.start_run import reserved_head
from workflows.engine.run.undeliverable_messages import answer_stranger, may_start
from workflows.engine.store.faults import LOOK_AGAIN_S, UNREADABLE
from workflows.engine.store.history_reader import owned_head_of
from workflows.engine.store.records import InboxMessage, RunHead, Start, decode_message
from workflows.engine.worker.interpreter_cache import WorkerContext
from workflows.engine.worker.retention import ClosedRuns

_log = logging.getLogger(__name__)

RESUMES_AT_ONCE = 32
"""Executions that read their histories at the same time while a shard is loaded."""


class Shard:
    """One shard under one fence."""

    def __init__(self, desk: WorkerContext, number: int, fence: Unchanged) -> None:
        self.number = number
        self.fence = fence
        self.executions: dict[str, Execution] = {}
        self.closed_runs = ClosedRuns(desk, number)
        self._desk = desk
        self._loaded_at = 0
        self._early: list[tuple[bytes, bytes, int]] = []
        self._early_mail: list[tuple[str, int]] = []
        self._strangers: set[asyncio.Task[None]] = set()
        self._starting: dict[str, list[InboxMessage]] = {}
        self._unread: dict[str, bytes] = {}
        self._skipped: dict[str, int] = {}
        """Newest revision of a message or signal that came while a head could not be used."""
        self._floors: dict[str, int] = {}
        self._stopped = False

    async def load(self) -> None:
        """Read what is there and go on with it. Raises StoreUnavailable."""
        keys = self._desk.keys
        result = await self._desk.store.read(
            [
                Get(*keys.room("open", self.number)),
                Get(*keys.room("attempt", self.number)),
                Get(*keys.room("wake/inbox", self.number)),
                Get(*keys.room("wake/mail", self.number)),
            ]
        )
        opened, attempts, inbox, mail = (answer.kvs for answer in result.ranges)
        for execution in self.executions.values():
            execution.stop()  # of a load that was not finished
        self.executions.clear()
        for kv in opened:
            self._open(kv)
        for kv in mail:
            self._contained(kv.key, partial(self._take_mail, kv))
        await self._resume(attempts)
        for kv in sorted(inbox, key=lambda kv: (kv.mod_revision, kv.key)):
            self._deliver(kv.key, kv.value, kv.mod_revision)
        self._loaded_at = result.revision
        early, self._early = self._early, []
        for key, value, revision in early:
            self.message(key, value, revision)
        for workflow_id, revision in self._early_mail:
            self._mail(workflow_id, revision)

    def _take_mail(self, kv: KeyValue) -> None:
        self._mail(self._desk.keys.mail_name(kv.key)[1], kv.mod_revision)

    def _open(self, kv: KeyValue) -> Execution | None:
        """The execution of an open head; one that cannot be used is left alone with its mail."""
        try:
            head = owned_head_of(self._desk.keys, kv)
        except UnusableValue as found:
            self._leave_alone(kv.key, found)
            return None
        execution = Execution(self._desk, self, head, kv.mod_revision)
        self.executions[head.workflow_id] = execution
        return execution

    def _leave_alone(self, key: bytes, found: UnusableValue) -> None:
        """A newer version may know the head. It is read again in a while."""
        self._desk.faults.add(found, shard=self.number)
        workflow_id = key[len(self._desk.keys.room("open", self.number)[0]) :].decode(
            errors="replace"
        )
        self._unread[workflow_id] = key
        self._desk.alarms.after(LOOK_AGAIN_S, partial(self._look_again, workflow_id))

    def _look_again(self, workflow_id: str) -> None:
        if not self._stopped:
            self._spawn(partial(self._read_again, workflow_id))

    async def _read_again(self, workflow_id: str) -> None:
        """See whether a head can be used now; then go on with it and with its mail."""
        keys, key = self._desk.keys, self._unread[workflow_id]
        gets = [Get(key), Get(keys.mail(workflow_id)), Get(*keys.inbox_of(workflow_id))]
        found = await self._desk.store.read(gets)
        while self._skipped.get(workflow_id, 0) > found.revision:  # it came during the read
            found = await self._desk.store.read(gets)
        head, mail, letters = (answer.kvs for answer in found.ranges)
        del self._unread[workflow_id]
        self._skipped.pop(workflow_id, None)
        self._floors[workflow_id] = found.revision
        execution = self._open(head[0]) if head else None
        if workflow_id in self._unread:
            return
        self._desk.faults.clear(key)
        for kv in letters:
            if keys.inbox_name(kv.key)[1] == workflow_id:
                self._deliver(kv.key, kv.value, 0)
        if execution is not None:
            execution.mail(mail[0].mod_revision if mail else 0)
            execution.go_on()

    def message(self, key: bytes, value: bytes, revision: int) -> None:
        """The watch saw a message."""
        if not self._loaded_at:
            self._early.append((key, value, revision))
        elif revision > self._loaded_at:
            self._contained(key, lambda: self._hand_in_new(key, value, revision))

    def mail(self, workflow_id: str, revision: int) -> None:
        """The watch saw that a client has signalled."""
        if self._loaded_at:
            self._mail(workflow_id, revision)
        else:
            self._early_mail.append((workflow_id, revision))

    def stop(self) -> None:
        """Nothing more is done for this shard here."""
        self._stopped = True
        for execution in self.executions.values():
            execution.stop()
        for task in self._strangers:
            task.cancel()

    def tasks_under_way(self) -> set[asyncio.Task[None]]:
        """Steps and messages that have not ended."""
        steps = (execution.step_under_way for execution in self.executions.values())
        return {*self._strangers, *(step for step in steps if step is not None)}

    async def settled(self) -> None:
        """Return when no transaction of this shard is under way."""
        for execution in list(self.executions.values()):
            await execution.settled()

    # -------------------------------------------------------------- what executions report

    def closed(self, execution: Execution, head: RunHead) -> None:
        """A run is closed; without a successor the id is free."""
        self._desk.closings(head)
        self.closed_runs.add(head)
        if not execution.head.is_open:
            self.executions.pop(head.workflow_id, None)
            for letter in execution.take_letters():
                self._to_stranger(letter)

    async def lost(self, execution: Execution, lost: Lost) -> None:
        """Either the shard has another owner, or a client was quicker with this id."""
        found = lost.truth.get(self.fence.key)
        if found is None or found.mod_revision != self.fence.mod_revision:
            self.stop()
            self._desk.dispossessed(self.number)
            return
        await self._reload(execution)

    async def reset(self, execution: Execution | None, letter: InboxMessage) -> Lost | None:
        """Another run takes over from a point in a history; Lost: try again, the store changed."""
        made = await reset_run(self._desk, self.fence, execution, letter)
        if made is None or isinstance(made, Lost):
            return made
        head, revision, closed = made
        if execution is not None:
            execution.stop()
        if closed is not None:
            self._desk.closings(closed)
            self.closed_runs.add(closed)
        following = Execution(self._desk, self, head, revision)
        self.executions[head.workflow_id] = following
        if execution is not None:
            following.mail(execution.mail_revision)
            for left in execution.take_letters():
                following.deliver(left)
        following.begin_again()
        return None

    # --------------------------------------------------------------------------- messages

    def _deliver(self, key: bytes, value: bytes, revision: int) -> None:
        """Hand a message over; one that cannot be read stays where it is, and stops no other."""
        self._contained(key, lambda: self._hand_in(key, value, revision))

    def _contained(self, key: bytes, work: Callable[[], None]) -> None:
        try:
            work()
        except UNREADABLE as error:
            self._desk.faults.note("message", key, error, UnusableValue.REMEDY, shard=self.number)

    def _hand_in_new(self, key: bytes, value: bytes, revision: int) -> None:
        """Unless it was read with a head that was read again."""
        if self._floors:
            workflow_id = self._desk.keys.inbox_name(key)[1]
            if revision <= self._floors.get(workflow_id, 0):
                return
        self._hand_in(key, value, revision)

    def _hand_in(self, key: bytes, value: bytes, revision: int) -> None:
        _, workflow_id, name = self._desk.keys.inbox_name(key)
        if self._stopped or self._is_unread(workflow_id, revision):
            return
        letter = InboxMessage(key, name, revision, decode_message(value), len(value))
        execution = self.executions.get(workflow_id)
        message = letter.message
        if isinstance(message, Start):
            if message.started.workflow_id != workflow_id:
                raise ValueError(f"it starts workflow {message.started.workflow_id!r}")
            self._start(execution, letter, message)
        elif execution is not None:
            execution.deliver(letter)
        elif workflow_id in self._starting:
            self._starting[workflow_id].append(letter)
        else:
            self._to_stranger(letter)

    def _start(self, execution: Execution | None, letter: InboxMessage, start: Start) -> None:
        if execution is not None and start.started.run_id == execution.head.run_id:
            execution.deliver(letter)
        elif start.reserved:
            # The client has put the head in the same transaction, under the same revision. An older
            # run of this id is closed then, even if its owner has not yet been told so.
            head = reserved_head(start.started, start.at_ms)
            self._begin(head, letter.revision, letter, execution)
        elif execution is not None:
            self._to_stranger(letter)
        else:
            workflow_id = start.started.workflow_id
            self._starting.setdefault(workflow_id, [])
            starting = self._spawn(partial(self._start_child, letter, start))
            # After a fault of our own too: no mail waits for a child that does not start.
            starting.add_done_callback(lambda _: self._let_mail_go(workflow_id))

    def _begin(
        self, head: RunHead, revision: int, letter: InboxMessage, before: Execution | None = None
    ) -> None:
        execution = Execution(self._desk, self, head, revision)
        if before is not None:
            before.stop()
            for letter_before in before.take_letters():
                self._to_stranger(letter_before)
        self.executions[head.workflow_id] = execution
        execution.chores.arm(head)
        execution.deliver(letter)

    async def _start_child(self, letter: InboxMessage, start: Start) -> None:
        """A parent only asks; whether the id is free is found out here."""
        workflow_id = start.started.workflow_id
        allowed = await may_start(self._desk, start)
        if allowed and workflow_id not in self.executions:
            self._begin(reserved_head(start.started, self._desk.clock.now_ms()), 0, letter)
        else:
            await answer_stranger(self._desk, self.fence, letter)
        self._let_mail_go(workflow_id)

    def _let_mail_go(self, workflow_id: str) -> None:
        """What came while a child was about to start, to whoever has the id now."""
        for waiting in () if self._stopped else self._starting.pop(workflow_id, ()):
            self._hand_over(workflow_id, waiting)

    def _to_stranger(self, letter: InboxMessage) -> None:
        self._spawn(partial(self._stranger, letter))

    async def _stranger(self, letter: InboxMessage) -> None:
        """A message to an id without an open run. Raises LostRace: there is one by now."""
        again = await answer_stranger(self._desk, self.fence, letter)
        if again is None:
            return
        _, workflow_id, _ = self._desk.keys.inbox_name(letter.key)
        if workflow_id in self.executions:
            self.executions[workflow_id].deliver(letter)
        elif await self.reset(None, again) is not None:
            raise LostRace(f"a run of {workflow_id} has begun while an older one was to be reset")

    def _hand_over(self, workflow_id: str, letter: InboxMessage) -> None:
        execution = self.executions.get(workflow_id)
        if execution is not None:
            execution.deliver(letter)
        else:
            self._to_stranger(letter)

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(self._guarded(work))
        self._strangers.add(task)
        task.add_done_callback(self._strangers.discard)
        return task

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Until it is done; the message stays in the inbox after a fault or the session's end."""
        while True:
            try:
                await work()
            except SessionLost:
                return
            except Exception as error:  # noqa: BLE001 - logged; one message must not end the shard
                if not (isinstance(error, OrbweaverError) and error.retryable):
                    _log.exception("a message to no open workflow could not be answered")
                    return
                await self._desk.clock.wait(asyncio.Event(), STORE_PAUSE_S)
            else:
                return

    def _is_unread(self, workflow_id: str, revision: int) -> bool:
        """Whether its head cannot be used; what came at this revision is read with the head."""
        if workflow_id not in self._unread:
            return False
        self._skipped[workflow_id] = max(revision, self._skipped.get(workflow_id, 0))
        return True

    def _mail(self, workflow_id: str, revision: int) -> None:
        if self._is_unread(workflow_id, revision):
            return
        execution = self.executions.get(workflow_id)
        if execution is not None:
            execution.mail(revision)

    # ---------------------------------------------------------------------------- loading

    async def _resume(self, attempts: tuple[KeyValue, ...]) -> None:
        by_run: dict[bytes, list[KeyValue]] = defaultdict(list)
        for kv in attempts:
            by_run[kv.key.rpartition(b"/")[0]].append(kv)
        gate = asyncio.Semaphore(RESUMES_AT_ONCE)

        async def resume(execution: Execution) -> None:
            head = execution.head
            run = self._desk.keys.attempts(head.workflow_id, head.run_id)[0].rstrip(b"/")
            async with gate:
                await execution.resume(tuple(by_run.get(run, ())))

        every = list(self.executions.values())
        busy = [each for each in every if each.head.activities]
        for execution in every:
            if not execution.head.activities:
                await execution.resume(())
        await asyncio.gather(*(resume(execution) for execution in busy))

    async def _reload(self, execution: Execution) -> None:
        """Somebody else has written the head: believe the store. Raises StoreUnavailable."""
        workflow_id = execution.head.workflow_id
        found = (await self._desk.store.read([Get(self._desk.keys.open(workflow_id))])).ranges[0]
        execution.stop()
        self.executions.pop(workflow_id, None)
        letters = execution.take_letters()
        following = self._open(found.kvs[0]) if found.kvs else None
        if following is not None:
            following.mail(execution.mail_revision)
            following.go_on()
        for letter in letters:
            following_one = self.executions.get(workflow_id)
            if isinstance(letter.message, Start):
                self._start(following_one, letter, letter.message)
            else:
                self._hand_over(workflow_id, letter)
