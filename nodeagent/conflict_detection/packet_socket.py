"""Packet sockets on one NIC: opened in the NIC's network namespace, used from the event loop."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from errno import ENETDOWN
from typing import Final, NamedTuple

from core.errors import Overloaded
from nodeagent.conflict_detection.ethernet import ETHERTYPE_IPV6, is_station
from nodeagent.conflict_detection.ndp import ALL_NODES, group_mac, solicited_node
from nodeagent.conflict_detection.probe_codecs import ProbeCodec, ProbeRequest
from nodeagent.conflict_detection.probe_schedule import CONFLICT_PROBES, CONFLICT_WINDOW_S
from nodeagent.conflict_detection.probe_session import (
    ConflictFound,
    Finding,
    GatewaySilent,
    ProbeStep,
    advance,
    receive_frame,
    start_probe,
)
from nodeagent.netlink.session import NetlinkSession

FRAME_BYTES_MAX: Final = 2_048
FRAMES_PER_READ_MAX: Final = 64
"""After this number of frames, other tasks run: a flood of frames must not stop the agent."""

CARRIER_S_MAX: Final = 2.0
"""A probe waits this long for a carrier, then starts anyway. Virtual functions come up slowly."""

CARRIER_POLL_S: Final = 0.005

IPVLAN: Final = "ipvlan"

CLOSER_THREADS: Final = 4

CLOSING_MAX: Final = 2_000
"""The most sockets that wait to be closed: two for each admitted request."""

_ARPHRD_ETHER: Final = 1
_SIOCGIFFLAGS: Final = 0x8913  # include/uapi/linux/sockios.h
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x1
_IFF_RUNNING: Final = 0x40
_SIOCGIFHWADDR: Final = 0x8927
_IFREQ_HARDWARE: Final = struct.Struct("=16sH6s16x")
_IFREQ_FLAGS: Final = struct.Struct("=16sH22x")
_SOL_PACKET: Final = 263  # include/linux/socket.h
_PACKET_ADD_MEMBERSHIP: Final = 1  # include/uapi/linux/if_packet.h, struct packet_mreq
_PACKET_MR_MULTICAST: Final = 0
_MREQ: Final = struct.Struct("=iHH8s")


class SocketCloser:
    """Closes sockets in threads: each takes 8 to 24 ms, because the kernel waits for all CPUs."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(CLOSER_THREADS, thread_name_prefix="socket-closer")
        self._sockets_to_close = 0

    def check_capacity(self) -> None:
        """Raise Overloaded if too many sockets wait to be closed."""
        if self._sockets_to_close >= CLOSING_MAX:
            raise Overloaded(
                f"{CLOSING_MAX} packet sockets wait to be closed",
                subject="closing sockets",
                remedy="try again; if this continues, the kernel of this node is overloaded",
            )

    def close(self, raw_socket: socket.socket) -> None:
        """Close a socket in a thread."""
        self._sockets_to_close += 1
        self._threads.submit(raw_socket.close).add_done_callback(self._on_closed)

    def end(self) -> None:
        """Wait until all sockets are closed. Blocks."""
        self._threads.shutdown()

    def _on_closed(self, _: object) -> None:
        self._sockets_to_close -= 1


class PacketSocket(NamedTuple):
    """A packet socket of one family. ``mac``: the NIC's MAC address when the socket was opened."""

    socket: socket.socket
    interface: str
    mac: bytes
    codec: ProbeCodec

    def send(self, frame: bytes) -> None:
        """Send a frame. Raises OSError."""
        self.socket.send(frame)

    def listen_to(self, address: bytes) -> None:
        """Also receive frames for an address that is not on the NIC yet. Raises OSError."""
        if self.codec.ethertype != ETHERTYPE_IPV6:
            return  # ARP needs no multicast group
        index = socket.if_nametoindex(self.interface)
        for group in (ALL_NODES, solicited_node(address)):
            mac = group_mac(group)
            request = _MREQ.pack(index, _PACKET_MR_MULTICAST, len(mac), mac)
            self.socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)


def open_packet_sockets(
    interface: str, targets: Sequence[tuple[ProbeCodec, bytes]], closer: SocketCloser
) -> tuple[PacketSocket, ...]:
    """Open a packet socket for each target. The socket receives frames for the target's address.

    Run it in the NIC's namespace. Raises OSError if the NIC does not exist, is down, or is not
    Ethernet; then all sockets are closed.
    """
    opened_sockets: list[PacketSocket] = []
    try:
        for codec, address in targets:
            packet_socket = _open(interface, codec, closer)
            opened_sockets.append(packet_socket)
            packet_socket.listen_to(address)
    except OSError:
        for packet_socket in opened_sockets:
            closer.close(packet_socket.socket)
        raise
    return tuple(opened_sockets)


class MasterLink(NamedTuple):
    """The master of an ipvlan: a link of the node. Both links have the same MAC address."""

    ifindex: int
    mac: bytes


def open_in_pod(
    interface: str, targets: Sequence[tuple[ProbeCodec, bytes]], closer: SocketCloser
) -> tuple[PacketSocket, ...] | MasterLink:
    """Set the NIC up and open sockets on the NIC. If the NIC is an ipvlan, return the master.

    An ipvlan receives packets only for its own IP addresses, so the master receives the answers to
    a probe of a new address.
    """
    set_interface_up(interface)
    with NetlinkSession.open() as session:
        link = session.link(interface)
    if link is not None and link.kind == IPVLAN:
        return MasterLink(link.parent, link.mac)
    return open_packet_sockets(interface, targets, closer)


def open_on_master(
    master: MasterLink, targets: Sequence[tuple[ProbeCodec, bytes]], closer: SocketCloser
) -> tuple[PacketSocket, ...]:
    """Open packet sockets on an ipvlan's master, in the node's namespace. Raises OSError."""
    try:
        opened_sockets = open_packet_sockets(socket.if_indextoname(master.ifindex), targets, closer)
    except OSError as error:
        raise OSError(
            f"cannot probe on the master of the interface, link {master.ifindex}: {error}"
        ) from error
    if any(packet_socket.mac != master.mac for packet_socket in opened_sockets):
        for packet_socket in opened_sockets:
            closer.close(packet_socket.socket)
        raise OSError(f"the master of the interface, link {master.ifindex}, is not on this node")
    return opened_sockets


def open_send_socket() -> socket.socket:
    """Open a packet socket in the thread's namespace. Raises OSError.

    The socket receives nothing until it is bound to a NIC.
    """
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)


def announce(
    raw_socket: socket.socket, interface: str, targets: Sequence[tuple[ProbeCodec, bytes]]
) -> None:
    """Announce that the targets' addresses are at the NIC's current MAC address.

    Raises OSError if the NIC does not exist, is down, or is not Ethernet.
    """
    hardware, mac = _hardware(raw_socket, interface)
    if hardware != _ARPHRD_ETHER:
        raise _not_ethernet(interface, hardware)
    for codec, address in targets:
        for frame in codec.announcements(address, mac):
            raw_socket.sendto(frame, (interface, codec.ethertype))


def set_interface_up(interface: str) -> None:
    """Set a NIC of the thread's namespace up. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        flags = _flags(any_socket, interface)
        if not flags & _IFF_UP:
            request = _IFREQ_FLAGS.pack(interface.encode(), flags | _IFF_UP)
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


async def wait_for_carrier(raw_socket: socket.socket, interface: str) -> None:
    """Wait for the NIC's carrier, at most ``CARRIER_S_MAX``."""
    loop = asyncio.get_running_loop()
    until = loop.time() + CARRIER_S_MAX
    while not _flags(raw_socket, interface) & _IFF_RUNNING:
        if loop.time() >= until:
            return
        await asyncio.sleep(CARRIER_POLL_S)


async def collect_answers(packet_socket: PacketSocket, address: bytes) -> tuple[bytes, ...]:
    """Probe ``address``. Return the MAC addresses of all hosts that answer. Raises OSError."""
    request = ProbeRequest(address, packet_socket.mac)
    macs: dict[bytes, None] = {}

    def collect() -> None:
        for frame in _received_frames(packet_socket.socket):
            mac = packet_socket.codec.conflicting_mac(frame, request)
            if mac:
                macs[mac] = None

    loop = asyncio.get_running_loop()
    loop.add_reader(packet_socket.socket, collect)
    try:
        for _ in range(CONFLICT_PROBES):
            packet_socket.send(packet_socket.codec.conflict_probe(request))
            await asyncio.sleep(CONFLICT_WINDOW_S / CONFLICT_PROBES)
        collect()
    finally:
        loop.remove_reader(packet_socket.socket)
    return tuple(macs)


async def run_probe(packet_socket: PacketSocket, request: ProbeRequest) -> Finding:
    """Run one probe. Raises OSError if no frame that the finding needs could be sent."""
    probe_run = _ProbeRun(packet_socket, request)
    try:
        return await probe_run.finished
    finally:
        probe_run.stop()


class _ProbeRun:
    """The state machine of ``probe_session``, driven by a packet socket and a timer."""

    def __init__(self, packet_socket: PacketSocket, request: ProbeRequest) -> None:
        self._loop = asyncio.get_running_loop()
        self._packet_socket = packet_socket
        self._timer: asyncio.TimerHandle | None = None
        self._conflict_probe_sent = False
        self._gateway_probe_sent = False
        self._fault: OSError | None = None
        self.finished: asyncio.Future[Finding] = self._loop.create_future()
        self._loop.add_reader(packet_socket.socket, self._on_frames)
        step = start_probe(request, packet_socket.codec, self._loop.time())
        self._state = step.state
        self._take_step(step)

    def stop(self) -> None:
        self._loop.remove_reader(self._packet_socket.socket)
        if self._timer is not None:
            self._timer.cancel()

    def _on_frames(self) -> None:
        for frame in _received_frames(self._packet_socket.socket):
            state = receive_frame(self._state, self._packet_socket.codec, frame)
            if state.finding is not None:
                self._take_step(ProbeStep(state))
                return

    def _on_time(self) -> None:
        # Frames that arrived before the deadline count even if the loop is late.
        self._on_frames()
        self._take_step(advance(self._state, self._packet_socket.codec, self._loop.time()))

    def _take_step(self, step: ProbeStep) -> None:
        if self.finished.done():
            return
        self._state = step.state
        for frame in step.send:
            self._send(frame)
        if self._timer is not None:
            self._timer.cancel()
        if step.state.finding is None:
            self._timer = self._loop.call_at(step.state.due, self._on_time)
        elif self._fault is not None and not self._has_evidence(step.state.finding):
            self.finished.set_exception(self._fault)
        else:
            self.finished.set_result(step.state.finding)

    def _send(self, frame: bytes) -> None:
        try:
            self._packet_socket.send(frame)
        except OSError as error:
            self._fault = error
            return
        if self._state.probing_gateway:
            self._gateway_probe_sent = True
        else:
            self._conflict_probe_sent = True

    def _has_evidence(self, finding: Finding) -> bool:
        """Whether hosts could answer the probes. Silence is evidence only after a sent probe."""
        if isinstance(finding, ConflictFound):
            return True
        if isinstance(finding, GatewaySilent) and not self._gateway_probe_sent:
            return False
        return self._conflict_probe_sent or not self._state.request.conflict


def _open(interface: str, codec: ProbeCodec, closer: SocketCloser) -> PacketSocket:
    raw_socket = open_send_socket()
    try:
        if not _flags(raw_socket, interface) & _IFF_UP:
            raise OSError(ENETDOWN, os.strerror(ENETDOWN))
        raw_socket.bind((interface, codec.ethertype))
        *_, hardware, mac = raw_socket.getsockname()
        if hardware != _ARPHRD_ETHER or not is_station(mac):
            raise _not_ethernet(interface, hardware)
        return PacketSocket(raw_socket, interface, mac, codec)
    except OSError:
        closer.close(raw_socket)
        raise


def _not_ethernet(interface: str, hardware: int) -> OSError:
    return OSError(f"{interface} is not Ethernet: it has hardware type {hardware}")


def _hardware(raw_socket: socket.socket, interface: str) -> tuple[int, bytes]:
    """The hardware type (ARPHRD_*) and the MAC address of a NIC."""
    request = _IFREQ_HARDWARE.pack(interface.encode(), 0, b"")
    answer = fcntl.ioctl(raw_socket, _SIOCGIFHWADDR, request)
    _, hardware, mac = _IFREQ_HARDWARE.unpack(answer)
    return hardware, mac


def _received_frames(raw_socket: socket.socket) -> Iterator[bytes]:
    """Yield the frames that wait. Ignores a socket error: ``send`` raises it if the NIC is down."""
    for _ in range(FRAMES_PER_READ_MAX):
        try:
            yield raw_socket.recv(FRAME_BYTES_MAX)
        except OSError:
            return


def _flags(raw_socket: socket.socket, interface: str) -> int:
    request = _IFREQ_FLAGS.pack(interface.encode(), 0)
    flags: int = _IFREQ_FLAGS.unpack(fcntl.ioctl(raw_socket, _SIOCGIFFLAGS, request))[1]
    return flags
