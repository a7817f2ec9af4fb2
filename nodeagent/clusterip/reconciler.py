"""Keeps the maps as the source says, in the background, and the programs where Pods are.

Level-triggered: however many changes came meanwhile, one round takes the maps from what is in them
to what shall be. What the kernel refuses is told once and tried again, ever more slowly. Promise:
until the source knows everything nothing is written, so that what an agent before has left goes on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from core.errors import BadInput, BpfRefused, DatapathError
from nodeagent.clusterip.frontends import BackendGroup, Frontend, address_text
from nodeagent.clusterip.installation import Installation
from nodeagent.clusterip.map_plan import Contents, Fitted, fit, plan, understand
from nodeagent.clusterip.pods import pods_cgroup
from nodeagent.clusterip.programs import DesiredPrograms
from nodeagent.clusterip.sources import ServiceSource

SETTLE_S: Final = 0.05
"""Between two rounds: what changes together is written together."""

LOOK_S: Final = 10.0
"""How often it is looked whether the Pods' control group is still the one that is served."""

PAUSE_S_MIN: Final = 0.5
PAUSE_S_MAX: Final = 30.0
"""Between two tries at what the kernel has refused."""

_log: Final = logging.getLogger(__name__)


class BpfLocation(NamedTuple):
    """Where it is installed: a bpffs, and the control group that was said, "" for kubelet's."""

    bpffs: Path
    cgroup: str
    wishes: DesiredPrograms


class ClusterIpCounters:
    """What it has done, for whoever scrapes."""

    def __init__(self) -> None:
        self.frontends = 0
        self.backends = 0
        self.left_out = 0
        self.writes = 0
        self.failures = 0
        self.attached = 0


class ClusterIpReconciler:
    """The set of one agent; ``run`` until cancelled, then ``close``."""

    def __init__(self, source: ServiceSource, place: BpfLocation) -> None:
        self.counts = ClusterIpCounters()
        self._source = source
        self._place = place
        self._installation: Installation | None = None
        self._contents: Contents | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._fault = ""
        self._limit = ""

    async def run(self) -> None:
        """Follow the source."""
        pause_s = PAUSE_S_MIN
        while True:
            try:
                if await self._round():
                    pause_s = PAUSE_S_MIN
                await self._wait()
            except (DatapathError, BadInput) as error:
                self._tell(error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_S_MAX)

    def close(self) -> None:
        """Let go; what is pinned goes on serving."""
        with self._lock:
            self._closed = True
            installation, self._installation = self._installation, None
            self.counts.attached = 0
            if installation is not None:
                installation.close()

    async def _round(self) -> bool:
        """Bring maps and links up to date; whether anything could be said about them."""
        wanted = self._source.frontends()
        if wanted is None:
            return False
        fitted = fit(wanted)
        await asyncio.to_thread(self._apply, fitted)
        self._count(fitted)
        if self._fault:
            _log.info("ClusterIPs are served again")
            self._fault = ""
        return True

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(LOOK_S):
                await self._source.changed()
                await asyncio.sleep(SETTLE_S)
        except TimeoutError:
            return

    def _apply(self, fitted: Fitted) -> None:
        # A thread that its task was cancelled over goes on to its end.
        with self._lock:
            if self._closed:
                return
            if self._installation is None:
                self._installation = Installation.open(self._place.bpffs)
            self._bring_up_to_date(self._installation, fitted)
            self._attach(self._installation)

    def _bring_up_to_date(self, installation: Installation, fitted: Fitted) -> None:
        # What is known to be there is unknown while it is written.
        known, self._contents = self._contents, None
        if known is None:
            known = understand(installation.read())
        steps, after = plan(known, fitted.wanted)
        installation.write(steps)
        self.counts.writes += steps.writes
        self._contents = after

    def _attach(self, installation: Installation) -> None:
        """Serve the Pods' control group, which may have gone and come again."""
        try:
            cgroup = pods_cgroup(self._place.cgroup)
        except (DatapathError, BadInput):
            self.counts.attached = 0
            raise
        if not installation.is_attached(cgroup):
            self.counts.attached = 0
            installation.attach(cgroup, self._place.wishes)
            fields = _fields(installation, cgroup)
            _log.info("ClusterIPs are served to sockets", extra={"fields": fields})
        self.counts.attached = 1

    def _count(self, fitted: Fitted) -> None:
        self.counts.frontends = len(fitted.wanted)
        self.counts.backends = _backends(fitted.wanted)
        self.counts.left_out = len(fitted.left_out)
        if fitted.limit and fitted.limit != self._limit:
            first = fitted.left_out[0]
            _log.warning(
                "%d ClusterIPs with their port are left out, %s:%d the first: %s is reached",
                *(len(fitted.left_out), address_text(first.address), first.port, fitted.limit),
            )
        self._limit = fitted.limit

    def _tell(self, error: DatapathError | BadInput) -> None:
        self.counts.failures += 1
        text = str(error)
        if text != self._fault:
            kind = "refused" if isinstance(error, BpfRefused) else "failed"
            _log.warning("serving ClusterIPs %s, and is tried again: %s", kind, text)
            self._fault = text


def _backends(wanted: Mapping[Frontend, BackendGroup]) -> int:
    return sum(len(balance.backends) for balance in wanted.values())


def _fields(installation: Installation, cgroup: Path) -> dict[str, str]:
    kept = str(installation.directory) if installation.is_pinned else "by this process alone"
    return {"cgroup": str(cgroup), "kept": kept}
