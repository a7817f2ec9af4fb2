"""Starts to serve ClusterIPs, or removes pinned programs if ClusterIPs are disabled."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from pathlib import Path
from typing import Final, NamedTuple

from core.errors import DatapathError
from core.process.supervision import Supervisor, TaskSpec
from nodeagent.background_service import BackgroundService
from nodeagent.clusterip.bpf_installation import remove_pinned_objects
from nodeagent.clusterip.bpf_programs import DesiredPrograms
from nodeagent.clusterip.pod_cgroups import BPFFS
from nodeagent.clusterip.reconciler import BpfLocation, ClusterIpCounters, ClusterIpReconciler
from nodeagent.clusterip.service_sources import ServiceSource
from nodeagent.ebpf.numbers import SO_NETNS_COOKIE
from nodeagent.telemetry.metrics import AgentMetrics

COOKIE_BYTES: Final = 8

TASK: Final = "cluster-ips"

_log: Final = logging.getLogger(__name__)


class ClusterIpSettings(NamedTuple):
    """The settings of ClusterIPs.

    ``cgroup``: the control group whose sockets are served; "": kubelet's control group of Pods.
    ``host_network``: whether Pods in the host's network namespace are served too.
    """

    enabled: bool = False
    cgroup: str = ""
    bpffs: str = BPFFS
    host_network: bool = False


def start_cluster_ips(
    settings: ClusterIpSettings,
    source: ServiceSource,
    metrics: AgentMetrics,
    supervisor: Supervisor,
) -> BackgroundService | None:
    """Start to serve ClusterIPs, or return None if disabled. Call it in the node's namespace.

    Pinned programs stay after ``close``. Raises DatapathError if the kernel is too old.
    """
    if not settings.enabled:
        _remove_pinned(Path(settings.bpffs))
        return None
    programs = DesiredPrograms(skipped_netns=0 if settings.host_network else own_netns_cookie())
    location = BpfLocation(Path(settings.bpffs), settings.cgroup, programs)
    reconciler = ClusterIpReconciler(source, location)
    _register_metrics(reconciler.counts, metrics)

    async def close() -> None:
        await asyncio.to_thread(reconciler.close)

    return BackgroundService(supervisor, TaskSpec(TASK, reconciler.run), close)


def _remove_pinned(bpffs: Path) -> None:
    try:
        if remove_pinned_objects(bpffs):
            _log.info("removed the pinned ClusterIP programs: orbweaver.clusterIP is disabled")
    except OSError as error:
        _log.warning(
            "cannot remove the pinned ClusterIP programs (orbweaver.clusterIP is disabled): %s",
            error,
        )


def own_netns_cookie() -> int:
    """The cookie of this thread's network namespace. Raises DatapathError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            cookie = any_socket.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, COOKIE_BYTES)
        except OSError as error:
            raise DatapathError(
                f"the kernel does not support network namespace cookies: {error.strerror}",
                subject="orbweaver.clusterIP",
                remedy="use Linux 5.14 or newer, or disable ClusterIPs",
            ) from None
    return int.from_bytes(cookie, sys.byteorder)


def _register_metrics(counts: ClusterIpCounters, metrics: AgentMetrics) -> None:
    metrics.gauge(
        "clusterip_attached",
        "1 if the programs are attached to the Pods' control group, else 0",
        lambda: counts.attached,
    )
    metrics.gauge(
        "clusterip_frontends", "Served pairs of ClusterIP and port", lambda: counts.frontends
    )
    metrics.gauge(
        "clusterip_backends", "Backends of all served ClusterIPs", lambda: counts.backends
    )
    metrics.gauge(
        "clusterip_left_out",
        "Pairs of ClusterIP and port that are not served: the limit of pairs (65,536) or of their"
        " backends (131,072) is reached",
        lambda: counts.left_out,
    )
    metrics.counter(
        "clusterip_map_writes",
        "Entries of the ClusterIP maps written or removed",
        lambda: counts.writes,
    )
    metrics.counter(
        "clusterip_failures",
        "Failed updates of the ClusterIP maps and programs",
        lambda: counts.failures,
    )
