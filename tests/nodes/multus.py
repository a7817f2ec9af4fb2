"""Multus on a node, as a CNI plugin that calls other plugins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from core.manifests.kinds.fields import API_VERSION
from ops.lab.programs import PLUGIN_DIRECTORIES, attempt, plugin
from ops.lab.runtime import EMPTY_MAPPING
from tests.nodes.control_plane import MULTUS_USER
from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.workloads import SHOP_NAMESPACE, Object, manifest
from tests.support.parts import MULTUS_PLUGIN, needs

PROGRAM: Final = "multus"
NETWORKS_ANNOTATION: Final = "k8s.v1.cni.cncf.io/networks"
DEFAULT_NETWORK_ANNOTATION: Final = "v1.multus-cni.io/default-network"
STATUS_ANNOTATION: Final = "k8s.v1.cni.cncf.io/network-status"
NADS_PATH: Final = (
    f"/apis/k8s.cni.cncf.io/v1/namespaces/{SHOP_NAMESPACE}/network-attachment-definitions"
)


def why_missing() -> str:
    """Why Multus cannot run on this machine; "" if Multus can run."""
    if any((directory / PROGRAM).exists() for directory in PLUGIN_DIRECTORIES):
        return ""
    directories = " and ".join(map(str, PLUGIN_DIRECTORIES))
    return needs(
        MULTUS_PLUGIN,
        f"no {PROGRAM} in {directories} (docs/contributing/testing.md has its source)",
    )


class Multus:
    """A context manager that installs Multus on one node.

    ``default``: the network configuration for ``eth0``; if empty, Multus keeps the node's.
    """

    def __init__(
        self, cluster: KubernetesCluster, node: str, default: Mapping[str, Any] = EMPTY_MAPPING
    ) -> None:
        self._cluster = cluster
        self._node = node
        self._lab = cluster.nodes[node].node
        networks = self._lab.directory / "net.d"
        (self._default,) = networks.iterdir()
        if default:
            self._default = self._lab.directory / f"{default['name']}.conflist"
            self._default.write_text(json.dumps(default))
        self._config = networks / "00-multus.conf"

    def __enter__(self) -> Self:
        link = self._lab.plugins / PROGRAM
        if not link.exists():
            link.symlink_to(plugin(PROGRAM))
            self._link_default_paths()
        self._config.write_text(json.dumps(self._conf()))
        self._cluster.until(lambda: PROGRAM in self._networks(), "Multus")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Multus added the Pods' networks, so Multus must delete these networks.
        self._cluster.delete_pods()
        self._config.unlink()
        self._cluster.until(lambda: PROGRAM not in self._networks(), "the node without Multus")

    def _networks(self) -> list[str]:
        return self._cluster.runtime_networks(self._node)

    def _link_default_paths(self) -> None:
        """Create the default paths of the agent's sockets and logs, because NADs name none."""
        in_mounts = self._cluster.nodes[self._node].containerd.with_mounts
        commands = [("mkdir", "-p", "/run/spidernet"), ("mount", "-t", "tmpfs", "none", "/var/log")]
        for suffix in ("", ".fast"):
            default_path = f"/run/spidernet/spiderpool.sock{suffix}"
            commands.append(("ln", "-s", f"{self._lab.socket}{suffix}", default_path))
        for command in commands:
            done = attempt(in_mounts(*command))
            assert done.returncode == 0, done.stderr

    def _conf(self) -> dict[str, Any]:
        return {
            "cniVersion": "1.0.0",
            "name": PROGRAM,
            "type": PROGRAM,
            "kubeconfig": str(self._cluster.server.kubeconfig_of(MULTUS_USER)),
            "confDir": str(self._config.parent),
            "binDir": str(self._lab.plugins),
            "clusterNetwork": str(self._default),
            "logFile": str(self._lab.directory / "multus.log"),
            "logLevel": "verbose",
        }


def macvlan(name: str, *ipv4: str) -> Object:
    """A SpiderMultusConfig for macvlan on the uplink ``eth0``."""
    link = {"master": ["eth0"], "ippools": {"ipv4": list(ipv4)}}
    spec = {"cniType": "macvlan", "macvlan": link, "coordinator": {"mode": "auto"}}
    return manifest(API_VERSION, "SpiderMultusConfig", name, SHOP_NAMESPACE, spec=spec)
