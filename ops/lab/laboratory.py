"""The whole laboratory as a context manager: make it, use it, and nothing is left.

Promise: whatever happens inside, also Ctrl-C, everything made is removed on the way out, and what
cannot be removed is an error that names it. What a killed laboratory left is removed by the next.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ops.lab.controller import LabController
from ops.lab.daemons import Daemon
from ops.lab.fabric import Fabric
from ops.lab.groups import make_group
from ops.lab.identity import MARK, LabIdentity, new_identity
from ops.lab.leftovers import remove, remove_dead
from ops.lab.namespaces import NamedNamespace
from ops.lab.node import Node
from ops.lab.programs import attempt, check_possible, ours
from ops.lab.runtime import NOTHING
from ops.lab.sandbox import Sandbox
from ops.lab.store import Etcd

GATEWAYS: Final = ("10.6.0.1/24", "fd00:6::1/64")
"""Of the networks that Pods are on, unless a laboratory says otherwise."""


class Laboratory:
    """A fabric, an etcd, and as many nodes and Pods as are asked for.

    ``settings`` are environment variables of every agent; with ``coordinator``, its settings, the
    network's chain has one; with ``cluster_ips`` agents serve ClusterIPs to the sockets of Pods. To
    be used from the main thread: daemons end with the thread that started them.
    """

    def __init__(
        self,
        *,
        gateways: Sequence[str] = GATEWAYS,
        settings: Mapping[str, str] | None = None,
        coordinator: Mapping[str, Any] | None = None,
        cluster_ips: bool = False,
    ) -> None:
        self.identity = new_identity()
        self.directory = self.identity.directory
        self.fabric = Fabric(NamedNamespace(self.identity.name("fabric")))
        self.etcd = Etcd(
            self.identity, self.fabric.namespace, self.fabric.address, self.directory / "etcd"
        )
        self.controller = LabController(
            self.identity,
            self.fabric.namespace,
            self.directory / "controller",
            self.etcd.endpoint,
        )
        """Not started unless somebody does."""
        self.nodes: dict[str, Node] = {}
        self.predecessors: list[LabIdentity] = []
        """Killed laboratories whose remains were removed."""
        self._made: Counter[str] = Counter()
        self._speakers: list[Daemon] = []
        self._gateways = tuple(gateways)
        self._settings = dict(settings or {})
        self._coordinator = coordinator
        self._cluster_ips = cluster_ips

    def __enter__(self) -> Self:
        check_possible()
        self.predecessors = remove_dead()
        self.identity.claim()
        try:
            self.fabric.create()
            for gateway in self._gateways:
                self.fabric.gateway(gateway)
            self.etcd.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove everything. Raises LabFailed with what is still there."""
        with _undisturbed():
            for node in self.nodes.values():
                node.agent.kill()
            for speaker in self._speakers:
                speaker.kill()
            self.controller.process.kill()
            self.etcd.kill()
            remove(self.identity)

    def node(self, name: str, settings: Mapping[str, str] = NOTHING) -> Node:
        """Make a node and start its agent, with settings of its own too. Raises LabFailed."""
        node = self.join(name, settings)
        node.start_agent()
        return node

    def join(self, name: str, settings: Mapping[str, str] = NOTHING) -> Node:
        """Make a node on which nothing runs yet. Raises LabFailed."""
        node = Node(
            self.identity,
            name,
            self.directory / name,
            self.etcd.endpoint,
            {**self._settings, **settings},
            self._coordinator,
            make_group(self.identity, name) if self._cluster_ips else None,
        )
        self.nodes[name] = node
        node.create()
        node.address = self.fabric.join(node.namespace, name)
        return node

    def lose(self, name: str) -> None:
        """A node dies with all that ran on it, and nobody is told. Raises LabFailed."""
        node = self.nodes[name]
        node.agent.kill()
        node.namespace.delete()

    def sandbox(self, pod: str, namespace: str = "default", uid: str = "") -> Sandbox:
        """Make a Pod's network namespace, not attached yet. Raises LabFailed."""
        # The second sandbox of a Pod is another namespace: a late DEL of the first finds it gone.
        self._made[pod] += 1
        number = f"-{self._made[pod]}" if self._made[pod] > 1 else ""
        name = self.identity.name(f"pod-{pod}{number}")
        sandbox = Sandbox(NamedNamespace(name), namespace, pod, uid)
        sandbox.create()
        return sandbox

    def speaker(self, sandbox: Sandbox, port: int) -> Daemon:
        """Let a Pod say its name to whoever connects, from now on. Raises LabFailed."""
        command = [sys.executable, "-m", "ops.lab.pod_programs", "serve", sandbox.pod, str(port)]
        log = self.directory / f"{sandbox.pod}.log"
        made = Daemon(self.identity, sandbox.namespace, command, log, {})
        self._speakers.append(made)
        made.start()
        made.wait_until(lambda: listens(sandbox.namespace, port))
        return made

    def environment(self) -> dict[str, str]:
        """What tools of the machine need to find this laboratory's etcd."""
        return {
            **os.environ,
            "ORBWEAVER_ETCD_ENDPOINTS": self.etcd.outside_endpoint,
            "ORBWEAVER_ARCHIVE_DIR": str(self.directory / "archive"),
            MARK: str(self.identity),
        }

    def orbctl(
        self, *arguments: str, stdin: str = "", directory: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run orbctl against this laboratory, whatever it says."""
        command = [ours("orbctl"), *arguments]
        environment = self.environment()
        return attempt(command, stdin=stdin, environment=environment, directory=directory)


def listens(namespace: NamedNamespace, port: int) -> bool:
    """Whether somebody takes TCP connections at a port inside. Raises LabFailed."""
    return bool(namespace.run("ss", "-Hltn", f"sport = :{port}").strip())


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let no second signal interrupt the tidying up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
