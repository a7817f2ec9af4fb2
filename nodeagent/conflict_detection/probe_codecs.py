"""What is asked, understood and announced in each family, in one set of words.

IPv4 speaks ARP by RFC 5227, IPv6 speaks ND by RFC 4861 and RFC 4862. Both ask for an address that
is not on the link yet: a probe comes from nowhere (0.0.0.0, ::), so that nobody's cache learns from
the question and no link-local address has to be waited for; asking for the gateway comes from the
new address, so that the gateway answers as it will answer the Pod. Pure.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from core.domain.addresses.ip_address import Family
from nodeagent.conflict_detection.arp import (
    NO_IP,
    REPLY,
    REQUEST,
    arp_announcement,
    arp_probe,
    arp_request,
    decode_arp,
    encode_arp,
)
from nodeagent.conflict_detection.ethernet import ETHERTYPE_ARP, ETHERTYPE_IPV6, is_station
from nodeagent.conflict_detection.ndp import (
    ALL_NODES,
    UNSPECIFIED,
    Advertisement,
    Solicitation,
    decode_message,
    encode_advertisement,
    encode_solicitation,
)


class ProbeRequest(NamedTuple):
    """What is to be found out about one address, before it is on the link.

    IP addresses as bytes of their family. ``mac``: of the NIC that asks. ``conflict``: whether
    strangers are looked for. ``gateway`` b"": not looked for.
    """

    address: bytes
    mac: bytes
    conflict: bool = True
    gateway: bytes = b""


class ProbeCodec(Protocol):
    """One family's way to ask."""

    @property
    def ethertype(self) -> int:
        """Of the frames to listen to."""
        ...

    def conflict_probe(self, request: ProbeRequest) -> bytes:
        """The frame that asks whether anybody uses the address."""
        ...

    def gateway_probe(self, request: ProbeRequest) -> bytes:
        """The frame that asks for the gateway."""
        ...

    def conflicting_mac(self, frame: bytes, request: ProbeRequest) -> bytes:
        """The hardware address of who else uses the address, as the frame shows; b"" for none."""
        ...

    def gateway_mac(self, frame: bytes, request: ProbeRequest) -> bytes:
        """The hardware address with which the gateway answers in this frame; b"" for none."""
        ...

    def announcements(self, address: bytes, mac: bytes) -> tuple[bytes, ...]:
        """The frames that tell the neighbours where the address is now."""
        ...


class ArpProbe:
    """IPv4."""

    ethertype: Final = ETHERTYPE_ARP

    def conflict_probe(self, request: ProbeRequest) -> bytes:
        """RFC 5227, 2.1.1."""
        return encode_arp(arp_probe(request.mac, request.address))

    def gateway_probe(self, request: ProbeRequest) -> bytes:
        """RFC 826, from the address that is new."""
        return encode_arp(arp_request(request.mac, request.address, request.gateway))

    def conflicting_mac(self, frame: bytes, request: ProbeRequest) -> bytes:
        """RFC 5227, 2.1.1: any ARP packet from the address, or another host's probe for it."""
        heard = decode_arp(frame)
        if heard is None or not is_station(heard.sender_mac) or heard.sender_mac == request.mac:
            return b""
        probing = (heard.operation, heard.sender_ip) == (REQUEST, NO_IP)
        claimed = heard.target_ip if probing else heard.sender_ip
        return heard.sender_mac if claimed == request.address else b""

    def gateway_mac(self, frame: bytes, request: ProbeRequest) -> bytes:
        """A reply whose sender is the gateway."""
        heard = decode_arp(frame)
        if heard is None or heard.operation != REPLY or heard.sender_ip != request.gateway:
            return b""
        return heard.sender_mac if is_station(heard.sender_mac) else b""

    def announcements(self, address: bytes, mac: bytes) -> tuple[bytes, ...]:
        """One gratuitous request (RFC 5227, 2.3)."""
        return (encode_arp(arp_announcement(mac, address)),)


class NdProbe:
    """IPv6."""

    ethertype: Final = ETHERTYPE_IPV6

    def conflict_probe(self, request: ProbeRequest) -> bytes:
        """RFC 4862, 5.4.2: from the unspecified address, without a link-layer option."""
        return encode_solicitation(Solicitation(UNSPECIFIED, request.address), request.mac)

    def gateway_probe(self, request: ProbeRequest) -> bytes:
        """RFC 4861, 7.2.2, from the address that is new."""
        said = Solicitation(request.address, request.gateway, request.mac)
        return encode_solicitation(said, request.mac)

    def conflicting_mac(self, frame: bytes, request: ProbeRequest) -> bytes:
        """RFC 4862, 5.4.3 and 5.4.4: an advertisement of the address, or another host's probe."""
        heard = decode_message(frame)
        if heard is None or heard.message.target != request.address:
            return b""
        if isinstance(heard.message, Solicitation) and heard.message.source != UNSPECIFIED:
            return b""
        mac = heard.message.link or heard.sender
        return mac if is_station(mac) and mac != request.mac else b""

    def gateway_mac(self, frame: bytes, request: ProbeRequest) -> bytes:
        """An advertisement of the gateway's address."""
        heard = decode_message(frame)
        if heard is None or heard.message.target != request.gateway:
            return b""
        said = heard.message
        mac = said.link or heard.sender
        return mac if isinstance(said, Advertisement) and is_station(mac) else b""

    def announcements(self, address: bytes, mac: bytes) -> tuple[bytes, ...]:
        """An unsolicited advertisement with override (RFC 4861, 7.2.6), then a solicitation.

        The solicitation, for the own address, is what Spiderpool sends
        (docs/reference/coordinator.md, "MAC address").
        """
        said = Advertisement(address, ALL_NODES, address, mac, override=True)
        asked = Solicitation(address, address, mac)
        return encode_advertisement(said, mac), encode_solicitation(asked, mac)


ARP: Final = ArpProbe()
ND: Final = NdProbe()
CODECS: Final[dict[Family, ProbeCodec]] = {4: ARP, 6: ND}
