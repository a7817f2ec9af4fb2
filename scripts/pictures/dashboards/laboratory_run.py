"""Runs a laboratory with Prometheus: two nodes, changing Pods, a full pool, a lost node."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from ops.lab.controller import LabController
from ops.lab.daemons import Daemon
from ops.lab.identity import LabFailed
from ops.lab.laboratory import Laboratory
from ops.lab.node import Node, can_create_cgroups
from ops.lab.runtime import CniFailed
from ops.lab.sandbox import Sandbox

ROOT: Final = Path(__file__).resolve().parents[3]
MANIFESTS: Final = tuple(f"ops/demo/{name}.yaml" for name in ("pools", "pods", "subnet"))
SERVICE: Final = "ops/demo/service.yaml"
NAMESPACE: Final = "shop"
NODES: Final = ("node-a", "node-b")
METRICS: Final = {
    "SPIDERPOOL_ENABLED_METRIC": "true",
    "SPIDERPOOL_ENABLED_RDMA_METRIC": "true",
    "ORBWEAVER_LISTEN_ADDRESS": "0.0.0.0",  # noqa: S104  # inside a network namespace
}
AGENT_PORT: Final = 5711
CONTROLLER_PORT: Final = 5721
RDMA_PORT: Final = 5790
PROMETHEUS_PORT: Final = 9090
SCRAPE_S: Final = 2
PERIOD_S: Final = 60.0
"""The number of Pods follows a sine wave with this period."""

PODS_MEAN: Final = 14
PODS_SWING: Final = 9
LOSS_AT: Final = 0.6
"""A node is lost after this share (0 to 1) of the run's time."""

FULL_FROM: Final = 0.25
FULL_UNTIL: Final = 0.5
"""Between these shares (0 to 1) of the run, Pods request an address of a full pool."""

FULL_POOL_PODS: Final = ("db-0", "payments")
REFUSED_POD: Final = "refunds"
TICK_S: Final = 0.2


class Run(NamedTuple):
    """A finished run, whose Prometheus still answers queries.

    ``began`` and ``ended`` are Unix times in seconds.
    """

    laboratory: Laboratory
    began: float
    ended: float

    def series(self, expression: str) -> list[dict[str, Any]]:
        """The series of a query over the run. Raises LabFailed.

        A series has ``metric`` (labels) and ``values`` (pairs of time and text).
        """
        output = self.laboratory.fabric.namespace.run(
            *("promtool", "query", "range", "--format=json"),
            *(f"--start={self.began:.0f}", f"--end={self.ended:.0f}", f"--step={SCRAPE_S}s"),
            *(f"http://127.0.0.1:{PROMETHEUS_PORT}", expression),
        )
        series: list[dict[str, Any]] = json.loads(output) or []
        return series


@contextmanager
def finished_run(seconds: float) -> Iterator[Run]:
    """Run a laboratory for ``seconds``; yield the finished run; on exit remove everything."""
    laboratory = Laboratory(
        settings=METRICS, coordinator={"mode": "auto"}, cluster_ips=can_create_cgroups()
    )
    with laboratory:
        controller = LabController(
            laboratory.identity,
            laboratory.fabric.namespace,
            laboratory.directory / "controller",
            laboratory.etcd.endpoint,
            METRICS,
        )
        daemons = [controller.process]
        try:
            controller.start()
            for name in NODES:
                laboratory.node(name)
            for daemon in (_rdma_counters_server(laboratory), _prometheus(laboratory)):
                daemons.append(daemon)
                daemon.start()
            began = time.time()
            PodChanges(laboratory, seconds).run()
            yield Run(laboratory, began, time.time())
        finally:
            for daemon in daemons:
                daemon.kill()


def _rdma_counters_server(laboratory: Laboratory) -> Daemon:
    command = [sys.executable, "-m", "scripts.pictures.dashboards.rdma_counters"]
    return _daemon(laboratory, "rdma", [*command, "127.0.0.1", str(RDMA_PORT)])


def _prometheus(laboratory: Laboratory) -> Daemon:
    directory = laboratory.directory
    agents = [f"{node.address}:{AGENT_PORT}" for node in laboratory.nodes.values()]
    targets = {
        "orbweaver-agent": [*agents, f"127.0.0.1:{RDMA_PORT}"],
        "orbweaver-controller": [f"127.0.0.1:{CONTROLLER_PORT}"],
        "orbweaver-etcd": [laboratory.etcd.endpoint],
    }
    jobs = [
        {"job_name": job, "static_configs": [{"targets": addresses}]}
        for job, addresses in targets.items()
    ]
    settings = {"global": {"scrape_interval": f"{SCRAPE_S}s"}, "scrape_configs": jobs}
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [
        shutil.which("prometheus") or "prometheus",
        f"--config.file={path}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}",
    ]
    return _daemon(laboratory, "prometheus", command)


def _daemon(laboratory: Laboratory, name: str, command: list[str]) -> Daemon:
    log = laboratory.directory / f"{name}.log"
    return Daemon(laboratory.identity, laboratory.fabric.namespace, command, log, {})


class PodChanges:
    """Adds and deletes Pods, and kills a node at ``LOSS_AT``."""

    def __init__(self, laboratory: Laboratory, seconds: float) -> None:
        self._laboratory = laboratory
        self._seconds = seconds
        self._pods: deque[tuple[Node, Sandbox]] = deque()
        self._count = 0

    def run(self) -> None:
        """Change Pods until the end of the run. Raises LabFailed, CniFailed."""
        self._orbctl("apply", *(part for path in MANIFESTS for part in ("-f", path)))
        for name in FULL_POOL_PODS:
            self._add(NODES[0], name)
        for node in NODES:
            self._add(node, f"web-{self._count}")
        self._apply_service()
        began = time.monotonic()
        while (progress := (time.monotonic() - began) / self._seconds) < 1:
            self._step(progress)
            time.sleep(TICK_S)

    def _step(self, progress: float) -> None:
        wave = math.sin(2 * math.pi * progress * self._seconds / PERIOD_S)
        if FULL_FROM < progress < FULL_UNTIL:
            self._add_in_full_pool()
        if progress > LOSS_AT and NODES[1] in self._laboratory.nodes:
            self._lose_node()
        if len(self._pods) < PODS_MEAN + PODS_SWING * wave:
            nodes = list(self._laboratory.nodes)
            self._add(nodes[self._count % len(nodes)], f"web-{self._count}")
        else:
            self._delete(*self._pods.popleft())

    def _add(self, node: str, pod: str) -> None:
        self._count += 1
        sandbox = self._laboratory.sandbox(pod, NAMESPACE)
        self._laboratory.nodes[node].runtime.add(sandbox)
        if pod.startswith("web-"):
            self._pods.append((self._laboratory.nodes[node], sandbox))

    def _delete(self, node: Node, sandbox: Sandbox) -> None:
        node.runtime.delete(sandbox)
        sandbox.destroy()

    def _add_in_full_pool(self) -> None:
        """Run an ADD that fails because the pool is full."""
        node = self._laboratory.nodes[NODES[0]]
        sandbox = self._laboratory.sandbox(REFUSED_POD, NAMESPACE)
        with suppress(CniFailed):
            node.runtime.add(sandbox)
        self._delete(node, sandbox)

    def _apply_service(self) -> None:
        manifest = (ROOT / SERVICE).read_text(encoding="utf-8")
        for number, (_, sandbox) in enumerate(list(self._pods)[:2], start=1):
            for family, address in zip(("ipv4", "ipv6"), sandbox.addresses, strict=True):
                manifest = manifest.replace(f"web-{number}-{family}", address)
        self._orbctl("apply", "-f", "-", stdin=manifest)

    def _lose_node(self) -> None:
        lost = NODES[1]
        self._laboratory.lose(lost)
        del self._laboratory.nodes[lost]
        self._pods = deque(pair for pair in self._pods if pair[0].name != lost)
        self._orbctl("delete", "node", lost)

    def _orbctl(self, *arguments: str, stdin: str = "") -> None:
        completed = self._laboratory.orbctl(*arguments, stdin=stdin, directory=ROOT)
        if completed.returncode:
            raise LabFailed(f"orbctl {' '.join(arguments)}: {completed.stderr}")
