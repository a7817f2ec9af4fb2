"""A node of the laboratory with agent, containerd and kubelet.

Files are mounted over the sysctls that kubelet would otherwise change on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from nodeagent.clusterip.pod_cgroups import cgroup2_mounts
from ops.lab.daemons import Daemon
from ops.lab.laboratory import Laboratory
from ops.lab.leftovers import CONTROL_GROUPS
from ops.lab.node import Node
from ops.lab.programs import attempt, plugin
from ops.lab.runtime import EMPTY_MAPPING
from tests.runtime.containerd import Containerd
from tests.support.kubernetes import KUBERNETES_PROGRAMS

SYSCTLS: Final = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
"""The values that kubelet requires."""

VOLUME_STATS_INTERVAL: Final = "5s"

EVICTION_SIGNALS: Final = (
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
)
"""Low memory or disk space of this machine must not evict Pods."""

HEARTBEAT_INTERVAL: Final = "1s"
"""Short, so that a lost node is detected soon."""


class KubeNode:
    """A node whose programs can be started and crashed repeatedly.

    With ``has_agent_pod`` the agent runs in a Pod, so this class does not start an agent.
    """

    def __init__(
        self,
        laboratory: Laboratory,
        node: Node,
        kubeconfig: Path,
        *,
        has_agent_pod: bool = False,
        kubelet_config: Mapping[str, Any] = EMPTY_MAPPING,
    ) -> None:
        self.node = node
        self.containerd = Containerd(laboratory, node, has_node_mounts=has_agent_pod)
        self._has_agent_pod = has_agent_pod
        self._kubelet_config = kubelet_config
        self._groups = f"{self.containerd.cgroup_parent}/{node.name}"
        self._kubeconfig = kubeconfig
        self._laboratory = laboratory
        self._directory = node.directory / "kubelet"
        self._kubelet: Daemon | None = None

    def create(self, *plugins: str) -> None:
        """Prepare and start the node. Raises LabFailed.

        It installs the CNI plugins ``plugins`` in addition to macvlan.
        """
        for name in plugins:
            (self.node.plugins / name).symlink_to(plugin(name))
        self._directory.mkdir()
        # The machine's resolv.conf may link into a directory that the node's mounts hide.
        (self._directory / "resolv.conf").write_text("nameserver 192.0.2.53\n")
        (self._directory / "config.yaml").write_text(yaml.safe_dump(self._config()))
        for hierarchy in CONTROL_GROUPS.iterdir():
            if hierarchy.is_dir():
                (hierarchy / self._groups.strip("/")).mkdir(parents=True, exist_ok=True)
        self.containerd.create()
        for name, value in SYSCTLS.items():
            file = self._directory / name.replace("/", ".")
            file.write_text(f"{value}\n")
            mount = self.containerd.with_mounts("mount", "--bind", str(file), f"/proc/sys/{name}")
            done = attempt(mount)
            assert done.returncode == 0, done.stderr
        # The agent enters network namespaces that only containerd's mount namespace has.
        self.node.agent.command = tuple(self.containerd.with_mounts(*self.node.agent.command))
        self.start()

    def start(self) -> None:
        """Start the programs that do not run. Raises LabFailed."""
        if not (self._has_agent_pod or self.node.agent.is_running):
            self.node.start_agent()
        if not self.containerd.is_running:
            self.containerd.start()
        if self._kubelet is None:
            self._start_kubelet()

    def restart_kubelet(self) -> None:
        self._stop_kubelet()
        self._start_kubelet()

    def crash(self) -> None:
        """Kill kubelet, containerd and agent; Pods continue to run."""
        self._stop_kubelet()
        self.containerd.kill()
        self.node.agent.kill()

    @property
    def pods_cgroup(self) -> Path:
        """The control group of the node's Pods, in the cgroup v2 hierarchy if that is mounted."""
        (hierarchy, *_) = (*cgroup2_mounts(), str(CONTROL_GROUPS))
        return Path(f"{hierarchy}{self._groups}")

    def volume(self, uid: str, name: str) -> Path:
        """The path of a Pod's emptyDir as this machine sees it."""
        mount_root = Path(
            f"/proc/{self.containerd.holder_pid}/root{self._directory}/root/pods/{uid}"
        )
        return mount_root / "volumes/kubernetes.io~empty-dir" / name

    def plugin_socket(self, name: str) -> Path:
        """The path of a device plugin's socket as this machine sees it."""
        mount_root = Path(f"/proc/{self.containerd.holder_pid}/root")
        return mount_root / "var/lib/kubelet/device-plugins" / name

    def log(self) -> str:
        return (self._directory / "log").read_text(errors="replace")

    def close(self) -> None:
        self._stop_kubelet()
        self.containerd.close()

    def _stop_kubelet(self) -> None:
        kubelet, self._kubelet = self._kubelet, None
        if kubelet is not None:
            kubelet.kill()

    def _start_kubelet(self) -> None:
        flags = {
            "config": self._directory / "config.yaml",
            "kubeconfig": self._kubeconfig,
            "root-dir": self._directory / "root",
            "cert-dir": self._directory / "certificates",
            "hostname-override": self.node.name,
            "node-ip": self.node.address,
        }
        command = [
            str(KUBERNETES_PROGRAMS / "kubelet"),
            *(f"--{name}={value}" for name, value in flags.items()),
        ]
        self._kubelet = Daemon(
            self._laboratory.identity,
            self.node.namespace,
            self.containerd.with_mounts(*command),
            self._directory / "log",
            {},
        )
        self._kubelet.start()

    def _config(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.node.address,
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self._groups,
            "containerRuntimeEndpoint": f"unix://{self.containerd.socket}",
            "enforceNodeAllocatable": [],
            "evictionHard": dict.fromkeys(EVICTION_SIGNALS, "0%"),
            "imageGCHighThresholdPercent": 100,
            "failCgroupV1": False,
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "nodeStatusUpdateFrequency": HEARTBEAT_INTERVAL,
            "nodeLeaseDurationSeconds": 4,
            "oomScoreAdj": 0,
            "podLogsDir": str(self._directory / "logs"),
            "registerNode": True,
            "resolvConf": str(self._directory / "resolv.conf"),
            "volumePluginDir": str(self._directory / "volumes"),
            "volumeStatsAggPeriod": VOLUME_STATS_INTERVAL,
            **self._kubelet_config,
        }
