"""A node of a cluster in the virtual machine: the agent's daemon, and a stand-in for kubelet.

``python -m tests.vm.cluster_node FILE DIRECTORY NODE ETCD`` runs until the Node is deleted, and
then writes a finding to FILE. DIRECTORY has the kubeconfigs and the agent's conf.yml. API server
and etcd run on the host.

The stand-in starts no containers: a Pod is a network namespace with the link of a virtual function.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc

from core.errors import ApiNotFound
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import Connection, open_connection
from core.process.environment import KUBECONFIG_VARIABLE
from core.settings.device_plugin import KUBELET_DIRECTORY
from nodeagent.devices.kubelet_api import PLUGINS_DIRECTORY
from nodeagent.devices.pod_resources import POD_RESOURCES_SOCKET
from tests.nodeagent.devices.fake_kubelet import Kubelet, field, unchanged
from tests.support.deadlines import until
from tests.support.vm import HOST_MAC, Finding, write_findings
from tests.vm.sriov_scenarios import NIC_NAME, command

CLUSTER_NAME: Final = "draining"
HOST_LINK_ADDRESS: Final = "10.0.2.15/24"

POLL_S: Final = 0.5
LINK_S: Final = 60.0
"""Seconds in which the link of a deleted Pod must return to the node."""

DELETE_S: Final = 20.0
LINKS: Final = Path("/sys/class/net")
PCI: Final = Path("/sys/bus/pci/devices")
RUNNING: Final = {
    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
}


class KubeletStandIn:
    """The part of kubelet that allocates devices; ``run`` ends when the Node is deleted."""

    def __init__(self, connection: Connection, node: str) -> None:
        self._connection = connection
        self._api = Api(connection)
        self._node = f"/api/v1/nodes/{node}"
        self._pods = f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}"
        self._plugins = Kubelet(Path(KUBELET_DIRECTORY) / PLUGINS_DIRECTORY)
        self._devices: dict[str, tuple[str, str]] = {}
        """``namespace/name`` of a Pod -> resource name and id of its device."""

    async def run(self) -> None:
        Path(KUBELET_DIRECTORY, PLUGINS_DIRECTORY).mkdir(parents=True, exist_ok=True)
        await self._plugins.start()
        async with self._served_pod_resources():
            while await self._api.find(self._node) is None:
                await asyncio.sleep(POLL_S)
            while await self._report_devices():
                for pod in (await self._api.list(self._pods)).items:
                    await self._sync(pod)
                await asyncio.sleep(POLL_S)
        await self._plugins.stop()

    async def _report_devices(self) -> bool:
        """Update the Node's status; return False if the Node is deleted."""
        counts = {
            resource: str(len(devices) - len(self._plugins.unhealthy.get(resource, ())))
            for resource, devices in self._plugins.devices.items()
        }
        status = {"capacity": counts, "allocatable": counts}
        try:
            await self._api.merge(f"{self._node}/status", {"status": status})
        except ApiNotFound:
            return False
        return True

    async def _sync(self, pod: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        name = f"{metadata['namespace']}/{metadata['name']}"
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        if "deletionTimestamp" in metadata:
            await self._end(name)
            await self._delete_now(path)
        elif name not in self._devices and await self._start(name, pod):
            await self._api.merge(f"{path}/status", RUNNING)

    async def _start(self, name: str, pod: dict[str, Any]) -> bool:
        """Allocate a device and move the link; return False if no device is free."""
        (resource,) = pod["spec"]["containers"][0]["resources"]["limits"]
        used = {device for _, device in self._devices.values()}
        unusable = {*used, *self._plugins.unhealthy.get(resource, ())}
        devices = self._plugins.devices.get(resource, ())
        free = [device for device in devices if device not in unusable]
        if not free:
            return False
        (response,) = await self._plugins.allocate_devices(resource, [free[0]])
        assert free[0] in response.variables.values(), response
        self._devices[name] = resource, free[0]
        (link,) = (PCI / free[0] / "net").iterdir()
        netns = netns_of(name)
        command("ip", "netns", "add", netns)
        command("ip", "link", "set", link.name, "netns", netns, "name", "net1")
        command("ip", "-n", netns, "link", "set", "net1", "up")
        return True

    async def _end(self, name: str) -> None:
        if name not in self._devices:
            return
        _, device = self._devices[name]
        command("ip", "netns", "delete", netns_of(name))
        await until(lambda: list((PCI / device / "net").iterdir()), LINK_S)
        del self._devices[name]

    async def _delete_now(self, path: str) -> None:
        options, limits = {"gracePeriodSeconds": 0}, aiohttp.ClientTimeout(DELETE_S)
        answer = await self._connection.send(
            "DELETE", path, options, "application/json", limits, DELETE_S
        )
        async with answer:
            assert answer.status == HTTPStatus.OK, await answer.text()

    @asynccontextmanager
    async def _served_pod_resources(self) -> AsyncIterator[None]:
        path = Path(KUBELET_DIRECTORY, POD_RESOURCES_SOCKET)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        method = grpc.unary_unary_rpc_method_handler(self._list_pods, unchanged, unchanged)
        handlers = grpc.method_handlers_generic_handler("v1.PodResourcesLister", {"List": method})
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((handlers,))
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        yield
        await server.stop(None)

    async def _list_pods(self, _request: bytes, _context: object) -> bytes:
        return b"".join(
            field(1, _pod_message(pod, resource, device))
            for pod, (resource, device) in self._devices.items()
        )


def _pod_message(pod: str, resource: str, device: str) -> bytes:
    """A Pod with one device as message PodResources of v1/api.proto."""
    namespace, _, name = pod.partition("/")
    devices = field(1, resource.encode()) + field(2, device.encode())
    container = field(1, b"main") + field(2, devices)
    return field(1, name.encode()) + field(2, namespace.encode()) + field(3, container)


def netns_of(pod: str) -> str:
    """The name of the network namespace of a Pod ``namespace/name``."""
    return pod.replace("/", "-")


def prepare() -> None:
    """Load drivers, rename the card to ``NIC_NAME``, and set up the NIC towards the host."""
    for module in ("igb", "igbvf", "virtio_net"):
        command("modprobe", module)
    (card,) = (path.parent.parent for path in LINKS.glob("*/device/sriov_totalvfs"))
    command("ip", "link", "set", card.name, "name", NIC_NAME)
    (host,) = (
        link.name for link in LINKS.iterdir() if (link / "address").read_text().strip() == HOST_MAC
    )
    command("ip", "address", "add", HOST_LINK_ADDRESS, "dev", host)
    command("ip", "link", "set", host, "up")


def start_agent(directory: Path, node: str, etcd: str) -> subprocess.Popen[bytes]:
    """Start the agent with the chart's permissions."""
    variables = {
        KUBECONFIG_VARIABLE: str(directory / "agent.kubeconfig"),
        "ORBWEAVER_ETCD_ENDPOINTS": etcd,
        "ORBWEAVER_CLUSTER": CLUSTER_NAME,
        "SPIDERPOOL_NODE_NAME": node,
        "SPIDERPOOL_POD_NAMESPACE": "orbweaver",
    }
    program = [sys.executable, "-m", "nodeagent.main", "--config-path", str(directory / "conf.yml")]
    return subprocess.Popen(program, env=os.environ | variables)


async def run_node(directory: Path, node: str, etcd: str) -> None:
    prepare()
    agent = start_agent(directory, node, etcd)
    connection = await open_connection(str(directory / "kubelet.kubeconfig"))
    try:
        await KubeletStandIn(connection, node).run()
        assert agent.poll() is None, f"the agent has ended: {agent.returncode}"
    finally:
        agent.terminate()
        agent.wait()
        await connection.close()


def main() -> None:
    findings, directory, node, etcd = sys.argv[1:]
    fault = ""
    try:
        asyncio.run(run_node(Path(directory), node, etcd))
    except Exception:  # noqa: BLE001 - the finding says what failed
        fault = traceback.format_exc()
    write_findings(Path(findings), [Finding("node", fault)])


if __name__ == "__main__":
    main()
