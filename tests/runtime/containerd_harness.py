"""Calls the container runtime of a node as kubelet does, and reads the state in etcd."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from core.domain.evolution import Ledger
from ops.lab.laboratory import Laboratory
from ops.lab.node import Node
from ops.lab.programs import attempt
from tests.runtime.containerd import Containerd
from tests.runtime.cri import RuntimeRefused, RuntimeService
from tests.support.event_store_reader import EventStoreReader

POOLS_YAML = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: lan-v4}
spec: {default: true, subnet: 10.6.0.0/24, gateway: 10.6.0.1, ips: [10.6.0.10-10.6.0.29]}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: lan-v6}
spec: {default: true, subnet: "fd00:6::/64", gateway: "fd00:6::1", ips: ["fd00:6::10-fd00:6::2f"]}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: tiny-v4}
spec: {subnet: 10.6.0.0/24, gateway: 10.6.0.1, ips: [10.6.0.200]}
---
apiVersion: v1
kind: Namespace
metadata:
  name: tiny
  annotations: {ipam.spidernet.io/default-ipv4-ippool: '["tiny-v4"]'}
"""

NAMESPACE = "shop"
CLAIM_DEADLINE_S = 60.0
END_DEADLINE_S = 60.0
POLL_S = 0.02


class ContainerdHarness:
    """A node with containerd, and the state in etcd."""

    def __init__(self, laboratory: Laboratory, node: Node, containerd: Containerd) -> None:
        self.laboratory = laboratory
        self.node = node
        self.containerd = containerd
        self.service = RuntimeService(containerd.socket)
        self._store_reader = EventStoreReader(laboratory.etcd.outside_endpoint)

    def close(self) -> None:
        self.service.close()

    def run(self, pod: str, namespace: str = NAMESPACE, *, attempt: int = 0) -> str:
        """Run a sandbox; return its id. Raises RuntimeRefused."""
        return self.service.run(
            {
                "metadata": {
                    "name": pod,
                    "uid": f"uid-{pod}",
                    "namespace": namespace,
                    "attempt": attempt,
                },
                "hostname": pod,
                # Without dns_config, containerd copies resolv.conf, which may be a link into /run.
                "dns_config": {"servers": ["192.0.2.53"]},
                "linux": {"cgroup_parent": self.containerd.cgroup_parent},
            }
        )

    def run_together(self, pods: Sequence[str]) -> list[str]:
        """Run sandboxes concurrently, because duplicate address detection takes two seconds."""
        with ThreadPoolExecutor(len(pods)) as pool:
            return list(pool.map(self.run, pods))

    @contextmanager
    def run_until_claimed(self, pod: str) -> Iterator[None]:
        """Start a sandbox, and enter the context when the Pod has claims.

        The caller must make RunPodSandbox fail in the context.
        """
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(self.run, pod)
            deadline = time.monotonic() + CLAIM_DEADLINE_S
            while pod not in self.claims().values():
                assert time.monotonic() < deadline, "no address was claimed in time"
                assert not answer.done(), "RunPodSandbox ended before a claim was seen"
                time.sleep(POLL_S)
            yield
        assert isinstance(answer.exception(), RuntimeRefused)

    def end(self, *sandboxes: str) -> None:
        """Stop and remove sandboxes. Raises RuntimeRefused."""
        for sandbox in sandboxes:
            self.service.stop(sandbox)
            self.service.remove(sandbox)

    def end_with_retries(self, sandbox: str) -> None:
        deadline = time.monotonic() + END_DEADLINE_S
        while True:
            try:
                return self.end(sandbox)
            except RuntimeRefused:
                assert time.monotonic() < deadline
                time.sleep(POLL_S)

    def restart_stopped_programs(self) -> None:
        if not self.laboratory.etcd.daemon.is_running:
            self.laboratory.etcd.start()
        if not self.node.agent.is_running:
            self.node.start_agent()
        if not self.containerd.is_running:
            self.containerd.start()

    def end_all(self) -> None:
        self.end(*self.service.sandboxes())

    def reaches(self, sandbox: str, address: str) -> bool:
        pid = self.service.status(sandbox).pid
        ping = ["ping", "-n", "-c", "1", "-W", "2", address]
        return attempt(["nsenter", f"--net=/proc/{pid}/ns/net", "--", *ping]).returncode == 0

    def read_ledger(self) -> Ledger:
        return self._store_reader.read_ledger()

    def claims(self) -> dict[str, str]:
        """Address -> the name of the Pod that holds it."""
        return self._store_reader.read_claims()

    def check_event_log(self) -> None:
        assert self._store_reader.find_violations() == []
        verified = self.laboratory.orbctl("verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
