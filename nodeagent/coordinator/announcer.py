"""Tell the network of a Pod that its addresses are at another MAC address now.

Announcing is a courtesy: a failure is logged and fails no ADD (docs/reference/coordinator.md, "MAC
address"). The frames are those of ``nodeagent.conflict_detection``. No caller waits until a packet
socket is closed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from core.domain.addresses.ip_address import Address
from core.errors import OrbweaverError
from nodeagent.conflict_detection.packet_socket import SocketCloser, announce, open_send_socket
from nodeagent.conflict_detection.probe_codecs import CODECS
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.netlink.requests import packed_address

_log: Final = logging.getLogger(__name__)


class Announcer:
    """Announces addresses from inside a Pod."""

    def __init__(self, executor: NetnsExecutor) -> None:
        self._executor = executor
        self._closer = SocketCloser()

    def announce(
        self, namespace: NetworkNamespace, interface: str, addresses: Iterable[Address]
    ) -> None:
        """Say it once for each address, with the MAC address that the NIC has by now."""
        targets = [(CODECS[each.family], packed_address(each)) for each in addresses]
        try:
            self._closer.check_room()
            packets = self._executor.run(namespace, open_send_socket)
            try:
                announce(packets, interface, targets)
            finally:
                self._closer.close(packets)
        except (OSError, OrbweaverError) as error:
            where = f"{interface} in {namespace.path}"
            _log.warning("%s: new MAC address not announced: %s", where, error)

    def close(self) -> None:
        """Return once every socket is closed."""
        self._closer.end()
