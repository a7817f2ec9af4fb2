"""Reads the state of a node, as far as it affects the interfaces of Pods. Changes nothing."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from core.domain.addresses.ip_address import Family
from core.domain.roce_qos.qos_model import RoceQosRule
from core.errors import OrbweaverError
from core.settings.conf_file import read_conf
from core.settings.roce_qos import roce_qos_rules
from core.settings.shared_settings import CONF_PATH
from nodeagent.conflict_detection.detector import Detector
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.roce_qos.qos_files import QosFiles
from nodeagent.roce_qos.roce_nics import RoceNics
from nodeagent.settings import sysctls
from nodeagent.sriov.sysfs import Sysfs
from nodeagent.sriov_master_addresses import SYSFS
from ops.diagnostics.hardware import read_hardware
from ops.diagnostics.kernel_features import KernelFeature, try_kernel_features
from ops.diagnostics.network_manager import NetworkManagerState, read_network_manager
from ops.diagnostics.nics import Gateway, MasterNic, default_gateways, master_nics
from ops.diagnostics.roce_qos import RoceNicState, roce_states

T = TypeVar("T")

FAMILIES: Final[tuple[Family, ...]] = (4, 6)
CAPABILITIES: Final = {"NET_ADMIN": 12, "NET_RAW": 13, "SYS_ADMIN": 21}
"""Capabilities that an agent needs -> bit numbers of include/uapi/linux/capability.h."""

POD_VARIABLE: Final = "KUBERNETES_SERVICE_HOST"
"""Kubernetes sets it in every container."""

SYSFS_VARIABLE: Final = "ORBWEAVER_SYSFS"
"""The chart sets this variable in an agent's Pod, to the path of the node's /sys."""


class GatewayAnswer(NamedTuple):
    """The MAC addresses that answer for a gateway. ``fault``: why the probe failed, or ""."""

    gateway: Gateway
    macs: tuple[str, ...] = ()
    fault: str = ""


class Examination(NamedTuple):
    """The state of a node. ``kernel``: its release.

    ``manager``: None in a Pod, where NetworkManager cannot be checked. ``faults``: why parts of the
    state could not be read.
    """

    kernel: str
    machine: str
    missing_capabilities: tuple[str, ...]
    ipv6: bool
    features: tuple[KernelFeature, ...]
    sysctls: tuple[sysctls.SysctlReading, ...]
    nics: tuple[MasterNic, ...]
    gateways: tuple[GatewayAnswer, ...]
    manager: NetworkManagerState | None
    faults: tuple[str, ...] = ()
    roce: tuple[RoceNicState, ...] = ()


class _Reader:
    """The reader of a node's state. A part that cannot be read stays empty; see ``faults``."""

    def __init__(self, executor: NetnsExecutor) -> None:
        self._executor = executor
        self.faults: list[str] = []
        self.ipv6 = False
        self.features: list[KernelFeature] = []
        self.sysctls: list[sysctls.SysctlReading] = []
        self.nics: list[MasterNic] = []
        self.gateways: list[Gateway] = []
        self.roce: list[RoceNicState] = []

    def read(self) -> None:
        """Read every part. Blocks the thread."""
        executor = self._executor
        self.ipv6 = Path("/proc/net/if_inet6").exists()
        self.features = self._try("features of the kernel", lambda: try_kernel_features(executor))
        self.sysctls = self._try(
            "sysctls", lambda: sysctls.read_node_sysctls(executor, executor.own_namespace, FAMILIES)
        )
        with executor.session(executor.own_namespace) as session:
            nics = self._try("interfaces", lambda: master_nics(session))
            self.nics = self._try("devices", lambda: _with_hardware(executor, nics)) or nics
            self.gateways = self._try("routes", lambda: default_gateways(session))
        rules = self._try("orbweaver.roceQos", _roce_qos_rules)
        roce = RoceNics(executor, QosFiles(Sysfs(Path(os.environ.get(SYSFS_VARIABLE, SYSFS)))))
        self.roce = self._try("RoCE NICs", lambda: roce_states(roce.read(), rules))

    def _try(self, part: str, read: Callable[[], list[T]]) -> list[T]:
        try:
            return read()
        except (OrbweaverError, OSError) as error:
            self.faults.append(f"{part} cannot be read: {error}")
            return []


async def examine(gateways: Sequence[Gateway] = ()) -> Examination:
    """Examine this node; probe ``gateways`` and the node's default gateways."""
    executor = NetnsExecutor()
    detector = Detector(executor)
    reader = _Reader(executor)
    try:
        await asyncio.to_thread(reader.read)
        all_gateways = dict.fromkeys((*reader.gateways, *gateways))
        answers = await asyncio.gather(*(_probe(detector, gateway) for gateway in all_gateways))
    finally:
        await detector.close()
        await asyncio.to_thread(executor.close)
    return Examination(
        kernel=platform.release(),
        machine=platform.machine(),
        missing_capabilities=_missing_capabilities(),
        ipv6=reader.ipv6,
        features=tuple(reader.features),
        sysctls=tuple(reader.sysctls),
        nics=tuple(reader.nics),
        gateways=tuple(answers),
        manager=None if POD_VARIABLE in os.environ else read_network_manager(),
        faults=tuple(reader.faults),
        roce=tuple(reader.roce),
    )


def _roce_qos_rules() -> list[RoceQosRule]:
    return list(roce_qos_rules(read_conf(Path(CONF_PATH)).orbweaver.roce_qos))


def _with_hardware(executor: NetnsExecutor, nics: list[MasterNic]) -> list[MasterNic]:
    hardware = read_hardware(executor, executor.own_namespace, [nic.name for nic in nics])
    return [nic._replace(**hardware[nic.name]._asdict()) for nic in nics]


async def _probe(detector: Detector, gateway: Gateway) -> GatewayAnswer:
    try:
        macs = await detector.find_responders(gateway.interface, gateway.address)
    except OrbweaverError as error:
        return GatewayAnswer(gateway, fault=error.message)
    return GatewayAnswer(gateway, macs)


def _missing_capabilities() -> tuple[str, ...]:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    effective = int(line.split()[1], 16)
    return tuple(name for name, bit in CAPABILITIES.items() if not effective >> bit & 1)
