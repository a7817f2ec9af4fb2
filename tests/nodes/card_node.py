"""A node with a simulated card that has virtual functions and RDMA; kubelet and Multus are real.

The card's character devices are copies of /dev/null. The CNI plugin ``sriov`` is a script that
records its configuration and creates a macvlan interface.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml

from core.manifests.kinds.sriov import API_VERSION
from ops.lab.programs import attempt, plugin
from tests.nodeagent.sriov.cards import Card
from tests.nodes import chart_settings
from tests.nodes.agent_with_card import CARD_TREE
from tests.nodes.guides import restart_agent_with_conf, write_busybox
from tests.nodes.kubernetes_cluster import CONF_WITH_DEVICE_PLUGIN, KubernetesCluster
from tests.nodes.rights import AGENT_NAMESPACE, sriov_manifests
from tests.nodes.workloads import Object, manifest
from tests.packaging.project import PROJECT_ROOT

PF_NAME: Final = "ens1f0np0"
VF_RESOURCE: Final = "rail0"
SHARED_RESOURCE: Final = "shared_cx6"
"""The card's RDMA device, which ``SHARING_PODS`` Pods may share."""

SHARING_PODS: Final = 3
SRIOV_API_PATH: Final = f"/apis/{API_VERSION}/namespaces/{AGENT_NAMESPACE}"
SRIOV_PLUGIN: Final = """#!/bin/sh
conf=$(cat)
printf '%s %s\\n' "$CNI_COMMAND" "$conf" >>{calls}
printf '%s' "$conf" | sed 's/"type":"sriov"/"type":"macvlan","master":"eth0"/' | {macvlan}
"""
PRIVATE_DEV: Final = """
mkdir /run/dev /run/dev-work
mount -t overlay none -o lowerdir=/dev,upperdir=/run/dev,workdir=/run/dev-work /dev
mkdir /dev/infiniband
for name in rdma_cm uverbs0 umad0 issm0 uverbs1 umad1 issm1 uverbs2 umad2 issm2; do
    mknod /dev/infiniband/$name c 1 3
done
ln -s {kubelet}/pod-resources /var/lib/kubelet/pod-resources
"""
"""Creates RDMA device files and a link to kubelet's sockets in the node's mount namespace."""


class CardNode:
    """A context manager that gives a node the card, and an agent that applies SR-IOV policies.

    It writes the image of the tests' Pods to ``archive``. ``__exit__`` keeps files and CRDs.
    """

    def __init__(self, cluster: KubernetesCluster, node: str, archive: Path) -> None:
        self.kubelet_root = cluster.nodes[node].node.directory / "kubelet/root"
        self._cluster = cluster
        self._name = node
        self._node = cluster.nodes[node]
        self._archive = archive
        self._directory = self._node.node.directory / "card"
        self._command_without_card = self._node.node.agent.command

    def __enter__(self) -> Self:
        write_busybox(self._archive)
        self._node.containerd.import_image(self._archive)
        self._make_card()
        self._cluster.apply(*sriov_manifests())
        for kind in ("sriovnetworknodepolicies", "sriovnetworknodestates"):
            self._cluster.server.wait_served(f"{SRIOV_API_PATH}/{kind}")
        self._node.node.agent.command = self._agent_command()
        restart_agent_with_conf(self._cluster, self._name, self._conf_with_sriov())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cluster.delete_pods()
        self._node.node.agent.command = self._command_without_card
        restart_agent_with_conf(self._cluster, self._name, CONF_WITH_DEVICE_PLUGIN)

    def plugin_configurations(self, verb: str) -> list[dict[str, Any]]:
        """The configurations of ``sriov``'s calls with the CNI command ``verb``, oldest first."""
        lines = (
            line.split(maxsplit=1) for line in (self._directory / "calls").read_text().splitlines()
        )
        return [json.loads(conf) for command, conf in lines if command == verb]

    def state(self) -> Object:
        """The SriovNetworkNodeState of the node."""
        path = f"{SRIOV_API_PATH}/sriovnetworknodestates/{self._name}"
        return dict(self._cluster.server.request("GET", path).body)

    def restart_agent(self) -> None:
        """Restart the agent; kubelet and Pods continue to run."""
        self._node.node.agent.kill()
        self._node.node.start_agent()

    def _make_card(self) -> None:
        self._directory.mkdir()
        Card(self._directory / "sys", CARD_TREE)
        script = self._node.node.plugins / "sriov"
        script.write_text(
            SRIOV_PLUGIN.format(calls=self._directory / "calls", macvlan=plugin("macvlan"))
        )
        script.chmod(0o755)
        create_devices = PRIVATE_DEV.format(kubelet=self.kubelet_root)
        result = attempt(self._node.containerd.with_mounts("sh", "-ec", create_devices))
        assert result.returncode == 0, result.stderr

    def _agent_command(self) -> tuple[str, ...]:
        settings = {
            "ORBWEAVER_SYSFS": self._directory / "sys",
            "SPIDERPOOL_POD_NAMESPACE": AGENT_NAMESPACE,
            "PYTHONPATH": PROJECT_ROOT,
        }
        variables = (f"{name}={value}" for name, value in settings.items())
        options = self._command_without_card[self._command_without_card.index("--config-path") :]
        program = (sys.executable, "-m", "tests.nodes.agent_with_card", *options)
        return tuple(self._node.containerd.with_mounts("env", *variables, *program))

    def _conf_with_sriov(self) -> str:
        shared_device = {
            "resourceName": SHARED_RESOURCE,
            "rdmaHcaMax": SHARING_PODS,
            "selectors": {"ifNames": [PF_NAME]},
        }
        rdma_config = self._directory / "config.json"
        rdma_config.write_text(json.dumps({"configList": [shared_device]}))
        section = yaml.safe_load(chart_settings.conf())["orbweaver"]
        section["sriov"]["enabled"] = True
        section["rdmaConfigFile"] = str(rdma_config)
        return chart_settings.conf(orbweaver=section)


def vf_policy(vfs: int) -> Object:
    """A policy for ``vfs`` virtual functions with RDMA, offered as ``VF_RESOURCE``."""
    spec = {
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "resourceName": VF_RESOURCE,
        "numVfs": vfs,
        "mtu": 4_000,
        "nicSelector": {"pfNames": [PF_NAME], "vendor": "15b3"},
        "isRdma": True,
    }
    return manifest(API_VERSION, "SriovNetworkNodePolicy", VF_RESOURCE, AGENT_NAMESPACE, spec=spec)
