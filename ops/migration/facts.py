"""The facts about a cluster with Spiderpool that a migration plan needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from core.domain.claims.takeover import Finding

Values = Mapping[str, Any]

AGENT_IMAGE: Final = "spiderpool-agent"
"""The name of an image: the last part of its path, without tag."""

CONTROLLER_IMAGE: Final = "spiderpool-controller"
OUR_AGENT_IMAGE: Final = "orbweaver-agent"
MULTUS: Final = "multus"


class HelmRelease(NamedTuple):
    """The Helm release of the chart ``spiderpool``.

    ``values``: what the user set. ``defaults``: the default values of the chart.
    """

    name: str
    namespace: str
    revision: int
    status: str
    chart_version: str
    values: Values
    defaults: Values


class DeployedWorkload(NamedTuple):
    """A DaemonSet or Deployment.

    ``containers``: name -> image, including init containers. ``desired`` and ``ready``: numbers of
    Pods.
    """

    kind: str
    namespace: str
    name: str
    containers: Mapping[str, str]
    service_account: str
    desired: int
    ready: int
    stop_hooks: tuple[str, ...] = ()
    """The containers with a ``preStop`` hook."""

    @property
    def title(self) -> str:
        """The name in messages."""
        return f"{self.kind} {self.namespace}/{self.name}"

    def runs(self, image: str) -> bool:
        """Whether a container runs the image of this name, from any registry."""
        return any(_repository(text) == image for text in self.containers.values())


class Network(NamedTuple):
    """A NetworkAttachmentDefinition, with the types of its plugins."""

    namespace: str
    name: str
    plugins: tuple[str, ...]
    ipam: str


class Webhook(NamedTuple):
    """A webhook configuration for Spiderpool's objects; ``service``: NAMESPACE/NAME."""

    kind: str
    name: str
    service: str


class TakeoverCounts(NamedTuple):
    """How many objects Orbweaver takes over. ``findings``: contradictions between the objects."""

    pools: int = 0
    subnets: int = 0
    reservations: int = 0
    endpoints: int = 0
    addresses: int = 0
    findings: tuple[Finding, ...] = ()


class Facts(NamedTuple):
    """The input of a migration plan. ``server``: the version (major, minor) of the API server.

    ``definitions``: names of Spiderpool's CustomResourceDefinitions. ``network_configs`` and
    ``sriov_policies``: numbers of SpiderMultusConfigs and SriovNetworkNodePolicies.
    """

    server: tuple[int, int]
    release: HelmRelease | None
    workloads: tuple[DeployedWorkload, ...]
    networks: tuple[Network, ...]
    webhooks: tuple[Webhook, ...]
    definitions: tuple[str, ...]
    data: TakeoverCounts
    network_configs: int = 0
    sriov_policies: int = 0


def _repository(image: str) -> str:
    """``registry/path/NAME:tag@digest`` -> ``NAME``."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]
