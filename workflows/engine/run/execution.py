"""One execution in the hands of its owner: it takes what arrived, runs the code, commits, goes on.

A step is one transaction: events of what arrived, the workflow task they cause, its commands, the
new head. Steps of one execution never overlap. What a step took in is put back if its transaction
is lost, so nothing is consumed without being in the history.
It never waits for an activity or timer: those report here and wake it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from core.errors import OrbweaverError, SessionLost, StoreRejected, UnusableValue
from core.eventstore.batch import Lost
from core.eventstore.group_commit import Committed
from core.eventstore.group_commit import Outcome as CommitOutcome
from core.eventstore.kv import Delete, Get, Guard, KeyValue, Unchanged, Write
from workflows.engine.clock import instant
from workflows.engine.run.call_replies import Updates, refusal, write_reply
from workflows.engine.run.pending_activities import Housekeeping
from workflows.engine.run.received_events import (
    ActivityOutcome,
    pause_for_code,
    take_deadline,
    take_message,
    take_outcome,
    take_timer,
)
from workflows.engine.run.run_inbox import InboxBatch, RunInbox
from workflows.engine.run.run_interpreter import WorkflowCode
from workflows.engine.store.draft import HistoryDraft, PendingReply
from workflows.engine.store.faults import LOOK_AGAIN_S
from workflows.engine.store.history_reader import attempts_of
from workflows.engine.store.keys import shard_of
from workflows.engine.store.records import (
    InboxMessage,
    Query,
    Reply,
    RequestCancel,
    Reset,
    Retry,
    RunHead,
    Terminate,
)
from workflows.engine.worker.deadlines import Deadline
from workflows.engine.worker.interpreter_cache import WorkerContext
from workflows.model.commands import UpdateRejection
from workflows.model.errors import LimitExceeded, WorkflowError
from workflows.model.failures import failure_of
from workflows.model.limits import PAYLOAD_WARN_BYTES
from workflows.model.policies import ExecutionStatus

_log = logging.getLogger(__name__)

STORE_PAUSE_S = 0.5
"""Before a step that could not read the store is tried again; doubled with every further try."""

STORE_PAUSE_S_MAX = 30.0

STEP_FAILURES_MAX = 5
"""Steps in a row that failed by a bug or a refused transaction; then the execution is paused."""

STUCK_REMEDY = "mend the cause, then `orbctl workflow retry`, `reset` or `terminate`"


class ShardView(Protocol):
    """The shard, as its executions see it."""

    fence: Unchanged

    def closed(self, execution: Execution, head: RunHead) -> None:
        """A run is closed; without a successor the execution is over."""
        ...

    async def lost(self, execution: Execution, lost: Lost) -> None:
        """The store holds something else than this owner knows: find out what."""
        ...

    async def reset(self, execution: Execution, letter: InboxMessage) -> Lost | None:
        """A reset makes another run; Lost: the store holds something else than was known."""
        ...


class Execution:
    """The open run of one id. ``revision`` is that of its head's key, 0: there is none yet."""

    def __init__(self, desk: WorkerContext, room: ShardView, head: RunHead, revision: int) -> None:
        self.head = head
        self.revision = revision
        self.mail_revision = 0
        self.chores = Housekeeping(desk, room.fence, self)
        self._desk = desk
        self._room = room
        self._code = WorkflowCode(desk)
        self._updates = Updates()
        self._arrivals = RunInbox()
        self._again: list[int] = []
        self._expects_mail = 0
        self.step_under_way: asyncio.Task[None] | None = None
        self._stopped = False
        self._failures = 0
        self._is_stuck = False
        self._is_for_others = False
        self._must_resume = False
        self._found: UnusableValue | None = None
        self._look: Deadline | None = None
        self._drafted = instant(desk.clock)

    # ------------------------------------------------------------------- what reaches it

    def deliver(self, letter: InboxMessage) -> None:
        """A message arrived."""
        self._arrivals.letters.append(letter)
        if isinstance(letter.message, Retry | Reset | Terminate | RequestCancel):
            self._is_stuck = False  # a person wants something: try again
        self.wake()

    def mail(self, revision: int) -> None:
        """A client has signalled, as of this revision; the message comes in the same one."""
        self.mail_revision = max(self.mail_revision, revision)
        if self._expects_mail <= self.mail_revision:
            self._expects_mail = 0
            self.wake()

    def report(self, outcome: ActivityOutcome) -> None:
        """An activity came to an end."""
        self._arrivals.outcomes.append(outcome)
        self.wake()

    def ring(self, run_id: str, number: int) -> None:
        """A timer is due, or a deadline of the run: that moment (ms), negative."""
        if run_id == self.head.run_id:
            self._arrivals.fired.append(number)
            self.wake()

    def wake(self) -> None:
        """There may be something to do."""
        if self.step_under_way is None and not self._stopped and self._has_work:
            self.step_under_way = asyncio.ensure_future(self._work())

    def stop(self) -> None:
        """Somebody else's from now on: no further step, no activity."""
        self._stopped = True
        self.chores.stop()
        self._mended()
        if self.step_under_way is not None and self.step_under_way is not asyncio.current_task():
            self.step_under_way.cancel()  # a step that finds out that it is the last one goes on
        self._code.drop()

    async def settled(self) -> None:
        """Return when no step is under way."""
        if self.step_under_way is not None:
            await asyncio.wait({self.step_under_way})

    def take_letters(self) -> list[InboxMessage]:
        """What has not been taken in, for whoever follows."""
        return self._arrivals.take_letters()

    def begin_again(self) -> None:
        """After a reset: its activities are done again, then it goes on."""
        self.chores.arm(self.head)
        self._again = list(self.head.activities)
        self.wake()

    async def resume(self, attempts: tuple[KeyValue, ...]) -> None:
        """Go on where the owner before us stopped, with the stored attempts of the run."""
        self.chores.arm(self.head)
        if self.head.activities:
            self._must_resume = True
            try:
                await self._resume_activities(attempts)
            except SessionLost:
                raise
            except Exception as error:  # noqa: BLE001 - it must not keep the shard from the others
                if not (isinstance(error, OrbweaverError) and error.retryable):
                    await self._get_stuck(error)
        self.wake()  # what was not resumed is tried again as a step

    def go_on(self) -> None:
        """The same, as its next step."""
        self.chores.arm(self.head)
        self._must_resume = bool(self.head.activities)
        self.wake()

    async def _resume_activities(self, attempts: tuple[KeyValue, ...]) -> None:
        head = self.head
        try:
            self._code.check_type(head)
            known = attempts_of(self._desk.keys, attempts, head.activities)
            await self.chores.relaunch(head.activities, known, interrupted=True)
        except UnusableValue as found:
            self._leave_to_others(found)
        else:
            self._must_resume = False

    # ------------------------------------------------------------------------ what is in its way

    def _leave_to_others(self, found: UnusableValue) -> None:
        """Record what arrives; code and activities wait for a worker or a value of another kind."""
        self._is_for_others = True
        self._code.drop()
        self._look_again_at(found)

    def _look_again_at(self, found: UnusableValue) -> None:
        """List what is in the way, and try again in a while."""
        self._mended()
        self._found = found
        self._desk.faults.add(found, shard=shard_of(self.head.workflow_id))
        self._look = self._desk.alarms.after(LOOK_AGAIN_S, self._try_again)

    def _try_again(self) -> None:
        self._is_for_others = self._is_stuck = False
        self.wake()
        if self.step_under_way is None:
            self._mended()

    def _mended(self) -> None:
        """Nothing is in the way any more, as far as is known."""
        if self._look is not None:
            self._look.cancel()
        if self._found is not None:
            self._desk.faults.clear(self._found.key)
        self._look = self._found = None

    async def _get_stuck(self, error: Exception) -> None:
        """Its steps fail: pause the run if it can be, and wait for a person. Raises SessionLost."""
        head = self.head
        _log.error("workflow %s is stuck", head.workflow_id, exc_info=error)
        self._is_stuck = True
        why = f"its steps fail: {type(error).__name__}: {error}"
        key = self._desk.keys.open(head.workflow_id)
        self._look_again_at(UnusableValue("open execution", key, why, STUCK_REMEDY))
        try:
            await self._pause(error)
        except SessionLost:
            raise
        except Exception:  # noqa: BLE001 - logged; it stays stuck without being paused
            _log.exception("workflow %s cannot be paused", head.workflow_id)

    async def _pause(self, error: Exception) -> None:
        """With the reason, if the run has begun. Raises SessionLost, StoreRejected."""
        if self.head.status is not ExecutionStatus.RUNNING or self.head.next_event_id == 1:
            return
        draft = HistoryDraft(self._desk.keys, self.head, self._desk.clock.now_ms())
        pause_for_code(draft, failure_of(error))
        outcome = await self._desk.committer.propose(*self._transaction(draft, 0))
        if isinstance(outcome, Lost):
            await self._lost(outcome)
        else:
            self._go_on_from(draft, outcome.revision)

    # --------------------------------------------------------------------------- the steps

    @property
    def _has_work(self) -> bool:
        if self._expects_mail or self._is_stuck:
            return False
        if self._arrivals:
            return True
        head = self.head
        due = head.due and head.status is ExecutionStatus.RUNNING and head.next_event_id > 1
        return not self._is_for_others and bool(self._again or self._must_resume or due)

    async def _work(self) -> None:
        try:
            while self._has_work and not self._stopped:
                try:
                    await self._step()
                    self._failures = 0
                except SessionLost:
                    self._stopped = True  # the worker gives up everything it owns
                except Exception as error:  # noqa: BLE001 - a fault of our own must not end the execution's owner
                    await self._after_failure(error)
        except SessionLost:
            self._stopped = True
        finally:
            self.step_under_way = None
            if not (self._is_stuck or self._is_for_others):
                self._mended()

    async def _after_failure(self, error: Exception) -> None:
        """Wait before the next try; after the last one the execution is stuck."""
        self._failures += 1
        if not (isinstance(error, OrbweaverError) and error.retryable):
            _log.error("a step of workflow %s failed", self.head.workflow_id, exc_info=error)
            if self._failures >= STEP_FAILURES_MAX:
                self._failures = 0
                await self._get_stuck(error)
                return
        pause_s = STORE_PAUSE_S * 2 ** min(self._failures - 1, 10)
        await self._desk.clock.wait(asyncio.Event(), min(pause_s, STORE_PAUSE_S_MAX))

    async def _reset(self, letter: InboxMessage) -> None:
        """Until it is decided the request stays at the front of what has arrived."""
        lost: Lost | None = None
        try:
            lost = await self._room.reset(self, letter)
        except BaseException:
            self._arrivals.put_back_reset(letter)
            raise
        if lost is not None:
            self._arrivals.put_back_reset(letter)
            self._code.drop()
            await self._room.lost(self, lost)

    async def _step(self) -> None:
        reset = self._arrivals.take_reset()
        if reset is not None:
            await self._reset(reset)
            return
        if self._must_resume and not self._is_for_others:
            keys, head = self._desk.keys, self.head
            attempts = Get(*keys.attempts(head.workflow_id, head.run_id))
            found = await self._desk.store.read([attempts])
            await self._resume_activities(found.ranges[0].kvs)
            return
        if self._again and not self._is_for_others:
            await self.chores.relaunch(self._again, {}, interrupted=False)
            self._again = []
            return
        taken = self._arrivals.take(self.mail_revision)
        try:
            draft = await self._draft(taken)
            outcome = None if draft.is_empty else await self._commit(draft, taken.mail)
        except BaseException:
            self._arrivals.put_back(taken)
            raise
        if isinstance(outcome, Lost):
            self._arrivals.put_back(taken)
            await self._lost(outcome)
            return
        if isinstance(outcome, Committed):
            self._go_on_from(draft, outcome.revision)
        await self._answer_queries(taken.letters)

    async def _draft(self, taken: InboxBatch) -> HistoryDraft:
        """The transaction of what was taken, with the workflow task it causes."""
        draft = self._take_in(taken)
        updates = self._updates.requests(taken.letters, draft)
        head = draft.head
        if (
            head.status is not ExecutionStatus.RUNNING
            or not taken.is_whole
            or not (head.due or updates)
        ):
            return draft
        rejections: Sequence[UpdateRejection]
        try:
            await self._bring_up()
            rejections = self._code.run_task(draft, updates)
        except UnusableValue as found:
            rejections = [UpdateRejection(one.update_id, failure_of(found)) for one in updates]
        except WorkflowError as error:
            self._code.drop()
            self._desk.telemetry.task_failed(head.workflow_type, type(error).__name__)
            failure = failure_of(error)._replace(type=type(error).__name__)
            answers = draft.answers
            draft = self._take_in(taken)
            draft.answers = answers
            pause_for_code(draft, failure)
            rejections = [UpdateRejection(update.update_id, failure) for update in updates]
        self._updates.answer(draft, rejections)
        return draft

    async def _bring_up(self) -> None:
        """The code, with all that is stored. Raises UnusableValue: it is not for this worker."""
        if self._is_for_others and self._found is not None:
            raise self._found
        try:
            await self._code.bring_up(self.head)
        except UnusableValue as found:
            self._leave_to_others(found)
            raise

    def _take_in(self, taken: InboxBatch) -> HistoryDraft:
        desk = self._desk
        self._drafted = instant(desk.clock)
        while True:
            draft = HistoryDraft(
                desk.keys, self.head, self._drafted.wall_ms, identity=desk.identity
            )
            impossible = self._take_letters(draft, taken.letters)
            if impossible is None:
                break
            taken.letters.remove(impossible)
        for outcome in taken.outcomes:
            take_outcome(draft, outcome)
        for number in taken.fired:
            if number > 0:
                take_timer(draft, number)
            else:
                take_deadline(draft, -number)
        return draft

    def _take_letters(
        self, draft: HistoryDraft, letters: Sequence[InboxMessage]
    ) -> InboxMessage | None:
        """Record messages; one that cannot be recorded stays in the inbox and is given back."""
        for letter in letters:
            draft.put(Delete(letter.key))
            try:
                if draft.head.is_open:
                    take_message(draft, letter.message)
            except Exception as error:  # noqa: BLE001 - listed; the messages beside it go on
                why = f"it cannot be recorded: {type(error).__name__}: {error}"
                shard = shard_of(self.head.workflow_id)
                self._desk.faults.note(
                    "message", letter.key, why, UnusableValue.REMEDY, shard=shard
                )
                return letter
        return None

    # ------------------------------------------------------------------------ the transaction

    async def _commit(self, draft: HistoryDraft, mail: int) -> CommitOutcome:
        """Raises SessionLost."""
        try:
            return await self._desk.committer.propose(*self._transaction(draft, mail))
        except StoreRejected as error:
            # The bounds of a draft are below those of etcd, so this is a surprise to look into.
            self._code.drop()
            await self._pause(LimitExceeded(error.message))
            raise
        except BaseException:
            self._code.drop()
            raise

    def _transaction(self, draft: HistoryDraft, mail: int) -> tuple[list[Guard], list[Write]]:
        guards = draft.guards(self._room.fence, self.revision)
        writes = draft.writes()
        if not draft.head.is_open and draft.successor is None:
            key = self._desk.keys.mail(draft.head.workflow_id)
            guards.append(Unchanged(key, mail))
            if mail:
                writes.append(Delete(key))
        return guards, writes

    async def _lost(self, lost: Lost) -> None:
        """A signal that came before the end belongs into the history; all else is the shard's."""
        self._code.drop()
        truth, keys = lost.truth, self._desk.keys
        head, fence = truth[keys.open(self.head.workflow_id)], truth[self._room.fence.key]
        is_ours = fence is not None and fence.mod_revision == self._room.fence.mod_revision
        if not is_ours or (head.mod_revision if head is not None else 0) != self.revision:
            await self._room.lost(self, lost)
            return
        mail = truth.get(keys.mail(self.head.workflow_id))
        if mail is None:
            self.mail_revision = 0  # somebody has deleted it by hand
        elif mail.mod_revision > self.mail_revision:
            self._expects_mail = mail.mod_revision

    def _go_on_from(self, draft: HistoryDraft, revision: int) -> None:
        before, self.head, self.revision = self.head, draft.head, revision
        telemetry, closed = self._desk.telemetry, draft.head
        for answer in draft.answers:
            write_reply(self._desk, answer)
        for event, size in draft.heavy:
            _log.warning(
                "event %d of workflow %s, %s, has %d bytes, PAYLOAD_WARN_BYTES is %d: keep what is "
                "large elsewhere and pass a reference",
                *(event.event_id, closed.workflow_id, event.event_type, size, PAYLOAD_WARN_BYTES),
            )
        if before.status is not ExecutionStatus.PAUSED and closed.status is ExecutionStatus.PAUSED:
            telemetry.closed(closed.workflow_type, closed.status.value, 0.0)
        self.chores.follow(draft)
        if closed.is_open:
            self._code.committed(draft.events)
            self.chores.arm(self.head, self._drafted)
            self._again += draft.again
            return
        lasted_s = (closed.closed_ms - closed.started_ms) / 1000
        telemetry.closed(closed.workflow_type, closed.status.value, lasted_s)
        self._code.drop()
        self._updates.clear()
        if draft.successor is not None:
            self.head = draft.successor
            self.chores.arm(self.head, self._drafted)
        else:
            self._stopped = True
        self._room.closed(self, closed)

    async def _answer_queries(self, letters: Sequence[InboxMessage]) -> None:
        for letter in letters:
            query = letter.message
            if not isinstance(query, Query):
                continue
            is_new = self.head.due and self.head.status is ExecutionStatus.RUNNING
            if is_new and not self._is_for_others:
                self._arrivals.letters.append(letter)  # a new run has nothing to tell yet
                continue
            try:
                await self._bring_up()
                reply = Reply(self._code.query(query.name, query.args))
            except (WorkflowError, UnusableValue) as error:
                reply = refusal(str(error), type(error).__name__)
            write_reply(self._desk, PendingReply(letter.name, query.lease, reply))
