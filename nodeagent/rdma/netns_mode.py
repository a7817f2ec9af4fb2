"""Sets whether all network namespaces share RDMA devices (``rdma system set netns``).

The kernel refuses a change while other network namespaces exist, so in practice the mode can change
only at boot.
"""

from __future__ import annotations

from typing import Final

from core.errors import DatapathError
from core.settings.rdma_mode import EXCLUSIVE_MODE
from nodeagent.coordinator.rdma_isolation import OpenSocket
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.netlink.rdma import RdmaSocket

MODPROBE_REMEDY: Final = (
    "write `options ib_core netns_mode={}` to a file in /etc/modprobe.d, then restart the node"
)
"""``netns_mode`` 0 is exclusive, 1 is shared."""


def set_netns_mode(
    executor: NetnsExecutor, mode: str, open_socket: OpenSocket = RdmaSocket.open
) -> bool:
    """Set the node's RDMA mode; False if it is set already. Blocks. Raises DatapathError."""
    is_exclusive = mode == EXCLUSIVE_MODE
    socket = open_socket(executor, executor.own_namespace)
    if socket is None:
        raise DatapathError(
            f"cannot set the RDMA mode {mode}: this kernel has no RDMA netlink",
            remedy="load the driver of the NICs, or leave orbweaver.rdmaMode out",
        )
    with socket:
        try:
            if socket.exclusive() == is_exclusive:
                return False
            socket.set_exclusive(exclusive=is_exclusive)
        except OSError as error:
            raise DatapathError(
                f"cannot set the RDMA mode {mode}: {error.strerror}",
                remedy=MODPROBE_REMEDY.format(int(not is_exclusive)),
            ) from error
    return True
