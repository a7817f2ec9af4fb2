"""One NIC of a Pod before its addresses are on it: strangers, gateways, announcements.

Promise: both families at once, never longer than ``DETECTION_S_MAX``; nothing is left open. What
cannot be looked at is DetectionFailed, never "nobody there". It gives nothing up and takes nothing:
what a finding means for addresses is the caller's business.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from socket import socket
from typing import Any, Final, NamedTuple, TypeVar

from core.domain.addresses.ip_address import Family
from core.domain.model import Nic
from core.errors import DatapathError, DetectionFailed, OrbweaverError
from core.process.supervision import BackgroundTasks
from nodeagent.conflict_detection.local_addresses import local_addresses
from nodeagent.conflict_detection.packet_socket import (
    MasterSocket,
    PacketSocket,
    SocketCloser,
    announce,
    collect_answers,
    open_in_pod,
    open_on_master,
    open_packet_sockets,
    open_send_socket,
    run_probe,
    set_up,
    wait_for_carrier,
)
from nodeagent.conflict_detection.probe_codecs import CODECS, ProbeCodec, ProbeRequest
from nodeagent.conflict_detection.probe_session import ConflictFound, Finding, GatewaySilent
from nodeagent.netlink.namespaces import OWN, NetnsExecutor, NetworkNamespace
from nodeagent.netlink.values import mac_text

T = TypeVar("T")

DETECTION_S_MAX: Final = 8.0
"""Carrier and both windows take 2.6 s at most; the rest is for a busy machine."""

ANNOUNCING_MAX: Final = 1_000
"""Announcements under way that nobody waits for; one more is left out."""

_log: Final = logging.getLogger(__name__)


class DetectionSwitches(NamedTuple):
    """What is done: enableIPConflictDetection, enableGatewayDetection, and ours.

    See docs/reference/configuration.md, "conf.yml".

    ``announce``: whether the neighbours are told of addresses that nobody else uses.
    """

    conflicts: bool = False
    gateway: bool = False
    announce: bool = False

    @property
    def needs_probe(self) -> bool:
        """Whether anything has to be found out."""
        return self.conflicts or self.gateway


class DetectionCounters:
    """What has come out so far."""

    def __init__(self) -> None:
        self.probes = 0
        self.conflicts = 0
        self.silent_gateways = 0
        self.failures = 0


class ConflictingAddress(NamedTuple):
    """An address that is ours to give, and the hardware address of who uses it, as text."""

    address: str
    mac: str


class DetectionResult(NamedTuple):
    """What is wrong: strangers, and the gateways that did not answer. Nothing: all is well."""

    conflicts: tuple[ConflictingAddress, ...] = ()
    silent_gateways: tuple[str, ...] = ()


class _NicAddress(NamedTuple):
    """One address of the NIC, without prefix length, and its gateway or ""."""

    family: Family
    address: str
    gateway: str

    @property
    def target(self) -> tuple[ProbeCodec, bytes]:
        """The language to speak of it, and the address in it."""
        return CODECS[self.family], _packed(self.address)


class Detector:
    """Looks at NICs in network namespaces. Make it inside the event loop that runs it."""

    def __init__(self, executor: NetnsExecutor) -> None:
        self.counts = DetectionCounters()
        self._executor = executor
        self._closer = SocketCloser()
        self._opening: set[asyncio.Future[Any]] = set()
        self._announcing = BackgroundTasks("announce")

    async def probe(self, netns: str, nic: Nic, switches: DetectionSwitches) -> DetectionResult:
        """What the link of the NIC says about its addresses; if all is well, they are announced.

        Raises DetectionFailed where something had to be found out and could not, Overloaded.
        """
        try:
            async with asyncio.timeout(DETECTION_S_MAX):
                found = await self._probe(netns, nic, switches)
        except (OSError, DatapathError, TimeoutError) as error:
            self.counts.failures += 1
            raise _failed(netns, nic.interface, error) from error
        self.counts.probes += 1
        self.counts.conflicts += len(found.conflicts)
        self.counts.silent_gateways += len(found.silent_gateways)
        return found

    async def find_responders(
        self, interface: str, address: str, netns: str = OWN
    ) -> tuple[str, ...]:
        """The hardware addresses that answer for an address, as text: of the node's link mostly.

        The interface is left as it is. Raises DetectionFailed, Overloaded.
        """
        codec, packed = CODECS[6 if ":" in address else 4], _packed(address)

        def opening() -> tuple[PacketSocket, ...]:
            return open_packet_sockets(interface, [(codec, packed)], self._closer)

        try:
            with NetworkNamespace.open(netns) as namespace:
                async with (
                    asyncio.timeout(DETECTION_S_MAX),
                    self._opened(namespace, opening, _sockets) as (packet_socket,),
                ):
                    return tuple(map(mac_text, await collect_answers(packet_socket, packed)))
        except (OSError, DatapathError, TimeoutError) as error:
            raise DetectionFailed(
                f"cannot ask for {address} on {interface}: {_text_of(error)}", subject=interface
            ) from error

    async def close(self) -> None:
        """Close every socket and end the threads; nobody may ask any more."""
        await self._announcing.wait()
        await asyncio.gather(*self._opening, return_exceptions=True)
        await asyncio.to_thread(self._closer.end)

    async def _probe(self, netns: str, nic: Nic, switches: DetectionSwitches) -> DetectionResult:
        nic_addresses = _nic_addresses(nic)
        if switches.conflicts:
            call = self._executor.submit(
                self._executor.home, lambda: local_addresses(one.address for one in nic_addresses)
            )
            local = await asyncio.wrap_future(call)
            if local:
                return DetectionResult(
                    tuple(ConflictingAddress(address, mac) for address, mac in local.items())
                )
        with NetworkNamespace.open(netns) as namespace:
            async with self._opened_packet_sockets(
                namespace, nic.interface, nic_addresses
            ) as packet_sockets:
                raw_socket, interface = packet_sockets[0].socket, packet_sockets[0].interface
                await wait_for_carrier(raw_socket, interface)
                found = _result(
                    nic_addresses, await _probe_all(packet_sockets, nic_addresses, switches)
                )
                if switches.announce and found == DetectionResult():
                    _announce(raw_socket, interface, nic_addresses)
                return found

    @asynccontextmanager
    async def _opened_packet_sockets(
        self, namespace: NetworkNamespace, interface: str, nic_addresses: tuple[_NicAddress, ...]
    ) -> AsyncIterator[tuple[PacketSocket, ...]]:
        """Wires on the NIC, or on its master where answers stay there."""
        targets, closer = [one.target for one in nic_addresses], self._closer

        def inside() -> tuple[PacketSocket, ...] | MasterSocket:
            return open_in_pod(interface, targets, closer)

        async with self._opened(namespace, inside, _sockets) as opened:
            if not isinstance(opened, MasterSocket):
                yield opened
                return
        master = opened

        def outside() -> tuple[PacketSocket, ...]:
            return open_on_master(master, targets, closer)

        async with self._opened(self._executor.home, outside, _sockets) as packet_sockets:
            yield packet_sockets

    def announce_later(self, netns: str, nic: Nic) -> None:
        """Nobody waits for it: without a look there is nothing to wait for."""
        if len(self._announcing) >= ANNOUNCING_MAX:
            _log.warning("%s in %s: addresses not announced: too many are", nic.interface, netns)
            return
        self._announcing.start(self._announce_alone(netns, nic))

    async def _announce_alone(self, netns: str, nic: Nic) -> None:
        interface = nic.interface

        def opening() -> socket:
            set_up(interface)
            return open_send_socket()

        try:
            with NetworkNamespace.open(netns) as namespace:
                async with self._opened(
                    namespace, opening, lambda raw_socket: (raw_socket,)
                ) as raw_socket:
                    await wait_for_carrier(raw_socket, interface)
                    _announce(raw_socket, interface, _nic_addresses(nic))
        except (OSError, OrbweaverError) as error:
            _log.info("%s in %s: addresses not announced: %s", interface, netns, error)

    @asynccontextmanager
    async def _opened(
        self,
        namespace: NetworkNamespace,
        opening: Callable[[], T],
        sockets_of: Callable[[T], Iterable[socket]],
    ) -> AsyncIterator[T]:
        """What ``opening`` opens inside, closed late at the end, also if nobody waits any more."""
        self._closer.check_room()
        call = asyncio.wrap_future(self._executor.submit(namespace, opening))
        self._opening.add(call)
        call.add_done_callback(self._opening.discard)

        def close(_: object = None) -> None:
            if not call.cancelled() and call.exception() is None:
                for raw_socket in sockets_of(call.result()):
                    self._closer.close(raw_socket)

        try:
            yield await asyncio.shield(call)
        finally:
            if call.done():
                close()
            else:  # cancelled: the thread goes on without us
                call.add_done_callback(close)


def _sockets(opened: tuple[PacketSocket, ...] | MasterSocket) -> Iterable[socket]:
    return (
        ()
        if isinstance(opened, MasterSocket)
        else (packet_socket.socket for packet_socket in opened)
    )


def _announce(raw_socket: socket, interface: str, nic_addresses: tuple[_NicAddress, ...]) -> None:
    """What cannot be sent is only logged: neighbours then learn of the address by asking."""
    try:
        announce(raw_socket, interface, [one.target for one in nic_addresses])
    except OSError as error:
        _log.info("%s: addresses not announced: %s", interface, error)


async def _probe_all(
    packet_sockets: tuple[PacketSocket, ...],
    nic_addresses: tuple[_NicAddress, ...],
    switches: DetectionSwitches,
) -> list[Finding]:
    probe_runs = (
        run_probe(packet_socket, _probe_request(one, packet_socket.mac, switches))
        for packet_socket, one in zip(packet_sockets, nic_addresses, strict=True)
    )
    # With a failure the other family still ends by itself, before its wire is closed.
    ends = await asyncio.gather(*probe_runs, return_exceptions=True)
    findings: list[Finding] = []
    for end in ends:
        if isinstance(end, BaseException):
            raise end
        findings.append(end)
    return findings


def _nic_addresses(nic: Nic) -> tuple[_NicAddress, ...]:
    both: tuple[tuple[Family, str, str], ...] = (
        (4, nic.ipv4, nic.ipv4_gateway),
        (6, nic.ipv6, nic.ipv6_gateway),
    )
    return tuple(
        _NicAddress(family, cidr.partition("/")[0], gateway)
        for family, cidr, gateway in both
        if cidr
    )


def _probe_request(
    nic_addresses: _NicAddress, mac: bytes, switches: DetectionSwitches
) -> ProbeRequest:
    gateway = _packed(nic_addresses.gateway) if nic_addresses.gateway and switches.gateway else b""
    return ProbeRequest(_packed(nic_addresses.address), mac, switches.conflicts, gateway)


def _packed(address: str) -> bytes:
    return ip_address(address).packed


def _result(nic_addresses: tuple[_NicAddress, ...], findings: list[Finding]) -> DetectionResult:
    both = list(zip(nic_addresses, findings, strict=True))
    return DetectionResult(
        tuple(
            ConflictingAddress(one.address, mac_text(finding.mac))
            for one, finding in both
            if isinstance(finding, ConflictFound)
        ),
        tuple(one.gateway for one, finding in both if isinstance(finding, GatewaySilent)),
    )


def _failed(netns: str, interface: str, error: Exception) -> DetectionFailed:
    return DetectionFailed(
        f"cannot look for conflicts and gateway on {interface} in {netns}: {_text_of(error)}",
        subject=interface,
        remedy="the interface must be there, and be Ethernet, when addresses are handed out;"
        " where it cannot, switch enableIPConflictDetection and enableGatewayDetection off",
    )


def _text_of(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"not done within {DETECTION_S_MAX:g} s"
    return (isinstance(error, OSError) and error.strerror) or str(error)
