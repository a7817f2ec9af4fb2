"""Reclaim: look at all claims, release what is leaked on evidence, wait, and look again.

One execution a cluster, id ``reclaim``. It looks every interval, when a deadline that it knows of
is over (a second look at what was seen once), and on the signal ``scan-now``. What looks have seen
goes from one to the next by reference (``scan_states``), so a controller may die between any two
steps and another one goes on where it was. A look or release that fails for good never ends the
execution and never blocks others: it is told by the query ``status``, and the next look comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from core.domain.reclaim.settings import ReclaimSettings
from core.errors import LogCorrupt
from core.eventstore.codec import UNREADABLE, words_of
from core.eventstore.keys import Keys
from core.eventstore.kinds import key_text
from core.eventstore.kv import Get, KeyValueStore
from workflows.api import workflow
from workflows.engine.store.keys import DEFAULT_QUEUE, WorkflowKeys
from workflows.engine.store.kinds import OPEN_HEADS
from workflows.jobs.reclaim.scan_activities import (
    ChunkDone,
    PausedStep,
    ReclaimActivities,
    ScanObservation,
)
from workflows.jobs.reclaim.scan_states import EMPTY, ScanStateRef
from workflows.jobs.steps import now_s, patient, utc, words
from workflows.model.payloads import Payload
from workflows.model.policies import ExecutionStatus

WORKFLOW_TYPE: Final = "reclaim-scan"
WORKFLOW_ID: Final = "reclaim"
SCAN_NOW: Final = "scan-now"
ORDERS: Final = "orders"

LOOK_S: Final = 120.0
"""One look, at most."""

LOOKS_S: Final = 300.0
"""All attempts at one look; then the interval goes by before the next one."""

CHUNK_S: Final = 60.0
CHUNKS_S: Final = 180.0
"""One attempt at a chunk of releases, and all of them."""

LOOK_GAP_S_MIN: Final = 1.0
"""Between two looks, whatever deadlines say."""

PAUSED_SHOWN_MAX: Final = 20
"""Failed steps that ``status`` tells; all are counted."""

_LOOK: Final = patient(LOOK_S, LOOKS_S)
_RELEASE: Final = patient(CHUNK_S, CHUNKS_S)


class ScanSettings(NamedTuple):
    """How often, and how much at once. Times in seconds."""

    interval_s: float = 600.0
    on_demand_gap_s: float = 1.0
    chunks_at_once: int = 3


def orders_of(settings: ReclaimSettings) -> ScanSettings:
    """What the settings of a controller say."""
    return ScanSettings(
        max(settings.scan_interval_s, LOOK_GAP_S_MIN),
        settings.on_demand_gap_s,
        max(settings.workers, 1),
    )


class ScanCounts(NamedTuple):
    """Counts since the execution began; ``kept`` to ``paused`` are those of the last look."""

    looks: int = 0
    failed_looks: int = 0
    released: int = 0
    late: int = 0
    kept: int = 0
    suspects: int = 0
    paused: int = 0


class ContinuedScan(NamedTuple):
    """What one look leaves to the next, and one run to the next. Times are Unix seconds."""

    book: ScanStateRef = EMPTY
    outdated: ScanStateRef = EMPTY
    last_s: float = 0.0
    again_s: float = 0.0
    tally: ScanCounts = ScanCounts()
    paused: tuple[PausedStep, ...] = ()
    samples: tuple[str, ...] = ()
    fault: str = ""
    wanted: bool = False


@workflow.defn(name=WORKFLOW_TYPE)
class ReclaimScan:
    """The execution. It holds no claims and no plans, only counts and references."""

    def __init__(self) -> None:
        self._orders = ScanSettings()
        self._carry = ContinuedScan()
        self._phase = "starting"

    @workflow.run
    async def run(self, orders: ScanSettings, carry: ContinuedScan = ContinuedScan()) -> None:
        """Go on until cancelled."""
        self._orders, self._carry = orders, carry
        workflow.set_signal_handler(SCAN_NOW, self._scan_now)
        workflow.set_signal_handler(ORDERS, self._take_orders)
        while not workflow.info().is_continue_as_new_suggested():
            await self._wait()
            self._change(wanted=False)
            await self._scan()
            self._tell()
        workflow.continue_as_new(self._orders, self._carry)

    @workflow.query
    def status(self) -> dict[str, Payload]:
        """What it does, and what the last look found."""
        carry = self._carry
        return {
            "phase": self._phase,
            "last_scan": utc(carry.last_s),
            "next_scan": utc(self._due_s()),
            **carry.tally._asdict(),
            "paused_steps": [step._asdict() for step in carry.paused],
            "samples": list(carry.samples),
            "fault": carry.fault,
        }

    def _scan_now(self) -> None:
        self._change(wanted=True)

    def _take_orders(self, orders: ScanSettings) -> None:
        self._orders = orders

    def _change(self, **fields: object) -> None:
        self._carry = self._carry._replace(**fields)  # type: ignore[arg-type]  # by name

    # ----------------------------------------------------------------------------- waiting

    def _due_s(self) -> float:
        """When the next look begins."""
        last_s, again_s = self._carry.last_s, self._carry.again_s
        if self._carry.wanted:
            return last_s + self._orders.on_demand_gap_s
        regular_s = last_s + self._orders.interval_s
        return min(regular_s, max(again_s, last_s + LOOK_GAP_S_MIN)) if again_s else regular_s

    async def _wait(self) -> None:
        self._phase = "waiting"
        while (due_s := self._due_s()) > now_s():

            def is_different(before_s: float = due_s) -> bool:
                return self._due_s() != before_s

            try:
                await workflow.wait_condition(is_different, due_s - now_s())
            except workflow.TimeoutError:
                return

    # ---------------------------------------------------------------------------- scanning

    async def _scan(self) -> None:
        self._phase = "looking"
        carry, tally = self._carry, self._carry.tally
        try:
            seen = await workflow.execute_activity(
                ReclaimActivities.observe, carry.book, carry.outdated, options=_LOOK
            )
        except workflow.ActivityError as error:
            failed = tally._replace(failed_looks=tally.failed_looks + 1)
            self._change(last_s=now_s(), again_s=0.0, tally=failed, fault=words(error))
            return
        self._note(seen)
        self._phase = "releasing"
        for parts in _windows(seen.book.step_parts, self._orders.chunks_at_once):
            futures = [
                workflow.start_activity(
                    ReclaimActivities.release, seen.book, part, options=_RELEASE
                )
                for part in parts
            ]
            found = await workflow.gather(*futures, return_exceptions=True)
            for part, done in zip(parts, found, strict=True):
                self._count(part, done)

    def _note(self, seen: ScanObservation) -> None:
        tally = self._carry.tally
        self._change(
            book=seen.book,
            outdated=self._carry.book,
            last_s=now_s(),
            again_s=seen.look_again_s,
            tally=tally._replace(
                looks=tally.looks + 1, kept=seen.kept, suspects=seen.suspects, paused=0
            ),
            paused=(),
            samples=seen.samples,
            fault="",
        )

    def _count(self, part: int, done: ChunkDone | BaseException) -> None:
        if isinstance(done, workflow.ActivityError):
            done = ChunkDone(0, 0, (PausedStep(f"chunk {part}", words(done)),))
        elif isinstance(done, BaseException):
            raise done
        tally = self._carry.tally
        self._change(
            tally=tally._replace(
                released=tally.released + done.released,
                late=tally.late + done.late,
                paused=tally.paused + len(done.paused),
            ),
            paused=(*self._carry.paused, *done.paused)[:PAUSED_SHOWN_MAX],
        )

    def _tell(self) -> None:
        carry = self._carry
        workflow.upsert_search_attributes(
            {
                "ReclaimLastScan": utc(carry.last_s),
                "ReclaimKept": carry.tally.kept,
                "ReclaimReleased": carry.tally.released,
                "ReclaimPaused": carry.tally.paused,
                "ReclaimFault": carry.fault,
            }
        )


def _windows(parts: int, size: int) -> Iterator[range]:
    for start in range(0, parts, size):
        yield range(start, min(start + size, parts))


LAST_SCAN: Final = "ReclaimLastScan"
KEPT: Final = "ReclaimKept"
RELEASED: Final = "ReclaimReleased"
FAILED: Final = "ReclaimPaused"
FAULT: Final = "ReclaimFault"


class ScanStatus(NamedTuple):
    """The last scan. ``at_s``: Unix seconds, 0: there was none yet.

    ``kept``: endpoints that stay; ``released``: addresses, since the execution began;
    ``failed_steps``: releases that wait for the next scan; ``fault``: why the last look failed.
    """

    paused: bool = False
    at_s: float = 0.0
    kept: int = 0
    released: int = 0
    failed_steps: int = 0
    fault: str = ""


def scan_key(keys: Keys) -> bytes:
    """The key of the head of the scan's execution."""
    return WorkflowKeys(keys, DEFAULT_QUEUE).open(WORKFLOW_ID)


async def read_standing(store: KeyValueStore, keys: Keys) -> ScanStatus | None:
    """None when no execution is there. Raises StoreUnavailable, LogCorrupt."""
    key = scan_key(keys)
    for kv in (await store.read([Get(key)])).ranges[0].kvs:
        head = OPEN_HEADS.decode(keys, kv.key, kv.value)
        try:
            return _standing(head.search_attributes, paused=head.status is ExecutionStatus.PAUSED)
        except UNREADABLE as error:
            name = key_text(keys, key)
            what = f"what the scan of reclaiming says cannot be read: {words_of(error)}"
            raise LogCorrupt(what, subject=name, remedy=OPEN_HEADS.remedy) from error
    return None


def _standing(attributes: Mapping[str, Payload], *, paused: bool) -> ScanStatus:
    text = str(attributes.get(LAST_SCAN) or "")
    return ScanStatus(
        paused,
        datetime.fromisoformat(text).timestamp() if text else 0.0,
        int(attributes.get(KEPT) or 0),
        int(attributes.get(RELEASED) or 0),
        int(attributes.get(FAILED) or 0),
        str(attributes.get(FAULT) or ""),
    )
