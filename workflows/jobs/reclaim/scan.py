"""Reclaim: scan all claims, release leaked claims on evidence, wait, and scan again.

A cluster has one execution. It scans at a fixed interval, on the signal ``scan-now``, and when a
kept claim may be released. Observations are stored (``scan_states``), so that any controller can
continue after any step. The next scan tries failed releases again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from core.domain.reclaim.settings import ReclaimSettings
from core.errors import LogCorrupt
from core.eventstore.codec import DECODING_ERRORS, error_text
from core.eventstore.keys import Keys, key_text
from core.eventstore.kv import Get, KeyValueStore
from workflows.api import workflow
from workflows.engine.store.keys import DEFAULT_QUEUE, WorkflowKeys
from workflows.engine.store.kinds import OPEN_HEADS
from workflows.jobs.activity_options import failure_text, now_s, step_options, utc
from workflows.jobs.reclaim.scan_activities import (
    ChunkResult,
    FailedRelease,
    ReclaimActivities,
    ScanObservation,
)
from workflows.jobs.reclaim.scan_states import EMPTY_SCAN_STATE, ScanStateRef
from workflows.model.payloads import Payload
from workflows.model.policies import ExecutionStatus

WORKFLOW_TYPE: Final = "reclaim-scan"
WORKFLOW_ID: Final = "reclaim"
SCAN_NOW: Final = "scan-now"
SETTINGS_SIGNAL: Final = "orders"
"""The signal that replaces the settings. Histories store this name: keep it."""

SCAN_S: Final = 120.0
SCAN_ATTEMPTS_S: Final = 300.0
"""Time limits of one attempt, and of all attempts."""

CHUNK_S: Final = 60.0
CHUNK_ATTEMPTS_S: Final = 180.0
SCAN_GAP_S_MIN: Final = 1.0
LAST_SCAN: Final = "ReclaimLastScan"
KEPT: Final = "ReclaimKept"
RELEASED: Final = "ReclaimReleased"
FAILED: Final = "ReclaimPaused"
FAULT: Final = "ReclaimFault"
"""The search attributes of the execution. Users see these names: keep them."""

PAUSED_SHOWN_MAX: Final = 20
_SCAN: Final = step_options(SCAN_S, SCAN_ATTEMPTS_S)
_RELEASE: Final = step_options(CHUNK_S, CHUNK_ATTEMPTS_S)


class ScanSettings(NamedTuple):
    """The settings of a scan.

    ``on_demand_gap_s``: minimum seconds between a scan and the scan that ``scan-now`` requests.
    """

    interval_s: float = 600.0
    on_demand_gap_s: float = 1.0
    chunks_at_once: int = 3


def scan_settings(settings: ReclaimSettings) -> ScanSettings:
    """The scan's part of a controller's settings."""
    return ScanSettings(
        max(settings.scan_interval_s, SCAN_GAP_S_MIN),
        settings.on_demand_gap_s,
        max(settings.workers, 1),
    )


class ScanCounts(NamedTuple):
    """Counts since the execution began; ``kept``, ``observed`` and ``paused`` of the last scan.

    ``kept``: endpoints that were not released, also healthy ones. ``observed``: kept endpoints with
    one observation so far. ``paused``: failed releases. ``late``: releases without an effect.
    """

    scans: int = 0
    failed_scans: int = 0
    released: int = 0
    late: int = 0
    kept: int = 0
    observed: int = 0
    paused: int = 0

    def report(self) -> dict[str, Payload]:
        """The counts for the query ``status``, under their published names."""
        names = ("looks", "failed_looks", "released", "late", "kept", "suspects", "paused")
        return dict(zip(names, self, strict=True))


class ContinuedScan(NamedTuple):
    """The state that passes from scan to scan and from run to run. Times are Unix seconds.

    ``state`` and ``outdated``: the states of the last scan and the scan before. ``next_s``: when
    the next kept claim may be released, 0 if unknown.
    """

    state: ScanStateRef = EMPTY_SCAN_STATE
    outdated: ScanStateRef = EMPTY_SCAN_STATE
    last_s: float = 0.0
    next_s: float = 0.0
    counts: ScanCounts = ScanCounts()
    paused: tuple[FailedRelease, ...] = ()
    samples: tuple[str, ...] = ()
    fault: str = ""
    requested: bool = False


@workflow.defn(name=WORKFLOW_TYPE)
class ReclaimScan:
    """The workflow of the scan."""

    def __init__(self) -> None:
        self._settings = ScanSettings()
        self._continued = ContinuedScan()
        self._phase = "starting"

    @workflow.run
    async def run(self, settings: ScanSettings, continued: ContinuedScan = ContinuedScan()) -> None:
        """Scan until cancelled."""
        self._settings, self._continued = settings, continued
        workflow.set_signal_handler(SCAN_NOW, self._scan_now)
        workflow.set_signal_handler(SETTINGS_SIGNAL, self._replace_settings)
        while not workflow.info().is_continue_as_new_suggested():
            await self._wait()
            self._change(requested=False)
            await self._scan()
            self._publish_status()
        workflow.continue_as_new(self._settings, self._continued)

    @workflow.query
    def status(self) -> dict[str, Payload]:
        """The current phase, and the results of the last scan."""
        continued = self._continued
        return {
            "phase": self._phase,
            "last_scan": utc(continued.last_s),
            "next_scan": utc(self._due_s()),
            **continued.counts.report(),
            "paused_steps": [step._asdict() for step in continued.paused],
            "samples": list(continued.samples),
            "fault": continued.fault,
        }

    def _scan_now(self) -> None:
        self._change(requested=True)

    def _replace_settings(self, settings: ScanSettings) -> None:
        self._settings = settings

    def _change(self, **fields: object) -> None:
        self._continued = self._continued._replace(**fields)  # type: ignore[arg-type]  # by name

    def _due_s(self) -> float:
        last_s, next_s = self._continued.last_s, self._continued.next_s
        if self._continued.requested:
            return last_s + self._settings.on_demand_gap_s
        regular_s = last_s + self._settings.interval_s
        return min(regular_s, max(next_s, last_s + SCAN_GAP_S_MIN)) if next_s else regular_s

    async def _wait(self) -> None:
        self._phase = "waiting"
        while (due_s := self._due_s()) > now_s():

            def is_different(before_s: float = due_s) -> bool:
                return self._due_s() != before_s

            try:
                await workflow.wait_condition(is_different, due_s - now_s())
            except workflow.TimeoutError:
                return

    async def _scan(self) -> None:
        self._phase = "looking"  # published name of the phase
        continued, counts = self._continued, self._continued.counts
        try:
            observation = await workflow.execute_activity(
                ReclaimActivities.observe, continued.state, continued.outdated, options=_SCAN
            )
        except workflow.ActivityError as error:
            failed = counts._replace(failed_scans=counts.failed_scans + 1)
            self._change(last_s=now_s(), next_s=0.0, counts=failed, fault=failure_text(error))
            return
        self._note_observation(observation)
        self._phase = "releasing"
        for parts in _windows(observation.state.step_parts, self._settings.chunks_at_once):
            futures = [
                workflow.start_activity(
                    ReclaimActivities.release, observation.state, part, options=_RELEASE
                )
                for part in parts
            ]
            results = await workflow.gather(*futures, return_exceptions=True)
            for part, result in zip(parts, results, strict=True):
                self._count_releases(part, result)

    def _note_observation(self, observation: ScanObservation) -> None:
        counts = self._continued.counts
        self._change(
            state=observation.state,
            outdated=self._continued.state,
            last_s=now_s(),
            next_s=observation.next_scan_s,
            counts=counts._replace(
                scans=counts.scans + 1,
                kept=observation.kept,
                observed=observation.observed,
                paused=0,
            ),
            paused=(),
            samples=observation.samples,
            fault="",
        )

    def _count_releases(self, part: int, result: ChunkResult | BaseException) -> None:
        if isinstance(result, workflow.ActivityError):
            failed = FailedRelease(f"chunk {part}", failure_text(result))
            result = ChunkResult(released=0, late=0, paused=(failed,))
        elif isinstance(result, BaseException):
            raise result
        counts = self._continued.counts
        self._change(
            counts=counts._replace(
                released=counts.released + result.released,
                late=counts.late + result.late,
                paused=counts.paused + len(result.paused),
            ),
            paused=(*self._continued.paused, *result.paused)[:PAUSED_SHOWN_MAX],
        )

    def _publish_status(self) -> None:
        continued = self._continued
        workflow.upsert_search_attributes(
            {
                LAST_SCAN: utc(continued.last_s),
                KEPT: continued.counts.kept,
                RELEASED: continued.counts.released,
                FAILED: continued.counts.paused,
                FAULT: continued.fault,
            }
        )


def _windows(parts: int, size: int) -> Iterator[range]:
    for start in range(0, parts, size):
        yield range(start, min(start + size, parts))


class ScanStatus(NamedTuple):
    """The status of the scan's execution.

    ``at_s``: the last scan in Unix seconds, 0 before the first scan. ``kept`` and ``released``: see
    ``ScanCounts``. ``fault``: why the last scan failed.
    """

    paused: bool = False
    at_s: float = 0.0
    kept: int = 0
    released: int = 0
    failed_steps: int = 0
    fault: str = ""


def scan_key(keys: Keys) -> bytes:
    """The key of the scan's ``RunHead``."""
    return WorkflowKeys(keys, DEFAULT_QUEUE).open(WORKFLOW_ID)


async def read_scan_status(store: KeyValueStore, keys: Keys) -> ScanStatus | None:
    """The status, or None if there is no execution. Raises StoreUnavailable, LogCorrupt."""
    key = scan_key(keys)
    for kv in (await store.read([Get(key)])).ranges[0].kvs:
        head = OPEN_HEADS.decode(keys, kv.key, kv.value)
        try:
            return _status(head.search_attributes, paused=head.status is ExecutionStatus.PAUSED)
        except DECODING_ERRORS as error:
            name = key_text(keys, key)
            what = (
                f"cannot read the search attributes of workflow {WORKFLOW_ID} in {name}: "
                f"{error_text(error)}"
            )
            raise LogCorrupt(what, subject=name, remedy=OPEN_HEADS.remedy) from error
    return None


def _status(attributes: Mapping[str, Payload], *, paused: bool) -> ScanStatus:
    text = str(attributes.get(LAST_SCAN) or "")
    return ScanStatus(
        paused,
        datetime.fromisoformat(text).timestamp() if text else 0.0,
        int(attributes.get(KEPT) or 0),
        int(attributes.get(RELEASED) or 0),
        int(attributes.get(FAILED) or 0),
        str(attributes.get(FAULT) or ""),
    )
