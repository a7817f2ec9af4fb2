"""Creates the network and etcd of a laboratory, and removes all its parts, even after Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from ops.lab.controller import LabController
from ops.lab.daemons import Daemon
from ops.lab.fabric import Fabric
from ops.lab.identity import LABORATORY_VARIABLE, LabIdentity, new_identity
from ops.lab.leftovers import remove, remove_dead
from ops.lab.namespaces import NamedNamespace
from ops.lab.node import Node, create_pods_cgroup
from ops.lab.programs import attempt, check_possible, console_script
from ops.lab.runtime import EMPTY_MAPPING
from ops.lab.sandbox import Sandbox
from ops.lab.store import Etcd

GATEWAYS: Final = ("10.6.0.1/24", "fd00:6::1/64")
"""The default gateways of the Pods' networks."""

_CONSOLE_URL: Final = re.compile(r"^console: (http://\S+)$", re.MULTILINE)


class Laboratory:
    """A fabric (the network between the nodes), an etcd, nodes and Pods.

    ``gateways``: addresses of the Pods' gateways with prefix length. ``settings``: environment
    variables of every agent. ``coordinator``: the configuration of the coordinator plugin; None
    omits the plugin. ``cluster_ips``: agents serve ClusterIPs. Use the laboratory from the main
    thread, because daemons die with the thread that started them.
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
        """Not started; a caller that needs the controller starts it."""
        self.nodes: dict[str, Node] = {}
        self.removed_laboratories: list[LabIdentity] = []
        """Laboratories of killed processes, which this laboratory removed when it started."""
        self._sandbox_counts: Counter[str] = Counter()
        self._daemons: list[Daemon] = []
        self._gateways = tuple(gateways)
        self._settings = dict(settings or {})
        self._coordinator = coordinator
        self._cluster_ips = cluster_ips

    def __enter__(self) -> Self:
        check_possible()
        self.removed_laboratories = remove_dead()
        self.identity.create_directory()
        try:
            self.fabric.create()
            for gateway in self._gateways:
                self.fabric.add_gateway(gateway)
            self.etcd.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove everything. Raises LabFailed, which names what could not be removed."""
        with _signals_ignored():
            for node in self.nodes.values():
                node.agent.kill()
            for daemon in self._daemons:
                daemon.kill()
            self.controller.process.kill()
            self.etcd.kill()
            remove(self.identity)

    def node(self, name: str, settings: Mapping[str, str] = EMPTY_MAPPING) -> Node:
        """Create a node and start its agent, with additional settings. Raises LabFailed."""
        node = self.create_node(name, settings)
        node.start_agent()
        return node

    def create_node(self, name: str, settings: Mapping[str, str] = EMPTY_MAPPING) -> Node:
        """Create a node without a running agent. Raises LabFailed."""
        node = Node(
            self.identity,
            name,
            self.directory / name,
            self.etcd.endpoint,
            {**self._settings, **settings},
            self._coordinator,
            create_pods_cgroup(self.identity, name) if self._cluster_ips else None,
        )
        self.nodes[name] = node
        node.create()
        node.address = self.fabric.connect(node.namespace, name)
        return node

    def lose(self, name: str) -> None:
        """Kill a node's agent and delete the node's namespace, without a DEL. Raises LabFailed."""
        node = self.nodes[name]
        node.agent.kill()
        node.namespace.delete()

    def sandbox(self, pod: str, namespace: str = "default", uid: str = "") -> Sandbox:
        """Create the network namespace of a Pod, without an ADD. Raises LabFailed."""
        # Each sandbox has a new name, so that a late DEL does not remove a newer sandbox.
        self._sandbox_counts[pod] += 1
        count = self._sandbox_counts[pod]
        number = f"-{count}" if count > 1 else ""
        name = self.identity.name(f"pod-{pod}{number}")
        sandbox = Sandbox(NamedNamespace(name), namespace, pod, uid)
        sandbox.create()
        return sandbox

    def serve_pod_name(self, sandbox: Sandbox, port: int) -> Daemon:
        """Start a server in a Pod that sends the Pod's name to each client. Raises LabFailed."""
        command = [sys.executable, "-m", "ops.lab.pod_programs", "serve", sandbox.pod, str(port)]
        log = self.directory / f"{sandbox.pod}.log"
        server = Daemon(self.identity, sandbox.namespace, command, log, {})
        self._daemons.append(server)
        server.start()
        server.wait_until(lambda: listens(sandbox.namespace, port))
        return server

    def console(self) -> str:
        """Start ``orbctl console`` outside of all namespaces; return its URL. Raises LabFailed."""
        log = self.directory / "console.log"
        command = [console_script("orbctl"), "console", "--port", "0"]
        console = Daemon(
            self.identity,
            namespace=None,
            command=command,
            log=log,
            environment=self.environment(),
        )
        self._daemons.append(console)
        console.start()
        console.wait_until(lambda: _console_url(log) != "")
        return _console_url(log)

    def environment(self) -> dict[str, str]:
        """The environment variables of programs that run outside of all namespaces."""
        return {
            **os.environ,
            "ORBWEAVER_ETCD_ENDPOINTS": self.etcd.outside_endpoint,
            "ORBWEAVER_ARCHIVE_DIR": str(self.directory / "archive"),
            LABORATORY_VARIABLE: str(self.identity),
        }

    def orbctl(
        self, *arguments: str, stdin: str = "", directory: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run orbctl with this laboratory's etcd. The exit code may be nonzero."""
        command = [console_script("orbctl"), *arguments]
        environment = self.environment()
        return attempt(command, stdin=stdin, environment=environment, directory=directory)


def listens(namespace: NamedNamespace, port: int) -> bool:
    """Whether a program listens on a TCP port in the namespace. Raises LabFailed."""
    return bool(namespace.run("ss", "-Hltn", f"sport = :{port}").strip())


def _console_url(log: Path) -> str:
    match = _CONSOLE_URL.search(log.read_text())
    return match[1] if match else ""


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """Ignore SIGINT and SIGTERM, so that a second signal does not interrupt the removal."""
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
