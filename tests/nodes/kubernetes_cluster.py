"""A Kubernetes cluster on one machine: control plane, two nodes, our controller and agents.

The fabric is the laboratory's simulated network. Each node has an uplink to the fabric.
Pods of ``node-a`` use macvlan on the uplink, and the coordinator plugin.
Pods of ``node-b`` use a bridge on a second uplink, without the coordinator plugin.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

import yaml

from core.manifests.crds.names_and_columns import CUSTOM_RESOURCE_KINDS, definition_of
from core.manifests.kinds.fields import API_VERSION
from core.manifests.manifest_writer import dump_yaml
from core.process.environment import KUBECONFIG_VARIABLE
from ops.lab.controller import LabController
from ops.lab.fabric import FABRIC_BRIDGE
from ops.lab.laboratory import Laboratory
from ops.lab.node import Node
from ops.lab.programs import attempt
from tests.kubernetes.network_harness import NAD_DEFINITION
from tests.nodes import chart_settings
from tests.nodes.control_plane import NODE_NAMES, ControlPlane
from tests.nodes.kubelet import KubeNode
from tests.nodes.rights import AGENT_ACCOUNT, CONTROLLER_ACCOUNT, role_manifests
from tests.nodes.workloads import SHOP_NAMESPACE, Object, manifest
from tests.runtime.cri import RuntimeRefused, RuntimeService
from tests.support.event_store_reader import EventStoreReader
from tests.support.kubernetes import ApiServer

T = TypeVar("T")

WAIT_S_MAX: Final = 150.0
"""kubelet and controllers may retry only after tens of seconds."""

POLL_S: Final = 0.05

SETTINGS: Final = {"ORBWEAVER_COOL_DOWN_SECONDS": "0"}
"""No cool-down, because tests share few addresses."""

SLOT_ADVERTISEMENT: Final = {
    "subENI": {
        "rules": [
            {"defaultMaxCount": 5, "nodeSelector": {"matchLabels": {"size": "large"}}},
            {"defaultMaxCount": 2},
        ]
    },
    "masterNIC": {"rules": [{"includeInterfaces": ["eth1"], "defaultMaxCount": 3}]},
}
"""Agents advertise these resources to kubelet, but ``subENI`` only with a network provider."""

CONF_WITH_DEVICE_PLUGIN: Final = chart_settings.conf(
    agent={"networkResourcePlugin": {"enabled": True, "resourceAdvertisement": SLOT_ADVERTISEMENT}}
)

COORDINATOR: Final = manifest(
    API_VERSION, "SpiderCoordinator", "default", spec={"podCIDRType": "none"}
)
"""The SpiderCoordinator that ``set_coordinator()`` without arguments restores."""

SECOND_UPLINK: Final = "eth1"
POD_BRIDGE: Final = "br-pods"
WORKLOADS: Final = "deployments,replicasets,statefulsets,jobs,pods"


class Pod(NamedTuple):
    name: str
    uid: str
    node: str
    phase: str
    addresses: tuple[str, ...]
    ready: bool


class KubernetesCluster:
    """A context manager that starts and stops the cluster."""

    def __init__(self) -> None:
        self.laboratory = Laboratory(settings=SETTINGS, coordinator={"mode": "auto"})
        self.nodes: dict[str, KubeNode] = {}
        self._stack = ExitStack()
        self._runtimes: dict[str, RuntimeService] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def server(self) -> ApiServer:
        return self.control_plane.server

    # ------------------------------------------------------------------------------- reads, waits

    def pods(self, app: str = "") -> list[Pod]:
        """The Pods in ``shop`` whose label ``app`` is ``app`` (all Pods if ""), by name."""
        query = f"?labelSelector=app%3D{app}" if app else ""
        path = f"/api/v1/namespaces/{SHOP_NAMESPACE}/pods{query}"
        return sorted(map(_pod, self.server.request("GET", path).body["items"]))

    def claims(self) -> dict[str, str]:
        """Claimed address -> name of the Pod that holds the address."""
        return self.store_reader.read_claims()

    def until(self, holds: Callable[[], T], what: str = "") -> T:
        """Wait until ``holds`` returns a true value, and return this value."""
        deadline = time.monotonic() + WAIT_S_MAX
        while not (value := holds()):
            assert time.monotonic() < deadline, (
                f"timed out waiting for {what or 'a condition'}: {self.diagnostics()}"
            )
            time.sleep(POLL_S)
        return value

    def wait_for_pods(self, count: int, app: str = "") -> list[Pod]:
        """Wait until exactly ``count`` Pods exist and are ready; return the Pods sorted by name."""

        def ready_pods() -> list[Pod]:
            found = self.pods(app)
            return found if len(found) == count and all(pod.ready for pod in found) else []

        return self.until(ready_pods, f"{count} Pods of {app or 'all workloads'}")

    def kubectl_get(self, *arguments: str) -> list[dict[str, str]]:
        """The rows that ``kubectl get`` prints; a row maps a column heading to its value.

        Short names of kinds: ``sp`` SpiderIPPool, ``ss`` SpiderSubnet, ``se`` SpiderEndpoint.
        """
        lines = self.server.kubectl("get", *arguments).splitlines()
        if not lines:
            return []
        heading, *rows = lines
        # Columns are separated by two or more spaces; a heading may contain single spaces.
        starts = [match.start() for match in re.finditer(r"\S+(?: \S+)*", heading)]
        ends = [*starts[1:], None]
        slices = [slice(start, end) for start, end in zip(starts, ends, strict=True)]
        names = [heading[column].strip() for column in slices]
        return [
            dict(zip(names, (row[column].strip() for column in slices), strict=True))
            for row in rows
        ]

    def events(self, name: str) -> str:
        """Type, reason and message of each Event about an object of ``shop``, one per line."""
        path = (
            f"/api/v1/namespaces/{SHOP_NAMESPACE}/events?fieldSelector=involvedObject.name%3D{name}"
        )
        found = self.server.request("GET", path).body["items"]
        return "\n".join(
            f"{event['type']}: {event['reason']}: {event['message']}" for event in found
        )

    def allocatable(self, node: str, resource: str) -> int | None:
        """The allocatable number of ``spidernet.io/<resource>``; None if not advertised."""
        status = self.server.request("GET", f"/api/v1/nodes/{node}").body["status"]
        found = status["allocatable"].get(f"spidernet.io/{resource}")
        return None if found is None else int(found)

    def requested_slots(self, pod: Object) -> dict[str, str]:
        """The ``spidernet.io`` limits that the webhook gives to a Pod (dry run)."""
        path = f"/api/v1/namespaces/{SHOP_NAMESPACE}/pods?dryRun=All"
        answer = self.server.request("POST", path, pod)
        assert answer.status == 201, answer.message
        resources = answer.body["spec"]["containers"][0].get("resources", {})
        return {
            name.removeprefix("spidernet.io/"): count
            for name, count in resources.get("limits", {}).items()
        }

    def forbidden_requests(self) -> set[tuple[str, str, str]]:
        """User, verb and resource of each forbidden request of agents and controller."""
        return {
            (request.user, request.verb, request.resource)
            for request in self.control_plane.audit.requests()
            if request.status == HTTPStatus.FORBIDDEN
        }

    def diagnostics(self) -> str:
        if not self.server.is_running:
            return "the API server does not run"
        pods = self.pods()
        lines = (line for pod in pods for line in self.events(pod.name).splitlines())
        warnings = [line for line in lines if not line.startswith("Normal")]
        return "\n".join([*map(str, pods), str(self.claims()), *warnings])

    # ------------------------------------------------------------------------------- actions

    def apply(self, *objects: Object) -> None:
        text = "\n".join(map(json.dumps, objects))
        self.server.kubectl("apply", "--server-side", "-f", "-", stdin=text)

    def apply_pools(self, *objects: Object) -> None:
        """Apply pools, and wait until the controller has written them to etcd."""
        self.apply(*objects)
        names = {pool["metadata"]["name"] for pool in objects}
        self.until(lambda: names <= self.store_reader.read_ledger().pools.keys(), f"pools {names}")

    def set_coordinator(self, phase: str = "Synced", **spec: object) -> None:
        """Replace the settings of the SpiderCoordinator, and wait for the phase ``phase``.

        Settings that are not in ``spec`` get the values of ``COORDINATOR``.
        """
        path = f"/apis/{API_VERSION}/spidercoordinators/default"

        def is_written() -> bool:
            # The PUT conflicts if the controller writes the status between GET and PUT.
            stored = self.server.request("GET", path).body
            stored["spec"] = COORDINATOR["spec"] | spec
            answer = self.server.request("PUT", path, stored)
            assert answer.status in (HTTPStatus.OK, HTTPStatus.CONFLICT), answer.message
            return answer.status == HTTPStatus.OK

        self.until(is_written, "an update of the SpiderCoordinator")

        def has_phase() -> bool:
            status = self.server.request("GET", path).body.get("status", {})
            return bool(status.get("phase") == phase)

        self.until(has_phase, f"phase {phase} of the SpiderCoordinator")

    def pings(self, pod: str, address: str) -> bool:
        try:
            done = self.run_in_pod(pod, "ping", "-n", "-c", "1", "-W", "2", address)
        except RuntimeRefused:
            return False  # the Pod's sandbox is being created
        return done.returncode == 0

    def run_in_pod(self, pod: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of this machine in a Pod's network namespace."""
        return attempt(["nsenter", f"--net=/proc/{self.pid_of(pod)}/ns/net", "--", *command])

    def sandbox_id(self, pod: str) -> str:
        """The ID of a Pod's sandbox, read from etcd; "" if the Pod has no endpoint."""
        endpoint = self.store_reader.read_ledger().endpoints.get((SHOP_NAMESPACE, pod))
        return endpoint.nics[0].container if endpoint is not None else ""

    def pid_of(self, pod: str) -> int:
        """The process id of a Pod's sandbox."""
        endpoint = self.store_reader.read_ledger().endpoints[SHOP_NAMESPACE, pod]
        return self._runtimes[endpoint.node].status(endpoint.nics[0].container).pid

    def runtime_networks(self, node: str) -> list[str]:
        """The names of the CNI networks to which a node's runtime connects new sandboxes."""
        return self._runtimes[node].networks()

    def lose_node(self, name: str) -> None:
        """Disconnect a node and kill kubelet, containerd and agent; Pods continue to run."""
        for port in self._ports(name):
            self.laboratory.fabric.namespace.ip("link", "set", port, "down")
        self.nodes[name].crash()

    # ------------------------------------------------------------------------------ cleanup, checks

    def restore_nodes(self) -> None:
        """Start stopped programs, and reconnect and uncordon nodes."""
        if not self.server.is_running:
            self.server.start()
        for name, node in self.nodes.items():
            for port in self._ports(name):
                self.laboratory.fabric.namespace.ip("link", "set", port, "up")
            node.start()
        if not self.controller.process.is_running:
            self.controller.process.start()
        self.until(self.nodes_are_ready, "the nodes")
        self.server.kubectl("uncordon", *NODE_NAMES)

    def delete_pods(self) -> None:
        """Delete all workloads, and wait until no address is claimed."""
        self.server.kubectl(
            "delete", WORKLOADS, "--namespace", SHOP_NAMESPACE, "--all", "--now", "--wait=true"
        )
        self.until(lambda: not self.pods(), "no Pods")
        self.until(lambda: not self.claims(), "no claims")

    def delete_objects(self) -> None:
        """Delete all workloads, pools and subnets, and check the invariants of the event log."""
        self.delete_pods()
        for plural in ("spiderippools", "spidersubnets"):
            self._delete_collection(f"/apis/{API_VERSION}/{plural}")
        self.until(lambda: not self.store_reader.read_ledger().pools, "no pools")
        self.until(lambda: not self.store_reader.read_ledger().subnets, "no subnets")
        assert self.store_reader.find_violations() == []

    def _delete_collection(self, path: str) -> None:
        """Delete the objects and wait, because the next test may use the same names."""
        self.server.request("DELETE", path)
        self.until(lambda: not self.server.request("GET", path).body["items"], f"no {path}")

    def verify(self) -> None:
        done = self.laboratory.orbctl("verify")
        assert done.returncode == 0, done.stdout + done.stderr

    def nodes_are_ready(self) -> bool:
        found = self.server.request("GET", "/api/v1/nodes").body["items"]
        return len(found) == len(NODE_NAMES) and all(map(_is_ready, found))

    # ------------------------------------------------------------------------------- start

    def _start(self) -> None:
        self._stack.enter_context(self.laboratory)
        self.store_reader = EventStoreReader(self.laboratory.etcd.outside_endpoint)
        self.control_plane = self._stack.enter_context(ControlPlane(self.laboratory))
        self._prepare()
        for name in NODE_NAMES:
            access = {KUBECONFIG_VARIABLE: str(self.server.kubeconfig_of(AGENT_ACCOUNT))}
            settings = chart_settings.variables(AGENT_ACCOUNT) | access
            node = self.laboratory.create_node(name, settings)
            (node.directory / "conf.yml").write_text(CONF_WITH_DEVICE_PLUGIN)
            self._add_node(node)
        self.controller = self._start_controller()
        self.until(self.nodes_are_ready, "the nodes")
        self.set_coordinator()

    def _prepare(self) -> None:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SHOP_NAMESPACE}}
        nad = yaml.safe_load(NAD_DEFINITION)
        documents: Iterable[Any] = [
            namespace,
            *role_manifests(),
            nad,
            *map(definition_of, CUSTOM_RESOURCE_KINDS),
        ]
        text = dump_yaml(documents)
        self.server.kubectl("apply", "--server-side", "-f", "-", stdin=text)
        for kind in CUSTOM_RESOURCE_KINDS:
            self.server.wait_served(f"/apis/{API_VERSION}/{kind.plural}")
        self.apply(COORDINATOR)
        self.server.wait_served(f"/api/v1/namespaces/{SHOP_NAMESPACE}/serviceaccounts/default")

    def _add_node(self, node: Node) -> None:
        kubeconfig = self.server.kubeconfig_of(f"system:node:{node.name}")
        kube_node = self.nodes[node.name] = KubeNode(self.laboratory, node, kubeconfig)
        self._stack.callback(kube_node.close)
        if node.name == NODE_NAMES[1]:
            self._use_bridge(node)
        kube_node.create("bridge")
        service = self._runtimes[node.name] = RuntimeService(kube_node.containerd.socket)
        self._stack.callback(service.close)

    def _use_bridge(self, node: Node) -> None:
        fabric, (_, port) = self.laboratory.fabric.namespace, self._ports(node.name)
        peer = ("peer", "name", SECOND_UPLINK, "netns", node.namespace.name)
        fabric.ip("link", "add", port, "type", "veth", *peer)
        fabric.ip("link", "set", port, "master", FABRIC_BRIDGE, "up")
        node.namespace.ip("link", "add", POD_BRIDGE, "type", "bridge", "mcast_snooping", "0")
        for link in (SECOND_UPLINK, POD_BRIDGE):
            node.namespace.ip("link", "set", link, "up")
        node.namespace.ip("link", "set", SECOND_UPLINK, "master", POD_BRIDGE)
        macvlan = node.runtime.conflist()["plugins"][0]
        bridge = {"type": "bridge", "bridge": POD_BRIDGE, "ipam": macvlan["ipam"]}
        conflist = {"cniVersion": "0.3.1", "name": "bridged", "plugins": [bridge]}
        (installed,) = (node.directory / "net.d").iterdir()
        installed.write_text(json.dumps(conflist))

    def _ports(self, name: str) -> tuple[str, ...]:
        """The interfaces that connect the fabric's bridge to a node's uplinks."""
        first = self.laboratory.fabric.port(name)
        return (first, f"{first}-pods") if name == NODE_NAMES[1] else (first,)

    def _start_controller(self) -> LabController:
        controller = LabController(
            self.laboratory.identity,
            self.laboratory.fabric.namespace,
            self.laboratory.directory / "orbweaver-controller",
            self.laboratory.etcd.endpoint,
            chart_settings.variables(CONTROLLER_ACCOUNT)
            | {KUBECONFIG_VARIABLE: str(self.server.kubeconfig_of(CONTROLLER_ACCOUNT))},
        )
        controller.start()
        self._stack.callback(controller.process.kill)
        controller.wait_following_pods()
        return controller


def _pod(api_pod: Object) -> Pod:
    status, metadata = api_pod.get("status", {}), api_pod["metadata"]
    conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
    addresses = tuple(each["ip"] for each in status.get("podIPs", ()))
    ready = conditions.get("Ready") == "True" and "deletionTimestamp" not in metadata
    node = api_pod["spec"].get("nodeName", "")
    return Pod(metadata["name"], metadata["uid"], node, status["phase"], addresses, ready)


def _is_ready(node: Object) -> bool:
    conditions = node.get("status", {}).get("conditions", ())
    return any((each["type"], each["status"]) == ("Ready", "True") for each in conditions)
