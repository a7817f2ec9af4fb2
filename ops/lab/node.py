"""A node of the laboratory: namespace, agent, CNI plugins and container runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nodeagent.clusterip.pod_cgroups import cgroup2_mounts
from ops.installer import install
from ops.lab.daemons import Daemon
from ops.lab.http import is_ok
from ops.lab.identity import LabFailed, LabIdentity
from ops.lab.namespaces import NamedNamespace
from ops.lab.programs import console_script, plugin, run
from ops.lab.runtime import ContainerRuntime
from ops.lab.sandbox import Sandbox


class Node:
    """One node of the laboratory. ``settings``: environment variables of the agent.

    ``coordinator``: the plugin's configuration; None omits the plugin. ``pods_cgroup``: the cgroup
    of the Pods' programs, to which the agent attaches eBPF programs; None without ClusterIPs.
    """

    def __init__(
        self,
        identity: LabIdentity,
        name: str,
        directory: Path,
        etcd: str,
        settings: Mapping[str, str],
        coordinator: Mapping[str, Any] | None = None,
        pods_cgroup: Path | None = None,
    ) -> None:
        self.name = name
        self.pods_cgroup = pods_cgroup
        self.directory = directory
        self.namespace = NamedNamespace(identity.name(name))
        self.socket = directory / "agent.sock"
        self.plugins = directory / "cni"
        self.plugin_log = directory / "plugin.log"
        self.address = ""
        """The node's address in the fabric; "" until the node is connected."""
        environment = {
            "SPIDERPOOL_NODE_NAME": name,
            "ORBWEAVER_ETCD_ENDPOINTS": etcd,
            "ORBWEAVER_SOCKET_PATH": str(self.socket),
            "ORBWEAVER_PLUGIN_LOG_PATH": str(self.plugin_log),
            **(_cluster_ip_settings(pods_cgroup, directory) if pods_cgroup is not None else {}),
            **settings,
        }
        command = [console_script("orbweaver-agent"), "--config-path", str(directory / "conf.yml")]
        self.agent = Daemon(identity, self.namespace, command, directory / "agent.log", environment)
        ipam = {
            "ipam_unix_socket_path": str(self.socket),
            "log_file_path": str(self.plugin_log),
        }
        if coordinator is not None:
            log = {"logFile": str(directory / "coordinator.log")}
            defaults = {"ipam_unix_socket_path": str(self.socket), "logOptions": log}
            coordinator = {**defaults, **coordinator}
        self.runtime = ContainerRuntime(
            identity,
            self.namespace,
            self.plugins,
            directory / "attachments",
            ipam,
            coordinator=coordinator,
        )

    def create(self) -> None:
        """Create the node, but do not start the agent. Raises LabFailed."""
        self.directory.mkdir(parents=True)
        self.namespace.create()
        self.plugins.mkdir()
        (self.plugins / "macvlan").symlink_to(plugin("macvlan"))
        install(self.plugins, self.directory / "net.d", conflist=self.runtime.conflist())

    def run_in(self, sandbox: Sandbox, *command: str) -> str:
        """Run a program in a Pod and return its output. Raises LabFailed."""
        inside = sandbox.namespace.inside(command)
        return run(inside if self.pods_cgroup is None else in_cgroup(self.pods_cgroup, inside))

    def start_agent(self) -> None:
        """Start the agent and wait until it is healthy. Raises LabFailed."""
        self.agent.start()
        self.agent.wait_until(self.is_healthy)

    def wait_unhealthy(self) -> None:
        """Wait until the agent is not healthy. Raises LabFailed."""
        self.agent.wait_until(lambda: not self.is_healthy())

    def is_healthy(self) -> bool:
        """Whether the agent can serve requests."""
        return is_ok(self.socket, "/v1/ipam/healthy")


def _cluster_ip_settings(pods_cgroup: Path, directory: Path) -> dict[str, str]:
    """The agent pins no eBPF programs, because ``directory`` is not on a bpffs."""
    return {
        "ORBWEAVER_CLUSTER_IP": "true",
        "ORBWEAVER_CLUSTER_IP_CGROUP": str(pods_cgroup),
        "ORBWEAVER_CLUSTER_IP_BPFFS": str(directory),
    }


def create_pods_cgroup(identity: LabIdentity, node: str) -> Path:
    """Create the cgroup of a node's Pods. Raises LabFailed."""
    mounts = cgroup2_mounts()
    if not mounts:
        raise LabFailed("cgroup v2 is not mounted on this machine")
    path = Path(mounts[0]) / identity.name("pods") / node
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise LabFailed(f"cannot create cgroup {path}: {error.strerror}") from error
    return path


def can_create_cgroups() -> bool:
    """Whether this process may create cgroups."""
    mounts = cgroup2_mounts()
    return bool(mounts) and os.access(mounts[0], os.W_OK)


def in_cgroup(group: Path, command: Sequence[str]) -> list[str]:
    """A command that enters a cgroup and then executes ``command``."""
    enter = 'echo $$ >"$0" && exec "$@"'
    return ["sh", "-c", enter, str(group / "cgroup.procs"), *command]
