"""The settings of one agent, as values: already checked, never read again.

They decide nothing, and no secret of theirs is ever shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from core.allocation.cooldown import COOL_DOWN_S
from core.allocation.provider_settings import ProviderSettings
from core.allocation.record_limit import RECORDS_MAX
from core.domain.addresses.choice import AddressOrder
from core.domain.fixed.kinds import FixedSettings
from core.domain.selection.request import SelectionSettings
from core.eventstore.etcd import EtcdSettings
from core.eventstore.etcd.access import ETCD_ENDPOINT
from nodeagent.clusterip.clusterip_setup import ClusterIpSettings
from nodeagent.coordinator.settings import WrittenSettings
from nodeagent.settings.devices import DeviceSettings

SOCKET_PATH: Final = "/var/run/spidernet/spiderpool.sock"
FRAMED_SUFFIX: Final = ".fast"
CLUSTER: Final = "default"
HEALTH_PORT: Final = 5710
METRICS_PORT: Final = 5711
LISTEN_ADDRESS: Final = {True: "127.0.0.1", False: "::1"}
"""Where probes and scrapers are heard by default, by whether IPv4 is enabled.

See docs/reference/configuration.md, "Ports and health paths".
"""
COORDINATOR: Final = "default"
"""The SpiderCoordinator that counts.

See docs/reference/custom-resource-rules.md, "SpiderCoordinator".
"""
AGENT_NAMESPACE: Final = "kube-system"
POOL_WAIT_S: Final = 50.0
"""How long an ADD waits for its automatic pool, within what its own deadline leaves."""
PLUGIN_LOG_PATH: Final = "/var/log/spidernet/spiderpool.log"


class Settings(NamedTuple):
    """Everything an operator can set. ``otlp_endpoint`` "" means: no traces leave this process.

    ``kubeconfig`` None: standalone; "": the cluster this runs in. ``provider``: the controllers
    speak to it, an agent has to know that there is one. ``devices`` None: kubelet is offered none.
    ``coordinator_name``: the SpiderCoordinator that goes before ``coordinator`` in Kubernetes; "":
    none does. Ports 0 mean: any free one. ``records_max`` 0 means no bound of claims in a pool.
    """

    node_name: str
    cluster: str = CLUSTER
    etcd: EtcdSettings = EtcdSettings((ETCD_ENDPOINT,))
    socket_path: str = SOCKET_PATH
    selection: SelectionSettings = SelectionSettings(
        subnets_enabled=True, auto_pools_enabled=True, agent_namespace=AGENT_NAMESPACE
    )
    fixed: FixedSettings = FixedSettings()
    detect_conflicts: bool = False
    detect_gateway: bool = False
    release_conflicts: bool = True
    announce_addresses: bool = True
    tune_sysctls: bool = False
    records_max: int = RECORDS_MAX
    pool_wait_s: float = POOL_WAIT_S
    address_order: AddressOrder = "spread"
    cool_down_s: int = COOL_DOWN_S
    listen_address: str = LISTEN_ADDRESS[True]
    health_port: int = HEALTH_PORT
    metrics_enabled: bool = False
    rdma_metrics_enabled: bool = False
    metrics_port: int = METRICS_PORT
    log_level: str = "info"
    plugin_log_path: str = PLUGIN_LOG_PATH
    otlp_endpoint: str = ""
    coordinator: WrittenSettings = WrittenSettings()
    coordinator_name: str = COORDINATOR
    cluster_ip: ClusterIpSettings = ClusterIpSettings()
    kubeconfig: str | None = None
    provider: ProviderSettings | None = None
    devices: DeviceSettings | None = None

    @property
    def framed_socket_path(self) -> str:
        """Where the executables knock."""
        return self.socket_path + FRAMED_SUFFIX

    @property
    def datapath_directory(self) -> Path:
        """Where the coordinator keeps its records: as volatile as the sockets beside it."""
        return Path(self.socket_path).with_name("datapath")

    @property
    def coordinator_log_path(self) -> str:
        """Where a coordinator's netconf names no log file."""
        return str(Path(self.plugin_log_path).with_name("coordinator.log"))

    @property
    def actor(self) -> str:
        """How this agent signs its events."""
        return f"agent/{self.node_name}"
