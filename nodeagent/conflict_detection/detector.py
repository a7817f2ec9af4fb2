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
from nodeagent.conflict_detection.local_addresses import own_addresses
from nodeagent.conflict_detection.packet_socket import (
    MasterSocket,
    PacketSocket,
    SocketCloser,
    announce,
    converse,
    open_in_pod,
    open_on_master,
    open_speaker,
    open_wires,
    set_up,
    survey,
    wait_for_carrier,
)
from nodeagent.conflict_detection.probe_codecs import LANGUAGES, ProbeCodec, ProbeRequest
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
    def looking(self) -> bool:
        """Whether anything has to be found out."""
        return self.conflicts or self.gateway


class DetectionCounters:
    """What has come out so far."""

    def __init__(self) -> None:
        self.looks = 0
        self.strangers = 0
        self.silent_gateways = 0
        self.failures = 0


class ConflictingAddress(NamedTuple):
    """An address that is ours to give, and the hardware address of who uses it, as text."""

    address: str
    mac: str


class DetectionResult(NamedTuple):
    """What is wrong: strangers, and the gateways that did not answer. Nothing: all is well."""

    strangers: tuple[ConflictingAddress, ...] = ()
    silent_gateways: tuple[str, ...] = ()


class _Asked(NamedTuple):
    """One address of the NIC, without prefix length, and its gateway or ""."""

    family: Family
    address: str
    gateway: str

    @property
    def spoken(self) -> tuple[ProbeCodec, bytes]:
        """The language to speak of it, and the address in it."""
        return LANGUAGES[self.family], _packed(self.address)


class Detector:
    """Looks at NICs in network namespaces. Make it inside the event loop that runs it."""

    def __init__(self, visitor: NetnsExecutor) -> None:
        self.counts = DetectionCounters()
        self._visitor = visitor
        self._closer = SocketCloser()
        self._opening: set[asyncio.Future[Any]] = set()
        self._announcing = BackgroundTasks("announce")

    async def look(self, netns: str, nic: Nic, switches: DetectionSwitches) -> DetectionResult:
        """What the link of the NIC says about its addresses; if all is well, they are announced.

        Raises DetectionFailed where something had to be found out and could not, Overloaded.
        """
        try:
            async with asyncio.timeout(DETECTION_S_MAX):
                found = await self._look(netns, nic, switches)
        except (OSError, DatapathError, TimeoutError) as error:
            self.counts.failures += 1
            raise _failed(netns, nic.interface, error) from error
        self.counts.looks += 1
        self.counts.strangers += len(found.strangers)
        self.counts.silent_gateways += len(found.silent_gateways)
        return found

    async def who_answers(self, interface: str, address: str, netns: str = OWN) -> tuple[str, ...]:
        """The hardware addresses that answer for an address, as text: of the node's link mostly.

        The interface is left as it is. Raises DetectionFailed, Overloaded.
        """
        language, packed = LANGUAGES[6 if ":" in address else 4], _packed(address)

        def opening() -> tuple[PacketSocket, ...]:
            return open_wires(interface, [(language, packed)], self._closer)

        try:
            with NetworkNamespace.open(netns) as namespace:
                async with (
                    asyncio.timeout(DETECTION_S_MAX),
                    self._opened(namespace, opening, _sockets) as (wire,),
                ):
                    return tuple(map(mac_text, await survey(wire, packed)))
        except (OSError, DatapathError, TimeoutError) as error:
            raise DetectionFailed(
                f"cannot ask for {address} on {interface}: {_words(error)}", subject=interface
            ) from error

    async def close(self) -> None:
        """Close every socket and end the threads; nobody may ask any more."""
        await self._announcing.wait()
        await asyncio.gather(*self._opening, return_exceptions=True)
        await asyncio.to_thread(self._closer.end)

    async def _look(self, netns: str, nic: Nic, switches: DetectionSwitches) -> DetectionResult:
        asked = _asked(nic)
        if switches.conflicts:
            visit = self._visitor.submit(
                self._visitor.home, lambda: own_addresses(one.address for one in asked)
            )
            own = await asyncio.wrap_future(visit)
            if own:
                return DetectionResult(
                    tuple(ConflictingAddress(address, mac) for address, mac in own.items())
                )
        with NetworkNamespace.open(netns) as namespace:
            async with self._wires(namespace, nic.interface, asked) as wires:
                packets, interface = wires[0].socket, wires[0].interface
                await wait_for_carrier(packets, interface)
                found = _found(asked, await _converse_on_all(wires, asked, switches))
                if switches.announce and found == DetectionResult():
                    _announce(packets, interface, asked)
                return found

    @asynccontextmanager
    async def _wires(
        self, namespace: NetworkNamespace, interface: str, asked: tuple[_Asked, ...]
    ) -> AsyncIterator[tuple[PacketSocket, ...]]:
        """Wires on the NIC, or on its master where answers stay there."""
        spoken, closer = [one.spoken for one in asked], self._closer

        def inside() -> tuple[PacketSocket, ...] | MasterSocket:
            return open_in_pod(interface, spoken, closer)

        async with self._opened(namespace, inside, _sockets) as opened:
            if not isinstance(opened, MasterSocket):
                yield opened
                return
        way = opened

        def outside() -> tuple[PacketSocket, ...]:
            return open_on_master(way, spoken, closer)

        async with self._opened(self._visitor.home, outside, _sockets) as wires:
            yield wires

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
            return open_speaker()

        try:
            with NetworkNamespace.open(netns) as namespace:
                async with self._opened(namespace, opening, lambda packets: (packets,)) as packets:
                    await wait_for_carrier(packets, interface)
                    _announce(packets, interface, _asked(nic))
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
        visit = asyncio.wrap_future(self._visitor.submit(namespace, opening))
        self._opening.add(visit)
        visit.add_done_callback(self._opening.discard)

        def close(_: object = None) -> None:
            if not visit.cancelled() and visit.exception() is None:
                for packets in sockets_of(visit.result()):
                    self._closer.close(packets)

        try:
            yield await asyncio.shield(visit)
        finally:
            if visit.done():
                close()
            else:  # cancelled: the thread goes on without us
                visit.add_done_callback(close)


def _sockets(opened: tuple[PacketSocket, ...] | MasterSocket) -> Iterable[socket]:
    return () if isinstance(opened, MasterSocket) else (wire.socket for wire in opened)


def _announce(packets: socket, interface: str, asked: tuple[_Asked, ...]) -> None:
    """What cannot be sent is only logged: neighbours then learn of the address by asking."""
    try:
        announce(packets, interface, [one.spoken for one in asked])
    except OSError as error:
        _log.info("%s: addresses not announced: %s", interface, error)


async def _converse_on_all(
    wires: tuple[PacketSocket, ...], asked: tuple[_Asked, ...], switches: DetectionSwitches
) -> list[Finding]:
    conversations = (
        converse(wire, _question(one, wire.mac, switches))
        for wire, one in zip(wires, asked, strict=True)
    )
    # With a failure the other family still ends by itself, before its wire is closed.
    ends = await asyncio.gather(*conversations, return_exceptions=True)
    findings: list[Finding] = []
    for end in ends:
        if isinstance(end, BaseException):
            raise end
        findings.append(end)
    return findings


def _asked(nic: Nic) -> tuple[_Asked, ...]:
    both: tuple[tuple[Family, str, str], ...] = (
        (4, nic.ipv4, nic.ipv4_gateway),
        (6, nic.ipv6, nic.ipv6_gateway),
    )
    return tuple(
        _Asked(family, cidr.partition("/")[0], gateway) for family, cidr, gateway in both if cidr
    )


def _question(asked: _Asked, mac: bytes, switches: DetectionSwitches) -> ProbeRequest:
    gateway = _packed(asked.gateway) if asked.gateway and switches.gateway else b""
    return ProbeRequest(_packed(asked.address), mac, switches.conflicts, gateway)


def _packed(address: str) -> bytes:
    return ip_address(address).packed


def _found(asked: tuple[_Asked, ...], findings: list[Finding]) -> DetectionResult:
    both = list(zip(asked, findings, strict=True))
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
        f"cannot look for conflicts and gateway on {interface} in {netns}: {_words(error)}",
        subject=interface,
        remedy="the interface must be there, and be Ethernet, when addresses are handed out;"
        " where it cannot, switch enableIPConflictDetection and enableGatewayDetection off",
    )


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"not done within {DETECTION_S_MAX:g} s"
    return (isinstance(error, OSError) and error.strerror) or str(error)
