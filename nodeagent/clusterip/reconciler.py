"""Keeps the BPF maps equal to the Services, and the BPF programs attached.

Until all Services have been read, the map contents of the last agent stay in use.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from core.domain.validation.common_rules import counted
from core.errors import BadInput, DatapathError
from nodeagent.clusterip.bpf_installation import Installation
from nodeagent.clusterip.bpf_programs import DesiredPrograms
from nodeagent.clusterip.frontends import BackendGroup, Frontend, address_text
from nodeagent.clusterip.map_plan import (
    Contents,
    LimitedFrontends,
    contents_of,
    limit_frontends,
    plan,
)
from nodeagent.clusterip.pod_cgroups import pods_cgroup
from nodeagent.clusterip.service_sources import ServiceSource

SETTLE_S: Final = 0.05
"""Seconds to wait after a change, to collect further changes."""

CHECK_S: Final = 10.0
"""After this time in seconds, reconcile even without a change: programs may be detached."""

PAUSE_S_MIN: Final = 0.5
PAUSE_S_MAX: Final = 30.0

_log: Final = logging.getLogger(__name__)


class BpfLocation(NamedTuple):
    """Programs, and where to pin and attach them. ``cgroup`` "": kubelet's group of Pods."""

    bpffs: Path
    cgroup: str
    programs: DesiredPrograms


class ClusterIpCounters:
    """Counts for metrics. ``left_out``: frontends that do not fit. ``attached``: 0 or 1."""

    def __init__(self) -> None:
        self.frontends = 0
        self.backends = 0
        self.left_out = 0
        self.writes = 0
        self.failures = 0
        self.attached = 0


class ClusterIpReconciler:
    """The ClusterIPs of one agent. Call ``run`` until it is cancelled, then ``close``."""

    def __init__(self, source: ServiceSource, location: BpfLocation) -> None:
        self.counts = ClusterIpCounters()
        self._source = source
        self._location = location
        self._installation: Installation | None = None
        self._contents: Contents | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._fault = ""
        self._limit = ""

    async def run(self) -> None:
        """Reconcile after each change and every ``CHECK_S`` seconds. Retry with growing pauses."""
        pause_s = PAUSE_S_MIN
        while True:
            try:
                if await self._reconcile():
                    pause_s = PAUSE_S_MIN
                await self._wait()
            except (DatapathError, BadInput) as error:
                self._report(error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_S_MAX)

    def close(self) -> None:
        """Close all descriptors. Pinned programs and maps stay in use."""
        with self._lock:
            self._closed = True
            installation, self._installation = self._installation, None
            self.counts.attached = 0
            if installation is not None:
                installation.close()

    async def _reconcile(self) -> bool:
        """Return False if the source has not read all Services yet."""
        desired = self._source.frontends()
        if desired is None:
            return False
        limited = limit_frontends(desired)
        await asyncio.to_thread(self._apply, limited)
        self._count(limited)
        if self._fault:
            _log.info("ClusterIPs are served again")
            self._fault = ""
        return True

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(CHECK_S):
                await self._source.changed()
                await asyncio.sleep(SETTLE_S)
        except TimeoutError:
            return

    def _apply(self, limited: LimitedFrontends) -> None:
        # Cancelling the task does not stop this thread: ``close`` may have run.
        with self._lock:
            if self._closed:
                return
            if self._installation is None:
                self._installation = Installation.open(self._location.bpffs)
            self._update_maps(self._installation, limited)
            self._attach(self._installation)

    def _update_maps(self, installation: Installation, limited: LimitedFrontends) -> None:
        # After a failed write, ``_contents`` stays None, and the next round reads the maps.
        contents, self._contents = self._contents, None
        if contents is None:
            contents = contents_of(installation.read())
        steps, after = plan(contents, limited.frontends)
        installation.write(steps)
        self.counts.writes += steps.write_count
        self._contents = after

    def _attach(self, installation: Installation) -> None:
        # The control group may have been recreated.
        try:
            cgroup = pods_cgroup(self._location.cgroup)
        except (DatapathError, BadInput):
            self.counts.attached = 0
            raise
        if not installation.is_attached(cgroup):
            self.counts.attached = 0
            installation.attach(cgroup, self._location.programs)
            fields = _fields(installation, cgroup)
            _log.info("attached the ClusterIP programs", extra={"fields": fields})
        self.counts.attached = 1

    def _count(self, limited: LimitedFrontends) -> None:
        self.counts.frontends = len(limited.frontends)
        self.counts.backends = _backend_count(limited.frontends)
        self.counts.left_out = len(limited.left_out)
        if limited.limit and limited.limit != self._limit:
            first = limited.left_out[0]
            _log.warning(
                "cannot serve %s of ClusterIP and port, beginning with %s port %d: the limit"
                " %s is reached (delete Services that are not needed)",
                counted(len(limited.left_out), "pair"),
                address_text(first.address),
                first.port,
                limited.limit,
            )
        self._limit = limited.limit

    def _report(self, error: DatapathError | BadInput) -> None:
        self.counts.failures += 1
        text = str(error)
        if text != self._fault:
            _log.warning("cannot serve ClusterIPs, trying again: %s", text)
            self._fault = text


def _backend_count(frontends: Mapping[Frontend, BackendGroup]) -> int:
    return sum(len(group.backends) for group in frontends.values())


def _fields(installation: Installation, cgroup: Path) -> dict[str, str]:
    pinned = str(installation.directory) if installation.is_pinned else "not pinned"
    return {"cgroup": str(cgroup), "pinned": pinned}
