"""Reads the resources that etcd and a process have used."""

from __future__ import annotations

import resource
from typing import Final, NamedTuple

from bench.rig import processes
from tests.support.etcd import EtcdMember

_KIB_PER_MB: Final = 1_000_000 / 1024

_SENT: Final = "etcd_network_client_grpc_sent_bytes_total"
_RECEIVED: Final = "etcd_network_client_grpc_received_bytes_total"


class EtcdUsage(NamedTuple):
    """Resources of one etcd member; ``minus`` gives the usage between two readings.

    ``revisions``: transactions that write. ``sent_mb``, ``received_mb``: to and from clients.
    ``wal_mb``, ``fsyncs``: of the write-ahead log. ``in_use_mb``: ``database_mb`` without free
    pages.
    """

    cpu_s: float
    revisions: float
    watch_events: float
    sent_mb: float
    received_mb: float
    wal_mb: float
    fsyncs: float
    rss_mb: float
    database_mb: float
    in_use_mb: float

    def minus(self, before: EtcdUsage) -> EtcdUsage:
        """The usage since an earlier reading. Only counters are subtracted, not sizes."""
        used = {name: getattr(self, name) - getattr(before, name) for name in _COUNTERS}
        return self._replace(**used)


_COUNTERS: Final = EtcdUsage._fields[: EtcdUsage._fields.index("rss_mb")]


def etcd_usage(member: EtcdMember) -> EtcdUsage:
    """Read the metrics of the member."""
    metric = member.metric
    return EtcdUsage(
        cpu_s=processes.cpu_s(member.pid),
        revisions=metric("etcd_debugging_mvcc_current_revision"),
        watch_events=metric("etcd_debugging_mvcc_events_total"),
        sent_mb=metric(_SENT) / 1e6,
        received_mb=metric(_RECEIVED) / 1e6,
        wal_mb=metric("etcd_disk_wal_write_bytes_total") / 1e6,
        fsyncs=metric("etcd_disk_wal_fsync_duration_seconds_count"),
        rss_mb=processes.rss_mb(member.pid),
        database_mb=metric("etcd_mvcc_db_total_size_in_bytes") / 1e6,
        in_use_mb=metric("etcd_mvcc_db_total_size_in_use_in_bytes") / 1e6,
    )


def peak_rss_mb() -> float:
    """The peak memory of this process, in MB (10^6 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_MB
