"""Announces the addresses of a NIC after the NIC's MAC address has changed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from core.domain.addresses.ip_address import Address
from core.errors import OrbweaverError
from nodeagent.conflict_detection.packet_socket import SocketCloser, announce, open_send_socket
from nodeagent.conflict_detection.probe_codecs import PROBE_CODECS
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.netlink.requests import packed_address

_log: Final = logging.getLogger(__name__)


class Announcer:
    """Announces addresses from a Pod's network namespace."""

    def __init__(self, executor: NetnsExecutor) -> None:
        self._executor = executor
        self._closer = SocketCloser()

    def announce(
        self, namespace: NetworkNamespace, interface: str, addresses: Iterable[Address]
    ) -> None:
        """Announce the addresses at the NIC's current MAC address. Failures are only logged."""
        targets = [(PROBE_CODECS[address.family], packed_address(address)) for address in addresses]
        try:
            self._closer.check_capacity()
            raw_socket = self._executor.run(namespace, open_send_socket)
            try:
                announce(raw_socket, interface, targets)
            finally:
                self._closer.close(raw_socket)
        except (OSError, OrbweaverError) as error:
            _log.warning(
                "cannot announce the new MAC address of %s in %s: %s",
                interface,
                namespace.path,
                error,
            )

    def close(self) -> None:
        """Wait until all sockets are closed."""
        self._closer.end()
