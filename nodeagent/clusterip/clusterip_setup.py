"""From settings to a follower at work: what is decided once, at the agent's start.

Switched off means off: what an agent before has pinned is taken away then.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from pathlib import Path
from typing import Final, NamedTuple, Self

from core.errors import DatapathError
from core.process.supervision import Supervisor, TaskSpec
from nodeagent.clusterip.installation import remove
from nodeagent.clusterip.pods import BPFFS
from nodeagent.clusterip.programs import DesiredPrograms
from nodeagent.clusterip.reconciler import BpfLocation, ClusterIpCounters, ClusterIpReconciler
from nodeagent.clusterip.sources import ServiceSource
from nodeagent.ebpf.numbers import SO_NETNS_COOKIE
from nodeagent.telemetry.metrics import AgentMetrics

COOKIE_BYTES: Final = 8

TASK: Final = "cluster-ips"
"""Its name at the supervisor."""

_log: Final = logging.getLogger(__name__)


class ClusterIpSettings(NamedTuple):
    """What an operator can set of it. ``cgroup`` "": kubelet's group of Pods."""

    enabled: bool = False
    cgroup: str = ""
    bpffs: str = BPFFS
    host_network: bool = False


class ClusterIps:
    """A follower at work, and what it tells of itself."""

    def __init__(self, reconciler: ClusterIpReconciler, supervisor: Supervisor) -> None:
        self._reconciler = reconciler
        self._supervisor = supervisor
        supervisor.start(TaskSpec(TASK, reconciler.run))

    @classmethod
    def joined(
        cls,
        settings: ClusterIpSettings,
        source: ServiceSource,
        metrics: AgentMetrics,
        supervisor: Supervisor,
    ) -> Self | None:
        """Begin, in the node's own namespace; None: switched off.

        Raises DatapathError on a kernel that is too old.
        """
        if not settings.enabled:
            _switch_off(Path(settings.bpffs))
            return None
        spared = 0 if settings.host_network else own_cookie()
        place = BpfLocation(Path(settings.bpffs), settings.cgroup, DesiredPrograms(spared))
        reconciler = ClusterIpReconciler(source, place)
        _observe(reconciler.counts, metrics)
        return cls(reconciler, supervisor)

    async def close(self) -> None:
        """End; what is pinned goes on serving."""
        await self._supervisor.end(TASK)
        await asyncio.to_thread(self._reconciler.close)


def _switch_off(bpffs: Path) -> None:
    try:
        if remove(bpffs):
            _log.info("ClusterIPs are not served any more: orbweaver.clusterIP is off")
    except OSError as error:
        _log.warning("orbweaver.clusterIP is off, but what was pinned stays: %s", error)


def own_cookie() -> int:
    """What programs call the network namespace of this thread. Raises DatapathError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            said = any_socket.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, COOKIE_BYTES)
        except OSError as error:
            raise DatapathError(
                f"this kernel names no network namespaces to programs: {error.strerror}",
                subject="orbweaver.clusterIP",
                remedy="it takes Linux 5.14 or newer",
            ) from None
    return int.from_bytes(said, sys.byteorder)


def _observe(counts: ClusterIpCounters, metrics: AgentMetrics) -> None:
    metrics.gauge(
        "clusterip_attached", "Whether sockets of Pods are served", lambda: counts.attached
    )
    metrics.gauge(
        "clusterip_frontends", "ClusterIPs with a port that are served", lambda: counts.frontends
    )
    metrics.gauge("clusterip_backends", "Backends of all of them", lambda: counts.backends)
    metrics.gauge(
        "clusterip_left_out",
        "ClusterIPs with a port beyond FRONTENDS_MAX or BACKENDS_MAX",
        lambda: counts.left_out,
    )
    metrics.counter("clusterip_map_writes", "Entries written and removed", lambda: counts.writes)
    metrics.counter("clusterip_failures", "Rounds that the kernel refused", lambda: counts.failures)
