"""A node with a simulated card that has virtual functions and RDMA; kubelet and Multus are real.

``tests/nodeagent/sriov/cards.py`` writes the card's /sys. Its character devices are copies of
/dev/null in a private /dev of the node. The plugin ``sriov`` is a script that records its
configuration and then creates a macvlan interface.
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
from tests.nodes.guides import restart_agent, write_busybox
from tests.nodes.kubernetes_cluster import CONF_WITH_DEVICES, KubernetesCluster
from tests.nodes.rights import AGENT_NAMESPACE, with_devices
from tests.nodes.workloads import Object, manifest
from tests.packaging.project import PROJECT_ROOT

PF_NAME: Final = "ens1f0np0"
"""The card's physical function."""

VF_RESOURCE: Final = "rail0"
"""The resource of the virtual functions."""

SHARED_RESOURCE: Final = "shared_cx6"
"""The resource of the card's RDMA device, which ``SHARING_PODS`` Pods may share."""

SHARING_PODS: Final = 3
GROUP: Final = f"/apis/{API_VERSION}/namespaces/{AGENT_NAMESPACE}"
PLUGIN: Final = """#!/bin/sh
conf=$(cat)
printf '%s %s\\n' "$CNI_COMMAND" "$conf" >>{calls}
printf '%s' "$conf" | sed 's/"type":"sriov"/"type":"macvlan","master":"eth0"/' | {macvlan}
"""
"""The plugin ``sriov``: it records the call and runs macvlan on the node's only NIC instead."""

OWN_DEV: Final = """
mkdir /run/dev /run/dev-work
mount -t overlay none -o lowerdir=/dev,upperdir=/run/dev,workdir=/run/dev-work /dev
mkdir /dev/infiniband
for name in rdma_cm uverbs0 umad0 issm0 uverbs1 umad1 issm1 uverbs2 umad2 issm2; do
    mknod /dev/infiniband/$name c 1 3
done
ln -s {kubelet}/pod-resources /var/lib/kubelet/pod-resources
"""
"""A script in the node's mount namespace: RDMA device files, and the pod-resources directory."""


class CardNode:
    """A context manager that gives a node the card, and an agent that applies policies.

    At the end the agent runs without the card again. Files and CRDs stay; other tests do not use
    them.
    """

    def __init__(self, cluster: KubernetesCluster, node: str, archive: Path) -> None:
        self.kubelet = cluster.nodes[node].node.directory / "kubelet/root"
        self._cluster = cluster
        self._name = node
        self._node = cluster.nodes[node]
        self._archive = archive
        self._here = self._node.node.directory / "card"
        self._command = self._node.node.agent.command

    def __enter__(self) -> Self:
        write_busybox(self._archive)
        self._node.containerd.import_image(self._archive)
        self._make_card()
        self._cluster.apply(*with_devices())
        for kind in ("sriovnetworknodepolicies", "sriovnetworknodestates"):
            self._cluster.server.wait_served(f"{GROUP}/{kind}")
        self._node.node.agent.command = self._agent_command()
        restart_agent(self._cluster, self._name, self._conf())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cluster.delete_pods()
        self._node.node.agent.command = self._command
        restart_agent(self._cluster, self._name, CONF_WITH_DEVICES)

    def calls(self, verb: str) -> list[dict[str, Any]]:
        """The configurations of the plugin's calls with this CNI command, oldest first."""
        lines = (line.split(maxsplit=1) for line in (self._here / "calls").read_text().splitlines())
        return [json.loads(conf) for command, conf in lines if command == verb]

    def state(self) -> Object:
        """The SriovNetworkNodeState of the node."""
        path = f"{GROUP}/sriovnetworknodestates/{self._name}"
        return dict(self._cluster.server.request("GET", path).body)

    def restart_agent(self) -> None:
        """Restart only the agent; kubelet and Pods continue to run."""
        self._node.node.agent.kill()
        self._node.node.start_agent()

    def _make_card(self) -> None:
        self._here.mkdir()
        Card(self._here / "sys", CARD_TREE)
        script = self._node.node.plugins / "sriov"
        script.write_text(PLUGIN.format(calls=self._here / "calls", macvlan=plugin("macvlan")))
        script.chmod(0o755)
        files = OWN_DEV.format(kubelet=self.kubelet)
        done = attempt(self._node.containerd.with_mounts("sh", "-ec", files))
        assert done.returncode == 0, done.stderr

    def _agent_command(self) -> tuple[str, ...]:
        settings = {
            "ORBWEAVER_SYSFS": self._here / "sys",
            "SPIDERPOOL_POD_NAMESPACE": AGENT_NAMESPACE,
            "PYTHONPATH": PROJECT_ROOT,
        }
        variables = (f"{name}={value}" for name, value in settings.items())
        options = self._command[self._command.index("--config-path") :]
        program = (sys.executable, "-m", "tests.nodes.agent_with_card", *options)
        return tuple(self._node.containerd.with_mounts("env", *variables, *program))

    def _conf(self) -> str:
        item = {
            "resourceName": SHARED_RESOURCE,
            "rdmaHcaMax": SHARING_PODS,
            "selectors": {"ifNames": [PF_NAME]},
        }
        config = self._here / "config.json"
        config.write_text(json.dumps({"configList": [item]}))
        ours = yaml.safe_load(chart_settings.conf())["orbweaver"]
        ours["sriov"]["enabled"] = True
        ours["rdmaConfigFile"] = str(config)
        return chart_settings.conf(orbweaver=ours)


def policy(vfs: int) -> Object:
    """A policy that creates ``vfs`` virtual functions with RDMA and offers them as a resource."""
    spec = {
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "resourceName": VF_RESOURCE,
        "numVfs": vfs,
        "mtu": 4_000,
        "nicSelector": {"pfNames": [PF_NAME], "vendor": "15b3"},
        "isRdma": True,
    }
    return manifest(API_VERSION, "SriovNetworkNodePolicy", VF_RESOURCE, AGENT_NAMESPACE, spec=spec)
