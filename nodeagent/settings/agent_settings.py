"""The settings of one agent, as checked values."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from core.allocation.allocation_limit import RECORD_LIMIT_DEFAULT
from core.allocation.cooldown import COOL_DOWN_S
from core.allocation.provider_settings import ProviderSettings
from core.domain.addresses.choice import AddressOrder
from core.domain.fixed.fixed_address_owners import FixedSettings
from core.domain.roce_qos.qos_model import RoceQosRule
from core.domain.selection.selection_request import SelectionSettings
from core.eventstore.etcd import EtcdSettings
from core.eventstore.etcd.settings_checks import ETCD_ENDPOINT
from core.settings.device_plugin import DeviceSettings
from core.settings.sriov import SriovSettings
from nodeagent.clusterip.clusterip_setup import ClusterIpSettings
from nodeagent.coordinator.settings import UnparsedSettings
from nodeagent.sriov_master_addresses import SYSFS

SOCKET_PATH: Final = "/var/run/spidernet/spiderpool.sock"
FRAMED_SUFFIX: Final = ".fast"
"""Suffix of the framed socket's path."""

DEFAULT_CLUSTER: Final = "default"
HEALTH_PORT: Final = 5710
METRICS_PORT: Final = 5711
LISTEN_ADDRESS: Final = {True: "127.0.0.1", False: "::1"}
"""Default address of the health and metrics ports. The key is True if IPv4 is enabled."""
DEFAULT_COORDINATOR: Final = "default"
"""Name of the default SpiderCoordinator (docs/reference/custom-resource-rules.md)."""
DEFAULT_NAMESPACE: Final = "kube-system"
POOL_WAIT_S: Final = 50.0
PLUGIN_LOG_PATH: Final = "/var/log/spidernet/spiderpool.log"


class Settings(NamedTuple):
    """All settings.

    ``records_max``: the limit of claims in a pool, 0 for no limit. ``release_conflicts``: whether a
    conflicting address of a Pod without fixed addresses is released. A port 0: any free port.
    ``otlp_endpoint`` "": no traces. ``coordinator_name``: the SpiderCoordinator that overrides the
    field ``coordinator``; "" if none does. ``kubeconfig``: None without Kubernetes, "" for the
    cluster of the agent's Pod. ``rdma_mode`` "": the node's mode is not changed. ``sysfs``: a
    writable mount of the node's /sys.
    """

    node_name: str
    cluster: str = DEFAULT_CLUSTER
    etcd: EtcdSettings = EtcdSettings((ETCD_ENDPOINT,))
    socket_path: str = SOCKET_PATH
    selection: SelectionSettings = SelectionSettings(
        subnets_enabled=True, auto_pools_enabled=True, agent_namespace=DEFAULT_NAMESPACE
    )
    fixed_addresses: FixedSettings = FixedSettings()
    detect_conflicts: bool = False
    detect_gateway: bool = False
    release_conflicts: bool = True
    announce_addresses: bool = True
    tune_sysctls: bool = False
    records_max: int = RECORD_LIMIT_DEFAULT
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
    coordinator: UnparsedSettings = UnparsedSettings()
    coordinator_name: str = DEFAULT_COORDINATOR
    cluster_ip: ClusterIpSettings = ClusterIpSettings()
    kubeconfig: str | None = None
    provider: ProviderSettings | None = None
    devices: DeviceSettings | None = None
    sriov: SriovSettings | None = None
    rdma_mode: str = ""
    roce_qos: tuple[RoceQosRule, ...] = ()
    sysfs: Path = SYSFS

    @property
    def framed_socket_path(self) -> str:
        """The socket that the CNI executables call."""
        return self.socket_path + FRAMED_SUFFIX

    @property
    def datapath_directory(self) -> Path:
        """The directory of attachment records, beside the sockets on a tmpfs."""
        return Path(self.socket_path).with_name("datapath")

    @property
    def coordinator_log_path(self) -> str:
        """The coordinator's default log file."""
        return str(Path(self.plugin_log_path).with_name("coordinator.log"))

    @property
    def actor(self) -> str:
        """The actor in this agent's events."""
        return f"agent/{self.node_name}"
