"""The agent's handler of the coordinator on a node of the network harness, and its calls."""

from __future__ import annotations

from typing import Any

from core.domain.model import Attachment, Endpoint
from core.domain.request_facts import (
    NamespaceFacts,
    NodeFacts,
    PodFacts,
    PodReference,
    RequestFacts,
)
from core.errors import NotReady
from nodeagent.cni_protocol.cni_call import Call
from nodeagent.cni_protocol.netconf import NetConf, ValidAttachment
from nodeagent.conflict_detection.detector import DetectionSwitches
from nodeagent.coordinator.settings import (
    ConfiguredSettings,
    CoordinatorDefaults,
    UnparsedSettings,
    read_settings,
)
from nodeagent.handlers.coordinator_handler import CoordinatorHandler, ProbeAddresses
from nodeagent.pod_facts import FactsSource, Liveness
from tests.support.network_harness import NetworkHarness, NetworkNode, NetworkPod

CLUSTER_SETTINGS = {"serviceCIDR": ["10.96.0.0/16"]}


class AnnotatedPods(FactsSource):
    def __init__(self, annotations: dict[str, str]) -> None:
        self.annotations = annotations

    async def load_pod(self, reference: PodReference) -> None: ...

    async def confirm_pod_exists(self, reference: PodReference) -> None: ...

    def liveness(self, reference: PodReference) -> Liveness:
        return Liveness(alive=None)

    async def confirm_liveness(self, reference: PodReference) -> Liveness:
        return self.liveness(reference)

    def facts(self, reference: PodReference) -> RequestFacts:
        pod = PodFacts("shop", "web-0", "uid", "node-a", annotations=self.annotations)
        return RequestFacts(pod, NamespaceFacts("shop"), self.node())

    complete_facts = facts

    def node(self) -> NodeFacts:
        return NodeFacts("node-a")

    def endpoint_validity(self, endpoint: Endpoint) -> None: ...

    async def confirm_endpoint(self, endpoint: Endpoint) -> None: ...


class UnsyncedDefaults(CoordinatorDefaults):
    """The defaults of a cluster whose SpiderCoordinator is not Synced."""

    async def load(self) -> None: ...

    def current_settings(self) -> UnparsedSettings:
        raise NotReady("spidercoordinator: default no ready")


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def probe_nothing(_: Call, __: DetectionSwitches) -> None:
    pass


def handler_with(
    network: NetworkHarness,
    node: NetworkNode,
    clock: Clock,
    annotations: dict[str, str] | None = None,
    cluster: CoordinatorDefaults | None = None,
    probe: ProbeAddresses = probe_nothing,
) -> CoordinatorHandler:
    return CoordinatorHandler(
        node.engine,
        node.records,
        network.announcer,
        network.executor,
        AnnotatedPods(annotations or {}),
        cluster or ConfiguredSettings(read_settings(CLUSTER_SETTINGS)),
        probe,
        clock,
    )


def call(pod: NetworkPod, command: str = "ADD", interface: str = "eth0", **conf: Any) -> Call:
    netconf = NetConf(cni_version="1.1.0", name="lab", **conf)
    attachment = Attachment(pod.container, interface, netconf.name, str(pod.inside.path))
    return Call(command, netconf, attachment, PodReference("shop", "web-0"))


def gc_call(*valid: NetworkPod) -> Call:
    """A GC that lists eth0 of these Pods as valid."""
    attachments = tuple(ValidAttachment(pod.container, "eth0") for pod in valid)
    return Call("GC", NetConf(cni_version="1.1.0", name="lab", valid_attachments=attachments))
