"""containerd on a node of the laboratory, with private directories and sockets.

A holder process keeps a mount namespace, in which /run/containerd and /var/lib/cni are private and
empty. containerd runs in this mount namespace and in the node's network namespace.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ops.lab.daemons import Daemon
from ops.lab.identity import LABORATORY_VARIABLE
from ops.lab.laboratory import Laboratory
from ops.lab.node import Node
from ops.lab.programs import attempt, plugin
from ops.lab.sandbox import POD_INTERFACE
from tests.runtime.cri import RuntimeService
from tests.runtime.pause_image import IMAGE_NAME, write_archive

IMPORT_DEADLINE_S: Final = 300.0
"""A busy machine imports 300 MB in this time."""

CONFIG = """
version = 2
root = "{here}/root"
state = "{here}/state"
disabled_plugins = ["io.containerd.grpc.v1.sandbox-controllers"]

[grpc]
  address = "{here}/grpc.sock"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  netns_mounts_under_state_dir = {netns_in_state}
  # Changing oom_score_adj needs CAP_SYS_RESOURCE, which not every machine has.
  restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{here}/registries"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{plugins}"
  conf_dir = "{networks}"

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "{snapshotter}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  Root = "{here}/runc"
  SystemdCgroup = false
"""

HOLDER_SCRIPT = """
set -e
mount -t tmpfs none /var/lib
mkdir /var/lib/run
mount --rbind /run /var/lib/run
mount -t tmpfs none /run
for directory in orbweaver-lab netns; do
    mkdir /run/$directory
    {netns_condition}mount --rbind /var/lib/run/$directory /run/$directory
done
{node_mounts}
mkdir /run/mounts-done
exec sleep infinity
"""
"""The holder's script. ``netns_condition``: may skip the mount of /run/netns."""

NODE_MOUNTS = """
mount -t tmpfs none /opt
mkdir -p /opt/cni/bin
mount --bind {plugins} /opt/cni/bin
mkdir {here}/etc {here}/work {here}/root
mount -t tmpfs none {here}/root
mount -t overlay none -o lowerdir=/etc,upperdir={here}/etc,workdir={here}/work /etc
mkdir -p /etc/cni/net.d
mount --bind {networks} /etc/cni/net.d
mount -t tmpfs none /var/log
if [ -d /sys/fs/bpf ]; then mount -t bpf bpf /sys/fs/bpf; fi
mount --make-rshared /
"""
"""Private directories for DaemonSet Pods; mounts below these directories propagate to the Pods."""


class Containerd:
    """A containerd, which can be killed and started again.

    ``has_node_mounts``: whether the holder also runs ``NODE_MOUNTS``.
    """

    def __init__(
        self, laboratory: Laboratory, node: Node, *, has_node_mounts: bool = False
    ) -> None:
        self.node = node
        self.here = node.directory / "containerd"
        self._has_node_mounts = has_node_mounts
        self._snapshotter = "overlayfs" if has_node_mounts else "native"
        self.socket = self.here / "grpc.sock"
        self.cgroup_parent = f"/{laboratory.identity.name('pods')}"
        self._mark = f"{LABORATORY_VARIABLE}={laboratory.identity}"
        """The laboratory finds the processes of sandboxes by this variable."""
        self._laboratory = laboratory
        script = self._holder_script()
        holder_command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script]
        self._holder = Daemon(
            laboratory.identity, node.namespace, holder_command, self.here / "holder.log", {}
        )
        self.registries = self.here / "registries"
        """Has a directory with hosts.toml for each configured registry."""
        self.daemon: Daemon | None = None

    def create(self) -> None:
        """Start containerd and import the pause image. Raises LabFailed."""
        self.registries.mkdir(parents=True)
        (self.node.plugins / "loopback").symlink_to(plugin("loopback"))
        config = CONFIG.format(
            here=self.here,
            image=IMAGE_NAME,
            plugins=self.node.plugins,
            networks=self.node.directory / "net.d",
            netns_in_state=str(not self._has_node_mounts).lower(),
            snapshotter=self._snapshotter,
        )
        (self.here / "config.toml").write_text(config)
        self._holder.start()
        self._holder.wait_until(
            lambda: Path(f"/proc/{self._holder.pid}/root/run/mounts-done").is_dir()
        )
        self.start()
        archive = self.here / "pause.tar"
        write_archive(archive, [self._mark])
        self.import_image(archive)

    def start(self) -> None:
        """Start containerd; wait until it can run sandboxes. Raises LabFailed."""
        command = self.with_mounts("containerd", "--config", str(self.here / "config.toml"))
        self.daemon = Daemon(
            self._laboratory.identity, self.node.namespace, command, self.here / "log", {}
        )
        self.daemon.start()
        service = RuntimeService(self.socket)
        try:
            self.daemon.wait_until(lambda: not service.unmet_conditions())
        finally:
            service.close()

    @property
    def holder_pid(self) -> int:
        return self._holder.pid

    @property
    def is_running(self) -> bool:
        return self.daemon is not None and self.daemon.is_running

    def kill(self) -> None:
        """Kill containerd; its sandboxes continue to run."""
        if self.daemon is not None:
            self.daemon.kill()

    def delete_orphaned_namespaces(self) -> None:
        """Delete the namespaces of sandboxes that a killed containerd had not finished to start.

        Otherwise the next sandbox of the Pod would detect its IPv6 address as a duplicate.
        """
        for path in (self.here / "state").glob("*/netns/*"):
            attempt(
                self.with_mounts("nsenter", f"--net={path}", "ip", "link", "delete", POD_INTERFACE)
            )
            attempt(self.with_mounts("umount", str(path)))
            path.unlink()

    def with_mounts(self, *command: str) -> list[str]:
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--", *command]

    def close(self) -> None:
        """Stop containerd; the laboratory removes the remaining sandboxes."""
        self.kill()
        self._holder.kill()

    def import_image(self, archive: Path) -> None:
        self._images("import", "--snapshotter", self._snapshotter, str(archive))

    def tag_image(self, name: str, *new_names: str) -> None:
        self._images("tag", name, *new_names)

    def _images(self, *command: str) -> None:
        options = ["--address", str(self.socket), "--namespace", "k8s.io"]
        command_in_node = self.with_mounts("ctr", *options, "images", *command)
        process = attempt(command_in_node, deadline_s=IMPORT_DEADLINE_S)
        assert process.returncode == 0, process.stderr

    def _holder_script(self) -> str:
        if not self._has_node_mounts:
            return HOLDER_SCRIPT.format(netns_condition="", node_mounts="")
        mounts = NODE_MOUNTS.format(
            here=self.here, plugins=self.node.plugins, networks=self.node.directory / "net.d"
        )
        return HOLDER_SCRIPT.format(
            netns_condition="[ $directory = netns ] || ", node_mounts=mounts
        )
