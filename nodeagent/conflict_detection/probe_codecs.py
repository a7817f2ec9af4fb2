"""Probes and announcements of each address family, behind one interface. Pure.

Answers count only if the MAC address is an individual address (``is_station``).
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from core.domain.addresses.ip_address import Family
from nodeagent.conflict_detection.arp import (
    ARP_REPLY,
    ARP_REQUEST,
    NO_IP,
    arp_announcement,
    arp_probe,
    arp_request,
    decode_arp,
    encode_arp,
)
from nodeagent.conflict_detection.ethernet import ETHERTYPE_ARP, ETHERTYPE_IPV6, is_station
from nodeagent.conflict_detection.ndp import (
    ALL_NODES,
    UNSPECIFIED_ADDRESS,
    Advertisement,
    Solicitation,
    decode_message,
    encode_advertisement,
    encode_solicitation,
)
from nodeagent.conflict_detection.probe_schedule import (
    CONFLICT_SCHEDULE,
    GATEWAY_SCHEDULE,
    ProbeSchedule,
)


class ProbeRequest(NamedTuple):
    """What to probe for one address. IP addresses are bytes in network order.

    ``mac``: the MAC address of the probing NIC. If ``gateway`` is b"", the gateway is not probed.
    """

    address: bytes
    mac: bytes
    conflict: bool = True
    gateway: bytes = b""
    conflict_schedule: ProbeSchedule = CONFLICT_SCHEDULE
    gateway_schedule: ProbeSchedule = GATEWAY_SCHEDULE


class ProbeCodec(Protocol):
    """The frames of one address family."""

    @property
    def ethertype(self) -> int:
        """The ethertype of the frames."""
        ...

    def conflict_probe(self, request: ProbeRequest) -> bytes:
        """The frame that asks whether a host uses the address.

        Its source is unspecified, so that neighbour caches do not change.
        """
        ...

    def gateway_probe(self, request: ProbeRequest) -> bytes:
        """The frame that asks for the gateway's MAC address.

        Its source is the probed address, as for the Pod's own traffic.
        """
        ...

    def conflicting_mac(self, frame: bytes, request: ProbeRequest) -> bytes:
        """The MAC address of another host that uses the address, as the frame shows, else b""."""
        ...

    def gateway_mac(self, frame: bytes, request: ProbeRequest) -> bytes:
        """The gateway's MAC address if the frame is the gateway's answer, else b""."""
        ...

    def announcements(self, address: bytes, mac: bytes) -> tuple[bytes, ...]:
        """The frames that announce the address."""
        ...


class ArpCodec:
    """Probes of IPv4 addresses, by ARP."""

    ethertype: Final = ETHERTYPE_ARP

    def conflict_probe(self, request: ProbeRequest) -> bytes:
        """An ARP probe (RFC 5227, 2.1.1)."""
        return encode_arp(arp_probe(request.mac, request.address))

    def gateway_probe(self, request: ProbeRequest) -> bytes:
        """An ARP request (RFC 826)."""
        return encode_arp(arp_request(request.mac, request.address, request.gateway))

    def conflicting_mac(self, frame: bytes, request: ProbeRequest) -> bytes:
        """The MAC address of a host that uses or probes the address (RFC 5227, 2.1.1)."""
        packet = decode_arp(frame)
        if packet is None or not is_station(packet.sender_mac) or packet.sender_mac == request.mac:
            return b""
        is_probe = (packet.operation, packet.sender_ip) == (ARP_REQUEST, NO_IP)
        used = packet.target_ip if is_probe else packet.sender_ip
        return packet.sender_mac if used == request.address else b""

    def gateway_mac(self, frame: bytes, request: ProbeRequest) -> bytes:
        """The MAC address in an ARP reply."""
        packet = decode_arp(frame)
        if packet is None or packet.operation != ARP_REPLY or packet.sender_ip != request.gateway:
            return b""
        return packet.sender_mac if is_station(packet.sender_mac) else b""

    def announcements(self, address: bytes, mac: bytes) -> tuple[bytes, ...]:
        """One ARP announcement (RFC 5227, 2.3)."""
        return (encode_arp(arp_announcement(mac, address)),)


class NdCodec:
    """Probes of IPv6 addresses, by neighbour discovery."""

    ethertype: Final = ETHERTYPE_IPV6

    def conflict_probe(self, request: ProbeRequest) -> bytes:
        """A solicitation (RFC 4862, 5.4.2)."""
        return encode_solicitation(Solicitation(UNSPECIFIED_ADDRESS, request.address), request.mac)

    def gateway_probe(self, request: ProbeRequest) -> bytes:
        """A solicitation (RFC 4861, 7.2.2)."""
        message = Solicitation(request.address, request.gateway, request.mac)
        return encode_solicitation(message, request.mac)

    def conflicting_mac(self, frame: bytes, request: ProbeRequest) -> bytes:
        """The MAC address of a host that uses or probes the address (RFC 4862, 5.4.3, 5.4.4)."""
        received = decode_message(frame)
        if received is None or received.message.target != request.address:
            return b""
        message = received.message
        if isinstance(message, Solicitation) and message.source != UNSPECIFIED_ADDRESS:
            return b""
        mac = message.link or received.sender
        return mac if is_station(mac) and mac != request.mac else b""

    def gateway_mac(self, frame: bytes, request: ProbeRequest) -> bytes:
        """The MAC address in an advertisement."""
        received = decode_message(frame)
        if received is None or received.message.target != request.gateway:
            return b""
        message = received.message
        mac = message.link or received.sender
        return mac if isinstance(message, Advertisement) and is_station(mac) else b""

    def announcements(self, address: bytes, mac: bytes) -> tuple[bytes, ...]:
        """An unsolicited advertisement (RFC 4861, 7.2.6), then a solicitation as in Spiderpool."""
        advertisement = Advertisement(address, ALL_NODES, address, mac, override=True)
        solicitation = Solicitation(address, address, mac)
        return encode_advertisement(advertisement, mac), encode_solicitation(solicitation, mac)


ARP_CODEC: Final = ArpCodec()
ND_CODEC: Final = NdCodec()
PROBE_CODECS: Final[dict[Family, ProbeCodec]] = {4: ARP_CODEC, 6: ND_CODEC}
