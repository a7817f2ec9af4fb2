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
    announcement,
    decode_arp,
    encode_arp,
    probe,
    request,
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

    def conflict_probe(self, question: ProbeRequest) -> bytes:
        """The frame that asks whether anybody uses the address."""
        ...

    def gateway_probe(self, question: ProbeRequest) -> bytes:
        """The frame that asks for the gateway."""
        ...

    def stranger_in(self, frame: bytes, question: ProbeRequest) -> bytes:
        """The hardware address of who else uses the address, as the frame shows; b"" for none."""
        ...

    def gateway_in(self, frame: bytes, question: ProbeRequest) -> bytes:
        """The hardware address with which the gateway answers in this frame; b"" for none."""
        ...

    def announcements(self, address: bytes, mac: bytes) -> tuple[bytes, ...]:
        """The frames that tell the neighbours where the address is now."""
        ...


class ArpProbe:
    """IPv4."""

    ethertype: Final = ETHERTYPE_ARP

    def conflict_probe(self, question: ProbeRequest) -> bytes:
        """RFC 5227, 2.1.1."""
        return encode_arp(probe(question.mac, question.address))

    def gateway_probe(self, question: ProbeRequest) -> bytes:
        """RFC 826, from the address that is new."""
        return encode_arp(request(question.mac, question.address, question.gateway))

    def stranger_in(self, frame: bytes, question: ProbeRequest) -> bytes:
        """RFC 5227, 2.1.1: any ARP packet from the address, or another host's probe for it."""
        heard = decode_arp(frame)
        if heard is None or not is_station(heard.sender_mac) or heard.sender_mac == question.mac:
            return b""
        probing = (heard.operation, heard.sender_ip) == (REQUEST, NO_IP)
        claimed = heard.target_ip if probing else heard.sender_ip
        return heard.sender_mac if claimed == question.address else b""

    def gateway_in(self, frame: bytes, question: ProbeRequest) -> bytes:
        """A reply whose sender is the gateway."""
        heard = decode_arp(frame)
        if heard is None or heard.operation != REPLY or heard.sender_ip != question.gateway:
            return b""
        return heard.sender_mac if is_station(heard.sender_mac) else b""

    def announcements(self, address: bytes, mac: bytes) -> tuple[bytes, ...]:
        """One gratuitous request (RFC 5227, 2.3)."""
        return (encode_arp(announcement(mac, address)),)


class NdProbe:
    """IPv6."""

    ethertype: Final = ETHERTYPE_IPV6

    def conflict_probe(self, question: ProbeRequest) -> bytes:
        """RFC 4862, 5.4.2: from the unspecified address, without a link-layer option."""
        return encode_solicitation(Solicitation(UNSPECIFIED, question.address), question.mac)

    def gateway_probe(self, question: ProbeRequest) -> bytes:
        """RFC 4861, 7.2.2, from the address that is new."""
        said = Solicitation(question.address, question.gateway, question.mac)
        return encode_solicitation(said, question.mac)

    def stranger_in(self, frame: bytes, question: ProbeRequest) -> bytes:
        """RFC 4862, 5.4.3 and 5.4.4: an advertisement of the address, or another host's probe."""
        heard = decode_message(frame)
        if heard is None or heard.message.target != question.address:
            return b""
        if isinstance(heard.message, Solicitation) and heard.message.source != UNSPECIFIED:
            return b""
        mac = heard.message.link or heard.sender
        return mac if is_station(mac) and mac != question.mac else b""

    def gateway_in(self, frame: bytes, question: ProbeRequest) -> bytes:
        """An advertisement of the gateway's address."""
        heard = decode_message(frame)
        if heard is None or heard.message.target != question.gateway:
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
LANGUAGES: Final[dict[Family, ProbeCodec]] = {4: ARP, 6: ND}
