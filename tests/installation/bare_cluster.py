"""A cluster without Orbweaver: control plane, two nodes, DNS, volumes, one network, a registry.

The fabric is the simulated network that connects nodes and API server.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

import yaml

from ops.lab.daemons import Daemon
from ops.lab.laboratory import Laboratory
from ops.lab.leftovers import CONTROL_GROUPS
from ops.lab.programs import plugin
from tests.installation import images
from tests.installation.registry import Registry
from tests.nodes.control_plane import NODE_NAMES, ControlPlane
from tests.nodes.kubelet import KubeNode
from tests.packaging.project import PROJECT_ROOT
from tests.support.documents import run_script
from tests.support.kubernetes import KUBERNETES_PROGRAMS, SERVICE_ADDRESS, ApiServer

T = TypeVar("T")

GATEWAY: Final = "10.6.0.1/16"
"""The gateway of the pool in docs/how-to/install.md."""

SERVICE_CIDR: Final = "10.96.0.0/16"
VOLUMES_PER_NODE: Final = 6
"""Four installations use one volume each for etcd; two volumes are for archives."""

TOLERATION_S: Final = 300
"""How long Pods stay on a node that is not ready: nodes are often too busy to report."""

WAIT_S_MAX: Final = 240.0
POLL_S: Final = 0.1
LOG_CHARS_MAX: Final = 3_000
"""A failure's message quotes so many characters at the end of each Pod's log."""

CONFLIST: Final = {
    "cniVersion": "1.0.0",
    "name": "lan",
    "plugins": [
        {"type": "macvlan", "master": "eth0", "mode": "bridge", "ipam": {"type": "spiderpool"}},
        {"type": "coordinator"},
    ],
}
API_REDIRECT: Final = """
table ip kubernetes {{
    chain output {{
        type nat hook output priority dstnat
        ip daddr {service} tcp dport 443 dnat to {address}:{port}
    }}
}}
"""
"""Replaces kube-proxy for the Service of the API server, the only Service that nodes use."""

RUN_WITH_HOSTS_FILE: Final = 'mount --bind "$HOSTS_FILE" /etc/hosts; exec "$@"'
"""Runs a program with ``HOSTS_FILE`` as /etc/hosts."""

SYSCTLS: Final = re.compile(r"^net\.ipv[46]\.(?:conf\.(?:all|default)|neigh\.default)\.")
"""The network sysctls that do not belong to a single interface."""


class NodeState(NamedTuple):
    """State of a node that an installation may change."""

    executables: frozenset[str]
    networks: frozenset[str]
    links: frozenset[str]
    routes: frozenset[str]
    rules: frozenset[str]
    tables: frozenset[str]
    files: frozenset[str]
    sysctls: frozenset[str]

    def changes_since(self, before: NodeState) -> dict[str, list[str]]:
        """Added (+) and removed (-) entries, by field."""
        changes = {}
        for field, old, new in zip(self._fields, before, self, strict=True):
            added, removed = sorted(new - old), sorted(old - new)
            if added or removed:
                changes[field] = [
                    *(f"+{entry}" for entry in added),
                    *(f"-{entry}" for entry in removed),
                ]
        return changes


class BareCluster:
    """A context manager that starts and stops the cluster."""

    def __init__(self, registry_data: Path) -> None:
        self.laboratory = Laboratory(gateways=(GATEWAY,))
        self.registry = Registry(self.laboratory, registry_data)
        self.nodes: dict[str, KubeNode] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
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
        """Stop the cluster and the containers of a failed test."""
        try:
            self._kill_containers()
        finally:
            self._stack.close()

    @property
    def server(self) -> ApiServer:
        return self.control_plane.server

    def until(self, holds: Callable[[], T], what: str) -> T:
        """Wait until ``holds`` returns a true value; return this value."""
        deadline = time.monotonic() + WAIT_S_MAX
        while not (value := holds()):
            assert time.monotonic() < deadline, (
                f"timed out waiting for {what}: {self.diagnostics()}"
            )
            time.sleep(POLL_S)
        return value

    def shell(self, script: str, directory: Path = PROJECT_ROOT) -> str:
        """Run a document's shell script and return its output; a failing line fails the test.

        A documented registry is replaced by the registry of this test run.
        """
        tools = self.control_plane.directory / "tools"
        environment = (
            os.environ
            | images.environment()
            | {
                "PATH": f"{tools}:{os.environ['PATH']}",
                "HOME": str(self.control_plane.directory),
                "KUBECONFIG": str(self.server.kubeconfig),
                "PYTHONPATH": str(PROJECT_ROOT),
            }
        )
        enter = self.laboratory.fabric.namespace.inside(
            [
                *("unshare", "--mount", "--propagation", "private"),
                *("sh", "-ec", RUN_WITH_HOSTS_FILE, "sh"),
            ]
        )
        environment["HOSTS_FILE"] = str(self.registry.hosts)
        done = run_script(enter, images.with_run_registry(script), environment, directory)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{self.diagnostics()}"
        return done.stdout

    def objects(self, path: str) -> list[dict[str, Any]]:
        return list(self.server.request("GET", path).body.get("items", ()))

    def state_of(self, name: str) -> NodeState:
        node, root = self.nodes[name].node, self._root_directory(name)
        return NodeState(
            frozenset(path.name for path in node.plugins.iterdir()),
            frozenset(path.name for path in (node.directory / "net.d").iterdir()),
            frozenset(link["ifname"] for link in json.loads(node.namespace.ip("-json", "link"))),
            frozenset(_routes(node.namespace.ip("route", "show", "table", "all"))),
            frozenset(_lines(node.namespace.ip("rule"))),
            frozenset(_lines(node.namespace.run("nft", "list", "ruleset"))),
            frozenset(str(path) for path in _orbweaver_files(root)),
            frozenset(filter(SYSCTLS.match, _lines(node.namespace.run("sysctl", "-a")))),
        )

    def diagnostics(self) -> str:
        if not self.server.is_running:
            return "the API server does not run"
        parts = [self.server.kubectl("get", "pods,pvc,jobs", "-A", "-o", "wide")]
        events = self.objects("/api/v1/events")
        parts += [
            f"{event['reason']}: {event['message']}"
            for event in events
            if event["type"] != "Normal"
        ]
        for pod in self.objects("/api/v1/pods"):
            with suppress(Exception):
                parts.append(self._log_of(pod)[-LOG_CHARS_MAX:])
        return "\n".join(parts)

    def _start(self) -> None:
        self._stack.enter_context(self.laboratory)
        address = self.laboratory.fabric.address
        flags = {
            "endpoint-reconciler-type": "lease",
            "advertise-address": address,
            "enable-aggregator-routing": "true",  # webhooks are reached without kube-proxy
            "default-not-ready-toleration-seconds": TOLERATION_S,
            "default-unreachable-toleration-seconds": TOLERATION_S,
        }
        self.control_plane = self._stack.enter_context(ControlPlane(self.laboratory, flags))
        self._install_tools()
        self.registry.start()
        self.registry.write_builder_settings(self.control_plane.directory)
        self._stack.callback(self.registry.stop)
        self._start_dns(address)
        self.laboratory.fabric.namespace.ip("route", "add", SERVICE_CIDR, "dev", "br0")
        for name in NODE_NAMES:
            self._add_node(name, address)
        text = yaml.safe_dump_all([_storage_class(), *self._volumes()])
        self.server.kubectl("apply", "--server-side", "-f", "-", stdin=text)
        self.until(self._nodes_are_ready, "two ready nodes")
        self.shell(
            f"{images.BUILD_ENGINE} push --quiet {images.ETCD_IMAGE} docker://{images.ETCD_IMAGE}"
        )

    def _install_tools(self) -> None:
        tools = self.control_plane.directory / "tools"
        tools.mkdir()
        helm = tools / "helm"
        line = f'exec {sys.executable} -m tests.installation.helm_program "$@"'
        helm.write_text(f"#!/bin/sh\n{line}\n")
        helm.chmod(0o755)
        (tools / "kubectl").symlink_to(KUBERNETES_PROGRAMS / "kubectl")
        for program in ("orbctl", "kubectl-orb"):
            (tools / program).symlink_to(Path(sys.executable).with_name(program))

    def _start_dns(self, address: str) -> None:
        module = "tests.installation.cluster_dns"
        command = [sys.executable, "-m", module, str(self.server.kubeconfig), address]
        log = self.control_plane.directory / "dns.log"
        namespace = self.laboratory.fabric.namespace
        dns = Daemon(
            self.laboratory.identity, namespace, command, log, {"PYTHONPATH": str(PROJECT_ROOT)}
        )
        dns.start()
        self._stack.callback(dns.kill)
        dns.wait_until(lambda: ":53 " in namespace.run("ss", "-Hlun"))

    def _add_node(self, name: str, address: str) -> None:
        node = self.laboratory.create_node(name)
        for path in (*node.plugins.iterdir(), *(node.directory / "net.d").iterdir()):
            path.unlink()
        (node.plugins / "macvlan").symlink_to(plugin("macvlan"))
        (node.directory / "net.d/10-lan.conflist").write_text(json.dumps(CONFLIST))
        node.namespace.ip("route", "add", SERVICE_CIDR, "via", address)
        redirect = API_REDIRECT.format(
            service=SERVICE_ADDRESS, address=address, port=self.server.port
        )
        file = node.directory / "redirect.nft"
        file.write_text(redirect)
        node.namespace.run("nft", "-f", str(file))
        config = {"clusterDNS": [address], "clusterDomain": "cluster.local"}
        kubeconfig = self.server.kubeconfig_of(f"system:node:{name}")
        kube_node = self.nodes[name] = KubeNode(
            self.laboratory, node, kubeconfig, has_agent_pod=True, kubelet_config=config
        )
        self._stack.callback(kube_node.close)
        kube_node.create()
        self.registry.write_containerd_settings(kube_node.containerd.registries)

    def _volumes(self) -> Iterator[dict[str, Any]]:
        for name in NODE_NAMES:
            for number in range(VOLUMES_PER_NODE):
                path = self.nodes[name].node.directory / f"volume-{number}"
                path.mkdir()
                yield _volume(f"{name}-{number}", path, name)

    def _nodes_are_ready(self) -> bool:
        nodes = self.objects("/api/v1/nodes")
        ready = [
            condition
            for node in nodes
            for condition in node.get("status", {}).get("conditions", ())
            if (condition["type"], condition["status"]) == ("Ready", "True")
        ]
        return len(ready) == len(NODE_NAMES)

    def _root_directory(self, name: str) -> Path:
        """The root of a node's mount namespace, seen from this machine."""
        return Path(f"/proc/{self.nodes[name].containerd.holder_pid}/root")

    def _log_of(self, pod: dict[str, Any]) -> str:
        metadata = pod["metadata"]
        containers = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
        return "\n".join(
            f"--- {metadata['name']} {container['name']}\n"
            + self.server.kubectl(
                *("logs", "--tail=15", "-n", metadata["namespace"], metadata["name"]),
                *("-c", container["name"]),
            )
            for container in containers
        )

    def _kill_containers(self) -> None:
        name = self.laboratory.identity.name("pods")
        for hierarchy in CONTROL_GROUPS.iterdir():
            for group, _, _ in os.walk(hierarchy / name):  # groups may be deleted meanwhile
                with suppress(OSError):
                    for pid in Path(group, "cgroup.procs").read_text().split():
                        os.kill(int(pid), signal.SIGKILL)


def _storage_class() -> dict[str, Any]:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "local", "annotations": annotations},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def _volume(name: str, path: Path, node: str) -> dict[str, Any]:
    term = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "local",
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}},
        },
    }


def _lines(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip())


def _routes(text: str) -> Iterator[str]:
    """Leave out the anycast routes that the kernel adds for forwarding."""
    return (line for line in _lines(text) if not line.startswith("anycast "))


def _orbweaver_files(root: Path) -> Iterator[Path]:
    """Yield Orbweaver's files, except in CNI directories."""
    for directory in ("run/spidernet", "sys/fs/bpf/orbweaver", "run/netns"):
        for path in (root / directory).rglob("*"):
            yield path.relative_to(root)
