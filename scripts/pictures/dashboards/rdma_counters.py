"""Serves synthetic RDMA counters of two nodes over HTTP, in the format of an agent's metrics.

    python -m scripts.pictures.dashboards.rdma_counters ADDRESS PORT

Each node has a card of 100 Gbit/s with two virtual functions; each belongs to a Pod of a training
job. The network is congested in the second half of each minute.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from core.domain.model import Owner
from nodeagent.rdma.counter_help import HELP_TEXTS
from nodeagent.rdma.counter_samples import (
    SPEED_COUNTER,
    TRAFFIC_CLASS,
    Samples,
    samples_of,
    text_of,
)
from nodeagent.rdma.rdma_ports import NamespacePorts, RdmaPod, RdmaPortLink

NODES: Final = ("node-a", "node-b")
PODS_PER_NODE: Final = 2

JOB: Final = Owner("PyTorchJob", "llm", "training", "kubeflow.org/v1")
SPEED_MBPS: Final = 100_000
TRAFFIC_CLASS_OF_ROCE: Final = 106
"""DSCP 26 in the upper six bits, ECN in the lower two bits."""

PERIOD_S: Final = 60.0
"""The traffic follows a sine wave with this period."""

BYTES_PER_PACKET: Final = 4096
BYTES_PER_S: Final = 4.0e9
"""Mean traffic that a card receives."""

CONGESTION_COUNTERS: Final = frozenset(
    {"np_cnp_sent", "np_ecn_marked_roce_packets", "rp_cnp_handled", "rx_pause", "tx_pause"}
)
"""Counters that grow only during congestion."""

_PRIORITIES: Final = ("rx_prio3_pause", "tx_prio3_pause", "rx_prio3_discards", "tx_prio3_discards")


def text_at(age_s: float) -> bytes:
    """The counters ``age_s`` after the start, in the format of Prometheus."""
    values: dict[str, dict[str, int]] = {}
    for number, node in enumerate(NODES):
        rdma_pods = {
            address: RdmaPod("training", f"llm-worker-{PODS_PER_NODE * number + index}", JOB)
            for index, address in enumerate(_addresses(number))
        }
        samples = samples_of(node, _namespaces(number, age_s), rdma_pods)
        for name, family in samples.values.items():
            values.setdefault(name, {}).update(family)
    return text_of(Samples(values, left_out=0))


def _addresses(number: int) -> list[str]:
    return [f"10.40.{number}.{10 + index}" for index in range(PODS_PER_NODE)]


def _namespaces(number: int, age_s: float) -> Iterator[NamespacePorts]:
    card = RdmaPortLink("mlx5_0", "ens1f0", node_guid=number + 1, system_guid=number + 1)
    yield NamespacePorts((_with_counters(card, 1.0 - 0.2 * number, age_s),))
    for index, address in enumerate(_addresses(number)):
        guid = 100 + 10 * number + index
        function = RdmaPortLink(
            f"mlx5_{index + 2}", "net1", node_guid=guid, system_guid=number + 1, parent="ens1f0"
        )
        share = 0.5 - 0.15 * index - 0.1 * number
        yield NamespacePorts((_with_counters(function, share, age_s),), address)


def _with_counters(port: RdmaPortLink, share: float, age_s: float) -> RdmaPortLink:
    """Add the counters of ``share`` times the mean traffic of a card."""
    names = [name for name in HELP_TEXTS if name not in {SPEED_COUNTER, TRAFFIC_CLASS}]
    return port._replace(
        counters={name: _count(name, share, age_s) for name in names if "vport" not in name},
        statistics={
            name: _count(name, share, age_s)
            for name in (*_PRIORITIES, *(name for name in names if "vport" in name))
        },
        speed_mbps=SPEED_MBPS,
        traffic_class=TRAFFIC_CLASS_OF_ROCE if port.is_root else None,
    )


def _count(name: str, share: float, age_s: float) -> int:
    """The count at ``age_s``. The rate of traffic is the mean rate times ``1 + sin(angle) / 2``."""
    angle = 2 * math.pi * age_s / PERIOD_S
    effective_s = age_s + 0.5 * PERIOD_S / (2 * math.pi) * (1 - math.cos(angle))
    congested_s = age_s // PERIOD_S * PERIOD_S / 2 + max(0.0, age_s % PERIOD_S - PERIOD_S / 2)
    traffic = BYTES_PER_S * share * effective_s * (1.0 if name.startswith("rx") else 0.8)
    if name.endswith("_bytes"):
        return int(traffic * (1.0 if "unicast" in name else 0.001))
    if name.endswith("_packets") and "vport" in name:
        return int(traffic / BYTES_PER_PACKET * (1.0 if "unicast" in name else 0.001))
    if name.endswith("_requests"):
        return int(traffic / 1e6)
    if name in CONGESTION_COUNTERS or "pause" in name:
        return int(200 * share * congested_s)
    return int((1 + len(name) % 5) * share * congested_s / 4)


class _Handler(BaseHTTPRequestHandler):
    began = time.monotonic()

    def do_GET(self) -> None:  # the name that http.server calls
        text = text_at(time.monotonic() - self.began)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(text)


if __name__ == "__main__":
    ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), _Handler).serve_forever()
