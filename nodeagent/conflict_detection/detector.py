"""Probes the addresses and gateways of a NIC before the Pod uses it, and announces addresses.

A failed probe raises DetectionFailed and never counts as "no conflict". The caller decides what
happens to the addresses.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from errno import ENETDOWN, ENODEV, ENXIO
from ipaddress import ip_address
from socket import socket
from typing import Any, Final, NamedTuple, TypeVar

from core.domain.addresses.ip_address import Family, parse_address
from core.domain.model import Nic
from core.errors import DatapathError, DetectionFailed, OrbweaverError
from core.manifests.networks.detect_options import DetectionTiming
from core.process.supervision import BackgroundTasks
from core.process.tracing import Attributes, Span, child_span
from nodeagent.conflict_detection.packet_socket import (
    MasterLink,
    PacketSocket,
    SocketCloser,
    announce,
    collect_answers,
    open_in_pod,
    open_on_master,
    open_packet_sockets,
    open_send_socket,
    run_probe,
    set_interface_up,
    wait_for_carrier,
)
from nodeagent.conflict_detection.probe_codecs import PROBE_CODECS, ProbeCodec, ProbeRequest
from nodeagent.conflict_detection.probe_schedule import (
    CONFLICT_SCHEDULE,
    GATEWAY_SCHEDULE,
    ProbeSchedule,
    schedule_of_network,
)
from nodeagent.conflict_detection.probe_session import ConflictFound, Finding, GatewaySilent
from nodeagent.netlink.namespaces import (
    OWN_NAMESPACE_PATH,
    NetnsExecutor,
    NetworkNamespace,
)
from nodeagent.netlink.numbers import RTN_LOCAL
from nodeagent.netlink.session import NetlinkSession
from nodeagent.netlink.values import mac_text

T = TypeVar("T")

DETECTION_S_MAX: Final = 8.0
"""The time limit of a probe with the default schedules. The waits take at most 2.6 s of it; a busy
node may need the rest."""

PROBE: Final = "ipam.probe"

ANNOUNCING_MAX: Final = 1_000
"""The most announcements in progress. Further announcements are skipped."""

_log: Final = logging.getLogger(__name__)


class DetectionSwitches(NamedTuple):
    """What to probe and announce. ``timing``: the detectOptions of a network."""

    conflicts: bool = False
    gateway: bool = False
    announce: bool = False
    timing: DetectionTiming = DetectionTiming()

    @property
    def needs_probe(self) -> bool:
        """Whether an ADD must probe."""
        return self.conflicts or self.gateway

    @property
    def conflict_schedule(self) -> ProbeSchedule:
        """When conflict probes are sent."""
        return schedule_of_network(CONFLICT_SCHEDULE, self.timing)

    @property
    def gateway_schedule(self) -> ProbeSchedule:
        """When gateway probes are sent."""
        return schedule_of_network(GATEWAY_SCHEDULE, self.timing)

    @property
    def limit_s(self) -> float:
        """The time limit of a probe in seconds."""
        probes_s = self.conflict_schedule.window_s + self.gateway_schedule.window_s
        default_s = CONFLICT_SCHEDULE.window_s + GATEWAY_SCHEDULE.window_s
        return DETECTION_S_MAX + max(0.0, probes_s - default_s)


class DetectionCounters:
    """Counts of probes and their results."""

    def __init__(self) -> None:
        self.probes = 0
        self.conflicts = 0
        self.silent_gateways = 0
        self.failures = 0


class ConflictingAddress(NamedTuple):
    """An allocated address, and the MAC address of another host that uses it."""

    address: str
    mac: str


class DetectionResult(NamedTuple):
    """The result of a probe. If both fields are empty, the addresses can be used."""

    conflicts: tuple[ConflictingAddress, ...] = ()
    silent_gateways: tuple[str, ...] = ()


class _NicAddress(NamedTuple):
    family: Family
    address: str
    gateway: str

    @property
    def target(self) -> tuple[ProbeCodec, bytes]:
        """The codec of the family, and the address in network byte order."""
        return PROBE_CODECS[self.family], _packed(self.address)


class Detector:
    """Probes NICs in network namespaces. Create the detector inside a running event loop."""

    def __init__(self, executor: NetnsExecutor) -> None:
        self.counts = DetectionCounters()
        self._executor = executor
        self._closer = SocketCloser()
        self._opening: set[asyncio.Future[Any]] = set()
        self._announcing = BackgroundTasks("announce")

    async def probe(self, netns: str, nic: Nic, switches: DetectionSwitches) -> DetectionResult:
        """Probe addresses and gateways. Announce the addresses if enabled and no fault is found.

        Raises DetectionFailed, Overloaded.
        """
        with child_span(PROBE, attributes=_span_attributes(nic, switches)) as span:
            try:
                async with asyncio.timeout(switches.limit_s):
                    result = await self._probe(netns, nic, switches)
            except (OSError, DatapathError, TimeoutError) as error:
                self.counts.failures += 1
                raise _failed(netns, nic.interface, error, switches.limit_s) from error
            if span is not None:
                _describe_result(span, result)
        self.counts.probes += 1
        self.counts.conflicts += len(result.conflicts)
        self.counts.silent_gateways += len(result.silent_gateways)
        return result

    async def find_responders(
        self, interface: str, address: str, netns: str = OWN_NAMESPACE_PATH
    ) -> tuple[str, ...]:
        """Probe an address; return the MAC addresses of all hosts that answer.

        Does not set the interface up. Raises DetectionFailed, Overloaded.
        """
        codec, packed = PROBE_CODECS[6 if ":" in address else 4], _packed(address)

        def open_sockets() -> tuple[PacketSocket, ...]:
            return open_packet_sockets(interface, [(codec, packed)], self._closer)

        try:
            with NetworkNamespace.open(netns) as namespace:
                async with (
                    asyncio.timeout(DETECTION_S_MAX),
                    self._opened(namespace, open_sockets, _sockets) as (packet_socket,),
                ):
                    return tuple(map(mac_text, await collect_answers(packet_socket, packed)))
        except (OSError, DatapathError, TimeoutError) as error:
            raise DetectionFailed(
                f"cannot probe {address} on {interface}: {_text_of(error, DETECTION_S_MAX)}",
                subject=interface,
                remedy=f"check that {interface} exists, is up, and is an Ethernet interface",
            ) from error

    async def close(self) -> None:
        """Close all sockets and end the threads."""
        await self._announcing.wait()
        await asyncio.gather(*self._opening, return_exceptions=True)
        await asyncio.to_thread(self._closer.end)

    async def _probe(self, netns: str, nic: Nic, switches: DetectionSwitches) -> DetectionResult:
        nic_addresses = _nic_addresses(nic)
        if switches.conflicts:
            call = self._executor.submit(
                self._executor.own_namespace,
                lambda: local_addresses(nic_address.address for nic_address in nic_addresses),
            )
            node_addresses = await asyncio.wrap_future(call)
            if node_addresses:
                return DetectionResult(
                    tuple(
                        ConflictingAddress(address, mac) for address, mac in node_addresses.items()
                    )
                )
        with NetworkNamespace.open(netns) as namespace:
            async with self._opened_packet_sockets(
                namespace, nic.interface, nic_addresses
            ) as packet_sockets:
                raw_socket, interface = packet_sockets[0].socket, packet_sockets[0].interface
                await wait_for_carrier(raw_socket, interface)
                result = _result(
                    nic_addresses, await _probe_all(packet_sockets, nic_addresses, switches)
                )
                if switches.announce and result == DetectionResult():
                    _announce(raw_socket, interface, nic_addresses)
                return result

    @asynccontextmanager
    async def _opened_packet_sockets(
        self, namespace: NetworkNamespace, interface: str, nic_addresses: tuple[_NicAddress, ...]
    ) -> AsyncIterator[tuple[PacketSocket, ...]]:
        """Open packet sockets on the NIC; for an ipvlan, on its master."""
        targets, closer = [nic_address.target for nic_address in nic_addresses], self._closer

        def open_on_nic() -> tuple[PacketSocket, ...] | MasterLink:
            return open_in_pod(interface, targets, closer)

        async with self._opened(namespace, open_on_nic, _sockets) as sockets_or_master:
            if not isinstance(sockets_or_master, MasterLink):
                yield sockets_or_master
                return
        master = sockets_or_master

        def open_on_node() -> tuple[PacketSocket, ...]:
            return open_on_master(master, targets, closer)

        async with self._opened(
            self._executor.own_namespace, open_on_node, _sockets
        ) as packet_sockets:
            yield packet_sockets

    def announce_later(self, netns: str, nic: Nic) -> None:
        """Announce the addresses of a NIC in the background."""
        if len(self._announcing) >= ANNOUNCING_MAX:
            _log.warning(
                "skipped announcing the addresses of %s in %s: %d announcements are in progress",
                nic.interface,
                netns,
                ANNOUNCING_MAX,
            )
            return
        self._announcing.start(self._announce_without_probe(netns, nic))

    async def _announce_without_probe(self, netns: str, nic: Nic) -> None:
        interface = nic.interface

        def open_socket() -> socket:
            set_interface_up(interface)
            return open_send_socket()

        try:
            with NetworkNamespace.open(netns) as namespace:
                async with self._opened(
                    namespace, open_socket, lambda raw_socket: (raw_socket,)
                ) as raw_socket:
                    await wait_for_carrier(raw_socket, interface)
                    _announce(raw_socket, interface, _nic_addresses(nic))
        except (OSError, OrbweaverError) as error:
            _log.info("cannot announce the addresses of %s in %s: %s", interface, netns, error)

    @asynccontextmanager
    async def _opened(
        self,
        namespace: NetworkNamespace,
        open_sockets: Callable[[], T],
        sockets_of: Callable[[T], Iterable[socket]],
    ) -> AsyncIterator[T]:
        """Run ``open_sockets`` in the namespace; close the sockets when the context ends."""
        self._closer.check_capacity()
        call = asyncio.wrap_future(self._executor.submit(namespace, open_sockets))
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
            else:  # cancelled while the thread still runs ``open_sockets``
                call.add_done_callback(close)


def _span_attributes(nic: Nic, switches: DetectionSwitches) -> Attributes:
    return {
        "network.interface.name": nic.interface,
        "ipam.addresses": [cidr for cidr in (nic.ipv4, nic.ipv6) if cidr],
        "detection.conflicts": switches.conflicts,
        "detection.gateway": switches.gateway,
    }


def _describe_result(span: Span, result: DetectionResult) -> None:
    span.set_attribute(
        "detection.conflicting_hosts", [f"{address} {mac}" for address, mac in result.conflicts]
    )
    span.set_attribute("detection.silent_gateways", result.silent_gateways)


def _sockets(sockets_or_master: tuple[PacketSocket, ...] | MasterLink) -> Iterable[socket]:
    if isinstance(sockets_or_master, MasterLink):
        return ()
    return [packet_socket.socket for packet_socket in sockets_or_master]


def _announce(raw_socket: socket, interface: str, nic_addresses: tuple[_NicAddress, ...]) -> None:
    """Announce addresses. A failure is only logged: neighbours can still ask for the addresses."""
    try:
        announce(raw_socket, interface, [nic_address.target for nic_address in nic_addresses])
    except OSError as error:
        _log.info("cannot announce the addresses of %s: %s", interface, error)


async def _probe_all(
    packet_sockets: tuple[PacketSocket, ...],
    nic_addresses: tuple[_NicAddress, ...],
    switches: DetectionSwitches,
) -> list[Finding]:
    probe_runs = (
        run_probe(packet_socket, _probe_request(nic_address, packet_socket.mac, switches))
        for packet_socket, nic_address in zip(packet_sockets, nic_addresses, strict=True)
    )
    # If one probe fails, wait for the other: the caller closes both sockets.
    results = await asyncio.gather(*probe_runs, return_exceptions=True)
    findings: list[Finding] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        findings.append(result)
    return findings


def _nic_addresses(nic: Nic) -> tuple[_NicAddress, ...]:
    families: tuple[tuple[Family, str, str], ...] = (
        (4, nic.ipv4, nic.ipv4_gateway),
        (6, nic.ipv6, nic.ipv6_gateway),
    )
    return tuple(
        _NicAddress(family, cidr.partition("/")[0], gateway)
        for family, cidr, gateway in families
        if cidr
    )


def _probe_request(
    nic_address: _NicAddress, mac: bytes, switches: DetectionSwitches
) -> ProbeRequest:
    gateway = _packed(nic_address.gateway) if nic_address.gateway and switches.gateway else b""
    return ProbeRequest(
        _packed(nic_address.address),
        mac,
        conflict=switches.conflicts,
        gateway=gateway,
        conflict_schedule=switches.conflict_schedule,
        gateway_schedule=switches.gateway_schedule,
    )


def _packed(address: str) -> bytes:
    return ip_address(address).packed


def _result(nic_addresses: tuple[_NicAddress, ...], findings: list[Finding]) -> DetectionResult:
    pairs = list(zip(nic_addresses, findings, strict=True))
    return DetectionResult(
        tuple(
            ConflictingAddress(nic_address.address, mac_text(finding.mac))
            for nic_address, finding in pairs
            if isinstance(finding, ConflictFound)
        ),
        tuple(
            nic_address.gateway
            for nic_address, finding in pairs
            if isinstance(finding, GatewaySilent)
        ),
    )


def _failed(netns: str, interface: str, error: Exception, limit_s: float) -> DetectionFailed:
    why = _text_of(error, limit_s)
    return DetectionFailed(
        f"cannot probe for conflicts and gateway on {interface} in {netns}: {why}",
        subject=interface,
        remedy=_remedy_of(error, interface),
    )


def _remedy_of(error: Exception, interface: str) -> str:
    if isinstance(error, TimeoutError):
        return "kubelet tries again; if the probe fails again, check the load of this node"
    if isinstance(error, OSError) and error.errno in (ENODEV, ENXIO):
        return f"make sure that a plugin earlier in the CNI chain creates {interface}"
    if isinstance(error, OSError) and error.errno == ENETDOWN:
        return f"find out which program sets {interface} or its master down"
    if isinstance(error, OSError) and error.errno is None:  # raised by ``packet_socket``
        return (
            "the interface must be an Ethernet interface whose master is up and on this node; for"
            " other interfaces, disable enableIPConflictDetection and enableGatewayDetection"
        )
    if isinstance(error, OrbweaverError) and error.remedy:
        return error.remedy
    return (
        "kubelet tries again; if the probe fails again, check the agent's capabilities and the"
        " kernel log"
    )


def _text_of(error: Exception, limit_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"not done within {limit_s:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return error.message if isinstance(error, OrbweaverError) else str(error)


def local_addresses(addresses: Iterable[str]) -> dict[str, str]:
    """Find which of the addresses are on the node; return each with its link's MAC address, or "".

    Probes cannot find these addresses: frames of a macvlan or ipvlan do not reach the master. Run
    this function in the node's network namespace. Raises NetlinkRefused, NetlinkLost, OSError.
    """
    with NetlinkSession.open() as session:
        parsed = {text: parse_address(text) for text in addresses}
        routes = {text: session.route_to(address) for text, address in parsed.items()}
        node_addresses = [
            text for text, route in routes.items() if route and route.kind == RTN_LOCAL
        ]
        if not node_addresses:
            return {}
        macs = {link.ifindex: link.mac for link in session.links()}
        return {
            text: mac_text(macs.get(entry.link, b""))
            for text in node_addresses
            for entry in session.addresses(parsed[text].family)
            if entry.address == parsed[text]
        }
