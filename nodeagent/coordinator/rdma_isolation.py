"""Moves the RDMA device of a virtual function into the Pod's network namespace, and back.

The node must be in RDMA mode exclusive. If the Pod's namespace ends without a DEL, the kernel moves
the device back. A device that the CNI plugin ``rdma`` has moved is not touched. Calls block.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from errno import EOPNOTSUPP
from typing import Final

from core.errors import DatapathError
from nodeagent.devices.pci_files import PciFiles
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.netlink.rdma import RdmaSocket
from nodeagent.sriov_master_addresses import bus_device

REMEDY: Final = (
    "set orbweaver.rdmaMode to exclusive and restart the node, or leave rdmaIsolation out"
)

UNMOVABLE: Final = (
    "the driver cannot move its devices (soft RoCE, for example): set orbweaver.rdmaMode to shared,"
    " leave rdmaIsolation out, and restart the node"
)

FIND_DEVICE: Final = (
    "delete the Pod; its controller creates a new Pod. If the error recurs, `rdma dev` on the"
    " node shows whether the device exists"
)

OpenSocket = Callable[[NetnsExecutor, NetworkNamespace], RdmaSocket | None]


class RdmaIsolation:
    """Moves RDMA devices. ``node``: the node's network namespace."""

    def __init__(
        self,
        executor: NetnsExecutor,
        node: NetworkNamespace,
        pci: PciFiles,
        open_socket: OpenSocket = RdmaSocket.open,
        bus_of: Callable[[str], str] = bus_device,
    ) -> None:
        self._executor = executor
        self._node = node
        self._pci = pci
        self._open_socket = open_socket
        self._bus_of = bus_of

    def device_of(self, namespace: NetworkNamespace, interface: str) -> str:
        """The device to move for a NIC of a Pod; "" if the device is already in the Pod.

        Raises DatapathError.
        """
        try:
            with self._socket(self._node) as node_socket:
                if not node_socket.exclusive():
                    text = "expected RDMA mode exclusive on this node, found shared"
                    raise DatapathError(f"{interface}: {text}", subject=interface, remedy=REMEDY)
            address = self._executor.run(namespace, lambda: self._bus_of(interface))
            name = self._pci.rdma_name(address)
            if name or self._has_device(namespace, interface):
                return name
        except OSError as error:
            text = f"cannot read the RDMA device of {interface}: {error}"
            remedy = f"check that {interface} exists and is a virtual function of this node"
            raise DatapathError(text, subject=interface, remedy=remedy) from error
        raise DatapathError(
            f"{interface} ({address}) has no RDMA device",
            subject=interface,
            remedy="choose a network whose virtual functions have RDMA devices (isRdma of the"
            " SriovNetworkNodePolicy)",
        )

    def move(self, name: str, namespace: NetworkNamespace) -> None:
        """Move a device from the node to the Pod, unless it is already there.

        Raises DatapathError.
        """
        try:
            if self._transfer(name, self._node, namespace):
                return
            with self._socket(namespace) as pod_socket:
                if any(device.name == name for device in pod_socket.devices()):
                    return
        except OSError as error:
            text = f"cannot move the RDMA device {name} into {namespace.path}: {error.strerror}"
            remedy = UNMOVABLE if error.errno == EOPNOTSUPP else FIND_DEVICE
            raise DatapathError(text, subject=name, remedy=remedy) from error
        text = f"the RDMA device {name} is neither in the node's network namespace nor in the Pod's"
        raise DatapathError(text, subject=name, remedy=FIND_DEVICE)

    def give_back(self, name: str, namespace: NetworkNamespace) -> None:
        """Move a device back to the node. Ignores errors: the kernel moves the device later."""
        with suppress(OSError, DatapathError):
            self._transfer(name, namespace, self._node)

    def _has_device(self, namespace: NetworkNamespace, interface: str) -> bool:
        """Whether the Pod has an RDMA device whose port has this NIC, or no NIC (InfiniBand)."""
        with self._socket(namespace) as pod_socket:
            ports = [port for device in pod_socket.devices() for port in pod_socket.ports(device)]
        return any(port.link in {"", interface} for port in ports)

    def _transfer(self, name: str, source: NetworkNamespace, target: NetworkNamespace) -> bool:
        """Move a device. Return False if the device is not in ``source``."""
        with self._socket(source) as socket:
            for device in socket.devices():
                if device.name == name:
                    socket.move(device, target.fd)
                    return True
        return False

    def _socket(self, namespace: NetworkNamespace) -> RdmaSocket:
        socket = self._open_socket(self._executor, namespace)
        if socket is None:
            raise DatapathError(
                "this kernel has no RDMA netlink", remedy="load the kernel module ib_core"
            )
        return socket
