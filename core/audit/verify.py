"""Checks that the log is complete, satisfies the invariants, and agrees with the state keys.

Reads the archive, the live log, and the state keys at the end of the log. Works on a running
system, without locks. Never writes: it plans a repair, which ``core.audit.repair`` executes.

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

from core.archive.archive_directory import Files
from core.archive.archiver_leftovers import find_leftovers
from core.archive.cursor import SNAPSHOT_SUFFIX
from core.archive.replay import LogView, open_log
from core.archive.sealed_log import FileSummary, SealedLog
from core.audit.index_check import check_index, find_undecodable_keys
from core.audit.ownership_check import foreign_changes
from core.audit.repair import RepairStep, plan_heads, plan_repair
from core.audit.state_check import Difference, compare, read_state
from core.domain.events import Recorded
from core.domain.evolution import Ledger
from core.domain.log_checker import Checker, Violation
from core.errors import Compacted, LogCorrupt, LogError
from core.eventstore.codec import DECODING_ERRORS, KeyKind, error_text
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.log_reader import Segment
from core.eventstore.undecodable_values import ContainedFault

ROUNDS_MAX = 5
"""Limit of attempts. An attempt is repeated if etcd compacts the revision that it reads."""

FINDINGS_MAX = 1_000
"""The largest number of violations in a report; also the largest number of differences."""

EVENT_REMEDY: Final = (
    "run the version of Orbweaver that wrote the event; if it cannot apply the event either,"
    " restore a backup of etcd and of the archive"
)
INDEX_REMEDY: Final = (
    "run `orbctl verify --repair`; the next `orbctl` command after it rebuilds the index"
)


class LogFault(NamedTuple):
    """A missing or changed part of the archive, the log or an index."""

    subject: str
    text: str
    remedy: str = ""


class VerificationReport(NamedTuple):
    """The result, as of ``revision``.

    ``folded``: the log was read to its end; if False, the state keys were not compared.
    ``violations`` and ``differences`` have at most ``FINDINGS_MAX`` items; the counts have no
    limit. ``notes`` are not faults.
    """

    revision: int
    files: int
    segments: int
    events: int
    folded: bool
    faults: tuple[LogFault, ...]
    violations: tuple[Violation, ...]
    violation_count: int
    differences: tuple[Difference, ...]
    difference_count: int
    plan: tuple[RepairStep, ...]
    notes: tuple[str, ...] = ()
    unreadable: tuple[ContainedFault, ...] = ()

    @property
    def is_clean(self) -> bool:
        findings = (self.faults, self.violations, self.differences, self.unreadable)
        return self.folded and not any(findings)


async def verify(
    store: KeyValueStore,
    keys: Keys,
    files: Files,
    kinds: Sequence[KeyKind[Any]] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> VerificationReport:
    """Read the log and the keys, and report the faults.

    ``kinds``: the keys to decode besides state keys. ``on_progress`` receives the position that was
    reached, and the log's end. Raises StoreUnavailable, and Compacted if etcd compacts the log
    faster than it can be read.
    """
    run = _Run(keys, files, kinds, on_progress)
    for round_ in range(ROUNDS_MAX):
        try:
            return await run.read(store)
        except Compacted:
            if round_ == ROUNDS_MAX - 1:
                raise
    raise AssertionError("unreachable: the last round returns or raises")


class _Run:
    """One verification. After Compacted, the next ``read`` continues where the last one stopped."""

    def __init__(
        self,
        keys: Keys,
        files: Files,
        kinds: Sequence[KeyKind[Any]],
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._on_progress = on_progress
        self._last_position = 0
        self._keys = keys
        self._files = files
        self._kinds = kinds
        self._unreadable: tuple[ContainedFault, ...] = ()
        self._checker = Checker()
        self._file_count = 0
        self._last_file = 0
        self._segments = 0
        self._events = 0
        self._faults: list[LogFault] = []
        self._violations: list[Violation] = []
        self._violation_count = 0
        self._notes: tuple[str, ...] = ()

    async def read(self, store: KeyValueStore) -> VerificationReport:
        self._unreadable = tuple(await find_undecodable_keys(store, self._keys, self._kinds))
        try:
            view = await open_log(store, self._keys, self._files)
            await self._read_log(view)
        except LogError as error:
            self._faults.append(_fault(error))
            return self._report(self._checker.ledger.position, folded=False)
        state = await read_state(store, self._keys, view.revision)
        differences = compare(self._checker.ledger, state, self._keys)
        plan = plan_repair(self._checker.ledger, differences, state, self._keys)
        plan += await plan_heads(store, self._keys, view.revision, view.sealed.cursor.seqs)
        for fault in await check_index(store, self._keys, self._checker.ledger, view.revision):
            self._faults.append(LogFault(fault.subject, fault.text, INDEX_REMEDY))
            plan += (fault.step,)
        return self._report(view.revision, differences=differences, plan=plan)

    async def _read_log(self, view: LogView) -> None:
        self._last_position = view.revision
        self._skip_pruned_part(view.sealed)
        for summary in view.sealed.summaries():
            if summary.number <= self._last_file:
                continue
            self._file_count += 1
            self._last_file = summary.number
            self._check_index_file(view.sealed, summary)
            self._check_file(view.sealed, summary)
        self._note_leftovers(view.sealed)
        async for segments in view.live.segments(self._checker.ledger.position, view.revision):
            self._check_segments(segments)

    def _skip_pruned_part(self, sealed: SealedLog) -> None:
        pruned = sealed.cursor.pruned
        if self._checker.ledger.position < pruned.position:
            self._checker = Checker(sealed.first_state().ledger)

    def _check_file(self, sealed: SealedLog, summary: FileSummary) -> None:
        """After a corrupt file, continue with the state in its snapshot."""
        after = self._checker.ledger.position
        try:
            for _, segments in sealed.segments(after, summary.last_position):
                self._check_segments(segments)
        except LogError as error:
            snapshot = sealed.snapshot(summary.link)
            if snapshot is None:
                raise  # no state to continue from: ``read`` reports the fault and stops
            self._faults.append(_fault(error))
            self._checker = Checker(snapshot.ledger)
        else:
            self._check_snapshot(sealed, summary)

    def _check_segments(self, segments: Iterable[Segment]) -> None:
        for segment in segments:
            events = segment.events()
            self._segments += 1
            self._events += len(events)
            self._add_violations(foreign_changes(events, self._checker.ledger))
            for recorded in events:
                self._add_violations(self._check_event(recorded))
        if self._on_progress is not None:
            self._on_progress(self._checker.ledger.position, self._last_position)

    def _add_violations(self, violations: list[Violation]) -> None:
        if violations:
            self._violation_count += len(violations)
            self._violations += violations[: FINDINGS_MAX - len(self._violations)]

    def _check_event(self, recorded: Recorded) -> list[Violation]:
        """Raises LogCorrupt if the event cannot be applied."""
        try:
            return self._checker.check(recorded)
        except DECODING_ERRORS as error:
            what = (
                f"event {recorded.event_id} cannot be applied to the state before it:"
                f" {error_text(error)}"
            )
            raise LogCorrupt(what, subject=recorded.writer, remedy=EVENT_REMEDY) from error

    def _check_index_file(self, sealed: SealedLog, summary: FileSummary) -> None:
        index = sealed.index(summary.link)
        digest = sealed.open(summary.link).trailer.index_digest
        if index is None or sha256(index).digest() != digest:
            text = "is lost" if index is None else "was changed"
            repair = "restore it from a copy of the archive"
            repair += "" if index is None else ", or delete it"
            remedy = f"{repair}; without it `orbctl history` is slower, but complete"
            self._faults.append(LogFault(summary.link.base, f"the index {text}", remedy))

    def _check_snapshot(self, sealed: SealedLog, summary: FileSummary) -> None:
        name = summary.link.base + SNAPSHOT_SUFFIX
        snapshot = sealed.snapshot(summary.link)
        remedy = (
            "restore it from a copy of the archive, or delete it: readers then start from an older"
            " snapshot"
        )
        if snapshot is None:
            self._faults.append(LogFault(name, "the snapshot is lost or was changed", remedy))
        elif not _equal(snapshot.ledger, self._checker.ledger):
            text = "the snapshot differs from the state that the log gives"
            self._faults.append(LogFault(name, text, remedy))

    def _note_leftovers(self, sealed: SealedLog) -> None:
        foreign = find_leftovers(self._files, sealed, self._keys.cluster).foreign
        self._notes = tuple(f"{name} is not part of this log's history" for name in foreign)
        if sealed.cursor.pruned.files:
            position = sealed.cursor.pruned.position
            self._notes += (f"the archive was pruned: it begins after position {position}",)

    def _report(
        self,
        revision: int,
        *,
        folded: bool = True,
        differences: list[Difference] | None = None,
        plan: tuple[RepairStep, ...] = (),
    ) -> VerificationReport:
        all_differences = differences or []
        return VerificationReport(
            revision,
            self._file_count,
            self._segments,
            self._events,
            folded,
            tuple(self._faults),
            tuple(self._violations),
            self._violation_count,
            tuple(all_differences[:FINDINGS_MAX]),
            len(all_differences),
            plan,
            self._notes,
            self._unreadable,
        )


def _equal(snapshot: Ledger, from_log: Ledger) -> bool:
    return all(getattr(snapshot, part) == getattr(from_log, part) for part in Ledger.__slots__)


def _fault(error: LogError) -> LogFault:
    return LogFault(error.subject, error.message, error.remedy)
